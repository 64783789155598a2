"""Blur kernels in closed form: Gaussians, their relatives, and low-pass filters.

All have an odd side, sum to 1 and are symmetric about their centre. Source: Wang et al., "Real-ESRGAN: Training
Real-World Blind Super-Resolution with Pure Synthetic Data", ICCVW 2021, on blur and on ringing artefacts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ssl_data.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["gaussian_kernel", "plateau_kernel", "sinc_kernel"]


def _distances(size: int, sigma: tuple[float, float], angle: float) -> NDArray[np.float64]:
    """Squared Mahalanobis distance of each pixel from the centre: (size, size).

    The axis of ``sigma[0]`` points `angle` radians from the direction of increasing columns to that of increasing rows.
    """
    if size < 1 or size % 2 == 0:
        raise ConfigError(f"the size of a kernel must be odd and positive, got {size}")
    axis = np.arange(size) - size // 2
    row, col = axis[:, None], axis[None, :]
    along = col * np.cos(angle) + row * np.sin(angle)
    across = row * np.cos(angle) - col * np.sin(angle)
    distances: NDArray[np.float64] = (along / sigma[0]) ** 2 + (across / sigma[1]) ** 2
    return distances


def _normalized(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    normalized: NDArray[np.float64] = kernel / kernel.sum()
    return normalized


def gaussian_kernel(
    size: int, sigma: tuple[float, float], angle: float = 0.0, *, beta: float = 1.0
) -> NDArray[np.float64]:
    """Generalised Gaussian ``exp(-q^beta / 2)``, q the squared Mahalanobis distance from the centre.

    Parameters
    ----------
    size : int
        Side, in pixels; odd.
    sigma : (float, float)
        Standard deviations along the two axes, in pixels.
    angle : float
        Of the first axis, in radians.
    beta : float
        1 for the Gaussian; more is flatter with a sharper edge, less has a sharper peak and longer tails.

    Returns
    -------
    float64 (size, size)
        With sum 1.
    """
    return _normalized(np.exp(-0.5 * _distances(size, sigma, angle) ** beta))


def plateau_kernel(
    size: int, sigma: tuple[float, float], angle: float = 0.0, *, beta: float = 1.0
) -> NDArray[np.float64]:
    """``1 / (1 + q^beta)``: flat in the middle, with long tails; parameters as in `gaussian_kernel`."""
    return _normalized(1 / (1 + _distances(size, sigma, angle) ** beta))


def _bessel_j1(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bessel function of the first kind, order 1, for 0 <= x < 50.

    Bessel's integral, the mean of ``cos(t - x sin t)`` over a period, by the trapezoidal rule. For a periodic integrand
    its error with n points is of the order of ``J_{n-1}(x)``: below rounding here. Saves a dependency on SciPy.
    """
    angles = 2 * np.pi * np.arange(96) / 96
    mean: NDArray[np.float64] = np.cos(angles - x[..., None] * np.sin(angles)).mean(axis=-1)
    return mean


def sinc_kernel(size: int, cutoff: float) -> NDArray[np.float64]:
    """Ideal low-pass filter, circular in the frequency plane: ``cutoff J1(cutoff r) / (2 pi r)``, r the distance.

    Truncated to a square it makes edges ring and overshoot.

    Parameters
    ----------
    size : int
        Side, in pixels; odd, at most 21.
    cutoff : float
        Highest frequency that passes, in radians per pixel; pi keeps all.

    Returns
    -------
    float64 (size, size)
        With sum 1 and negative entries.
    """
    radius = np.sqrt(_distances(size, (1.0, 1.0), 0.0))
    radius[size // 2, size // 2] = 1  # any number but 0; the limit at 0 is filled in below
    kernel = cutoff * _bessel_j1(cutoff * radius) / (2 * np.pi * radius)
    kernel[size // 2, size // 2] = cutoff**2 / (4 * np.pi)
    return _normalized(kernel)
