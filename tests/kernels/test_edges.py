"""Edge masks against their definition, and the list of edge pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ssl_data.errors import InputError
from ssl_data.kernels.edges import edge_mask, edge_pixels


def noise(height, width):
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(2, 2), (2, 9), (17, 3), (40, 31)])
def test_mask_follows_its_definition(shape):
    image = noise(*shape)
    grey = np.pad(np.asarray(Image.fromarray(image).convert("L"), dtype=int), 1, mode="reflect")
    expected = np.zeros(shape, dtype=bool)
    for row, col in np.ndindex(shape):
        y, x = row + 1, col + 1
        laplacian = grey[y - 1, x] + grey[y + 1, x] + grey[y, x - 1] + grey[y, x + 1] - 4 * grey[y, x]
        expected[row, col] = laplacian > 20
    np.testing.assert_array_equal(edge_mask(image), expected)


def test_a_laplacian_equal_to_the_threshold_is_no_edge():
    image = np.full((5, 5, 3), 100, np.uint8)
    image[2, 2] = 95
    assert not edge_mask(image, threshold=20).any()
    assert edge_mask(image, threshold=19.9)[2, 2]


def test_only_the_dark_side_of_an_edge_is_marked():
    image = np.zeros((6, 6, 3), np.uint8)
    image[:, 3:] = 255
    marked = np.unique(np.nonzero(edge_mask(image))[1])
    assert marked.tolist() == [2]


@pytest.mark.parametrize(
    "move", [lambda a: a[::-1], lambda a: a[:, ::-1], lambda a: a.swapaxes(0, 1)], ids=["vflip", "hflip", "transpose"]
)
def test_mask_moves_with_the_image(move):
    image = noise(20, 24)
    np.testing.assert_array_equal(edge_mask(move(image)), move(edge_mask(image)))


def test_pixels_are_listed_row_by_row():
    mask = np.array([[False, True], [True, True]])
    pixels = edge_pixels(mask)
    assert pixels.dtype == np.int32
    assert pixels.tolist() == [[0, 1], [1, 0], [1, 1]]


def test_edge_stride_keeps_diagonals():
    pixels = edge_pixels(np.ones((7, 8), dtype=bool), edge_stride=3)
    assert {(row % 3, col % 3) for row, col in pixels.tolist()} == {(0, 0), (1, 1), (2, 2)}


def test_refuses_a_mask_of_another_shape():
    with pytest.raises(InputError, match=r"edge_mask must be an array of shape \(height, width\), got \(3,\)"):
        edge_pixels(np.ones(3, dtype=bool))


def test_refuses_an_edge_stride_below_one():
    with pytest.raises(InputError, match="edge_stride must be >= 1, got 0"):
        edge_pixels(np.ones((3, 3), dtype=bool), edge_stride=0)


def test_refuses_an_image_of_one_row():
    with pytest.raises(InputError, match="image must be at least 2 pixels on each side, got 1x5"):
        edge_mask(np.zeros((1, 5, 3), np.uint8))
