"""From sources to work units: a pure function, so that every machine and every resumed run makes the same plan."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, overload

import numpy as np

from ssl_data.geometry.patches import patch_grid
from ssl_data.geometry.scales import enlarged_size, scaled_sizes
from ssl_data.geometry.shards import shard_slots
from ssl_data.pipeline.names import author_name, patch_id
from ssl_data.pipeline.sources import sources_fingerprint
from ssl_data.store.layout import WORK_DIR
from ssl_data.store.manifest import RejectedRecord
from ssl_data.store.plan import StorePlan

if TYPE_CHECKING:
    from collections.abc import Container

    from numpy.typing import NDArray

    from ssl_data.config import BuildSpec
    from ssl_data.errors import ReasonCode
    from ssl_data.geometry.scales import ScaledSize
    from ssl_data.pipeline.donor import Donor
    from ssl_data.pipeline.sources import Source
    from ssl_data.store.target import Target

__all__ = ["BuildPlan", "Cut", "ImageTask", "PatchTask", "ShardJob", "ShardJobs", "make_plan"]


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


class ShardJobs(Sequence[ShardJob]):
    """The jobs for some shards, in this order.

    A job is made each time it is looked at: those of a large store, all at once, would take more memory than the work.

    Parameters
    ----------
    plan : BuildPlan
    shards : sequence of int
    target, num_threads, donor, work
        See `ShardJob`; the donor has to do with some of the images.
    """

    def __init__(
        self,
        plan: BuildPlan,
        shards: Sequence[int],
        *,
        target: Target,
        num_threads: int,
        donor: Donor | None = None,
        work: str = WORK_DIR,
    ) -> None:
        self.target = target
        self.shards = shards
        self._plan = plan
        self._num_threads, self._donor, self._work = num_threads, donor, work
        sizes = [len(cut.corners) for cut in plan.cuts]
        self._first_slot = np.cumsum([0, *sizes])[:-1]
        """Of each cut; none is empty."""
        self._first_slot_of_image: dict[str, int] = {}
        for cut, first_slot in zip(plan.cuts, self._first_slot.tolist(), strict=True):
            self._first_slot_of_image.setdefault(cut.source.name, first_slot)

    def __len__(self) -> int:
        return len(self.shards)

    @overload
    def __getitem__(self, index: int) -> ShardJob: ...
    @overload
    def __getitem__(self, index: slice) -> ShardJobs: ...
    def __getitem__(self, index: int | slice) -> ShardJob | ShardJobs:
        if isinstance(index, slice):
            return self._of(self.shards[index])
        shard = self.shards[index]
        slots = shard_slots(
            shard,
            num_slots=self._plan.store.num_slots,
            patches_per_shard=self._plan.store.spec.store.patches_per_shard,
        )
        owners = (np.searchsorted(self._first_slot, slots, side="right") - 1).tolist()
        members = groupby(zip(owners, slots, strict=True), key=lambda member: member[0])
        tasks = tuple(self._task(owner, [slot for _, slot in own]) for owner, own in members)
        donor = None if self._donor is None else self._donor.of({task.source.name for task in tasks})
        return ShardJob(
            target=self.target,
            plan=self._plan.store,
            shard=shard,
            tasks=tasks,
            num_threads=self._num_threads,
            donor=donor,
            work=self._work,
        )

    def without(self, shards: Container[int]) -> ShardJobs:
        """Those for other shards."""
        return self._of([shard for shard in self.shards if shard not in shards])

    def _of(self, shards: Sequence[int]) -> ShardJobs:
        changed = copy(self)
        changed.shards = shards
        return changed

    def _task(self, owner: int, slots: list[int]) -> ImageTask:
        """What is to be made of one cut for these slots."""
        cut = self._plan.cuts[owner]
        return ImageTask(
            source=cut.source,
            size=cut.size,
            first_patch=slots[0] - self._first_slot_of_image[cut.source.name],
            patches=_patch_tasks(cut, slots, int(self._first_slot[owner]), self._plan.store.spec),
        )


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
