"""What random crops of patches ask of a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ssl_data.geometry.positions import Dihedral, Window, interior_window
from ssl_data.kernels.sample import sample_pixels
from ssl_data.store.layout import SSG, array_layouts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from ssl_data.config import BuildSpec
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
    """Of ``ssg``: from the first to the last one needed."""
    num_chunks_decoded: int
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
    >>> crop_cost(mask, Window(top=128, left=0, bottom=256, right=128), Crop(size=128, edge_stride=1), spec)
    CropCost(num_graphs=16384, num_computed=2928, num_chunks_read=29, num_chunks_decoded=29, shares={'gt': 0.25, \
'edge_mask': 1.0})
    """
    side = spec.patch.patch_size
    pixels = sample_pixels(
        mask,
        stored_stride=spec.edge.edge_stride,
        crop=window,
        taken=window,
        stored=interior_window(window, patch_size=side, pad=spec.ssg.pad),
        turn=Dihedral(),
        edge_stride=crop.edge_stride,
    )
    layouts = {layout.name: layout for layout in array_layouts(spec, 1)}
    needed = np.unique(pixels.rows // layouts.pop(SSG).chunk_shape[0])
    return CropCost(
        num_graphs=len(pixels.row),
        num_computed=len(pixels.computed),
        num_chunks_read=int(needed[-1] - needed[0]) + 1 if len(needed) else 0,
        num_chunks_decoded=len(needed),
        shares={name: _tiles_share(layout, window, side) for name, layout in layouts.items()},
    )


def _tiles_share(layout: ArrayLayout, window: Window, patch_size: int) -> float:
    """Share of the tiles of a patch that a window of it touches."""
    side, tile = layout.shard_shape[1], layout.chunk_shape[1]
    scale = patch_size // side
    top, left, bottom, right = (place // scale for place in window.sides)
    touched = (-(-bottom // tile) - top // tile) * (-(-right // tile) - left // tile)
    return touched / (side // tile) ** 2
