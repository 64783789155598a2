"""Checking the files of a store against its manifest, and the manifest against itself."""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ssl_data.errors import (
    Problem,
    StoreCorruptError,
    StoreError,
    StoreIncompleteError,
    StoreMismatchError,
    StoreNotFoundError,
    StoreUnreachableError,
)
from ssl_data.store.array import read_json
from ssl_data.store.finalize import derive_summary, describe_store
from ssl_data.store.layout import (
    ATTRIBUTE,
    FILES_PATH,
    PATCHES_PATH,
    PLAN_PATH,
    REJECTED_PATH,
    ROOT_METADATA,
    SOURCES_PATH,
    WORK_DIR,
    record_path,
    shard_of,
    store_paths,
)
from ssl_data.store.local import LocalSource
from ssl_data.store.local_target import LocalTarget
from ssl_data.store.locate import open_source
from ssl_data.store.manifest import (
    FILE_SCHEMA,
    PATCH_SCHEMA,
    REJECTED_SCHEMA,
    FileRecord,
    PatchRecord,
    encode_table,
    read_record,
    read_table,
)
from ssl_data.store.plan import StorePlan, require_format
from ssl_data.store.reader import open_store
from ssl_data.store.source import ObjectMissingError, sha256_of
from ssl_data.store.writer import frame_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ssl_data.store.source import ByteSource
    from ssl_data.store.target import Target

__all__ = ["unexpected_paths", "verify_files"]


def verify_files(url: str | Path, on_file: Callable[[int, int], None] | None = None) -> list[Problem]:
    """Find missing, altered and unexpected files of a complete store; nothing is decoded but the manifest.

    Parameters
    ----------
    url : str or Path
        Folder or URL of the store; a remote one is read past the cache, and not searched for unexpected files.
    on_file : callable, optional
        Called with the number of files done, and of all files.

    Raises
    ------
    StoreNotFoundError, StoreIncompleteError, StoreMismatchError
        If there is no complete store of this version to verify.
    StoreUnreachableError
        If the store, or one of its objects, cannot be read for now.
    """
    source = open_source(url)
    _require_store(source, url)
    problems = [*_problems_of_files(source, on_file)]
    problems += _problems_of_root(source, {problem.where for problem in problems})
    if not problems:
        problems += _problems_of_opening(source, url)
    if isinstance(source, LocalSource):
        problems += _problems_of_extras(source)
    return problems


def _require_store(source: ByteSource, url: str | Path) -> None:
    """Raise what opening raises where there is no store of this version, rather than a damaged one."""
    try:
        open_store(url, cache_bytes=0)  # what is there now, not what was there once
    except (StoreIncompleteError, StoreUnreachableError):
        raise
    except StoreNotFoundError:
        if not _has(source, PLAN_PATH) or not _has(source, ROOT_METADATA):
            raise
    except StoreMismatchError:
        # Where the plan is of this version, the root metadata are damaged; no store has two.
        require_format(_read_json_or_nothing(source, PLAN_PATH) or _attributes(source), source.url)
    except StoreError:
        pass  # damage, which is to be found file by file


def _has(source: ByteSource, path: str) -> bool:
    try:
        source.open(path).close()
    except ObjectMissingError:
        return False
    return True


def _read_json_or_nothing(source: ByteSource, path: str) -> dict[str, Any]:
    try:
        return read_json(source, path)
    except StoreCorruptError:
        return {}


def _attributes(source: ByteSource) -> dict[str, Any]:
    """The description in the root metadata, as far as there is one."""
    attributes = _read_json_or_nothing(source, ROOT_METADATA).get("attributes")
    described = attributes.get(ATTRIBUTE) if isinstance(attributes, dict) else None
    return described if isinstance(described, dict) else {}


def _problems_of_files(source: ByteSource, on_file: Callable[[int, int], None] | None) -> Iterator[Problem]:
    try:
        rows = read_table(source, FILES_PATH, FILE_SCHEMA).to_pylist()
        is_canonical = encode_table(FILE_SCHEMA, rows) == source.read_all(FILES_PATH)
    except StoreCorruptError as error:
        yield Problem(where=FILES_PATH, kind="unreadable", message=str(error))
        yield from _problems_without_table(source)
        return
    recorded = _attributes(source).get("files_sha256")
    if recorded is not None and sha256_of(source.open(FILES_PATH)) != recorded and not is_canonical:
        yield Problem(where=FILES_PATH, kind="altered", message="its hash differs from the one in the root attributes")
    for number, row in enumerate(rows, 1):
        problem = _problem_of_file(source, FileRecord(**row))
        if problem is not None:
            yield problem
        if on_file is not None:
            on_file(number, len(rows))


def _problems_without_table(source: ByteSource) -> Iterator[Problem]:
    """What is wrong with the files of a store as far as its plan and the records of its shards tell."""
    plan = _plan(source)
    if plan is None:
        yield Problem(where=PLAN_PATH, kind="unreadable", message="it does not hold the plan of the store")
        return
    records = []
    for shard in range(plan.num_shards):
        try:
            records.append(read_record(source, shard))
        except StoreCorruptError as error:
            yield Problem(where=record_path(shard), kind="unreadable", message=str(error), shard=shard)
            continue
        yield from filter(None, (_problem_of_file(source, file) for file in records[-1].files))
    derived = frame_files(plan)
    try:
        derived |= derive_summary(source, plan, records) if len(records) == plan.num_shards else {}
    except StoreCorruptError as error:
        yield Problem(where=SOURCES_PATH, kind="unreadable", message=str(error))
    for path, content in derived.items():
        record = FileRecord(path=path, num_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        problem = _problem_of_file(source, record)
        if problem is not None:
            yield problem


def _plan(source: ByteSource) -> StorePlan | None:
    for values in (_read_json_or_nothing(source, PLAN_PATH), _attributes(source)):
        try:
            return StorePlan.from_dict(values)
        except (KeyError, TypeError, ValueError):
            continue
    return None


def _problem_of_file(source: ByteSource, record: FileRecord) -> Problem | None:
    shard = shard_of(record.path)
    try:
        file = source.open(record.path)
        if file.num_bytes != record.num_bytes:
            message = f"the file has {file.num_bytes} bytes instead of {record.num_bytes}"
            return Problem(where=record.path, kind="wrong-size", message=message, shard=shard)
        if sha256_of(file) != record.sha256:
            message = "its SHA-256 differs from the manifest"
            return Problem(where=record.path, kind="altered", message=message, shard=shard)
    except ObjectMissingError:
        return Problem(where=record.path, kind="missing-file", message="the file does not exist", shard=shard)
    return None


def _problems_of_root(source: ByteSource, damaged: set[str]) -> Iterator[Problem]:
    """The root metadata, which no hash covers, against what the rest of the manifest says that they must be."""
    try:
        content = source.read_all(ROOT_METADATA)
        document = read_json(source, ROOT_METADATA)
    except StoreCorruptError as error:
        yield Problem(where=ROOT_METADATA, kind="unreadable", message=str(error))
        return
    found = _attributes(source)
    expected = found if damaged & {PLAN_PATH, PATCHES_PATH, REJECTED_PATH} else _derive_description(source, found)
    if FILES_PATH not in damaged:
        expected = {**expected, "files_sha256": sha256_of(source.open(FILES_PATH))}
    whole = {"attributes": {ATTRIBUTE: expected}, "zarr_format": 3, "node_type": "group"}
    differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if differing:
        message = f"it was altered: its {', '.join(differing)} differ from the rest of the manifest"
        yield Problem(where=ROOT_METADATA, kind="altered", message=message)
    elif {name: value for name, value in document.items() if value is not None} != whole or json.dumps(
        document, indent=2
    ).encode() != content:
        yield Problem(where=ROOT_METADATA, kind="altered", message="it was altered: it is not as it was written")


def _derive_description(source: ByteSource, found: dict[str, Any]) -> dict[str, Any]:
    """What the root attributes must say; what they do say where the manifest does not tell."""
    try:
        patches = [PatchRecord(**row) for row in read_table(source, PATCHES_PATH, PATCH_SCHEMA).to_pylist()]
        num_rejected = read_table(source, REJECTED_PATH, REJECTED_SCHEMA).num_rows
        plan = StorePlan.from_dict(read_json(source, PLAN_PATH))
    except (StoreCorruptError, KeyError, TypeError, ValueError):
        return found
    return describe_store(plan, patches, num_rejected, found.get("files_sha256", ""))


def _problems_of_opening(source: ByteSource, url: str | Path) -> Iterator[Problem]:
    """What is wrong though every file is as it was written."""
    try:
        open_store(url, cache_bytes=0)
    except StoreUnreachableError:
        raise
    except StoreError as error:
        yield Problem(where=source.url, kind="unreadable", message=str(error))


def _problems_of_extras(source: LocalSource) -> Iterator[Problem]:
    plan = _plan(source)
    if plan is None:
        return  # reported already
    for path in unexpected_paths(LocalTarget(source.root), store_paths(plan.spec, plan.num_slots)):
        builder = " (a builder is at work, or has died)" if path.startswith(WORK_DIR) else ""
        message = f"it does not belong to the store{builder}"
        yield Problem(where=path, kind="unexpected-file", message=message)


def unexpected_paths(target: Target, expected: set[str]) -> list[str]:
    """What does not belong to a store: objects, and in a folder also empty folders that would hold none."""
    folders = {str(parent) for path in expected for parent in PurePosixPath(path).parents}
    return sorted(path for path in target.entries() if path not in expected and path not in folders)
