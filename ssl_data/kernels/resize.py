"""Reduction of images as MATLAB's ``imresize`` does it: bicubic, antialiased, borders mirrored.

The low-quality images of the super-resolution literature are made this way.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_data.errors import InputError
from ssl_data.kernels.edges import check_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["reduce_bicubic", "reduce_bicubic_float"]

_LARGEST_IN_FLOAT32 = 2**24
"""Up to here float32 holds every integer."""
_ROWS_AT_ONCE = 32
"""Rows of sums of a photograph that fit into a processor's cache together with what they are made of."""


@lru_cache(maxsize=16)
def _weights(scale: int) -> tuple[int, ...]:
    """Weights of a reduction by `scale`, as integers; their sum is the divisor.

    Keys' cubic convolution kernel with a = -1/2 (IEEE Trans. ASSP 29, 1981), widened by `scale`, at the centres of the
    pixels under it. These lie at multiples of ``1 / (2 scale)``, where the kernel is a fraction over ``2 (2 scale)^3``.
    """
    width = 2 * scale
    weights = []
    for tap in range(scale + 2 * _margin(scale)):
        distance = abs(2 * (tap - _margin(scale)) - (scale - 1))  # from the centre, in units of 1 / width
        if distance <= width:
            weights.append(3 * distance**3 - 5 * distance**2 * width + 2 * width**3)
        else:
            weights.append(-(distance**3) + 5 * distance**2 * width - 8 * distance * width**2 + 4 * width**3)
    common = gcd(*weights)
    return tuple(weight // common for weight in weights)


def _margin(scale: int) -> int:
    """How far the kernel reaches beyond the pixels that are merged into one, on either side."""
    return 3 * scale // 2


def _weighted_sums(values: NDArray[Any], scale: int, bound: int) -> NDArray[Any]:
    """Weighted sums along the first axis: (H, ...) to (H / scale, ...).

    Parameters
    ----------
    values : array of integers in whatever dtype
        None of them greater than `bound` in magnitude.

    Returns
    -------
    float32 where it holds all sums exactly, else float64
    """
    weights, margin = _weights(scale), _margin(scale)
    exact_in_float32 = bound * sum(map(abs, weights)) <= _LARGEST_IN_FLOAT32
    dtype = np.float32 if exact_in_float32 else np.float64
    padded = np.pad(values, [(margin, margin)] + [(0, 0)] * (values.ndim - 1), mode="symmetric").astype(dtype)
    total = np.empty((len(values) // scale, *values.shape[1:]), dtype=dtype)
    for first in range(0, len(total), _ROWS_AT_ONCE):
        block = total[first : first + _ROWS_AT_ONCE]
        _add_taps(padded[first * scale :], weights, scale, block)
    return total


def _add_taps(padded: NDArray[Any], weights: tuple[int, ...], scale: int, out: NDArray[Any]) -> None:
    """The weighted sums that begin with the first row, as many as `out` has room for."""

    def rows(tap: int) -> NDArray[Any]:
        return padded[tap : tap + scale * len(out) : scale]

    half, last = len(weights) // 2, len(weights) - 1
    term = np.empty_like(out)
    np.multiply(rows(half), weights[half] if len(weights) % 2 else 0, out=out)
    for tap in range(half):  # the kernel is symmetric: rows of equal weight are added first
        np.add(rows(tap), rows(last - tap), out=term)
        term *= weights[tap]
        out += term


def reduce_bicubic_float(image: NDArray[np.uint8], scale: int) -> NDArray[np.float64]:
    """Reduce an image by an integer factor, unrounded and unclipped.

    All sums are exact integers up to a scale of 23, so that every machine gives the same values; one division follows.

    Parameters
    ----------
    image : uint8 (H, W, 3)
        Both sides multiples of `scale`.
    scale : int
        2 or more.

    Returns
    -------
    float64 (H / scale, W / scale, 3)
        In grey levels; overshoots 0 and 255 at sharp edges.

    Raises
    ------
    InputError
        For another dtype or shape, or sides that are no multiples of `scale`.
    """
    check_image(image)
    height, width = image.shape[:2]
    if scale < 1 or height % scale or width % scale:
        raise InputError(f"image sides must be multiples of the scale {scale}, got {height}x{width}")
    weights = _weights(scale)
    rows = _weighted_sums(image, scale, bound=255)
    both = _weighted_sums(np.ascontiguousarray(rows.swapaxes(0, 1)), scale, bound=255 * sum(map(abs, weights)))
    reduced: NDArray[np.float64] = np.divide(both.swapaxes(0, 1), sum(weights) ** 2, dtype=np.float64)
    return np.ascontiguousarray(reduced)


def reduce_bicubic(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Reduce an image by an integer factor: `reduce_bicubic_float`, rounded half to even and clipped to 0 .. 255."""
    return np.clip(np.rint(reduce_bicubic_float(image, scale)), 0, 255).astype(np.uint8)
