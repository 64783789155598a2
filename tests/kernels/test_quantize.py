"""Codes: the table, its compiled evaluation, and decoding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_data.config import LARGEST_CODES, SSGSpec
from ssl_data.errors import InputError
from ssl_data.kernels.quantize import code_table, code_thresholds, codes_from_ssd, codes_from_table, decode_codes
from ssl_data.kernels.ssg import _kernel, available_backends

NATIVE = [name for name in available_backends() if name.startswith("native-")]
LARGEST_INT32 = 2**31 - 1
BANDWIDTHS = [5e-324, 1e-12, 1e-6, 0.0004, 0.004, 0.1, 5.0, 1e300]


def largest_ssd(spec):
    return 3 * spec.window_size**2 * 255**2


def code_by_formula(ssd, spec, quantization="sqrt8"):
    return np.rint(LARGEST_CODES[quantization] * np.exp(-ssd.astype(np.float64) * spec.ssd_scale / 255**2 / 2))


def code_by_table(ssd, table):
    first = table.first[np.minimum(ssd >> table.shift, len(table.first) - 1)]
    return first - (ssd > table.thresholds[first])


def encode(ssd, spec, backend):
    return _kernel(spec, backend).encode(ssd)


def around_every_step(spec, quantization="sqrt8"):
    steps = code_thresholds(spec, quantization)[1:, None].astype(np.int64) + np.arange(-30, 31)
    everywhere = np.linspace(0, largest_ssd(spec), 20_000).astype(np.int64)
    return np.unique(np.clip(np.append(steps.ravel(), everywhere), 0, largest_ssd(spec))).astype(np.int32)


@pytest.mark.parametrize("quantization", LARGEST_CODES)
def test_codes_equal_the_float_formula(quantization):
    ssd = np.arange(0, largest_ssd(SSGSpec()) + 1, 7, dtype=np.int32)
    codes = codes_from_ssd(ssd, SSGSpec(), quantization)
    np.testing.assert_array_equal(codes, code_by_formula(ssd, SSGSpec(), quantization))


@pytest.mark.parametrize("quantization", LARGEST_CODES)
@pytest.mark.parametrize("window_size", [1, 9, 15])
@pytest.mark.parametrize("bandwidth", BANDWIDTHS[2:-1])
def test_codes_equal_the_float_formula_around_every_step(bandwidth, window_size, quantization):
    spec = SSGSpec(bandwidth=bandwidth, window_size=window_size)
    ssd = around_every_step(spec, quantization)
    np.testing.assert_array_equal(codes_from_ssd(ssd, spec, quantization), code_by_formula(ssd, spec, quantization))


@pytest.mark.parametrize("window_size", [1, 9, 91])
@pytest.mark.parametrize("bandwidth", BANDWIDTHS)
@pytest.mark.parametrize("quantization", LARGEST_CODES)
def test_looking_up_in_blocks_equals_searching(quantization, bandwidth, window_size):
    spec = SSGSpec(bandwidth=bandwidth, window_size=window_size)
    ssd = around_every_step(spec, quantization)[None]
    expected = codes_from_ssd(ssd, spec, quantization)
    out = np.full_like(expected, 1)
    codes_from_table(ssd, code_table(spec, quantization), out)
    np.testing.assert_array_equal(out, expected)


@given(
    bandwidth=st.floats(1e-300, 1e300),
    window_size=st.integers(0, 45).map(lambda radius: 2 * radius + 1),
    ssd=st.lists(st.integers(0, LARGEST_INT32), min_size=1, max_size=50),
)
def test_table_equals_search(bandwidth, window_size, ssd):
    spec = SSGSpec(bandwidth=bandwidth, window_size=window_size)
    values = np.append(np.array(ssd, dtype=np.int32), code_thresholds(spec))
    np.testing.assert_array_equal(code_by_table(values, code_table(spec)), codes_from_ssd(values, spec))


def test_thresholds_descend_from_the_largest_int32():
    thresholds = code_thresholds(SSGSpec())
    assert thresholds[0] == LARGEST_INT32
    assert (np.diff(thresholds.astype(np.int64)) < 0).all()


@pytest.mark.parametrize("backend", NATIVE)
def test_compiled_codes_equal_the_table_for_every_ssd(backend):
    ssd = np.arange(largest_ssd(SSGSpec()) + 1, dtype=np.int32)
    np.testing.assert_array_equal(encode(ssd, SSGSpec(), backend), codes_from_ssd(ssd, SSGSpec()))


@pytest.mark.parametrize("backend", NATIVE)
@pytest.mark.parametrize("window_size", [1, 9, 15, 91])
@pytest.mark.parametrize("bandwidth", BANDWIDTHS)
def test_compiled_codes_equal_the_table_around_every_step(bandwidth, window_size, backend):
    spec = SSGSpec(bandwidth=bandwidth, window_size=window_size)
    ssd = around_every_step(spec)
    np.testing.assert_array_equal(encode(ssd, spec, backend), codes_from_ssd(ssd, spec))


def rows_of_codes(largest):
    rows = st.lists(st.lists(st.integers(0, largest), min_size=8, max_size=8), min_size=1, max_size=5)
    return rows.filter(lambda rows: all(any(row) for row in rows))


@settings(max_examples=50)
@given(
    rows_of_codes(255).map(lambda rows: np.array(rows, dtype=np.uint8))
    | rows_of_codes(4095).map(lambda rows: np.array(rows, dtype=np.uint16))
)
def test_decoding_normalises_the_squares(codes):
    similarity = (codes / LARGEST_CODES["sqrt8" if codes.dtype == np.uint8 else "sqrt12"]) ** 2
    expected = similarity / similarity.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(decode_codes(codes), expected, rtol=1e-6)


@pytest.mark.parametrize("quantization", LARGEST_CODES)
def test_decoding_rounds_by_at_most_half_a_code(quantization):
    largest = LARGEST_CODES[quantization]
    ssd = np.linspace(0, 600_000, 1000).astype(np.int32)
    similarity = np.exp(-ssd * SSGSpec().ssd_scale / 255**2)
    codes = codes_from_ssd(ssd, SSGSpec(), quantization)
    assert np.abs(np.sqrt(similarity) - codes / largest).max() <= 0.5 / largest + 1e-9


def test_no_rows_decode_to_no_rows():
    assert decode_codes(np.empty((0, 625), np.uint8)).shape == (0, 625)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.ones((2, 3), np.int32), r"codes must be uint8 or uint16 of shape \(N, K\), got int32 \(2, 3\)"),
        (np.ones(3, np.uint8), r"codes must be uint8 or uint16 of shape \(N, K\), got uint8 \(3,\)"),
        (np.array([[1, 2], [0, 0]], np.uint8), "row 1 of codes holds only zeros"),
    ],
)
def test_refuses_codes(codes, message):
    with pytest.raises(InputError, match=message):
        decode_codes(codes)
