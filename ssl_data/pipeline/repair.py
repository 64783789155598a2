"""Making anew what is broken in a store: the damaged shards from their images, the manifest from what is whole."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_data.config import BuildConfig, fingerprint
from ssl_data.errors import BuildInterruptedError, ConfigError, StoreCorruptError, StoreError, StoreMismatchError
from ssl_data.pipeline.driver import Steering, make_shards
from ssl_data.pipeline.executors import make_executor
from ssl_data.pipeline.plan import shard_jobs
from ssl_data.pipeline.run import make_build_plan
from ssl_data.store.files import write_atomic
from ssl_data.store.finalize import committed_record, finalize_store, is_intact
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
from ssl_data.store.local import LocalFile, LocalSource
from ssl_data.store.lock import build_lock
from ssl_data.store.manifest import FILE_SCHEMA, SOURCE_SCHEMA, read_table
from ssl_data.store.plan import explain_differences, recover_plan, source_identity
from ssl_data.store.source import sha256_of
from ssl_data.store.verify import unexpected_paths, verify_files
from ssl_data.store.writer import prepare_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ssl_data.errors import Problem
    from ssl_data.pipeline.executors import Executor, ExecutorName
    from ssl_data.pipeline.plan import BuildPlan
    from ssl_data.pipeline.report import ProgressFunction
    from ssl_data.store.manifest import ShardRecord
    from ssl_data.store.plan import StorePlan

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
        A folder.
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
    if "://" in str(store):
        raise ConfigError(f"{store} is not a folder: repair a local copy, and copy it back")
    if executor is None or isinstance(executor, str):
        executor = make_executor(executor or "serial")
    began = time.monotonic()
    root = Path(store).absolute()
    plan = recover_plan(root)
    problems = verify_files(root) if (root / ROOT_METADATA).exists() else []
    shards: list[int] = []
    removed: list[str] = []
    nothing_to_do = not problems and is_intact(root)
    if not nothing_to_do:
        try:
            with build_lock(root, "repair"):
                shards, removed = _repair(root, plan, sources, executor, progress)
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
    root: Path,
    plan: StorePlan,
    sources: RepairSources | None,
    executor: Executor,
    progress: ProgressFunction | None,
) -> tuple[list[int], list[str]]:
    """Return the shards made anew, and what was removed."""
    try:
        broken = _broken_shards(root, plan)
        rows = _intact_sources(root, plan)
        build_plan = None
        if broken or rows is None:
            build_plan = _plan_again(root, plan, broken, sources, progress)
            rows = [source.to_row() for source in build_plan.sources]
    except BaseException:
        if (root / ROOT_METADATA).exists():  # nothing was changed yet: leave no trace
            shutil.rmtree(root / WORK_DIR)
        raise
    write_atomic(root / PLAN_PATH, plan.encode(), root / WORK_DIR)  # before the other file that may hold it goes
    (root / ROOT_METADATA).unlink(missing_ok=True)
    for shard in broken:
        (root / record_path(shard)).unlink(missing_ok=True)
    removed = _remove_unexpected(root, plan)
    prepare_store(root, plan, rows)
    if build_plan is not None:
        jobs = shard_jobs(build_plan, broken, root=root, num_threads=executor.num_threads)
        make_shards(jobs, {}, executor, Steering(progress=progress))
    finalize_store(root, plan)
    return broken, removed


def _broken_shards(root: Path, plan: StorePlan) -> list[int]:
    hashes = _recorded_hashes(root)
    records = ((shard, committed_record(root, plan, shard)) for shard in range(plan.num_shards))
    return [shard for shard, record in records if record is None or not _is_whole(root, plan, record, hashes)]


def _recorded_hashes(root: Path) -> dict[str, str]:
    """SHA-256 by path, as far as the table of files is left; each record has those of the files of its shard."""
    try:
        table = read_table(LocalSource(root), FILES_PATH, FILE_SCHEMA)
    except StoreCorruptError:
        return {}
    return dict(zip(table["path"].to_pylist(), table["sha256"].to_pylist(), strict=True))


def _is_whole(root: Path, plan: StorePlan, record: ShardRecord, hashes: dict[str, str]) -> bool:
    layouts = array_layouts(plan.spec, plan.num_slots)
    expected = [shard_path(layout.name, record.shard, len(layout.shape)) for layout in layouts]
    if [file.path for file in record.files] != expected:
        return False
    found = {path: sha256_of(LocalFile(root / path)) for path in (*expected, record_path(record.shard))}
    recorded = {**hashes, **{file.path: file.sha256 for file in record.files}}
    return all(found[path] == recorded.get(path, found[path]) for path in found)


def _intact_sources(root: Path, plan: StorePlan) -> list[dict[str, Any]] | None:
    """The table of sources, or None where it is damaged."""
    hashes = _recorded_hashes(root)
    try:
        rows = read_table(LocalSource(root), SOURCES_PATH, SOURCE_SCHEMA).to_pylist()
        sha256 = sha256_of(LocalFile(root / SOURCES_PATH))
    except StoreCorruptError:
        return None
    identities = sorted((row["source"], *source_identity(row["sha256"], row["mask_sha256"])) for row in rows)
    is_intact_table = fingerprint(identities) == plan.sources_fingerprint
    return rows if is_intact_table and hashes.get(SOURCES_PATH, sha256) == sha256 else None


def _plan_again(
    root: Path,
    plan: StorePlan,
    broken: Sequence[int],
    sources: RepairSources | None,
    progress: ProgressFunction | None,
) -> BuildPlan:
    """The plan made anew from the images, which must be those that the store was made from."""
    what = f"shards {', '.join(map(str, broken[:10]))}{', ...' if len(broken) > 10 else ''}" if broken else SOURCES_PATH
    needs_masks = plan.spec.edge.masks == "given"
    if sources is None or (needs_masks and sources.masks is None):
        option = "--masks" if sources is not None else "--dataset (and --root, --masks), as when the store was built"
        raise StoreError(f"{root}: {what} must be made anew from the images: say where they are with {option}")
    specs = {field.name: getattr(plan.spec, field.name) for field in fields(plan.spec)}
    config = BuildConfig(
        dataset=sources.dataset,
        root=sources.root,
        masks=sources.masks if needs_masks else None,
        out=str(root),
        **specs,
    )
    again = make_build_plan(config, progress)
    if again.store.fingerprint != plan.fingerprint:
        raise _mismatch(root, plan, again, what)
    return again


def _mismatch(root: Path, plan: StorePlan, again: BuildPlan, what: str) -> StoreMismatchError:
    wanted = {source.name: source.identity for source in again.sources}
    try:
        differences = explain_differences(root, plan, again.store, wanted)
    except StoreCorruptError:
        differences = [
            f"sources: {len(wanted)} images; which of them differ is not known, as {SOURCES_PATH} is damaged"
        ]
    lines = "\n  ".join(differences)
    return StoreMismatchError(
        f"{root}: {what} cannot be made anew, as the images are not those that the store was made from:\n  {lines}\n"
        "Put the images back as they were, or build the store anew",
        tuple(differences),
    )


def _remove_unexpected(root: Path, plan: StorePlan) -> list[str]:
    expected = store_paths(plan.spec, plan.num_slots)
    removed = [path for path in unexpected_paths(root, expected) if Path(path).parts[0] != WORK_DIR]
    for path in removed:
        place = root / path
        place.rmdir() if place.is_dir() and not place.is_symlink() else place.unlink()
        for parent in place.parents:
            if parent == root or any(parent.iterdir()):
                break
            parent.rmdir()
    return removed
