"""From sources to work units: a pure function, so that every machine and every resumed run makes the same plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from ssl_data.geometry.patches import enlarged_size, patch_grid
from ssl_data.geometry.shards import shard_slots
from ssl_data.pipeline.sources import sources_fingerprint
from ssl_data.store.manifest import RejectedRecord
from ssl_data.store.plan import StorePlan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ssl_data.config import BuildSpec
    from ssl_data.errors import ReasonCode
    from ssl_data.pipeline.donor import Donor
    from ssl_data.pipeline.sources import Source

__all__ = ["BuildPlan", "ImageTask", "ShardJob", "make_plan", "shard_jobs"]


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """All that is to be done."""

    store: StorePlan
    sources: tuple[Source, ...]
    """Sorted by name; those that cannot be used carry the reason."""
    corners: tuple[NDArray[np.int32], ...]
    """For each source, row and column of its patches (P, 2), in pixels of the upright image."""

    @property
    def rejected(self) -> list[RejectedRecord]:
        """The sources that give no patch."""
        return [
            RejectedRecord(source=s.name, reason_code=str(s.reason_code), reason=s.rejected)
            for s in self.sources
            if s.rejected is not None
        ]


@dataclass(frozen=True, kw_only=True)
class ImageTask:
    """The patches of one image that belong to one shard."""

    name: str
    path: Path
    sha256: str
    height: int
    width: int
    size_in_use: tuple[int, int]
    """Height and width of the image as it is cut: a small one may be enlarged."""
    scale: str
    """By how much: "1", or a fraction."""
    slots: range
    first_patch: int
    """How many patches of the image lie in earlier shards."""
    corners: tuple[tuple[int, int], ...]
    """Row and column of each patch."""

    def patch_id(self, corner: tuple[int, int]) -> str:
        """The name of one of the patches, unique in the store."""
        row, col = corner
        return f"{self.name}:{row},{col}"


@dataclass(frozen=True, kw_only=True)
class ShardJob:
    """Everything a worker needs to make one shard; small and picklable."""

    root: Path
    plan: StorePlan
    shard: int
    tasks: tuple[ImageTask, ...]
    num_threads: int
    donor: Donor | None = None
    """Where patches of some of the images can be copied from."""


def make_plan(sources: Sequence[Source], *, dataset: str, spec: BuildSpec) -> BuildPlan:
    """Give every patch of every usable image its slot.

    Slots are numbered by source name, row and column. Images smaller than a patch are rejected here, by their headers;
    an image whose pixels turn out to be broken keeps its slots, which then stay empty.
    """
    ordered = [_judge(source, spec) for source in sorted(sources, key=lambda source: source.name)]
    corners = [patch_grid(*_size_in_use(s, spec), spec.patch) for s in ordered]
    store = StorePlan(
        dataset=dataset,
        spec=spec,
        sources_fingerprint=sources_fingerprint(ordered),
        num_slots=sum(map(len, corners)),
    )
    return BuildPlan(store=store, sources=tuple(ordered), corners=tuple(corners))


def _judge(source: Source, spec: BuildSpec) -> Source:
    if source.rejected is not None:
        return source
    size = spec.patch.patch_size
    height, width = _size_in_use(source, spec)
    found = f"{source.height}x{source.width}"
    if min(height, width) < size:
        return _reject(source, f"{found} is smaller than a patch of {size}x{size}", "too_small")
    if height * width > spec.image.max_pixels:
        reason = f"{found}, enlarged to {height}x{width}, is more than {spec.image.max_pixels} pixels"
        return _reject(source, reason, "too_large")
    return source


def _size_in_use(source: Source, spec: BuildSpec) -> tuple[int, int]:
    """Height and width of an image as it is cut; 0 for one that is rejected."""
    height, width = source.height or 0, source.width or 0
    if spec.image.small_images == "upscale" and source.rejected is None:
        return enlarged_size(height, width, spec.patch.patch_size)
    return height, width


def _shortest_side(source: Source) -> int:
    return min(source.height or 0, source.width or 0)


def _reject(source: Source, reason: str, code: ReasonCode) -> Source:
    return replace(source, rejected=reason, reason_code=code, height=None, width=None)


def shard_jobs(plan: BuildPlan, shards: Sequence[int], *, root: Path, num_threads: int) -> list[ShardJob]:
    """The jobs for these shards, in this order."""
    owner: list[int] = []
    first_slot: list[int] = []
    for index, corners in enumerate(plan.corners):
        first_slot.append(len(owner))
        owner += [index] * len(corners)
    jobs = []
    for shard in shards:
        slots = shard_slots(
            shard, num_slots=plan.store.num_slots, patches_per_shard=plan.store.spec.store.patches_per_shard
        )
        tasks = []
        for index, members in groupby(slots, key=owner.__getitem__):
            own = list(members)
            chosen = plan.corners[index][own[0] - first_slot[index] : own[-1] + 1 - first_slot[index]].tolist()
            source = plan.sources[index]
            size = _size_in_use(source, plan.store.spec)
            tasks.append(
                ImageTask(
                    name=source.name,
                    path=source.path,
                    sha256=source.sha256,
                    height=source.height or 0,
                    width=source.width or 0,
                    size_in_use=size,
                    scale="1" if size == (source.height, source.width) else f"{min(size)}/{_shortest_side(source)}",
                    slots=range(own[0], own[-1] + 1),
                    first_patch=own[0] - first_slot[index],
                    corners=tuple((row, col) for row, col in chosen),
                )
            )
        jobs.append(ShardJob(root=root, plan=plan.store, shard=shard, tasks=tuple(tasks), num_threads=num_threads))
    return jobs
