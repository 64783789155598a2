"""Checking a store without the images it was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssl_data.config import LARGEST_CODES
from ssl_data.errors import (
    Problem,
    StoreCorruptError,
    StoreError,
    StoreIncompleteError,
    StoreMismatchError,
    StoreNotFoundError,
    StoreUnreachableError,
)
from ssl_data.store.layout import FILES_PATH
from ssl_data.store.locate import open_source
from ssl_data.store.manifest import FILE_SCHEMA, FileRecord, read_table
from ssl_data.store.reader import open_store
from ssl_data.store.source import ObjectMissingError, sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ssl_data.store.reader import Store
    from ssl_data.store.source import ByteSource

__all__ = ["verify_store"]


def verify_store(url: str | Path, *, deep: bool = False) -> list[Problem]:
    """Compare a store with its manifest.

    Parameters
    ----------
    url : str or Path
        Folder or URL of the store; a remote one is read past the cache.
    deep : bool
        Also decode every chunk and compare masks, graph counts and the codes' invariants (the search centre has the
        largest code, no other one a larger), besides sizes and SHA-256 of all files.

    Returns
    -------
    list of Problem
        Empty where all is well.

    Raises
    ------
    StoreNotFoundError, StoreIncompleteError, StoreMismatchError
        If there is no complete store of this version to verify.
    StoreUnreachableError
        If the store, or one of its objects, cannot be read for now.
    """
    source = open_source(url)
    try:
        store = open_store(url, cache_bytes=0)  # what is there now, not what was there once
    except (StoreNotFoundError, StoreIncompleteError, StoreMismatchError, StoreUnreachableError):
        raise
    except StoreError as error:
        return [Problem(where=source.url, kind="unreadable", message=str(error)), *_problems_of_files(source)]
    problems = [*_problems_of_files(source, store.attributes["files_sha256"])]
    if deep and not problems:
        problems += _problems_of_patches(store)
    return problems


def _problems_of_files(source: ByteSource, files_sha256: str | None = None) -> Iterator[Problem]:
    try:
        table = read_table(source, FILES_PATH, FILE_SCHEMA)
    except StoreCorruptError as error:
        yield Problem(where=FILES_PATH, kind="unreadable", message=str(error))
        return
    if files_sha256 is not None and sha256_of(source.open(FILES_PATH)) != files_sha256:
        yield Problem(where=FILES_PATH, kind="altered", message="its hash differs from the one in the root attributes")
    for row in table.to_pylist():
        problem = _problem_of_file(source, FileRecord(**row))
        if problem is not None:
            yield problem


def _problem_of_file(source: ByteSource, record: FileRecord) -> Problem | None:
    try:
        file = source.open(record.path)
        if file.num_bytes != record.num_bytes:
            message = f"the file has {file.num_bytes} bytes instead of {record.num_bytes}"
            return Problem(where=record.path, kind="wrong-size", message=message)
        if sha256_of(file) != record.sha256:
            return Problem(where=record.path, kind="altered", message="its SHA-256 differs from the manifest")
    except ObjectMissingError:
        return Problem(where=record.path, kind="missing-file", message="the file does not exist")
    return None


def _problems_of_patches(store: Store) -> Iterator[Problem]:
    centre, largest = store.spec.num_positions // 2, LARGEST_CODES[store.quantization]
    for index in range(store.num_patches):
        try:
            patch = store.read(index)
        except StoreCorruptError as error:
            yield Problem(where=store.patch_id(index), kind="corrupt", message=str(error))
            continue
        if not (patch["ssg"][:, centre] == largest).all():
            message = "a graph has no similarity with itself at the search centre"
            yield Problem(where=patch["patch_id"], kind="wrong-codes", message=message)
        if patch["ssg"].max(initial=0) > largest:
            message = f"a graph has a code above {largest}"
            yield Problem(where=patch["patch_id"], kind="wrong-codes", message=message)
        if int(patch["edge_mask"].sum()) != store.num_edge_pixels[index]:
            message = "the number of edge pixels differs from the manifest"
            yield Problem(where=patch["patch_id"], kind="wrong-count", message=message)
