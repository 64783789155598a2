"""What the plan of a build alone says about the work, and about patches that overlap."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from ssl_data.geometry.patches import covered_pixels
from ssl_data.geometry.scales import ORIGINAL
from ssl_data.pipeline.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ssl_data.pipeline.plan import BuildPlan
    from ssl_data.pipeline.sources import Source

__all__ = ["Overlap", "Workload", "overlap", "workload"]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What the plan alone says about the work."""

    num_images: int
    """Those with patches."""
    num_patches: int
    num_shards: int
    num_bytes: int
    """Of all files; hashed once when listed."""
    read_bytes: int
    """Of the files with patches, which are read and hashed anew for each shard that they lie in."""
    pixels_by_shards: Mapping[int, int]
    """Pixels of the images that lie in one shard, in two, and so on."""
    resized_pixels: int
    """Of image and copy together, for each copy made."""

    def decoded_pixels(self, workers: int) -> int:
        """Pixels decoded by so many workers: each keeps the image that it has decoded last."""
        return sum(min(num_shards, workers) * pixels for num_shards, pixels in self.pixels_by_shards.items())


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """What patches that overlap (step < patch size) hold twice, and what `step = patch size` would do about it."""

    repeated_share: float
    """Share of the stored pixels that another patch of the same image and size has, too."""
    num_patches_without: int
    """Patches with a step of the patch size; random crops of them still show every place."""
    saved_share: float
    """Share of the patches, and so of bytes and time, that this saves."""


def workload(plan: BuildPlan) -> Workload:
    """What the plan alone says about the work."""
    per_shard = plan.store.spec.store.patches_per_shard
    images, slot = 0, 0
    totals: dict[str, int] = defaultdict(int)
    pixels_by_shards: dict[int, int] = defaultdict(int)
    for source, cuts in groupby(plan.cuts, key=lambda cut: cut.source):
        images += 1
        first_shard = slot // per_shard
        for cut in cuts:
            first, slot = slot, slot + len(cut.corners)
            if cut.size.label != ORIGINAL:
                shards = (slot - 1) // per_shard - first // per_shard + 1
                totals["resized"] += shards * (_area(source) + cut.size.height * cut.size.width)
        shards = (slot - 1) // per_shard - first_shard + 1
        totals["bytes"] += shards * source.num_bytes
        pixels_by_shards[shards] += _area(source)
    return Workload(
        num_images=images,
        num_patches=slot,
        num_shards=plan.store.num_shards,
        num_bytes=sum(source.num_bytes for source in plan.sources),
        read_bytes=totals["bytes"],
        pixels_by_shards=dict(pixels_by_shards),
        resized_pixels=totals["resized"],
    )


def _area(source: Source) -> int:
    return (source.height or 0) * (source.width or 0)


def overlap(plan: BuildPlan) -> Overlap:
    """How much of the store would be there twice."""
    spec = plan.store.spec
    side = spec.patch.patch_size
    covered = sum(covered_pixels(cut.corners, side) for cut in plan.cuts)
    apart = replace(spec, patch=replace(spec.patch, step=max(spec.patch.step, side)))
    num_patches, without = plan.store.num_slots, make_plan(plan.sources, dataset="", spec=apart).store.num_slots
    return Overlap(
        repeated_share=1 - covered / (num_patches * side**2),
        num_patches_without=without,
        saved_share=1 - without / num_patches,
    )
