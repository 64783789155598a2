"""Low-quality images as MATLAB makes them."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

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
    assert np.array_equal(reduce_bicubic_float(turned, scale), expected)


def cubic(x):
    """Keys' kernel, in exact fractions."""
    x = abs(Fraction(x))
    if x <= 1:
        return Fraction(3, 2) * x**3 - Fraction(5, 2) * x**2 + 1
    return Fraction(-1, 2) * x**3 + Fraction(5, 2) * x**2 - 4 * x + 2 if x < 2 else Fraction(0)


def exact_rows(rows, scale):
    """Reduction of rows of fractions along their first axis, written down as MATLAB defines it."""
    length = len(rows)
    reduced = []
    for index in range(length // scale):
        centre = (index + Fraction(1, 2)) * scale - Fraction(1, 2)
        weights: dict[int, Fraction] = {}
        for place in range(int(centre) - 3 * scale, int(centre) + 3 * scale + 1):
            mirrored = place % (2 * length)
            mirrored = mirrored if mirrored < length else 2 * length - 1 - mirrored
            weights[mirrored] = weights.get(mirrored, Fraction(0)) + cubic((place - centre) / scale)
        total = sum(weights.values())
        reduced.append(
            [sum(weights[place] * rows[place][col] for place in weights) / total for col in range(len(rows[0]))]
        )
    return reduced


def exact(channel, scale):
    rows = exact_rows([[Fraction(int(value)) for value in row] for row in channel], scale)
    return [list(row) for row in zip(*exact_rows([list(col) for col in zip(*rows, strict=True)], scale), strict=True)]


small_images = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(2, 5)).flatmap(
    lambda sizes: st.tuples(
        npst.arrays(np.uint8, (sizes[0] * sizes[2], sizes[1] * sizes[2], 3), elements=st.integers(0, 255)),
        st.just(sizes[2]),
    )
)


@settings(max_examples=40, deadline=None)
@given(drawn=small_images)
def test_values_are_the_exact_ones_correctly_rounded(drawn):
    image, scale = drawn
    reduced, rounded = reduce_bicubic_float(image, scale), reduce_bicubic(image, scale)
    for channel in range(3):
        for row, values in enumerate(exact(image[..., channel], scale)):
            for col, value in enumerate(values):
                assert reduced[row, col, channel] == float(value)
                assert rounded[row, col, channel] == min(max(round(value), 0), 255)  # round: half to even, exactly


@pytest.mark.parametrize("scale", [2, 3, 4, 6, 8, 16])
def test_images_of_many_rows_are_reduced_as_those_of_few(scale):
    image = synthetic_image(3 * scale, 80 * scale)
    turned = np.ascontiguousarray(image.swapaxes(0, 1))
    assert np.array_equal(reduce_bicubic_float(turned, scale).swapaxes(0, 1), reduce_bicubic_float(image, scale))


def test_sides_must_be_multiples_of_the_scale():
    with pytest.raises(InputError, match="multiples of the scale 4, got 48x26"):
        reduce_bicubic(np.zeros((48, 26, 3), dtype=np.uint8), 4)
