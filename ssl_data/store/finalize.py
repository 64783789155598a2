"""Completing a store: check that every shard is there, write the summary and, last, the root metadata."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec
from zarr.storage import MemoryStore

from ssl_data.errors import StoreCorruptError, StoreIncompleteError, first_of
from ssl_data.store.layout import (
    ATTRIBUTE,
    COUNT,
    FILES_PATH,
    PATCHES_PATH,
    PLAN_PATH,
    REJECTED_PATH,
    ROOT_METADATA,
    SOURCES_PATH,
    START,
    array_layouts,
    array_metadata_path,
    record_path,
)
from ssl_data.store.manifest import (
    FILE_SCHEMA,
    FILTERS,
    PATCH_SCHEMA,
    REJECTED_SCHEMA,
    SOURCE_SCHEMA,
    FileRecord,
    PatchRecord,
    RejectedRecord,
    ShardRecord,
    decode_record,
    encode_table,
    read_table,
)
from ssl_data.store.source import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from zarr.core.buffer import Buffer

    from ssl_data.store.plan import StorePlan
    from ssl_data.store.source import ByteSource
    from ssl_data.store.target import Target

__all__ = [
    "committed_records",
    "derive_summary",
    "describe_store",
    "finalize_store",
    "is_intact",
    "list_missing",
    "missing_shards",
]


def committed_records(target: Target, plan: StorePlan, shards: Iterable[int]) -> dict[int, ShardRecord]:
    """The records of those shards that are committed under this plan, with all their files there in full."""
    paths = {record_path(shard): shard for shard in shards}
    found = (_record(content, plan, paths[path]) for path, content in target.read_each(paths))
    records = [record for record in found if record is not None]
    sizes = target.sizes(file.path for record in records for file in record.files)
    return {
        record.shard: record
        for record in records
        if all(sizes.get(file.path) == file.num_bytes for file in record.files)
    }


def _record(content: bytes, plan: StorePlan, shard: int) -> ShardRecord | None:
    try:
        record = decode_record(content, record_path(shard))
    except StoreCorruptError:
        return None
    return record if record.fingerprint == plan.fingerprint and record.shard == shard else None


def is_intact(target: Target) -> bool:
    """Whether a store is complete and all its files are there in full. Contents are for `verify_store` to check.

    Raises
    ------
    StoreUnreachableError
        If that cannot be said for now.
    """
    try:
        attributes = json.loads(target.read_all(ROOT_METADATA))["attributes"][ATTRIBUTE]
        if sha256_of(target.open(FILES_PATH)) != attributes["files_sha256"]:
            return False
        files = read_table(target, FILES_PATH, FILE_SCHEMA).to_pylist()
    except (OSError, ValueError, KeyError, TypeError, StoreCorruptError):
        return False
    sizes = target.sizes(file["path"] for file in files)
    return all(sizes.get(file["path"]) == file["num_bytes"] for file in files)


def finalize_store(target: Target, plan: StorePlan, records: Mapping[int, ShardRecord] | None = None) -> dict[str, Any]:
    """Write the summary and, last, the root metadata that makes the store readable.

    Parameters
    ----------
    target, plan
    records : mapping, optional
        `committed_records` of all shards, where they have just been read.

    Returns
    -------
    dict
        The description in the root's attributes.

    Raises
    ------
    StoreIncompleteError
        Listing shards, if any is not committed.
    """
    if records is None:
        records = committed_records(target, plan, range(plan.num_shards))
    missing = missing_shards(records, plan)
    if missing:
        raise StoreIncompleteError(f"{target.url} is not complete: {list_missing(missing, plan.num_shards)}")
    return _finalize(target, plan, list(records.values()))


def missing_shards(records: Mapping[int, ShardRecord], plan: StorePlan) -> list[int]:
    """The shards that are not among the committed ones."""
    return [shard for shard in range(plan.num_shards) if shard not in records]


def list_missing(missing: list[int], num_shards: int) -> str:
    """The missing shards as part of a message; the first of them where there are many."""
    return f"{len(missing)} of {num_shards} shards are missing: {first_of(missing, 10)}"


def _finalize(target: Target, plan: StorePlan, records: list[ShardRecord]) -> dict[str, Any]:
    patches = _stored_patches(plan, records)
    rejected = _rejected(target, patches)
    written = _summary_files(patches, rejected)
    for path, content in written.items():
        target.put(path, content)
    frame = [PLAN_PATH, SOURCES_PATH, *(array_metadata_path(a.name) for a in array_layouts(plan.spec, plan.num_slots))]
    files = [file for record in records for file in record.files]
    others = (*frame, *written, *(record_path(record.shard) for record in records))
    described = {path: _describe_file(path, content) for path, content in target.read_each(others)}
    if len(described) != len(others):
        gone = ", ".join(path for path in others if path not in described)
        raise StoreIncompleteError(f"{target.url} lost files while it was completed ({gone}); run the command again")
    files += described.values()
    table = encode_table(FILE_SCHEMA, sorted(files, key=lambda file: file.path))
    target.put(FILES_PATH, table)
    description = describe_store(plan, patches, len(rejected), _describe_file(FILES_PATH, table).sha256)
    group: dict[str, Buffer] = {}
    zarr.create_group(MemoryStore(group), attributes={ATTRIBUTE: description})
    target.put(ROOT_METADATA, group[ROOT_METADATA].to_bytes())
    target.end_work()
    return description


def _stored_patches(plan: StorePlan, records: list[ShardRecord]) -> list[PatchRecord]:
    """The patches of all shards in slot order, without those that filters over the whole store take out."""
    patches = [patch for record in records for patch in record.patches]
    return _without_duplicates(patches) if plan.spec.filter.drop_duplicates else patches


def derive_summary(source: ByteSource, plan: StorePlan, records: list[ShardRecord]) -> dict[str, bytes]:
    """The files, by path, that follow from the records of all shards and the table of sources.

    Raises
    ------
    StoreCorruptError
        If the table of sources is damaged.
    """
    patches = _stored_patches(plan, records)
    return _summary_files(patches, _rejected(source, patches))


def _summary_files(patches: list[PatchRecord], rejected: list[RejectedRecord]) -> dict[str, bytes]:
    return {
        PATCHES_PATH: encode_table(PATCH_SCHEMA, patches),
        REJECTED_PATH: encode_table(REJECTED_SCHEMA, rejected),
        **_index_arrays(patches),
    }


def _without_duplicates(patches: list[PatchRecord]) -> list[PatchRecord]:
    """Empty the slots of patches whose pixels a patch before them has, in the order of the plan."""
    first: dict[str | None, str] = {}
    kept = []
    for patch in patches:
        original = patch.patch_id
        if patch.filtered is None:
            original = first.setdefault(patch.gt_sha256, original)
        if original == patch.patch_id:
            kept.append(patch)
        else:
            kept.append(replace(patch, start=-1, count=0, filtered="duplicate", duplicate_of=original))
    return kept


def _describe_file(path: str, content: bytes) -> FileRecord:
    return FileRecord(path=path, num_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def _rejected(source: ByteSource, patches: list[PatchRecord]) -> list[RejectedRecord]:
    """Every rejected image: by its header when planning, or by its pixels when building."""
    sources = read_table(source, SOURCES_PATH, SOURCE_SCHEMA)
    columns = (sources[name].to_pylist() for name in ("source", "reason_code", "rejected"))
    rejected = {*zip(*columns, strict=True), *((patch.source, patch.reason_code, patch.rejected) for patch in patches)}
    return sorted(
        RejectedRecord(source=name, reason_code=code, reason=reason)
        for name, code, reason in rejected
        if reason is not None
    )


def _index_arrays(patches: list[PatchRecord]) -> dict[str, bytes]:
    """The files of the arrays ``start`` and ``count``."""
    files: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(files))
    for name, dtype, text in (
        (START, np.int64, "first row of each patch in ssg; -1 marks an empty slot"),
        (COUNT, np.int32, "rows of each patch in ssg"),
    ):
        array = group.create_array(
            name,
            shape=(len(patches),),
            dtype=dtype,
            chunks=(len(patches),),
            compressors=ZstdCodec(level=3, checksum=True),
            fill_value=-1 if name == START else 0,
            dimension_names=("patch",),
            attributes={"description": text},
            config={"write_empty_chunks": True},
        )
        array[:] = np.array([asdict(patch)[name] for patch in patches], dtype=dtype)
    return {path: content.to_bytes() for path, content in files.items() if path != ROOT_METADATA}


def describe_store(plan: StorePlan, patches: list[PatchRecord], num_rejected: int, files_sha256: str) -> dict[str, Any]:
    """What the attributes of the root group say: the plan, totals, and the hash of ``manifest/files.parquet``."""
    filled = [patch for patch in patches if patch.filtered is None]
    filtered = Counter(patch.filtered for patch in patches)
    return {
        **plan.to_dict(),
        "num_patches": len(filled),
        "num_filtered": {reason: filtered[reason] for reason in FILTERS},
        "num_sources": len({patch.source for patch in patches if patch.rejected is None}),
        "num_rejected": num_rejected,
        "num_edge_pixels": sum(patch.num_edge_pixels for patch in filled),
        "num_graphs": sum(patch.count for patch in filled),
        "files_sha256": files_sha256,
    }
