"""What `self_similarity_graph` refuses, and how it chooses its backend."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from ssl_data.config import SSGSpec
from ssl_data.errors import InputError
from ssl_data.kernels import ssg
from ssl_data.kernels.extension import BACKEND_VARIABLE
from ssl_data.kernels.reference import ssd_numpy
from ssl_data.kernels.ssg import SlowBackendWarning, available_backends, self_similarity_graph

IMAGE = np.arange(20 * 22 * 3, dtype=np.uint32).reshape(20, 22, 3).astype(np.uint8)
PIXELS = np.array([[3, 4], [10, 11]], dtype=np.int32)
DTYPES = {"ssd": np.int32, "codes": np.uint8, "normalized": np.float32}

each_backend = pytest.mark.parametrize("backend", available_backends())


@pytest.fixture
def without_extension(monkeypatch):
    monkeypatch.setattr(ssg, "native", None)
    monkeypatch.delenv(BACKEND_VARIABLE, raising=False)
    ssg._warn_slow.cache_clear()
    yield
    ssg._warn_slow.cache_clear()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (IMAGE.tolist(), "image must be a NumPy array, got list"),
        (IMAGE.astype(np.float32), "image must be uint8, got float32"),
        (IMAGE[..., 0], r"image must have shape \(height, width, 3\), got \(20, 22\)"),
        (IMAGE[..., :2], r"image must have shape \(height, width, 3\), got \(20, 22, 2\)"),
        (IMAGE[:12], "image must be at least 13 pixels on each side, got 12x22"),
        (IMAGE[:, :12], "image must be at least 13 pixels on each side, got 20x12"),
    ],
)
def test_refuses_an_image(image, message):
    with pytest.raises(InputError, match=message):
        self_similarity_graph(image, PIXELS)


def test_boundary_image_needs_a_larger_image():
    with pytest.raises(InputError, match="image must be at least 17 pixels on each side, got 16x22"):
        self_similarity_graph(IMAGE[:16], PIXELS, SSGSpec(boundary="image"))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (PIXELS.tolist(), "pixels must be an integer array, got list"),
        (PIXELS.astype(np.float64), "pixels must be an integer array, got float64"),
        (PIXELS[0], r"pixels must have shape \(N, 2\), got \(2,\)"),
        (np.zeros((3, 3), np.int32), r"pixels must have shape \(N, 2\), got \(3, 3\)"),
        (np.array([[0, 0], [20, 5]]), r"pixel 1 \(row 20, col 5\) lies outside the image of 20x22"),
        (np.array([[0, 22]]), r"pixel 0 \(row 0, col 22\) lies outside the image of 20x22"),
        (np.array([[-1, 0]]), r"pixel 0 \(row -1, col 0\) lies outside the image of 20x22"),
        (np.array([[2**40, 0]]), rf"pixel 0 \(row {2**40}, col 0\) lies outside the image of 20x22"),
        (np.array([[3, 3], [0, -1]], np.int32), r"pixel 1 \(row 0, col -1\) lies outside the image of 20x22"),
        (np.array([[3, 3], [20, 0]], np.int32), r"pixel 1 \(row 20, col 0\) lies outside the image of 20x22"),
    ],
)
@each_backend
def test_refuses_pixels(pixels, message, backend):
    with pytest.raises(InputError, match=message):
        self_similarity_graph(IMAGE, pixels, backend=backend)


def test_refuses_an_unknown_output():
    with pytest.raises(InputError, match="output must be one of normalized, codes, ssd, got 'graph'"):
        self_similarity_graph(IMAGE, PIXELS, output="graph")


@pytest.mark.parametrize("num_threads", [0, -1, 1.5, True, 2**31])
def test_refuses_other_numbers_of_threads(num_threads):
    with pytest.raises(InputError, match="num_threads must be an integer in 1 .. 4096, got"):
        self_similarity_graph(IMAGE, PIXELS, num_threads=num_threads)


def test_refuses_an_unknown_backend():
    with pytest.raises(InputError, match=r"backend must be 'auto' or one of .*numpy on this machine, got 'cuda'"):
        self_similarity_graph(IMAGE, PIXELS, backend="cuda")


def test_refuses_an_unknown_backend_of_the_environment(monkeypatch):
    monkeypatch.setenv(BACKEND_VARIABLE, "cuda")
    with pytest.raises(InputError, match="got 'cuda'"):
        self_similarity_graph(IMAGE, PIXELS)


@each_backend
def test_environment_chooses_the_backend(backend, monkeypatch):
    monkeypatch.setenv(BACKEND_VARIABLE, backend)
    assert ssg._choose_backend("auto") == backend


@each_backend
def test_an_argument_goes_before_the_environment(backend, monkeypatch):
    monkeypatch.setenv(BACKEND_VARIABLE, "cuda")
    assert ssg._choose_backend(backend) == backend


@each_backend
@pytest.mark.parametrize(("output", "dtype"), DTYPES.items())
def test_outputs_have_their_types(output, dtype, backend):
    graph = self_similarity_graph(IMAGE, PIXELS, output=output, backend=backend)
    assert (graph.dtype, graph.shape) == (dtype, (2, 625))


@each_backend
@pytest.mark.parametrize("output", DTYPES)
def test_writes_into_out(output, backend):
    out = np.empty((2, 625), DTYPES[output])
    returned = self_similarity_graph(IMAGE, PIXELS, output=output, backend=backend, out=out)
    assert returned is out
    np.testing.assert_array_equal(out, self_similarity_graph(IMAGE, PIXELS, output=output, backend=backend))


@each_backend
@pytest.mark.parametrize("output", DTYPES)
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_writes_rows_of_out_and_no_others(dtype, output, backend):
    out = np.full((6, 625), 77, DTYPES[output])
    rows = np.array([4, 1], dtype)
    self_similarity_graph(IMAGE, PIXELS, output=output, backend=backend, out=out, rows=rows)
    np.testing.assert_array_equal(out[rows], self_similarity_graph(IMAGE, PIXELS, output=output, backend=backend))
    assert (out[[0, 2, 3, 5]] == 77).all()


@each_backend
def test_many_threads_write_the_rows_they_are_given(backend):
    pixels = np.argwhere(np.ones(IMAGE.shape[:2], bool))
    rows = np.random.default_rng(0).permutation(len(pixels))
    out = np.empty((len(pixels), 81), np.int32)
    spec = SSGSpec(search_size=9, window_size=3)
    self_similarity_graph(IMAGE, pixels, spec, output="ssd", backend=backend, num_threads=3, out=out, rows=rows)
    np.testing.assert_array_equal(out[rows], ssd_numpy(IMAGE, pixels, spec))


def test_no_pixels_leave_out_as_it_is():
    out = np.full((3, 625), 7, np.uint8)
    none = np.empty((0, 2), np.int32)
    self_similarity_graph(IMAGE, none, output="codes", out=out, rows=np.empty(0, np.int64))
    assert (out == 7).all()


def read_only(array):
    array.setflags(write=False)
    return array


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ([], "out must be a NumPy array, got list"),
        (np.empty((2, 625), np.int8), r"out must be uint8 of shape \(2, 625\), got int8 \(2, 625\)"),
        (np.empty((3, 625), np.uint8), r"out must be uint8 of shape \(2, 625\), got uint8 \(3, 625\)"),
        (np.empty((2, 624), np.uint8), r"out must be uint8 of shape \(2, 625\), got uint8 \(2, 624\)"),
        (np.empty(1250, np.uint8), r"out must be uint8 of shape \(2, 625\), got uint8 \(1250,\)"),
        (np.empty((2, 1250), np.uint8)[:, ::2], "out must be contiguous in C order and writeable"),
        (read_only(np.empty((2, 625), np.uint8)), "out must be contiguous in C order and writeable"),
    ],
)
def test_refuses_out(out, message):
    with pytest.raises(InputError, match=message):
        self_similarity_graph(IMAGE, PIXELS, output="codes", out=out)


@each_backend
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0, 1], "rows must be an integer array, got list"),
        (np.array([0.0, 1.0]), "rows must be an integer array, got float64"),
        (np.array([0]), r"rows must have shape \(2,\), one row for each pixel, got \(1,\)"),
        (np.array([[0], [1]]), r"rows must have shape \(2,\), one row for each pixel, got \(2, 1\)"),
        (np.array([0, 4]), r"rows\[1\] is 4, but out has rows 0 .. 3"),
        (np.array([-1, 0]), r"rows\[0\] is -1, but out has rows 0 .. 3"),
        (np.array([0, 2**63], np.uint64), rf"rows\[1\] is {2**63}, but out has rows 0 .. 3"),
        (np.array([3, 3]), "rows must differ from one another, 3 comes more than once"),
    ],
)
def test_refuses_rows_and_writes_nothing(rows, message, backend):
    out = np.full((4, 625), 7, np.uint8)
    with pytest.raises(InputError, match=message):
        self_similarity_graph(IMAGE, PIXELS, output="codes", backend=backend, out=out, rows=rows)
    assert (out == 7).all()


def test_rows_need_out():
    with pytest.raises(InputError, match="rows say which rows of out to write: they need out"):
        self_similarity_graph(IMAGE, PIXELS, rows=np.array([0, 1]))


@pytest.mark.usefixtures("without_extension")
def test_without_extension_warns_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        self_similarity_graph(IMAGE, PIXELS)
        self_similarity_graph(IMAGE, PIXELS)
    assert [warning.category for warning in caught] == [SlowBackendWarning]


@pytest.mark.usefixtures("without_extension")
def test_warning_points_to_the_caller():
    with pytest.warns(SlowBackendWarning, match="compiled extension of ssl_data is missing") as caught:
        self_similarity_graph(IMAGE, PIXELS)
    assert caught[0].filename == __file__


@pytest.mark.usefixtures("without_extension")
@pytest.mark.filterwarnings("ignore::ssl_data.kernels.ssg.SlowBackendWarning")
def test_without_extension_computes_by_numpy():
    graph = self_similarity_graph(IMAGE, PIXELS, output="ssd")
    np.testing.assert_array_equal(graph, ssd_numpy(IMAGE, PIXELS, SSGSpec()))


@pytest.mark.usefixtures("without_extension")
def test_without_extension_only_numpy_is_available():
    assert available_backends() == ("numpy",)


@pytest.mark.usefixtures("without_extension")
def test_choosing_numpy_does_not_warn():
    self_similarity_graph(IMAGE, PIXELS, backend="numpy")
