"""The edge pixels of a sample: where they lie in it, and which stored graph belongs to each."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ssl_data.geometry.positions import mask_pixels
from ssl_data.kernels.extension import native, use_native

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ssl_data.geometry.positions import Dihedral, Window

__all__ = ["SamplePixels", "mark_pixels", "sample_pixels"]


class SamplePixels(NamedTuple):
    """N edge pixels, of which M have a stored graph. All arrays are int32."""

    row: NDArray[np.int32]
    """(N,): in the sample as it comes out; pixels are in its row-major order."""
    col: NDArray[np.int32]
    """(N,)"""
    rows: NDArray[np.int32]
    """(M,): numbers of the stored graphs among those of the patch, ascending."""
    places: NDArray[np.int32]
    """(M,): which of the N each of them belongs to."""
    computed: NDArray[np.int32]
    """(N - M,): which of the N have none, ascending."""
    num_stored: int
    """Graphs of the whole patch."""


def sample_pixels(
    edge_bits: NDArray[np.uint8],
    *,
    stored_stride: int,
    crop: Window,
    taken: Window,
    stored: Window,
    turn: Dihedral,
    edge_stride: int,
) -> SamplePixels:
    """Find the edge pixels of a crop of a patch, turned.

    Parameters
    ----------
    edge_bits : uint8 (P, ceil(P / 8))
        The patch's edge mask before any stride, as `mask_bits` packs it; C-contiguous.
    stored_stride : int
        Pixels with ``row % stored_stride == col % stored_stride`` have a graph; the others do not count.
    crop : Window
        A square of the patch.
    taken, stored : Window
        Within it: where edge pixels are taken from, and where the stored graph is the right one.
    turn : Dihedral
        What is done to the crop.
    edge_stride : int
        Keep only pixels with ``row % edge_stride == col % edge_stride`` in the sample.
    """
    if not use_native():
        edge_mask = np.unpackbits(edge_bits, axis=1, count=len(edge_bits), bitorder="little").view(np.bool_)
        return _sample_pixels_numpy(edge_mask, stored_stride, crop, taken, stored, turn, edge_stride)
    windows = (crop.sides, taken.sides, stored.sides)
    flips = (turn.hflip, turn.vflip, turn.transpose)
    return SamplePixels(*native.sample_pixels(edge_bits, stored_stride, *windows, *flips, edge_stride))


def mark_pixels(row: NDArray[np.int32], col: NDArray[np.int32], out: NDArray[np.float32]) -> None:
    """Fill `out` (H, W), C-contiguous, with 1 at pixels (N,), whose rows ascend, and 0 elsewhere."""
    if use_native():
        native.mark_pixels(row, col, out)
        return
    out[:] = 0
    out[row, col] = 1


def _sample_pixels_numpy(
    edge_mask: NDArray[np.bool_],
    stored_stride: int,
    crop: Window,
    taken: Window,
    stored: Window,
    turn: Dihedral,
    edge_stride: int,
) -> SamplePixels:
    size = crop.bottom - crop.top
    all_pixels = mask_pixels(edge_mask, stored_stride)
    rows = np.flatnonzero(taken.contains(all_pixels)).astype(np.int32)
    found = all_pixels[rows]
    pixels = turn.pixels(found - np.array([crop.top, crop.left], dtype=np.int32), size, size)
    if edge_stride > 1:
        kept = pixels[:, 0] % edge_stride == pixels[:, 1] % edge_stride
        rows, found, pixels = rows[kept], found[kept], pixels[kept]
    order = np.argsort(pixels[:, 0] * size + pixels[:, 1])
    places = np.empty(len(rows), dtype=np.int32)
    places[order] = np.arange(len(rows), dtype=np.int32)
    is_stored = stored.contains(found)
    row, col = np.ascontiguousarray(pixels[order].T)
    computed = np.sort(places[~is_stored])
    return SamplePixels(row, col, rows[is_stored], places[is_stored], computed, len(all_pixels))
