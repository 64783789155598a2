"""Making anew what is broken in a store: the damaged shards from their images, the manifest from what is whole."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_data.config import BuildConfig, fingerprint
from ssl_data.errors import BuildInterruptedError, StoreCorruptError, StoreError, StoreMismatchError, first_of
from ssl_data.pipeline.datasets import load_dataset
from ssl_data.pipeline.driver import Steering, make_shards
from ssl_data.pipeline.executors import make_executor
from ssl_data.pipeline.plan import ShardJobs, make_plan
from ssl_data.pipeline.run import make_build_plan, scan_chosen
from ssl_data.pipeline.sources import Source, find_files, stored_name
from ssl_data.store.finalize import committed_records, finalize_store, is_intact
from ssl_data.store.layout import (
    FILES_PATH,
    PLAN_PATH,
    ROOT_METADATA,
    SOURCES_PATH,
    WORK_DIR,
    array_layouts,
    record_path,
    shard_path,
    store_paths,
)
from ssl_data.store.locate import open_target
from ssl_data.store.manifest import FILE_SCHEMA, SOURCE_SCHEMA, read_table
from ssl_data.store.plan import explain_differences, recover_plan, source_identity
from ssl_data.store.source import sha256_of
from ssl_data.store.verify import unexpected_paths, verify_files
from ssl_data.store.writer import prepare_store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ssl_data.errors import Problem
    from ssl_data.pipeline.executors import Executor, ExecutorName
    from ssl_data.pipeline.plan import BuildPlan
    from ssl_data.pipeline.report import ProgressFunction
    from ssl_data.store.manifest import ShardRecord
    from ssl_data.store.plan import StorePlan
    from ssl_data.store.source import ByteSource
    from ssl_data.store.target import Claim, Target

__all__ = ["RepairReport", "RepairSources", "repair_store"]


@dataclass(frozen=True, kw_only=True)
class RepairSources:
    """Where the images of a store are; a store does not say, since it knows no places of any machine."""

    dataset: str
    """As in `BuildConfig`, and so are the others."""
    root: str | None = None
    masks: str | None = None


@dataclass(frozen=True, kw_only=True)
class RepairReport:
    """What a repair did."""

    store: str
    problems: tuple[Problem, ...]
    """What was found; empty also where the build had not been finished."""
    shards: tuple[int, ...]
    """Made anew."""
    removed: tuple[str, ...]
    """Files that did not belong to the store."""
    seconds: float
    nothing_to_do: bool

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def repair_store(
    store: str | Path,
    sources: RepairSources | None = None,
    *,
    executor: Executor | ExecutorName | None = None,
    progress: ProgressFunction | None = None,
) -> RepairReport:
    """Restore a store to what was built, byte for byte; what is whole is not touched.

    Shards are made anew from their images. Tables and metadata follow from the rest, so that damage to these alone
    needs no images. Files that do not belong to the store are removed.

    Parameters
    ----------
    store : str or Path
        A folder, or a URL of an object store.
    sources : RepairSources, optional
        Needed where a shard, or the table of sources, is damaged.
    executor, progress
        As for `build`.

    Raises
    ------
    StoreNotFoundError
        If there is no store, not even a damaged one.
    StoreCorruptError
        If nothing says any more how the store was made.
    StoreError
        If images are needed and `sources` is not given.
    StoreMismatchError
        If the images are not those that the store was made from.
    StoreLockedError
        If another process works on the store.
    BuildInterruptedError
        On an interrupt; the same call goes on.
    """
    if executor is None or isinstance(executor, str):
        executor = make_executor(executor or "serial")
    began = time.monotonic()
    target = open_target(store)
    plan = recover_plan(target)
    problems = verify_files(target.url) if target.sizes([ROOT_METADATA]) else []
    shards: list[int] = []
    removed: list[str] = []
    nothing_to_do = not problems and is_intact(target)
    if not nothing_to_do:
        try:
            with target.build_lock("repair") as claim:
                shards, removed = _repair(target, plan, sources, executor, progress, claim)
        except KeyboardInterrupt:
            raise BuildInterruptedError(f"{store}: the repair was interrupted; the same command goes on") from None
    return RepairReport(
        store=str(store),
        problems=tuple(problems),
        shards=tuple(shards),
        removed=tuple(removed),
        seconds=time.monotonic() - began,
        nothing_to_do=nothing_to_do,
    )


def _repair(
    target: Target,
    plan: StorePlan,
    sources: RepairSources | None,
    executor: Executor,
    progress: ProgressFunction | None,
    claim: Claim,
) -> tuple[list[int], list[str]]:
    """Return the shards made anew, and what was removed."""
    try:
        hashes = _recorded_hashes(target)
        broken = _broken_shards(target, plan, hashes)
        rows = _intact_sources(target, plan, hashes)
        build_plan = None
        if broken or rows is None:
            build_plan = _plan_again(target, plan, broken, rows, _where(target, plan, broken, sources), progress)
            rows = rows or [source.to_row() for source in build_plan.sources]
    except BaseException:
        if target.sizes([ROOT_METADATA]):  # nothing was changed yet: leave no trace
            target.end_work()
        raise
    claim.check()
    target.put(PLAN_PATH, plan.encode())  # before the other file that may hold it goes
    target.remove(ROOT_METADATA)
    for shard in broken:
        target.remove(record_path(shard))
    removed = _remove_unexpected(target, plan)
    prepare_store(target, plan, rows)
    if build_plan is not None:
        jobs = ShardJobs(build_plan, broken, target=target, num_threads=executor.num_threads)
        make_shards(jobs, {}, executor, Steering(progress=progress), claim)
    claim.check()
    finalize_store(target, plan)
    return broken, removed


def _broken_shards(target: Target, plan: StorePlan, hashes: Mapping[str, str]) -> list[int]:
    records = committed_records(target, plan, range(plan.num_shards))
    whole = {shard for shard, record in records.items() if _is_whole(target, plan, record, hashes)}
    return [shard for shard in range(plan.num_shards) if shard not in whole]


def _recorded_hashes(source: ByteSource) -> dict[str, str]:
    """SHA-256 by path, as far as the table of files is left; each record has those of the files of its shard."""
    try:
        table = read_table(source, FILES_PATH, FILE_SCHEMA)
    except StoreCorruptError:
        return {}
    return dict(zip(table["path"].to_pylist(), table["sha256"].to_pylist(), strict=True))


def _is_whole(source: ByteSource, plan: StorePlan, record: ShardRecord, hashes: Mapping[str, str]) -> bool:
    layouts = array_layouts(plan.spec, plan.num_slots)
    expected = [shard_path(layout.name, record.shard, len(layout.shape)) for layout in layouts]
    if [file.path for file in record.files] != expected:
        return False
    found = {path: sha256_of(source.open(path)) for path in (*expected, record_path(record.shard))}
    recorded = {**hashes, **{file.path: file.sha256 for file in record.files}}
    return all(found[path] == recorded.get(path, found[path]) for path in found)


def _intact_sources(source: ByteSource, plan: StorePlan, hashes: Mapping[str, str]) -> list[dict[str, Any]] | None:
    """The table of sources, or None where it is damaged."""
    try:
        rows = read_table(source, SOURCES_PATH, SOURCE_SCHEMA).to_pylist()
        sha256 = sha256_of(source.open(SOURCES_PATH))
    except StoreCorruptError:
        return None
    identities = sorted((row["source"], *source_identity(row["sha256"], row["mask_sha256"])) for row in rows)
    is_intact_table = fingerprint(identities) == plan.sources_fingerprint
    return rows if is_intact_table and hashes.get(SOURCES_PATH, sha256) == sha256 else None


def _where(target: Target, plan: StorePlan, broken: Sequence[int], sources: RepairSources | None) -> BuildConfig:
    """The build of the store, with images and masks where they are now.

    Raises
    ------
    StoreError
        If that was not said.
    """
    needs_masks = plan.spec.edge.masks == "given"
    if sources is None or (needs_masks and sources.masks is None):
        option = "--masks" if sources is not None else "--dataset (and --root, --masks), as when the store was built"
        what = _name(broken)
        raise StoreError(f"{target.url}: {what} must be made anew from the images: say where they are with {option}")
    specs = {field.name: getattr(plan.spec, field.name) for field in fields(plan.spec)}
    masks = sources.masks if needs_masks else None
    return BuildConfig(dataset=sources.dataset, root=sources.root, masks=masks, out=target.url, **specs)


def _name(broken: Sequence[int]) -> str:
    """What has to be made anew."""
    if not broken:
        return SOURCES_PATH
    return f"shard{'' if len(broken) == 1 else 's'} {first_of(broken, 10)}"


def _plan_again(
    target: Target,
    plan: StorePlan,
    broken: Sequence[int],
    rows: list[dict[str, Any]] | None,
    config: BuildConfig,
    progress: ProgressFunction | None,
) -> BuildPlan:
    """The plan made anew, from the table of sources and the images of the broken shards; from all images without it.

    Raises
    ------
    StoreMismatchError
        If they are not those that the store was made from.
    """
    if rows is None:
        again = make_build_plan(config, progress)
        if again.store.fingerprint != plan.fingerprint:
            raise _mismatch(target, plan, again.store, {image.name: image.identity for image in again.sources}, broken)
        return again
    files = {stored_name(name): (name, path) for name, path in find_files(load_dataset(config.dataset, config.root))}
    known = [Source.from_row(row, files.get(row["source"], ("", Path()))[1]) for row in rows]
    again = make_plan(known, dataset=plan.dataset, spec=plan.spec)
    jobs = ShardJobs(again, broken, target=target, num_threads=1)
    needed = {task.source.name: task.source.identity for job in jobs for task in job.tasks}
    present = scan_chosen([files[name] for name in sorted(needed) if name in files], config, plan.spec, progress)
    found = {image.name: image for image in present}
    identities = {name: image.identity for name, image in found.items()}
    if identities != needed:
        others = {image.name: image.identity for image in known if image.name not in needed}
        raise _mismatch(target, plan, replace(plan, sources_fingerprint=""), others | identities, broken)
    return make_plan([found.get(image.name, image) for image in known], dataset=plan.dataset, spec=plan.spec)


def _mismatch(
    target: Target,
    plan: StorePlan,
    again: StorePlan,
    wanted: Mapping[str, tuple[str, ...]],
    broken: Sequence[int],
) -> StoreMismatchError:
    try:
        differences = explain_differences(target, plan, again, wanted)
    except StoreCorruptError:
        differences = [
            f"sources: {len(wanted)} images; which of them differ is not known, as {SOURCES_PATH} is damaged"
        ]
    what, lines = _name(broken), "\n  ".join(differences)
    return StoreMismatchError(
        f"{target.url}: {what} cannot be made anew, as the images are not those that the store was made from:\n"
        f"  {lines}\nPut the images back as they were, or build the store anew",
        tuple(differences),
    )


def _remove_unexpected(target: Target, plan: StorePlan) -> list[str]:
    removed = unexpected_paths(target, store_paths(plan.spec, plan.num_slots))
    removed = [path for path in removed if not path.startswith(f"{WORK_DIR}/")]
    for path in removed:
        target.remove(path)
    return removed
