"""Reduction of images as MATLAB's ``imresize`` does it: bicubic, antialiased, borders mirrored.

The low-quality images of the super-resolution literature are made this way.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ssl_data.errors import InputError
from ssl_data.kernels.edges import check_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["reduce_bicubic", "reduce_bicubic_float"]

_KERNEL_RADIUS = 2.0
"""Support of the cubic kernel on either side, in pixels of the reduced image."""


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel with a = -1/2 (IEEE Trans. ASSP 29, 1981)."""
    x = np.abs(x)
    inner = (1.5 * x - 2.5) * x**2 + 1
    outer = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, inner, np.where(x <= _KERNEL_RADIUS, outer, 0.0))


@lru_cache(maxsize=16)
def _reduction_matrix(length: int, scale: int) -> NDArray[np.float64]:
    """The reduction along one axis as a matrix (length / scale, length): the kernel is widened by `scale`."""
    reduced = length // scale
    centres = (np.arange(reduced) + 0.5) * scale - 0.5
    reach = int(np.ceil(_KERNEL_RADIUS * scale)) + 1
    taps = np.floor(centres)[:, None].astype(np.int64) + np.arange(-reach, reach + 1)
    weights = _cubic((taps - centres[:, None]) / scale)
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = taps % (2 * length)  # ... 1 0 | 0 1 ... n-1 | n-1 n-2 ...: the border pixel is repeated
    mirrored = np.where(mirrored < length, mirrored, 2 * length - 1 - mirrored)
    matrix = np.zeros((reduced, length))
    np.add.at(matrix, (np.arange(reduced)[:, None], mirrored), weights)
    return matrix


def reduce_bicubic_float(image: NDArray[np.uint8], scale: int) -> NDArray[np.float64]:
    """Reduce an image by an integer factor, unrounded and unclipped.

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
    rows = _reduction_matrix(height, scale)
    cols = _reduction_matrix(width, scale)
    reduced = np.tensordot(rows, image.astype(np.float64), axes=(1, 0))
    return np.ascontiguousarray(np.tensordot(reduced, cols, axes=(1, 1)).swapaxes(1, 2))


def reduce_bicubic(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Reduce an image by an integer factor: `reduce_bicubic_float`, rounded half to even and clipped to 0 .. 255."""
    return np.clip(np.rint(reduce_bicubic_float(image, scale)), 0, 255).astype(np.uint8)
