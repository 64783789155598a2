"""Graphs as a store holds them, in one byte or two."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_data.config import CODE_TYPES, LARGEST_CODES, SSGSpec
from ssl_data.kernels.codes import graph_codes
from ssl_data.kernels.extension import BACKEND_VARIABLE
from ssl_data.kernels.quantize import codes_from_ssd
from ssl_data.kernels.reference import ssd_numpy
from ssl_data.kernels.ssg import available_backends
from ssl_data.testing import synthetic_image

SMALL = SSGSpec(search_size=5, window_size=3)


@pytest.mark.parametrize("backend", available_backends())
@pytest.mark.parametrize("boundary", ["zero", "image"])
@pytest.mark.parametrize("quantization", LARGEST_CODES)
def test_every_backend_gives_the_codes_of_the_plain_sums(quantization, boundary, backend, monkeypatch):
    monkeypatch.setenv(BACKEND_VARIABLE, backend)
    spec = SSGSpec(boundary=boundary)
    image = synthetic_image(40, 50)
    pixels = np.argwhere(np.random.default_rng(0).random((40, 50)) < 0.02).astype(np.int32)
    codes = graph_codes(image, pixels, spec, quantization, num_threads=2)
    assert codes.dtype == CODE_TYPES[quantization]
    assert (codes == codes_from_ssd(ssd_numpy(image, pixels, spec), spec, quantization)).all()
    assert (codes[:, spec.num_positions // 2] == LARGEST_CODES[quantization]).all()


@settings(deadline=None)
@given(count=st.integers(0, 1100), seed=st.integers(0, 2**32), quantization=st.sampled_from(list(LARGEST_CODES)))
def test_rows_of_an_existing_array_are_filled_and_no_others(count, seed, quantization):
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    pixels = random.integers(0, 12, (count, 2)).astype(np.int32)
    expected = random.integers(0, 256, (count + 5, 25)).astype(CODE_TYPES[quantization])
    out = expected.copy()
    rows = random.permutation(count + 5)[:count]
    assert graph_codes(image, pixels, SMALL, quantization, out=out, rows=rows) is out
    expected[rows] = graph_codes(image, pixels, SMALL, quantization)
    assert (out == expected).all()
    whole = np.empty((count, 25), dtype=CODE_TYPES[quantization])
    assert graph_codes(image, pixels, SMALL, quantization, out=whole) is whole
    assert (whole == expected[rows]).all()
