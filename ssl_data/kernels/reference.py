"""The self-similarity graph straight from its definition, in plain NumPy: the oracle for every fast path.

For an edge pixel p and a search offset d (paper section 3.1, Eq. 1 and 2), with radius r of the search area and
radius f of the windows::

    ssd(p, d) = sum over c, |jy| <= f, |jx| <= f of (I(p + j) - Q)^2
    boundary "image":  Q = I(p + d + j)
    boundary "zero":   Q = I(p + d + j) where |d + j|_inf <= r, else 0

Images are padded by reflection without repeating the border pixel. Slow (about half a microsecond per value), exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ssl_data.geometry.positions import search_offsets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ssl_data.config import SSGSpec

__all__ = ["normalized_from_ssd", "ssd_numpy"]

_BLOCK = 512
"""Edge pixels handled at once: bounds the memory for their search areas to some 10 MB."""


def ssd_numpy(image: NDArray[np.uint8], pixels: NDArray[np.int32], spec: SSGSpec) -> NDArray[np.int32]:
    """Sums of squared differences: int32 (N, K), exact."""
    ssd = np.empty((len(pixels), spec.num_positions), dtype=np.int32)
    for first in range(0, len(pixels), _BLOCK):
        block = slice(first, first + _BLOCK)
        ssd[block] = _ssd_block(image, pixels[block], spec)
    return ssd


def _ssd_block(image: NDArray[np.uint8], pixels: NDArray[np.int32], spec: SSGSpec) -> NDArray[np.int32]:
    radius, window_radius, window_size = spec.search_radius, spec.window_radius, spec.window_size
    reach = radius + window_radius
    # With boundary "zero" nothing beyond spec.pad is looked at, so small images may be padded with anything there.
    padded = np.pad(image, ((spec.pad, spec.pad), (spec.pad, spec.pad), (0, 0)), mode="reflect")
    padded = np.pad(padded, ((reach - spec.pad,) * 2, (reach - spec.pad,) * 2, (0, 0))).astype(np.int32)
    around = np.arange(2 * reach + 1)
    areas = padded[pixels[:, 0, None, None] + around[:, None], pixels[:, 1, None, None] + around]
    windows = areas[:, radius : radius + window_size, radius : radius + window_size].copy()
    if spec.boundary == "zero":
        outside = np.abs(around - reach) > radius
        areas[:, outside] = 0
        areas[:, :, outside] = 0
    ssd = np.empty((len(pixels), spec.num_positions), dtype=np.int32)
    for position, (dy, dx) in enumerate(search_offsets(spec) + radius):
        difference = windows - areas[:, dy : dy + window_size, dx : dx + window_size]
        ssd[:, position] = np.einsum("nijc,nijc->n", difference, difference)
    return ssd


def normalized_from_ssd(ssd: NDArray[np.int32], spec: SSGSpec) -> NDArray[np.float64]:
    """Normalised graphs in float64 (paper Eq. 4): ``S = exp(-ssd / 255^2 * ssd_scale)``, ``S / (sum S + 1e-10)``."""
    similarity = np.exp(ssd * (-spec.ssd_scale / 255**2))
    normalized: NDArray[np.float64] = similarity / (similarity.sum(axis=1, keepdims=True) + 1e-10)
    return normalized
