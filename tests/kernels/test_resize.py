"""Low-quality images as MATLAB makes them."""

import numpy as np
import pytest

from ssl_data.errors import InputError
from ssl_data.kernels.resize import reduce_bicubic, reduce_bicubic_float
from ssl_data.testing import synthetic_image


@pytest.mark.parametrize("scale", [2, 4])
def test_equal_to_the_authors_port_of_imresize(shared_golden, scale):
    paths = sorted((shared_golden / "bicubic").glob("*.npz"))
    assert paths
    for path in paths:
        with np.load(path) as golden:
            image, expected, rounded = golden["gt_u8"], golden[f"lq_x{scale}_f32"], golden[f"lq_x{scale}_u8"]
        # The golden values are float32 of a float64 computation: half a unit in the last place, 6e-8 of values near 1.
        assert np.abs(reduce_bicubic_float(image, scale) / 255 - expected).max() < 3e-7
        assert (reduce_bicubic(image, scale) == rounded).all()


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_a_flat_image_stays_flat(scale):
    image = np.full((48, 24, 3), 77, dtype=np.uint8)
    assert (reduce_bicubic(image, scale) == 77).all()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_reduction_and_turning_commute(scale):
    image = synthetic_image(48, 24)
    turned = np.ascontiguousarray(image[::-1].swapaxes(0, 1))
    expected = reduce_bicubic_float(image, scale)[::-1].swapaxes(0, 1)
    assert np.allclose(reduce_bicubic_float(turned, scale), expected, atol=1e-10, rtol=0)


def test_the_weights_are_those_of_the_widened_cubic_kernel():
    def cubic(x):
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0

    image = np.zeros((64, 64, 3), dtype=np.uint8)
    image[30, 20] = 255
    weights = {
        (row, col): cubic((30 - (4 * row + 1.5)) / 4) * cubic((20 - (4 * col + 1.5)) / 4) / 16
        for row in range(16)
        for col in range(16)
    }
    reduced = reduce_bicubic_float(image, 4)
    for place, weight in weights.items():
        assert reduced[place] == pytest.approx([255 * weight] * 3, abs=1e-10)


def test_sides_must_be_multiples_of_the_scale():
    with pytest.raises(InputError, match="multiples of the scale 4, got 48x26"):
        reduce_bicubic(np.zeros((48, 26, 3), dtype=np.uint8), 4)
