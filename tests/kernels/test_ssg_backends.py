"""Every compiled backend computes what the plain NumPy oracle computes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_data.config import SSGSpec
from ssl_data.kernels.quantize import codes_from_ssd
from ssl_data.kernels.reference import normalized_from_ssd, ssd_numpy
from ssl_data.kernels.ssg import available_backends, self_similarity_graph

NATIVE = [name for name in available_backends() if name.startswith("native-")]
ODD_SEARCH_SIZES = st.integers(1, 20).map(lambda radius: 2 * radius + 1)
ODD_WINDOW_SIZES = st.integers(1, 7).map(lambda radius: 2 * radius + 1)

needs_native = pytest.mark.skipif(not NATIVE, reason="the compiled extension is not built")
each_backend = pytest.mark.parametrize("backend", NATIVE)
each_boundary = pytest.mark.parametrize("boundary", ["zero", "image"])

pytestmark = needs_native


def noise(height, width, *, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def checkerboard(height, width):
    black_or_white = np.add.outer(np.arange(height), np.arange(width)) % 2 * 255
    return np.repeat(black_or_white[:, :, None], 3, axis=2).astype(np.uint8)


def corners(image):
    bottom, right = image.shape[0] - 1, image.shape[1] - 1
    return np.array([[0, 0], [0, right], [bottom, 0], [bottom, right]], dtype=np.int32)


def all_pixels(image):
    return np.argwhere(np.ones(image.shape[:2], dtype=bool)).astype(np.int32)


def assert_equal_to_oracle(image, pixels, spec, backend):
    expected = ssd_numpy(image, pixels, spec)
    graph = {
        output: self_similarity_graph(image, pixels, spec, output=output, backend=backend)
        for output in ("ssd", "codes", "normalized")
    }
    np.testing.assert_array_equal(graph["ssd"], expected)
    np.testing.assert_array_equal(graph["codes"], codes_from_ssd(expected, spec))
    assert np.abs(graph["normalized"] - normalized_from_ssd(expected, spec)).max(initial=0) < 1e-6


@st.composite
def cases(draw):
    """A spec, an image barely or comfortably large enough for it, and a few pixels of the image."""
    search_size = draw(ODD_SEARCH_SIZES)
    radius = search_size // 2
    spec = SSGSpec(
        search_size=search_size,
        window_size=draw(ODD_WINDOW_SIZES),
        boundary=draw(st.sampled_from(["zero", "image"])),
        search_stride=draw(st.sampled_from([stride for stride in range(1, radius + 1) if radius % stride == 0])),
        bandwidth=draw(st.sampled_from([0.004, 0.0004, 0.1])),
    )
    height = spec.min_side + draw(st.integers(0, 9))
    width = spec.min_side + draw(st.integers(0, 9))
    image = noise(height, width, seed=draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([256, 8, 2]))  # few levels: flat regions, exact repetitions, extreme differences
    image = (image // (256 // levels) * (255 // (levels - 1))).astype(np.uint8)
    if draw(st.booleans()):  # a flat region, black or white: the largest and the smallest sums
        image[: height // 2] = draw(st.sampled_from([0, 255]))
    pixel = st.tuples(st.integers(0, height - 1), st.integers(0, width - 1))
    pixels = np.array(draw(st.lists(pixel, min_size=1, max_size=4)), dtype=np.int32)
    return image, pixels, spec


@settings(max_examples=150, deadline=None)
@given(cases())
def test_equal_to_oracle_for_any_spec(case):
    for backend in NATIVE:
        assert_equal_to_oracle(*case, backend)


@each_backend
@each_boundary
@pytest.mark.parametrize("search_size", range(3, 42, 2))
def test_equal_to_oracle_for_every_search_size(search_size, boundary, backend):
    spec = SSGSpec(search_size=search_size, boundary=boundary)
    image = noise(spec.min_side + 2, spec.min_side, seed=search_size)
    assert_equal_to_oracle(image, corners(image), spec, backend)


@each_backend
@each_boundary
@pytest.mark.parametrize("window_size", [*range(3, 16, 2), 17, 31, 91])
def test_equal_to_oracle_for_every_window_size(window_size, boundary, backend):
    spec = SSGSpec(window_size=window_size, boundary=boundary)
    image = noise(spec.min_side, spec.min_side + 3, seed=window_size)
    assert_equal_to_oracle(image, corners(image), spec, backend)


@each_backend
@each_boundary
@pytest.mark.parametrize("window_size", [3, 9, 15])
@pytest.mark.parametrize("stride", [1, 2, 3, 4, 6, 12])
def test_equal_to_oracle_for_every_stride(stride, window_size, boundary, backend):
    spec = SSGSpec(search_stride=stride, window_size=window_size, boundary=boundary)
    image = noise(spec.min_side + 4, spec.min_side + 1, seed=stride)
    assert_equal_to_oracle(image, corners(image), spec, backend)


@each_backend
@each_boundary
def test_equal_to_oracle_for_one_position_and_one_pixel(boundary, backend):
    spec = SSGSpec(search_size=1, window_size=1, boundary=boundary)
    image = noise(1, 1)
    assert_equal_to_oracle(image, all_pixels(image), spec, backend)


@each_backend
@each_boundary
def test_equal_to_oracle_in_every_pixel(boundary, backend):
    spec = SSGSpec(boundary=boundary)
    image = noise(spec.min_side + 5, spec.min_side)
    assert_equal_to_oracle(image, all_pixels(image), spec, backend)


@each_backend
@each_boundary
@pytest.mark.parametrize("output", ["ssd", "codes", "normalized"])
@pytest.mark.parametrize("window_size", [7, 9, 11, 13])
def test_a_pixel_does_not_depend_on_the_one_before(window_size, output, boundary, backend):
    """The last stage of a pixel overlaps with the next one; alone, in any order and in any portion it is the same."""
    spec = SSGSpec(window_size=window_size, boundary=boundary)
    image = noise(spec.min_side + 6, spec.min_side + 5, seed=window_size)
    pixels = np.random.default_rng(0).permutation(all_pixels(image))[:300]
    options = {"output": output, "backend": backend}
    graphs = self_similarity_graph(image, pixels, spec, **options)
    np.testing.assert_array_equal(graphs[::-1], self_similarity_graph(image, pixels[::-1], spec, **options))
    for index in (0, 1, 254, 255, 256, 299):
        alone = self_similarity_graph(image, pixels[index : index + 1], spec, **options)
        np.testing.assert_array_equal(alone[0], graphs[index])


@each_backend
@each_boundary
@pytest.mark.parametrize("window_size", [9, 15, 91])
@pytest.mark.parametrize(
    "image",
    [
        pytest.param(np.zeros((60, 58, 3), np.uint8), id="black"),
        pytest.param(np.full((60, 58, 3), 255, np.uint8), id="white"),
        pytest.param(checkerboard(60, 58), id="checkerboard"),
        pytest.param(noise(60, 58) // 128 * 255, id="black and white noise"),
    ],
)
def test_sums_do_not_overflow(image, window_size, boundary, backend):
    spec = SSGSpec(window_size=window_size, boundary=boundary)
    pixels = np.array([[0, 0], [0, 57], [30, 29], [59, 0], [59, 57]], dtype=np.int32)
    assert_equal_to_oracle(image, pixels, spec, backend)


@each_backend
@each_boundary
def test_few_pixels_of_a_large_image(boundary, backend):
    """Only what their search areas touch is prepared: pixels in a corner, along a border, inside, far apart."""
    spec = SSGSpec(boundary=boundary)
    image = noise(90, 80)
    for pixels in ([[2, 3]], [[89, 79], [85, 79]], [[40, 50]], [[0, 40], [89, 41]], [[30, 0], [60, 79]], [[11, 68]]):
        assert_equal_to_oracle(image, np.array(pixels, dtype=np.int32), spec, backend)


@each_backend
@pytest.mark.parametrize("window_size", [3, 7, 9, 11, 15])
def test_codes_are_exact_where_every_second_value_is_a_tie(window_size, backend):
    """On a checkerboard, every other sum is the largest possible, 3 k^2 255^2, here with S = 1/4: 127.5 as a code."""
    spec = SSGSpec(window_size=window_size, boundary="image", bandwidth=1 / (2 * np.log(2)))
    image = checkerboard(spec.min_side + 9, spec.min_side + 8)
    pixels = all_pixels(image)[::7]
    codes = self_similarity_graph(image, pixels, spec, output="codes", backend=backend)
    assert set(np.unique(codes)) <= {127, 128, 255}
    np.testing.assert_array_equal(codes, codes_from_ssd(ssd_numpy(image, pixels, spec), spec))


@each_backend
@pytest.mark.parametrize("output", ["ssd", "codes", "normalized"])
def test_no_pixels_give_no_rows(output, backend):
    pixels = np.empty((0, 2), dtype=np.int32)
    graph = self_similarity_graph(noise(20, 20), pixels, output=output, backend=backend)
    assert graph.shape == (0, 625)


@each_backend
def test_threads_do_not_change_the_result(backend):
    image = noise(40, 50)
    pixels = all_pixels(image)
    one, many = (
        self_similarity_graph(image, pixels, output="ssd", num_threads=threads, backend=backend) for threads in (1, 3)
    )
    np.testing.assert_array_equal(one, many)


@each_backend
def test_more_threads_than_pixels(backend):
    image = noise(20, 20)
    expected = ssd_numpy(image, corners(image), SSGSpec())
    graph = self_similarity_graph(image, corners(image), output="ssd", num_threads=64, backend=backend)
    np.testing.assert_array_equal(graph, expected)


@each_backend
@pytest.mark.parametrize(
    "view",
    [
        pytest.param(lambda image: image[:, ::-1], id="mirrored"),
        pytest.param(lambda image: image[::2, ::2], id="every second pixel"),
        pytest.param(lambda image: image.swapaxes(0, 1), id="transposed"),
        pytest.param(lambda image: image[..., ::-1], id="channels reversed"),
    ],
)
def test_images_need_not_be_contiguous(view, backend):
    image = view(noise(44, 40))
    assert_equal_to_oracle(image, corners(image), SSGSpec(), backend)


@each_backend
def test_pixels_may_have_any_integer_type_and_order(backend):
    image = noise(20, 24)
    expected = self_similarity_graph(image, corners(image), output="ssd", backend=backend)
    for dtype in (np.uint8, np.int64, np.uint32):
        pixels = np.asfortranarray(corners(image).astype(dtype))
        graph = self_similarity_graph(image, pixels, output="ssd", backend=backend)
        np.testing.assert_array_equal(graph, expected)


@each_backend
def test_a_minute_bandwidth_leaves_only_equal_windows_similar(backend):
    spec = SSGSpec(bandwidth=5e-324)
    image = noise(20, 20)
    graph = self_similarity_graph(image, corners(image), spec, backend=backend)
    np.testing.assert_array_equal(graph[:, 312], 1)
    assert np.count_nonzero(graph > 1e-6) == np.count_nonzero(ssd_numpy(image, corners(image), spec) == 0)


@each_backend
def test_a_huge_bandwidth_makes_all_equal(backend):
    image = noise(20, 20)
    graph = self_similarity_graph(image, corners(image), SSGSpec(bandwidth=1e300), backend=backend)
    np.testing.assert_allclose(graph, 1 / 625, rtol=1e-6)


def test_native_is_the_fastest_compiled_backend():
    assert available_backends()[:2] == ("native", NATIVE[0])
