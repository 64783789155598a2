"""Edge masks and edge pixels (paper section 3.2, Eq. 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ssl_data.errors import InputError
from ssl_data.geometry.positions import mask_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["check_image", "edge_mask", "edge_pixels"]


def check_image(image: NDArray[np.uint8], *, min_side: int = 1) -> None:
    """Raise `InputError` unless `image` is uint8 (H, W, 3) with both sides at least `min_side`."""
    if not isinstance(image, np.ndarray):
        raise InputError(f"image must be a NumPy array, got {type(image).__name__}")
    if image.dtype != np.uint8:
        raise InputError(f"image must be uint8, got {image.dtype}")
    if image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"image must have shape (height, width, 3), got {image.shape}")
    if min(image.shape[:2]) < min_side:
        raise InputError(
            f"image must be at least {min_side} pixels on each side, got {image.shape[0]}x{image.shape[1]}"
        )


def edge_mask(image: NDArray[np.uint8], *, threshold: float = 20.0) -> NDArray[np.bool_]:
    """Mark the pixels on the dark side of edges.

    The image is turned grey with ``(19595 R + 38470 G + 7471 B + 32768) >> 16`` (Pillow's "L"); a pixel is an edge
    pixel where the 4-neighbour Laplacian of the grey levels is greater than `threshold`. Neighbours outside the image
    are reflected without repeating the border pixel (OpenCV's reflect-101).

    Parameters
    ----------
    image : uint8 (H, W, 3)
        RGB; both sides at least 2 pixels.
    threshold : float
        In grey levels.

    Returns
    -------
    bool (H, W)

    Raises
    ------
    InputError
        For another dtype or shape.
    """
    check_image(image, min_side=2)
    red, green, blue = (image[..., channel].astype(np.int32) for channel in range(3))
    grey = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    padded = np.pad(grey, 1, mode="reflect")
    laplacian = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * grey
    mask: NDArray[np.bool_] = laplacian > threshold
    return mask


def edge_pixels(edge_mask: NDArray[np.bool_], *, edge_stride: int = 1) -> NDArray[np.int32]:
    """List the edge pixels of a mask.

    Parameters
    ----------
    edge_mask : bool (H, W)
        An integer mask is taken as "not zero".
    edge_stride : int
        Keep only pixels with ``row % edge_stride == col % edge_stride`` (``mask_stride`` in the authors' code).

    Returns
    -------
    int32 (N, 2)
        Row and column, in row-major order.

    Raises
    ------
    InputError
        For another shape, or an `edge_stride` below 1.
    """
    if not isinstance(edge_mask, np.ndarray) or edge_mask.ndim != 2:
        raise InputError(f"edge_mask must be an array of shape (height, width), got {np.shape(edge_mask)}")
    if edge_stride < 1:
        raise InputError(f"edge_stride must be >= 1, got {edge_stride}")
    return mask_pixels(edge_mask, edge_stride)
