"""Images, graphs and edge pixels on their way from the store to a sample: compiled and plain agree."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_data.geometry.positions import Dihedral, Window, interior_window
from ssl_data.kernels.extension import BACKEND_VARIABLE, use_native
from ssl_data.kernels.sample import mark_pixels, sample_pixels
from ssl_data.kernels.ssg import available_backends
from ssl_data.kernels.turn import turn_graphs, unit_range

turns = st.builds(Dihedral, hflip=st.booleans(), vflip=st.booleans(), transpose=st.booleans())
compiled = pytest.mark.skipif("native" not in available_backends(), reason="the extension is not built")
BACKENDS = ["numpy", pytest.param("native", marks=compiled), pytest.param("native-portable", marks=compiled)]


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(BACKEND_VARIABLE, request.param)
        yield request.param


@given(
    turn=turns,
    side=st.integers(1, 31).map(lambda half: 2 * half - 1),
    num_graphs=st.integers(1, 9),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    seed=st.integers(0, 2**32),
)
def test_graphs_are_put_where_they_belong_and_nowhere_else(turn, side, num_graphs, dtype, seed):
    random = np.random.default_rng(seed)
    largest = np.iinfo(dtype).max
    graphs = random.integers(0, largest, (num_graphs, side * side), dtype=dtype, endpoint=True)
    out = random.integers(0, largest, (num_graphs + 3, side * side), dtype=dtype, endpoint=True)
    rows = random.integers(0, num_graphs, num_graphs).astype(np.int32)
    places = random.permutation(len(out))[:num_graphs].astype(np.int32)
    expected = out.copy()
    for row, place in zip(rows, places, strict=True):
        square = graphs[row].reshape(side, side)
        square = square[:, ::-1] if turn.hflip else square
        square = square[::-1] if turn.vflip else square
        expected[place] = (square.T if turn.transpose else square).ravel()
    turn_graphs(graphs, rows, out, places, turn)
    assert (out == expected).all()


@given(turn=turns, height=st.integers(1, 9), width=st.integers(1, 70), seed=st.integers(0, 2**32))
def test_an_image_is_turned_and_divided(turn, height, width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = turn.image(image).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    out = np.empty(expected.shape, dtype=np.float32)
    unit_range(image, turn, out)
    assert (out == expected).all()


@pytest.mark.parametrize("turn", [Dihedral(), Dihedral(hflip=True), Dihedral(transpose=True)])
def test_all_intensities_are_divided_exactly(turn):
    image = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)
    for color in range(3):
        image[..., color] = np.roll(image[..., color], 85 * color)
    out = np.empty((3, 16, 16), dtype=np.float32)
    unit_range(image, turn, out)
    assert (out == turn.image(image).transpose(2, 0, 1) / np.float32(255)).all()
    assert (np.sort(out.reshape(3, -1)) == np.arange(256, dtype=np.float32) / np.float32(255)).all()


def packed(mask):
    return np.packbits(mask, axis=1, bitorder="little")


@st.composite
def windows(draw, crop):
    """Any in the crop, also without pixels."""
    rows, cols = (
        sorted(draw(st.lists(st.integers(first, last), min_size=2, max_size=2)))
        for first, last in ((crop.top, crop.bottom), (crop.left, crop.right))
    )
    return Window(top=rows[0], left=cols[0], bottom=rows[1], right=cols[1])


@st.composite
def problems(draw):
    side = draw(st.integers(1, 20) | st.integers(60, 140))
    size = draw(st.integers(1, side))
    top, left = draw(st.integers(0, side - size)), draw(st.integers(0, side - size))
    crop = Window(top=top, left=left, bottom=top + size, right=left + size)
    interior = interior_window(crop, patch_size=side, pad=draw(st.integers(0, 4)))
    density = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    mask = np.random.default_rng(draw(st.integers(0, 2**32))).random((side, side)) < density
    usual = st.sampled_from([(crop, crop), (interior, crop), (crop, interior)])
    taken, stored = draw(usual | st.tuples(windows(crop), windows(crop)))
    stored_stride, edge_stride = draw(st.sampled_from([(1, 1), (1, 2), (1, 3), (3, 1), (2, 1), (2, 3), (500, 1)]))
    strides = {"stored_stride": stored_stride, "edge_stride": edge_stride}
    return mask, crop, {"taken": taken, "stored": stored, **strides}


@given(problem=problems(), turn=turns)
def test_the_pixels_of_a_sample_are_those_of_the_turned_crop(problem, turn):
    mask, crop, options = problem
    found = sample_pixels(packed(mask), crop=crop, turn=turn, **options)
    row, col = np.indices(mask.shape)
    has_graph = mask & (row % options["stored_stride"] == col % options["stored_stride"])
    assert found.num_stored == np.count_nonzero(has_graph)
    # The same by moving a picture of the graphs' numbers instead of coordinates.
    picture = np.where(has_graph, np.cumsum(has_graph.ravel()).reshape(mask.shape) - 1, -1)
    pixels = np.stack([row, col], axis=-1).reshape(-1, 2).astype(np.int32)
    is_taken = options["taken"].contains(pixels).reshape(mask.shape)
    is_stored = options["stored"].contains(pixels).reshape(mask.shape)

    def turned(values):
        return turn.image(values[crop.top : crop.bottom, crop.left : crop.right])

    size = crop.bottom - crop.top
    diagonal = np.arange(size)[:, None] % options["edge_stride"] == np.arange(size) % options["edge_stride"]
    expected = np.nonzero((turned(picture) >= 0) & turned(is_taken) & diagonal)
    assert [found.row.tolist(), found.col.tolist()] == [axis.tolist() for axis in expected]
    stored_here = turned(is_stored)[expected]
    numbers = turned(picture)[expected]
    assert found.computed.tolist() == np.flatnonzero(~stored_here).tolist()
    assert (np.diff(found.rows) > 0).all()
    assert (numbers[found.places] == found.rows).all()
    assert sorted(found.places.tolist()) == np.flatnonzero(stored_here).tolist()


@given(
    num_columns=st.sampled_from([1, 9, 25, 49, 81, 289]),
    first=st.integers(0, 20),
    count=st.integers(0, 60),
    place=st.integers(0, 9),
    offset=st.integers(0, 70),
    dtype=st.sampled_from([np.uint8, np.uint16]),
)
def test_runs_of_graphs_are_copied(num_columns, first, count, place, offset, dtype):
    """Of any size, to anywhere in a line of the cache."""
    graphs = np.random.default_rng(0).integers(0, 2**8, (first + count, num_columns)).astype(dtype)
    rows, places = (np.arange(begin, begin + count, dtype=np.int32) for begin in (first, place))
    out = np.full(offset + (place + count + 2) * num_columns, 7, dtype)[offset:].reshape(-1, num_columns)
    turn_graphs(graphs, rows, out, places, Dihedral())
    assert (out[places] == graphs[first:]).all()
    assert (np.delete(out, places, axis=0) == 7).all()


@given(height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 2**32))
def test_pixels_are_marked(height, width, seed):
    expected = np.random.default_rng(seed).integers(0, 2, (height, width)).astype(np.float32)
    row, col = (axis.astype(np.int32) for axis in np.nonzero(expected))
    out = np.full((height, width), 7, dtype=np.float32)
    mark_pixels(row, col, out)
    assert (out == expected).all()


@pytest.mark.parametrize(("row", "col"), [(4, 0), (0, 5), (-5, 0), (0, -6)])
def test_pixels_outside_are_not_marked(row, col):
    pixel = np.array([row], dtype=np.int32), np.array([col], dtype=np.int32)
    with pytest.raises((ValueError, IndexError)):
        mark_pixels(*pixel, np.zeros((4, 5), dtype=np.float32))


def test_pixels_out_of_order_are_refused():
    if not use_native():
        pytest.skip("only compiled code asks for an order")
    row, col = np.array([1, 0], dtype=np.int32), np.array([0, 0], dtype=np.int32)
    with pytest.raises(ValueError, match="rows must ascend"):
        mark_pixels(row, col, np.zeros((4, 5), dtype=np.float32))


@pytest.mark.parametrize("stride", [64, 1000, 2**31 - 1])
def test_a_stride_beyond_the_patch_leaves_the_diagonal(stride):
    whole = Window(top=0, left=0, bottom=64, right=64)
    options = {"crop": whole, "taken": whole, "stored": whole, "turn": Dihedral(), "edge_stride": 1}
    found = sample_pixels(packed(np.ones((64, 64), dtype=np.bool_)), stored_stride=stride, **options)
    assert found.row.tolist() == found.col.tolist() == list(range(64))
    assert found.num_stored == 64
