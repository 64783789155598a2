"""A whole build: find, plan, run what is missing, complete."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ssl_data.errors import BuildError, BuildInterruptedError, ConfigError, one_line
from ssl_data.kernels.ssg import warn_if_slow
from ssl_data.pipeline.attempts import DEFAULT_RETRIES
from ssl_data.pipeline.cores import usable_cores
from ssl_data.pipeline.datasets import load_dataset
from ssl_data.pipeline.donor import close_donor
from ssl_data.pipeline.driver import Steering, committed_results, make_shards
from ssl_data.pipeline.executors import Executor, ExecutorName, make_executor
from ssl_data.pipeline.masks import attach_masks
from ssl_data.pipeline.place import (
    adopt_label,
    is_plan_of,
    refuse_foreign,
    refuse_other_build,
    remove_leftovers,
)
from ssl_data.pipeline.plan import BuildPlan, ShardJobs, make_plan
from ssl_data.pipeline.report import BuildReport, Progress, ProgressFunction, report_build
from ssl_data.pipeline.retry import (
    adopt_shards,
    clear_place,
    end_replacement,
    make_donor,
    only_rejected_changed,
    place_beside,
    refuse_other_changes,
    replace_store,
)
from ssl_data.pipeline.sources import find_files, scan_sources
from ssl_data.store.finalize import finalize_store, is_intact
from ssl_data.store.layout import ROOT_METADATA
from ssl_data.store.local_target import LocalTarget
from ssl_data.store.locate import open_target
from ssl_data.store.writer import prepare_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ssl_data.config import BuildConfig, BuildSpec
    from ssl_data.pipeline.donor import Donor
    from ssl_data.pipeline.job import ShardResult
    from ssl_data.pipeline.remote_path import ImagePath
    from ssl_data.pipeline.sources import Source
    from ssl_data.store.target import Target

__all__ = ["BuildReport", "Progress", "build", "make_build_plan", "scan_chosen"]


def make_build_plan(config: BuildConfig, progress: ProgressFunction | None = None, *, hashed: bool = True) -> BuildPlan:
    """Find the images of the dataset, hash them, read their headers, and lay out the store. Nothing is written.

    Without hashes the layout is the same, but the plan's fingerprint is not that of a store.
    """
    dataset = load_dataset(config.dataset, config.root)
    spec = config.spec(dataset.patch, dataset.multiscale)
    sources = scan_chosen(find_files(dataset, strict=config.strict), config, spec, progress, hashed=hashed)
    plan = make_plan(sources, dataset=dataset.name, spec=spec)
    if plan.store.num_slots == 0:
        reasons = "; ".join(f"{one_line(image.source)}: {image.reason}" for image in plan.rejected[:5])
        all_small = all(image.reason_code == "too_small" for image in plan.rejected)
        remedy = "; use a smaller --patch-size, or --small-images upscale" if all_small else ""
        raise BuildError(f"{config.dataset}: none of the {len(sources)} images can be used ({reasons}){remedy}")
    return plan


def scan_chosen(
    files: Sequence[tuple[str, ImagePath]],
    config: BuildConfig,
    spec: BuildSpec,
    progress: ProgressFunction | None,
    *,
    hashed: bool = True,
) -> list[Source]:
    """Read these images of a dataset, or their headers alone, and their masks where the build is given any."""
    num_threads = config.workers or usable_cores()

    def on_file(done: int) -> None:
        if progress is not None:
            progress(Progress(phase="scan", done=done, total=len(files)))

    sources = scan_sources(
        files, num_threads=num_threads, max_pixels=spec.image.max_pixels, hashed=hashed, on_file=on_file
    )
    if config.masks is None:
        return sources
    return attach_masks(sources, config.masks, num_threads=num_threads, hashed=hashed)


def build(
    config: BuildConfig,
    *,
    executor: Executor | ExecutorName | None = None,
    progress: ProgressFunction | None = None,
    retry_failed: bool = False,
    retries: int = DEFAULT_RETRIES,
) -> BuildReport:
    """Make a store from a dataset, or complete one that an earlier run of the same build has begun.

    Parameters
    ----------
    config : BuildConfig
    executor : Executor, "serial" or "ray", optional
        Where the shards are made; in this process where not given. The store's bytes do not depend on it.
    progress : callable, optional
        Called with a `Progress` after every file scanned and every shard made.
    retry_failed : bool
        Try the images again that a complete store has rejected, after they were repaired, replaced or removed. The
        store then equals, to the last byte, one built from scratch; what it holds already is taken over.
    retries : int
        How often a shard that fails is tried again, with pauses between.

    Returns
    -------
    BuildReport
        Images that could not be used are listed in it, each with its reason; they do not stop the build.

    Raises
    ------
    DatasetError
        If the dataset or one of its folders cannot be found.
    StoreMismatchError
        If the place holds a store made from other sources or another configuration, or something else.
    StoreNotFoundError, StoreError
        With `retry_failed`, if there is no store, or no complete one.
    StoreLockedError
        If another process is building this store.
    BuildError
        If no image can be used, a source changes during the build, or a worker fails for good.
    BuildInterruptedError
        On an interrupt; the same call resumes.
    """
    if executor is None or isinstance(executor, str):
        executor = make_executor(executor or "serial", workers=config.workers)
    steering = Steering(progress=progress, retries=retries)
    try:
        return _build(config, executor, steering, retry_failed=retry_failed)
    except KeyboardInterrupt:
        known = "" if steering.num_done is None else f" with {steering.num_done} of its shards done"
        raise BuildInterruptedError(f"{config.out}: interrupted{known}; the same command goes on") from None


def _build(config: BuildConfig, executor: Executor, steering: Steering, *, retry_failed: bool) -> BuildReport:
    began = time.monotonic()
    warn_if_slow()  # here as well as in the workers, whose warnings may go unseen
    target = open_target(config.out)
    if retry_failed and not isinstance(target, LocalTarget):
        raise ConfigError(
            f"{target.url}: --retry-failed moves a new store to the place of the old one, which only folders allow; "
            "build another store"
        )
    end_replacement(target)
    refuse_foreign(target)
    plan = make_build_plan(config, steering.progress)
    if retry_failed:
        refuse_other_changes(target, plan)
    nothing_to_do = is_intact(target) and is_plan_of(target, plan)
    is_retry = retry_failed and only_rejected_changed(target, plan) and not nothing_to_do
    if is_retry and isinstance(target, LocalTarget):
        reused, made = _retry(target, plan, executor, steering)
    else:
        reused, made = _make(target, plan, executor, steering)
    results, seconds = [*reused.values(), *made], time.monotonic() - began
    return report_build(config.out, results, num_reused=len(reused), seconds=seconds, nothing_to_do=nothing_to_do)


def _make(
    target: Target, plan: BuildPlan, executor: Executor, steering: Steering, donor: Donor | None = None
) -> tuple[dict[int, ShardResult], list[ShardResult]]:
    """Complete the store; return the results of the shards that were there, and of those made now."""
    refuse_other_build(target, plan)
    if is_intact(target):
        remove_leftovers(target)
        return committed_results(target, plan.store), []
    with target.build_lock() as claim:
        refuse_other_build(target, plan)  # again: another builder may have come before us
        if is_intact(target):
            target.end_work()
            return committed_results(target, plan.store), []
        plan = adopt_label(target, plan)
        target.sweep(claim.work)
        target.remove(ROOT_METADATA)  # a store that lost files is not complete
        prepare_store(target, plan.store, [source.to_row() for source in plan.sources])
        shards = range(plan.store.num_shards)
        jobs = ShardJobs(plan, shards, target=target, num_threads=executor.num_threads, donor=donor)
        if donor is not None:
            adopt_shards(jobs, donor)
        reused = committed_results(target, plan.store)
        made = make_shards(jobs, reused, executor, steering, claim)
        claim.check()
        finalize_store(target, plan.store)
    return reused, made


def _retry(
    target: LocalTarget, plan: BuildPlan, executor: Executor, steering: Steering
) -> tuple[dict[int, ShardResult], list[ShardResult]]:
    """Build the store of the repaired images beside the old one, and put it in its place."""
    plan = adopt_label(target, plan)
    beside = place_beside(target)
    refuse_foreign(beside)
    clear_place(beside, plan)
    results = _make(beside, plan, executor, steering, make_donor(target))
    close_donor()
    replace_store(target, beside)
    return results
