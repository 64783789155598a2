"""A build divided into parts: array jobs on any number of machines that share nothing but a folder.

Every part makes the same plan and every num_parts-th shard of it. The parts need not know of each other, may run at any
time, and may be repeated; when all shards are there, `finalize` completes the store.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssl_data.errors import BuildInterruptedError, ConfigError, StoreIncompleteError
from ssl_data.geometry.shards import part_shards
from ssl_data.kernels.ssg import warn_if_slow
from ssl_data.pipeline.attempts import DEFAULT_RETRIES
from ssl_data.pipeline.driver import Steering, committed_results, make_shards
from ssl_data.pipeline.executors import make_executor
from ssl_data.pipeline.job import summarize
from ssl_data.pipeline.place import adopt_label, refuse_foreign, refuse_other_build, remove_leftovers
from ssl_data.pipeline.plan import ShardJobs
from ssl_data.pipeline.report import BuildReport, PartReport, report_build, sum_up
from ssl_data.pipeline.retry import end_replacement
from ssl_data.pipeline.run import make_build_plan
from ssl_data.store.finalize import committed_records, finalize_store, is_intact, list_missing, missing_shards
from ssl_data.store.layout import ROOT_METADATA
from ssl_data.store.locate import open_target
from ssl_data.store.plan import StorePlan, require_plan
from ssl_data.store.writer import prepare_store

if TYPE_CHECKING:
    from ssl_data.config import BuildConfig
    from ssl_data.pipeline.executors import Executor, ExecutorName
    from ssl_data.pipeline.job import ShardResult
    from ssl_data.pipeline.plan import BuildPlan
    from ssl_data.pipeline.report import ProgressFunction
    from ssl_data.store.manifest import ShardRecord
    from ssl_data.store.target import Target

__all__ = ["Part", "build_part", "finalize"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of the parts of a build."""

    index: int
    """0 .. num_parts - 1."""
    num_parts: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.num_parts:
            raise ConfigError(f"the parts of {self.num_parts} are numbered 0 to {self.num_parts - 1}, got {self}")

    @classmethod
    def parse(cls, text: str) -> Part:
        """The part that "2/5" names.

        Raises
        ------
        ConfigError
            If it names none.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if found is None:
            raise ConfigError(f"a part is written I/N, with I from 0 to N - 1, got {text!r}")
        return cls(index=int(found[1]), num_parts=int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.num_parts}"

    def shards(self, plan: StorePlan) -> range:
        """Its shards."""
        return part_shards(self.index, self.num_parts, num_shards=plan.num_shards)


def build_part(
    config: BuildConfig,
    part: Part,
    *,
    executor: Executor | ExecutorName | None = None,
    progress: ProgressFunction | None = None,
    retries: int = DEFAULT_RETRIES,
) -> PartReport:
    """Make one part of a store; other parts may be made at the same time, on other machines, in the same folder.

    Parameters
    ----------
    config : BuildConfig
        The same for all parts, but for `workers` and the places of the images.
    part : Part
    executor, progress, retries
        As for `build`.

    Raises
    ------
    StoreLockedError
        If another process makes this part, or works on the whole store.
    StoreMismatchError, DatasetError, BuildError
        As for `build`; also if another part was started from other sources or another configuration.
    BuildInterruptedError
        On an interrupt; the same call resumes.
    """
    if executor is None or isinstance(executor, str):
        executor = make_executor(executor or "serial", workers=config.workers)
    try:
        return _build_part(config, part, executor, Steering(progress=progress, retries=retries))
    except KeyboardInterrupt:
        raise BuildInterruptedError(f"{config.out}: part {part} was interrupted; the same command goes on") from None


def _build_part(config: BuildConfig, part: Part, executor: Executor, steering: Steering) -> PartReport:
    began = time.monotonic()
    warn_if_slow()
    target = open_target(config.out)
    end_replacement(target)
    refuse_foreign(target)
    plan = make_build_plan(config, steering.progress)
    refuse_other_build(target, plan)
    reused, made = _make_part(target, plan, part, executor, steering)
    records = committed_records(target, plan.store, range(plan.store.num_shards))
    totals = sum_up([*reused.values(), *made], len(part.shards(plan.store)))
    rejected = {image for result in (*reused.values(), *made) for image in result.rejected}
    return PartReport(
        out=config.out,
        dataset=plan.store.dataset,
        fingerprint=plan.store.fingerprint,
        part=part.index,
        num_parts=part.num_parts,
        num_shards=totals.total,
        num_shards_reused=len(reused),
        num_shards_missing=len(missing_shards(records, plan.store)),
        num_patches=totals.num_patches,
        num_graphs=totals.num_graphs,
        num_bytes=totals.num_bytes,
        seconds=time.monotonic() - began,
        rejected=tuple(sorted({*plan.rejected, *rejected})),
        nothing_to_do=not made,
    )


def _make_part(
    target: Target, plan: BuildPlan, part: Part, executor: Executor, steering: Steering
) -> tuple[dict[int, ShardResult], list[ShardResult]]:
    """Make the shards of the part; return the results of those that were there, and of those made now."""
    shards = part.shards(plan.store)
    if is_intact(target):
        remove_leftovers(target)
        return committed_results(target, plan.store, shards), []
    with target.part_lock(part.index, part.num_parts) as claim:
        with target.frame_lock():
            refuse_other_build(target, plan)  # again: another part may have saved its plan before us
            plan = adopt_label(target, plan)
            if not is_intact(target):
                target.remove(ROOT_METADATA)  # a store that lost files is not complete
                prepare_store(target, plan.store, [source.to_row() for source in plan.sources])
        target.sweep(claim.work)
        jobs = ShardJobs(plan, shards, target=target, num_threads=executor.num_threads, work=claim.work)
        reused = committed_results(target, plan.store, shards)
        return reused, make_shards(jobs, reused, executor, steering, claim)


def finalize(out: str) -> BuildReport:
    """Complete a store all of whose parts have been made. Where it is complete already, nothing is done.

    Raises
    ------
    StoreNotFoundError
        If there is no store at that place, not even one that has been begun.
    StoreIncompleteError
        If shards are missing; they are listed, with the parts that they belong to.
    StoreLockedError
        If a part is still being made.
    """
    began = time.monotonic()
    target = open_target(out)
    plan = require_plan(target, out)
    nothing_to_do = is_intact(target)
    if nothing_to_do:
        remove_leftovers(target)
        records = committed_records(target, plan, range(plan.num_shards))
    else:
        records = _complete(target, plan)
    results = [summarize(record) for record in records.values()]
    seconds = time.monotonic() - began
    return report_build(out, results, num_reused=plan.num_shards, seconds=seconds, nothing_to_do=nothing_to_do)


def _complete(target: Target, plan: StorePlan) -> dict[int, ShardRecord]:
    """Return the records of all shards."""
    with target.build_lock("finalize") as claim:
        records = committed_records(target, plan, range(plan.num_shards))
        missing = missing_shards(records, plan)
        if missing:
            listed = list_missing(missing, plan.num_shards)
            raise StoreIncompleteError(
                f"{target.url} cannot be completed: {listed}; run {_who_makes(missing, target, plan)} again"
            )
        claim.check()
        target.remove(ROOT_METADATA)
        finalize_store(target, plan, records)
    return records


def _who_makes(missing: list[int], target: Target, plan: StorePlan) -> str:
    """The parts, of the division that was used last, to which shards belong; the build where it was not divided."""
    folders = target.part_folders()
    if not folders:
        return "the build"
    num_parts = int(folders[-1].rpartition("-")[2])
    parts = [Part(index=index, num_parts=num_parts) for index in range(num_parts)]
    return "part " + ", ".join(str(part) for part in parts if not set(missing).isdisjoint(part.shards(plan)))
