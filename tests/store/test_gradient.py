"""Differences of graphs, and the way back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numcodecs.zstd import Zstd
from skimage import data

from ssl_data import SSGSpec, edge_mask, edge_pixels, self_similarity_graph
from ssl_data.store import extension, gradient
from ssl_data.store.codec import chunk_codec

needs_extension = pytest.mark.skipif(not extension.is_compiled(), reason="not compiled")


def restore(graphs, *, compiled):
    """The way back, by one of both implementations."""
    with pytest.MonkeyPatch.context() as patch:
        if not compiled:
            patch.setattr(extension, "native", None)
        gradient.restore(graphs)


both = pytest.mark.parametrize("compiled", [pytest.param(True, marks=needs_extension), False], ids=["C++", "NumPy"])


@st.composite
def graphs(draw):
    side = draw(st.integers(1, 9))
    return draw(arrays(np.uint8, (draw(st.integers(0, 5)), side**2)))


@given(values=graphs())
def test_differences_are_those_of_the_definition(values):
    side = int(np.sqrt(values.shape[1]))
    q = np.zeros((len(values), side + 1, side + 1), dtype=np.int64)
    q[:, 1:, 1:] = values.reshape(-1, side, side)
    expected = (q[:, 1:, 1:] - q[:, 1:, :-1] - q[:, :-1, 1:] + q[:, :-1, :-1]) & 255
    found = gradient.differences(values)
    assert found.dtype == np.uint8
    assert (found.reshape(expected.shape) == expected).all()


@both
@given(values=graphs())
def test_every_array_comes_back(compiled, values):
    back = gradient.differences(values)
    restore(back, compiled=compiled)
    assert (back == values).all()


@both
@given(values=graphs())
def test_every_array_is_an_array_of_differences(compiled, values):
    back = values.copy()
    restore(back, compiled=compiled)
    assert (gradient.differences(back) == values).all()


@pytest.mark.parametrize("shape", [(3, 24), (2, 626)])
def test_what_is_no_grid_is_refused(shape):
    values = np.zeros(shape, dtype=np.uint8)
    with pytest.raises(ValueError, match="square number"):
        gradient.differences(values)
    with pytest.raises(ValueError, match="square number"):
        gradient.restore(values)


@needs_extension
@pytest.mark.parametrize(("shape", "side"), [((3, 25), 6), ((25,), 5), ((1, 5, 5), 5), ((2, 25), 2**63)])
def test_the_extension_looks_at_shapes_itself(shape, side):
    with pytest.raises(ValueError, match="shape"):
        extension.native.restore(np.zeros(shape, dtype=np.uint8), side)


def test_small_is_smaller_than_the_strongest_zstandard():
    image = data.astronaut()[64:192, 128:256].copy()
    codes = self_similarity_graph(image, edge_pixels(edge_mask(image))[:1024], SSGSpec(), output="codes")
    small, strongest = chunk_codec("small", array="ssg"), Zstd(level=22, checksum=True)
    assert len(small.encode(codes)) < 0.95 * len(strongest.encode(codes))
    assert len(small.encode(codes)) < 0.9 * len(Zstd(level=5, checksum=True).encode(codes))
