"""uint8 codes of similarities: ``q = round(255 sqrt(S))``, as an exact integer function of the integer ssd.

With uint8 images the sum of squared differences (ssd) is an integer, so ``q`` steps down at fixed integers. Those steps
are computed once per spec with 50 decimal digits; every backend on every machine then gives the same codes, whatever
its ``exp`` is like.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ssl_data.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ssl_data.config import SSGSpec

__all__ = ["CodeTable", "code_table", "code_thresholds", "codes_from_ssd", "decode_codes"]

_INT32_MAX = 2**31 - 1


@lru_cache(maxsize=64)
def code_thresholds(spec: SSGSpec) -> NDArray[np.int32]:
    """Largest ssd that still has code q: int32 (256,), descending; entry 0 is the largest int32.

    ``q`` is the code of all ssd with ``255 exp(-ssd / (2 * 3 * window_size^2 * 255^2 * bandwidth)) >= q - 1/2``. The
    bound is irrational, so that a tie between two codes cannot occur.
    """
    with localcontext() as context:
        context.prec = 50
        scale = 2 * 3 * spec.window_size**2 * 255**2 * Decimal(repr(spec.bandwidth))
        bounds = [int(scale * (Decimal(510) / (2 * q - 1)).ln()) for q in range(1, 256)]
    thresholds = np.array([_INT32_MAX, *(min(bound, _INT32_MAX) for bound in bounds)], dtype=np.int32)
    thresholds.setflags(write=False)
    return thresholds


def codes_from_ssd(ssd: NDArray[np.int32], spec: SSGSpec) -> NDArray[np.uint8]:
    """Codes (any shape) of integer sums of squared differences of uint8 intensities."""
    ascending = code_thresholds(spec)[:0:-1]
    # searchsorted counts the thresholds below ssd, i.e. the steps already taken down from 255.
    codes: NDArray[np.uint8] = (255 - np.searchsorted(ascending, ssd, side="left")).astype(np.uint8)
    return codes


@dataclass(frozen=True, kw_only=True)
class CodeTable:
    """The same function as a small table for compiled code.

    The code of an ssd is ``first[b] - (ssd > thresholds[first[b]])`` with ``b = min(ssd >> shift, len(first) - 1)``:
    a bucket of ``2 ** shift`` values is narrower than any step, so that at most one step falls into it. Where steps are
    narrower than one (a minute bandwidth), shift is 0 and every ssd has its own bucket.
    """

    shift: int
    first: NDArray[np.uint8]
    """Code of the smallest ssd of each bucket; the last bucket has code 0 and is open-ended."""
    thresholds: NDArray[np.int32]


@lru_cache(maxsize=64)
def code_table(spec: SSGSpec) -> CodeTable:
    """The bucket table of a spec."""
    thresholds = code_thresholds(spec)
    reachable = thresholds[thresholds < _INT32_MAX].astype(np.int64)
    narrowest = int((reachable[:-1] - reachable[1:]).min(initial=2**30))
    shift = max(narrowest.bit_length() - 1, 0)
    num_buckets = (int(thresholds[1]) >> shift) + 2
    starts = np.minimum(np.arange(num_buckets, dtype=np.int64) << shift, _INT32_MAX).astype(np.int32)
    first = codes_from_ssd(starts, spec)
    first[-1] = 0
    first.setflags(write=False)
    return CodeTable(shift=shift, first=first, thresholds=thresholds)


def decode_codes(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn stored codes back into normalised graphs.

    ``S = (q / 255)^2``, then every row is divided by its sum (paper Eq. 4). The search centre has code 255, so a sum is
    never zero.

    Parameters
    ----------
    codes : uint8 (N, K)

    Returns
    -------
    float32 (N, K)
        Rows sum to 1.

    Raises
    ------
    InputError
        For another dtype or shape, or a row without any similarity.
    """
    if not isinstance(codes, np.ndarray) or codes.dtype != np.uint8 or codes.ndim != 2:
        raise InputError(
            f"codes must be uint8 of shape (N, K), got {getattr(codes, 'dtype', type(codes))} {np.shape(codes)}"
        )
    squares = np.arange(256, dtype=np.int64) ** 2
    numerators = squares[codes]
    sums = numerators.sum(axis=1, keepdims=True)
    if codes.size and not sums.all():
        row = int(np.flatnonzero(sums[:, 0] == 0)[0])
        raise InputError(f"row {row} of codes holds only zeros: not a self-similarity graph")
    normalized: NDArray[np.float32] = (numerators / np.maximum(sums, 1)).astype(np.float32)
    return normalized
