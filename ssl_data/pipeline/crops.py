"""What random crops of patches ask of a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ssl_data.geometry.positions import Dihedral, Window, interior_window, mask_bits
from ssl_data.kernels.sample import sample_pixels
from ssl_data.pipeline.codec_trial import COMPRESSIONS
from ssl_data.store.codec import chunk_codec
from ssl_data.store.layout import SSG, array_layouts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from ssl_data.config import BuildSpec, Compression
    from ssl_data.store.layout import ArrayLayout

__all__ = ["Crop", "CropCost", "crop_cost", "draw_crop_costs"]


@dataclass(frozen=True, kw_only=True)
class Crop:
    """How a trainer cuts samples from patches."""

    size: int
    """Side in pixels."""
    edge_stride: int
    """Applied to the stored edge pixels; 1 keeps all."""


@dataclass(frozen=True, kw_only=True)
class CropCost:
    """What one random crop asks of a store, with graphs near its border computed anew (border mode "exact")."""

    num_graphs: int
    num_computed: int
    """Graphs of them that are not read."""
    num_chunks_read: int
    """Of ``ssg``: from the first to the last one needed; a local store may be read in parts of them."""
    chunks_decoded: Mapping[Compression, float]
    """Of these, what is decoded: some chunks, and with some compressions only parts of them."""
    shares: Mapping[str, float]
    """Share of each other array of the patch that is read: tiles under the crop, and the whole mask."""


def draw_crop_costs(
    mask: NDArray[np.bool_], crop: Crop, spec: BuildSpec, num_crops: int, rng: np.random.Generator
) -> Iterator[CropCost]:
    """Costs of some random crops of a patch with this edge mask; they lie as a trainer would lay them."""
    grid = spec.store.lq_scale or 1
    room = (spec.patch.patch_size - crop.size) // grid + 1
    for _ in range(num_crops):
        top, left = (rng.integers(room, size=2) * grid).tolist()
        yield crop_cost(mask, Window(top=top, left=left, bottom=top + crop.size, right=left + crop.size), crop, spec)


def crop_cost(mask: NDArray[np.bool_], window: Window, crop: Crop, spec: BuildSpec) -> CropCost:
    """What a crop of a patch with this edge mask asks of a store.

    Examples
    --------
    >>> from ssl_data.config import BuildSpec, PatchSpec
    >>> spec, mask = BuildSpec(patch=PatchSpec(patch_size=256, step=256)), np.ones((256, 256), dtype=bool)
    >>> window = Window(top=128, left=0, bottom=256, right=128)
    >>> cost = crop_cost(mask, window, Crop(size=128, edge_stride=1), spec)
    >>> cost.num_graphs, cost.num_computed, cost.num_chunks_read, cost.shares
    (16384, 2928, 29, {'gt': 0.25, 'edge_mask': 1.0})
    >>> {name: round(count, 1) for name, count in cost.chunks_decoded.items()}
    {'fast': 13.1, 'balanced': 29.0, 'small': 29.0}
    """
    side = spec.patch.patch_size
    pixels = sample_pixels(
        mask_bits(mask),
        stored_stride=spec.edge.edge_stride,
        crop=window,
        taken=window,
        stored=interior_window(window, patch_size=side, pad=spec.ssg.pad),
        turn=Dihedral(),
        edge_stride=crop.edge_stride,
    )
    layouts = {layout.name: layout for layout in array_layouts(spec, 1)}
    graphs = layouts.pop(SSG)
    needed = np.unique(pixels.rows // graphs.chunk_shape[0])
    return CropCost(
        num_graphs=len(pixels.row),
        num_computed=len(pixels.computed),
        num_chunks_read=int(needed[-1] - needed[0]) + 1 if len(needed) else 0,
        chunks_decoded={name: _chunks_decoded(pixels.rows, graphs, name) for name in COMPRESSIONS},
        shares={name: _tiles_share(layout, window, side) for name, layout in layouts.items()},
    )


def _chunks_decoded(rows: NDArray[np.int32], layout: ArrayLayout, compression: Compression) -> float:
    """How much is decoded for these rows of the graphs of a patch, in chunks."""
    item_bytes = np.dtype(layout.dtype).itemsize
    chunk_rows, num_columns = layout.chunk_shape
    row_bytes = num_columns * item_bytes
    chunk_bytes = chunk_rows * row_bytes
    part_bytes = min(chunk_codec(compression, item_bytes, array=SSG).part_bytes or chunk_bytes, chunk_bytes)
    begins = np.arange(0, chunk_bytes, part_bytes)
    sizes = np.diff(begins, append=chunk_bytes)
    chunk, row = np.divmod(rows.astype(np.int64), chunk_rows)
    first, last = row * row_bytes // part_bytes, ((row + 1) * row_bytes - 1) // part_bytes
    # One is added where the parts of a row begin, and taken away behind them.
    num_chunks = int(chunk.max(initial=-1)) + 1
    changes = np.zeros(num_chunks * len(sizes) + 1, dtype=np.int64)
    np.add.at(changes, chunk * len(sizes) + first, 1)
    np.add.at(changes, chunk * len(sizes) + last + 1, -1)
    is_decoded = np.cumsum(changes)[:-1].reshape(num_chunks, len(sizes)) > 0
    return int(is_decoded.sum(axis=0) @ sizes) / chunk_bytes


def _tiles_share(layout: ArrayLayout, window: Window, patch_size: int) -> float:
    """Share of the tiles of a patch that a window of it touches."""
    side, tile = layout.shard_shape[1], layout.chunk_shape[1]
    scale = patch_size // side
    top, left, bottom, right = (place // scale for place in window.sides)
    touched = (-(-bottom // tile) - top // tile) * (-(-right // tile) - left // tile)
    return touched / (side // tile) ** 2
