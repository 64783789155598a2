"""A whole build: find, plan, run what is missing, complete."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ssl_data.errors import BuildError, BuildInterruptedError, StoreLockedError, StoreMismatchError, one_line
from ssl_data.kernels.ssg import warn_if_slow
from ssl_data.pipeline.datasets import load_dataset
from ssl_data.pipeline.donor import close_donor
from ssl_data.pipeline.executors import Executor, ExecutorName, make_executor, usable_cores
from ssl_data.pipeline.job import ShardResult, run_shard, summarize
from ssl_data.pipeline.masks import attach_masks
from ssl_data.pipeline.plan import BuildPlan, make_plan, shard_jobs
from ssl_data.pipeline.retry import (
    LOCK_NAME,
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
from ssl_data.store.files import build_lock
from ssl_data.store.finalize import committed_record, finalize_store, is_intact
from ssl_data.store.layout import MANIFEST_DIR, PLAN_PATH, ROOT_METADATA, WORK_DIR
from ssl_data.store.plan import StorePlan, explain_differences, read_plan
from ssl_data.store.reader import open_store
from ssl_data.store.writer import prepare_store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ssl_data.config import BuildConfig
    from ssl_data.pipeline.donor import Donor
    from ssl_data.pipeline.plan import ShardJob
    from ssl_data.store.manifest import RejectedRecord

__all__ = ["BuildReport", "Progress", "build", "make_build_plan"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a build is."""

    phase: Literal["scan", "build"]
    done: int
    total: int
    num_patches: int = 0
    num_graphs: int = 0
    num_bytes: int = 0


ProgressFunction = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a build did."""

    out: str
    dataset: str
    fingerprint: str
    num_sources: int
    """Image files found."""
    num_sources_used: int
    """Those that are not rejected."""
    num_patches_planned: int
    """Patches in the store and patches left out."""
    num_patches: int
    """Patches in the store."""
    num_filtered: dict[str, int]
    """Patches left out, by reason: "rejected-image" (broken pixels), "edge-density", "duplicate"."""
    num_shards: int
    num_shards_reused: int
    """Shards that an earlier run had committed."""
    num_edge_pixels: int
    num_graphs: int
    num_bytes: int
    """Size of the store's arrays on disk."""
    seconds: float
    rejected: tuple[RejectedRecord, ...]
    """Every image that is not in the store."""
    nothing_to_do: bool
    """Whether the store was there already, complete and made from the same."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        rejected = [asdict(image) for image in self.rejected]
        return {
            **asdict(self),
            "rejected": rejected,
            "num_rejected_by_reason": {code: len(images) for code, images in self.rejected_by_reason().items()},
        }

    def rejected_by_reason(self) -> dict[str, list[RejectedRecord]]:
        """The rejected images by reason code, the most frequent first."""
        groups: dict[str, list[RejectedRecord]] = {}
        for image in self.rejected:
            groups.setdefault(image.reason_code, []).append(image)
        return dict(sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])))


def make_build_plan(config: BuildConfig, progress: ProgressFunction | None = None) -> BuildPlan:
    """Find the images of the dataset, hash them, read their headers, and lay out the store. Nothing is written."""
    dataset = load_dataset(config.dataset, config.root)
    spec = config.spec(dataset.patch, dataset.multiscale)
    files = find_files(dataset, strict=config.strict)
    num_threads = config.workers or usable_cores()

    def on_file(done: int) -> None:
        if progress is not None:
            progress(Progress(phase="scan", done=done, total=len(files)))

    sources = scan_sources(files, num_threads=num_threads, max_pixels=spec.image.max_pixels, on_file=on_file)
    if config.masks is not None:
        sources = attach_masks(sources, config.masks, num_threads=num_threads)
    plan = make_plan(sources, dataset=dataset.name, spec=spec)
    if plan.store.num_slots == 0:
        reasons = "; ".join(f"{one_line(image.source)}: {image.reason}" for image in plan.rejected[:5])
        raise BuildError(f"{config.dataset}: none of the {len(sources)} images can be used ({reasons})")
    return plan


def build(
    config: BuildConfig,
    *,
    executor: Executor | ExecutorName | None = None,
    progress: ProgressFunction | None = None,
    retry_failed: bool = False,
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
    try:
        return _build(config, executor, progress, retry_failed=retry_failed)
    except KeyboardInterrupt:
        root = Path(config.out).absolute()
        place = place_beside(root) if retry_failed else root
        done = len(list((place / MANIFEST_DIR).glob("shard-*.parquet")))
        raise BuildInterruptedError(
            f"{config.out}: interrupted with {done} of its shards done; the same command goes on"
        ) from None


def _build(
    config: BuildConfig, executor: Executor, progress: ProgressFunction | None, *, retry_failed: bool
) -> BuildReport:
    began = time.monotonic()
    warn_if_slow()  # here as well as in the workers, whose warnings may go unseen
    root = Path(config.out).absolute()  # workers may run in another folder
    end_replacement(root)
    _refuse_foreign(root)
    plan = make_build_plan(config, progress)
    if retry_failed:
        refuse_other_changes(root, plan)
    nothing_to_do = is_intact(root) and _is_plan_of(root, plan)
    if retry_failed and only_rejected_changed(root, plan) and not nothing_to_do:
        reused, made = _retry(root, plan, executor, progress)
    else:
        reused, made = _make(root, plan, executor, progress)
    results, seconds = [*reused.values(), *made], time.monotonic() - began
    return _report(config, plan, results, len(reused), seconds, nothing_to_do=nothing_to_do)


def _make(
    root: Path, plan: BuildPlan, executor: Executor, progress: ProgressFunction | None, donor: Donor | None = None
) -> tuple[dict[int, ShardResult], list[ShardResult]]:
    """Complete the store; return the results of the shards that were there, and of those made now."""
    _refuse_other_build(root, plan)
    if is_intact(root):
        _remove_leftovers(root)
        return _committed(root, plan.store), []
    with build_lock(root / WORK_DIR / LOCK_NAME):
        _refuse_other_build(root, plan)  # again: another builder may have come before us
        plan = _adopt_label(root, plan)
        _sweep(root)
        (root / ROOT_METADATA).unlink(missing_ok=True)  # a store that lost files is not complete
        prepare_store(root, plan.store, [source.to_row() for source in plan.sources])
        jobs = shard_jobs(plan, range(plan.store.num_shards), root=root, num_threads=executor.num_threads)
        if donor is not None:
            adopt_shards(jobs, donor)
            jobs = [replace(job, donor=donor.of({task.source.name for task in job.tasks})) for job in jobs]
        reused = _committed(root, plan.store)
        made = _make_shards([job for job in jobs if job.shard not in reused], reused, executor, progress)
        finalize_store(root, plan.store)
    return reused, made


def _retry(
    root: Path, plan: BuildPlan, executor: Executor, progress: ProgressFunction | None
) -> tuple[dict[int, ShardResult], list[ShardResult]]:
    """Build the store of the repaired images beside the old one, and put it in its place."""
    plan = _adopt_label(root, plan)
    beside = place_beside(root)
    _refuse_foreign(beside)
    clear_place(beside, plan)
    results = _make(beside, plan, executor, progress, make_donor(root))
    close_donor()
    replace_store(root, beside)
    return results


def _is_plan_of(root: Path, plan: BuildPlan) -> bool:
    stored = read_plan(root)
    return stored is not None and stored.fingerprint == plan.store.fingerprint


def _refuse_foreign(root: Path) -> None:
    """Refuse a place that holds anything else than a store, or one that has been begun."""
    if root.exists() and not root.is_dir():
        raise StoreMismatchError(f"--out {root} is a file; name a folder that does not exist yet")
    if not root.exists() or (root / PLAN_PATH).exists() or (root / WORK_DIR).exists():
        return
    others = sorted(entry.name for entry in root.iterdir())
    if others:
        raise StoreMismatchError(f"--out {root} exists and is not a store ({others[0]}, ...); name another folder")


def _adopt_label(root: Path, plan: BuildPlan) -> BuildPlan:
    """The plan under the dataset's name by which it was begun: the name is in the bytes, but changes nothing else."""
    stored = read_plan(root)
    return plan if stored is None else replace(plan, store=replace(plan.store, dataset=stored.dataset))


def _refuse_other_build(root: Path, plan: BuildPlan) -> None:
    stored = read_plan(root)
    if stored is None or stored.fingerprint == plan.store.fingerprint:
        return
    sources = {source.name: source.identity for source in plan.sources}
    differences = explain_differences(root, stored, plan.store, sources)
    remedy = "Build with the same options, name another --out, or remove the store"
    if only_rejected_changed(root, plan):
        remedy = "Only images have changed that were rejected: --retry-failed tries them again"
    message = f"{root} was built from something else:\n  " + "\n  ".join(differences) + f"\n{remedy}"
    raise StoreMismatchError(message, tuple(differences))


def _remove_leftovers(root: Path) -> None:
    """Remove the work folder that a run left which died after completing the store."""
    if (root / WORK_DIR).exists():
        with contextlib.suppress(StoreLockedError, OSError), build_lock(root / WORK_DIR / LOCK_NAME):
            shutil.rmtree(root / WORK_DIR)


def _sweep(root: Path) -> None:
    """Remove unfinished files of a run that died."""
    for entry in (root / WORK_DIR).iterdir():
        if entry.name != LOCK_NAME:
            entry.unlink()


def _committed(root: Path, plan: StorePlan) -> dict[int, ShardResult]:
    records = {shard: committed_record(root, plan, shard) for shard in range(plan.num_shards)}
    return {shard: summarize(record) for shard, record in records.items() if record is not None}


def _make_shards(
    jobs: Sequence[ShardJob],
    reused: Mapping[int, ShardResult],
    executor: Executor,
    progress: ProgressFunction | None,
) -> list[ShardResult]:
    if not jobs:
        return []
    results = list(reused.values())
    for result in executor.run(run_shard, jobs):
        results.append(result)
        if progress is not None:
            progress(_sum_up(results, len(reused) + len(jobs)))
    return results[len(reused) :]


def _sum_up(results: list[ShardResult], num_shards: int) -> Progress:
    return Progress(
        phase="build",
        done=len(results),
        total=num_shards,
        num_patches=sum(result.num_patches for result in results),
        num_graphs=sum(result.num_graphs for result in results),
        num_bytes=sum(result.num_bytes for result in results),
    )


def _report(
    config: BuildConfig,
    plan: BuildPlan,
    results: list[ShardResult],
    num_reused: int,
    seconds: float,
    *,
    nothing_to_do: bool,
) -> BuildReport:
    stored = open_store(config.out).attributes
    return BuildReport(
        out=config.out,
        dataset=plan.store.dataset,
        fingerprint=plan.store.fingerprint,
        num_sources=len(plan.sources),
        num_sources_used=stored["num_sources"],
        num_patches_planned=plan.store.num_slots,
        num_patches=stored["num_patches"],
        num_filtered=stored["num_filtered"],
        num_shards=plan.store.num_shards,
        num_shards_reused=num_reused,
        num_edge_pixels=stored["num_edge_pixels"],
        num_graphs=stored["num_graphs"],
        num_bytes=sum(result.num_bytes for result in results),
        seconds=seconds,
        nothing_to_do=nothing_to_do,
        rejected=tuple(sorted({*plan.rejected, *(image for result in results for image in result.rejected)})),
    )
