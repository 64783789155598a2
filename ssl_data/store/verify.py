"""Checking a store without the images it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ssl_data.errors import (
    Problem,
    StoreCorruptError,
    StoreError,
    StoreIncompleteError,
    StoreMismatchError,
    StoreNotFoundError,
)
from ssl_data.store.layout import FILES_PATH
from ssl_data.store.manifest import FILE_SCHEMA, file_sha256, read_table
from ssl_data.store.reader import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["verify_store"]


def verify_store(url: str | Path, *, deep: bool = False) -> list[Problem]:
    """Compare a store with its manifest.

    Parameters
    ----------
    url : str or Path
        Folder of the store.
    deep : bool
        Also decode every chunk and compare masks, graph counts and the codes' invariants (the search centre has code
        255), besides sizes and SHA-256 of all files.

    Returns
    -------
    list of Problem
        Empty where all is well.

    Raises
    ------
    StoreNotFoundError, StoreIncompleteError, StoreMismatchError
        If there is no complete store of this version to verify.
    """
    root = Path(url)
    try:
        store = open_store(root)
    except (StoreNotFoundError, StoreIncompleteError, StoreMismatchError):
        raise
    except StoreError as error:
        return [Problem(where=str(root), kind="unreadable", message=str(error)), *_problems_of_files(root)]
    problems = [*_problems_of_files(root, store)]
    if deep and not problems:
        problems += _problems_of_patches(store)
    return problems


def _problems_of_files(root: Path, store: Store | None = None) -> Iterator[Problem]:
    try:
        table = read_table(root / FILES_PATH, FILE_SCHEMA)
    except StoreCorruptError as error:
        yield Problem(where=FILES_PATH, kind="unreadable", message=str(error))
        return
    if store is not None and file_sha256(root / FILES_PATH) != store.attributes["files_sha256"]:
        yield Problem(where=FILES_PATH, kind="altered", message="its hash differs from the one in the root attributes")
    for file in table.to_pylist():
        path = root / file["path"]
        if not path.is_file():
            yield Problem(where=file["path"], kind="missing-file", message="the file does not exist")
        elif path.stat().st_size != file["num_bytes"]:
            message = f"the file has {path.stat().st_size} bytes instead of {file['num_bytes']}"
            yield Problem(where=file["path"], kind="wrong-size", message=message)
        elif file_sha256(path) != file["sha256"]:
            yield Problem(where=file["path"], kind="altered", message="its SHA-256 differs from the manifest")


def _problems_of_patches(store: Store) -> Iterator[Problem]:
    centre = store.spec.num_positions // 2
    for index in range(store.num_patches):
        try:
            patch = store.read(index)
        except StoreCorruptError as error:
            yield Problem(where=store.patch_id(index), kind="corrupt", message=str(error))
            continue
        if not (patch["ssg"][:, centre] == 255).all():
            message = "a graph has no similarity with itself at the search centre"
            yield Problem(where=patch["patch_id"], kind="wrong-codes", message=message)
        if int(patch["edge_mask"].sum()) != store.num_edge_pixels[index]:
            message = "the number of edge pixels differs from the manifest"
            yield Problem(where=patch["patch_id"], kind="wrong-count", message=message)
