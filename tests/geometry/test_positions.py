"""Flips, transposition and crops of edge pixels and graphs."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_data import SSGSpec, edge_mask, edge_pixels, self_similarity_graph
from ssl_data.geometry.positions import Dihedral, Window, interior_window, mask_pixels, search_offsets
from ssl_data.testing import synthetic_image

ALL_TURNS = [Dihedral(hflip=h, vflip=v, transpose=t) for h, v, t in itertools.product((False, True), repeat=3)]


def test_offsets_are_row_major_around_the_centre():
    offsets = search_offsets(SSGSpec(search_size=5, search_stride=2))
    assert offsets.tolist() == [[dy, dx] for dy in (-2, 0, 2) for dx in (-2, 0, 2)]
    assert search_offsets(SSGSpec())[312].tolist() == [0, 0]


@given(data=st.data(), height=st.integers(1, 12), width=st.integers(1, 12), edge_stride=st.integers(1, 4))
def test_mask_pixels_are_listed_row_major(data, height, width, edge_stride):
    bits = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    mask = np.array(bits).reshape(height, width)
    listed = [
        [row, col]
        for row in range(height)
        for col in range(width)
        if mask[row, col] and row % edge_stride == col % edge_stride
    ]
    assert mask_pixels(mask, edge_stride).tolist() == listed


@pytest.mark.parametrize("turn", ALL_TURNS, ids=str)
def test_pixels_move_as_the_image_does(turn):
    image = np.arange(6 * 5).reshape(6, 5)
    pixels = np.argwhere(image >= 0).astype(np.int32)
    moved = turn.pixels(pixels, 6, 5)
    assert (turn.image(image)[moved[:, 0], moved[:, 1]] == image[pixels[:, 0], pixels[:, 1]]).all()


@pytest.mark.parametrize("boundary", ["zero", "image"])
@pytest.mark.parametrize("turn", ALL_TURNS, ids=str)
def test_the_graph_of_a_turned_image_is_the_permuted_graph(turn, boundary):
    image = synthetic_image(40, 40, seed=3)
    spec = SSGSpec(search_size=11, window_size=5, boundary=boundary)
    pixels = edge_pixels(edge_mask(image))
    turned_image = np.ascontiguousarray(turn.image(image))
    moved = turn.pixels(pixels, 40, 40)
    assert (edge_mask(turned_image) == turn.image(edge_mask(image))).all()
    graphs = self_similarity_graph(image, pixels, spec, output="ssd")
    assert (self_similarity_graph(turned_image, moved, spec, output="ssd") == turn.graphs(graphs)).all()


@given(
    top=st.integers(0, 30),
    left=st.integers(0, 30),
    size=st.integers(17, 34),
    boundary=st.sampled_from(["zero", "image"]),
)
def test_interior_pixels_have_the_same_graph_in_the_crop_as_in_the_patch(top, left, size, boundary):
    spec = SSGSpec(search_size=9, window_size=3, boundary=boundary)
    patch = synthetic_image(64, 64, seed=5)
    crop = Window(top=top, left=left, bottom=top + size, right=left + size)
    pixels = edge_pixels(edge_mask(patch))
    inside = pixels[interior_window(crop, patch_size=64, pad=spec.pad).contains(pixels)]
    in_crop = inside - np.array([top, left], dtype=np.int32)
    cropped = patch[top : top + size, left : left + size]
    in_patch = self_similarity_graph(patch, inside, spec, output="ssd")
    assert (self_similarity_graph(cropped, in_crop, spec, output="ssd") == in_patch).all()


def test_a_crop_that_is_the_patch_is_all_interior():
    whole = Window(top=0, left=0, bottom=64, right=64)
    assert interior_window(whole, patch_size=64, pad=12) == whole
