"""Search positions, and what flips, transposition and crops do to edge pixels and to the columns of a graph.

A row of a graph, viewed as (positions_per_side, positions_per_side), is indexed by (dy, dx). Flipping the image
horizontally reverses dx, flipping it vertically reverses dy, transposing it swaps the two axes: the values only move.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ssl_data.config import SSGSpec

_Value = TypeVar("_Value", bound=np.generic)

__all__ = ["Dihedral", "Window", "interior_window", "mask_pixels", "search_offsets"]


def search_offsets(spec: SSGSpec) -> NDArray[np.int32]:
    """All search offsets d: int32 (K, 2) dy, dx; row-major, the centre in the middle."""
    axis = np.arange(-spec.search_radius, spec.search_radius + 1, spec.search_stride, dtype=np.int32)
    dy, dx = np.meshgrid(axis, axis, indexing="ij")
    return np.stack([dy.ravel(), dx.ravel()], axis=1)


def mask_pixels(mask: NDArray[np.generic], edge_stride: int) -> NDArray[np.int32]:
    """Row and column of the set pixels of a mask (H, W) with ``row % edge_stride == col % edge_stride``, row-major."""
    row, col = np.divmod(np.flatnonzero(mask).astype(np.int32), np.int32(mask.shape[1]))
    if edge_stride > 1:
        kept = row % edge_stride == col % edge_stride
        row, col = row[kept], col[kept]
    return np.stack([row, col], axis=1)


def mask_bits(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A mask (H, W), eight pixels to a byte, the first in the lowest bit: uint8 (H, ceil(W / 8))."""
    return np.packbits(mask, axis=1, bitorder="little")


@dataclass(frozen=True, kw_only=True)
class Window:
    """A half-open rectangle of pixels."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def sides(self) -> tuple[int, int, int, int]:
        """Top, left, bottom, right."""
        return self.top, self.left, self.bottom, self.right

    def contains(self, pixels: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Which of the pixels (N, 2) row, col lie inside: bool (N,)."""
        row, col = pixels[:, 0], pixels[:, 1]
        inside: NDArray[np.bool_] = (row >= self.top) & (row < self.bottom) & (col >= self.left) & (col < self.right)
        return inside


def interior_window(crop: Window, *, patch_size: int, pad: int) -> Window:
    """The part of a crop where a pixel's graph in the crop equals the one in the whole patch.

    A pixel must be `pad` pixels away from each side of the crop, except from sides that are sides of the patch too:
    there the reflection is the same one.
    """
    return Window(
        top=crop.top + (pad if crop.top > 0 else 0),
        left=crop.left + (pad if crop.left > 0 else 0),
        bottom=crop.bottom - (pad if crop.bottom < patch_size else 0),
        right=crop.right - (pad if crop.right < patch_size else 0),
    )


@dataclass(frozen=True, kw_only=True)
class Dihedral:
    """One of the eight symmetries of the square, applied in the order hflip, vflip, transpose."""

    hflip: bool = False
    vflip: bool = False
    transpose: bool = False

    @property
    def is_identity(self) -> bool:
        """Whether nothing moves."""
        return not (self.hflip or self.vflip or self.transpose)

    def image(self, image: NDArray[_Value]) -> NDArray[_Value]:
        """The moved image (H, W) or (H, W, C), as a view."""
        image = image[:: -1 if self.vflip else 1, :: -1 if self.hflip else 1]
        return image.swapaxes(0, 1) if self.transpose else image

    def pixels(self, pixels: NDArray[np.int32], height: int, width: int) -> NDArray[np.int32]:
        """Where the pixels (N, 2) row, col of a (height, width) image go; the order of rows is kept."""
        row, col = pixels[:, 0], pixels[:, 1]
        row = height - 1 - row if self.vflip else row
        col = width - 1 - col if self.hflip else col
        return np.stack([col, row] if self.transpose else [row, col], axis=1)

    def graphs(self, graphs: NDArray[_Value]) -> NDArray[_Value]:
        """The graphs (N, K) of the pixels of the moved image, row by row: their values in another order."""
        side = math.isqrt(graphs.shape[1])
        squares = graphs.reshape(-1, side, side)[:, :: -1 if self.vflip else 1, :: -1 if self.hflip else 1]
        return np.ascontiguousarray(squares.swapaxes(1, 2) if self.transpose else squares).reshape(graphs.shape)
