"""From sources to work units: a pure function, so that every machine and every resumed run makes the same plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from ssl_data.geometry.patches import patch_grid
from ssl_data.geometry.scales import enlarged_size, scaled_sizes
from ssl_data.geometry.shards import shard_slots
from ssl_data.pipeline.names import author_name, patch_id
from ssl_data.pipeline.sources import sources_fingerprint
from ssl_data.store.layout import WORK_DIR
from ssl_data.store.manifest import RejectedRecord
from ssl_data.store.plan import StorePlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ssl_data.config import BuildSpec
    from ssl_data.errors import ReasonCode
    from ssl_data.geometry.scales import ScaledSize
    from ssl_data.pipeline.donor import Donor
    from ssl_data.pipeline.sources import Source
    from ssl_data.store.target import Target

__all__ = ["BuildPlan", "Cut", "ImageTask", "PatchTask", "ShardJob", "make_plan", "shard_jobs"]


@dataclass(frozen=True, kw_only=True)
class Cut:
    """The patches of one size of one image."""

    source: Source
    size: ScaledSize
    corners: NDArray[np.int32]
    """Row and column of each patch (P, 2), in pixels of the upright image at that size."""


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """All that is to be done."""

    store: StorePlan
    sources: tuple[Source, ...]
    """Sorted by name; those that cannot be used carry the reason."""
    cuts: tuple[Cut, ...]
    """By name of the source, each from the image itself to its smallest copy; only those with patches."""

    @property
    def rejected(self) -> list[RejectedRecord]:
        """The sources that give no patch."""
        return [
            RejectedRecord(source=s.name, reason_code=str(s.reason_code), reason=s.rejected)
            for s in self.sources
            if s.rejected is not None
        ]


@dataclass(frozen=True, kw_only=True)
class PatchTask:
    """One patch to be made."""

    slot: int
    patch_id: str
    author_name: str
    row: int
    col: int


@dataclass(frozen=True, kw_only=True)
class ImageTask:
    """The patches of one size of one image that belong to one shard."""

    source: Source
    size: ScaledSize
    first_patch: int
    """How many patches of the image, in whatever size, come before them."""
    patches: tuple[PatchTask, ...]


@dataclass(frozen=True, kw_only=True)
class ShardJob:
    """Everything a worker needs to make one shard; small and picklable."""

    target: Target
    plan: StorePlan
    shard: int
    tasks: tuple[ImageTask, ...]
    """Those of one image follow each other."""
    num_threads: int
    donor: Donor | None = None
    """Where patches of some of the images can be copied from."""
    work: str = WORK_DIR
    """The work folder of whoever has the shard made."""


def make_plan(sources: Sequence[Source], *, dataset: str, spec: BuildSpec) -> BuildPlan:
    """Give every patch of every usable image its slot.

    Slots are numbered by source name, size, row and column. Images too small for a patch are rejected here, by their
    headers; an image whose pixels turn out to be broken keeps its slots, which then stay empty.
    """
    ordered, cuts = [], []
    for source in sorted(sources, key=lambda source: source.name):
        judged, own = _cut(source, spec)
        ordered.append(judged)
        cuts += own
    store = StorePlan(
        dataset=dataset,
        spec=spec,
        sources_fingerprint=sources_fingerprint(ordered),
        num_slots=sum(len(cut.corners) for cut in cuts),
    )
    return BuildPlan(store=store, sources=tuple(ordered), cuts=tuple(cuts))


def _cut(source: Source, spec: BuildSpec) -> tuple[Source, list[Cut]]:
    """The source and its patches, or the source rejected and none."""
    if source.rejected is not None or source.height is None or source.width is None:
        return source, []
    cuts = _cuts(source, scaled_sizes(source.height, source.width, spec.multiscale), spec)
    if not cuts and spec.image.small_images == "upscale":
        cuts = _cuts(source, [enlarged_size(source.height, source.width, spec.patch.patch_size)], spec)
    found = f"{source.height}x{source.width}"
    if not cuts:
        copies = "" if spec.multiscale.variant == "none" else ", and so are its copies"
        side = spec.patch.patch_size
        return _reject(source, f"{found} is smaller than a patch of {side}x{side}{copies}", "too_small"), []
    largest = max((cut.size for cut in cuts), key=lambda size: size.height * size.width)
    if largest.height * largest.width > spec.image.max_pixels:
        enlarged = f"{found}, enlarged to {largest.height}x{largest.width}"
        return _reject(source, f"{enlarged}, is more than {spec.image.max_pixels} pixels", "too_large"), []
    return source, cuts


def _cuts(source: Source, sizes: Sequence[ScaledSize], spec: BuildSpec) -> list[Cut]:
    """The patches of an image in these sizes, without sizes that are too small for one."""
    smallest = spec.patch.patch_size
    return [
        Cut(source=source, size=size, corners=patch_grid(size.height, size.width, spec.patch))
        for size in sizes
        if min(size.height, size.width) >= smallest
    ]


def _reject(source: Source, reason: str, code: ReasonCode) -> Source:
    return replace(source, rejected=reason, reason_code=code, height=None, width=None)


def shard_jobs(plan: BuildPlan, shards: Sequence[int], *, target: Target, num_threads: int) -> list[ShardJob]:
    """The jobs for these shards, in this order."""
    owner: list[int] = []
    first_slot: list[int] = []
    first_slot_of_image: dict[str, int] = {}
    for index, cut in enumerate(plan.cuts):
        first_slot_of_image.setdefault(cut.source.name, len(owner))
        first_slot.append(len(owner))
        owner += [index] * len(cut.corners)
    jobs = []
    for shard in shards:
        slots = shard_slots(
            shard, num_slots=plan.store.num_slots, patches_per_shard=plan.store.spec.store.patches_per_shard
        )
        tasks = []
        for index, members in groupby(slots, key=owner.__getitem__):
            own, cut = list(members), plan.cuts[index]
            first_patch = own[0] - first_slot_of_image[cut.source.name]
            patches = _patch_tasks(cut, own, first_slot[index], plan.store.spec)
            tasks.append(ImageTask(source=cut.source, size=cut.size, first_patch=first_patch, patches=patches))
        jobs.append(ShardJob(target=target, plan=plan.store, shard=shard, tasks=tuple(tasks), num_threads=num_threads))
    return jobs


def _patch_tasks(cut: Cut, slots: list[int], first_slot: int, spec: BuildSpec) -> tuple[PatchTask, ...]:
    """The patches in these slots of a cut whose first slot is `first_slot`."""
    side = spec.patch.patch_size
    is_whole = spec.multiscale.variant == "none" and (cut.source.height, cut.source.width) == (side, side)
    patches = []
    for slot in slots:
        number = slot - first_slot
        row, col = cut.corners[number].tolist()
        patches.append(
            PatchTask(
                slot=slot,
                patch_id=patch_id(cut.source.name, cut.size, (row, col)),
                author_name=author_name(cut.source.name, cut.size, number + 1, is_whole=is_whole),
                row=row,
                col=col,
            )
        )
    return tuple(patches)
