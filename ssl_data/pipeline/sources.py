"""Finding the image files of a dataset and reading their headers."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssl_data.config import fingerprint
from ssl_data.errors import DatasetError, SourceError
from ssl_data.pipeline.decode import image_size, read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ssl_data.pipeline.datasets import Dataset, Folder

__all__ = ["IMAGE_SUFFIXES", "Source", "find_files", "scan_sources", "sources_fingerprint"]

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Files with other names are not looked at; what these contain is decided by content."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One image file of a dataset."""

    name: str
    """Unique in the dataset: folder name and relative path, with forward slashes."""
    path: Path
    sha256: str
    num_bytes: int
    height: int | None
    """Of the upright image, in pixels; None where it was rejected."""
    width: int | None
    rejected: str | None
    """Why it cannot be used."""

    def to_row(self) -> dict[str, Any]:
        """As a row of ``manifest/sources.parquet``; the path belongs to this machine and stays out."""
        names = ("sha256", "num_bytes", "height", "width", "rejected")
        return {"source": self.name, **{name: getattr(self, name) for name in names}}


def find_files(dataset: Dataset) -> list[tuple[str, Path]]:
    """Name and path of every image file, sorted by name, whatever the order of folders and directory entries.

    Raises
    ------
    DatasetError
        If a file that the dataset lists is missing, a name is not valid UTF-8, or there is no image file at all.
    """
    found = sorted(entry for folder in dataset.folders for entry in _files_of(folder))
    if not found:
        places = ", ".join(str(folder.path) for folder in dataset.folders)
        raise DatasetError(f"no image files below {places} (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
    return found


def _files_of(folder: Folder) -> Iterator[tuple[str, Path]]:
    prefix = f"{folder.name}/" if folder.name else ""
    if folder.files is None:
        relative_paths = _walk(folder.path)
    else:
        missing = [name for name in folder.files if not (folder.path / name).is_file()]
        if missing:
            raise DatasetError(f"{folder.path} lacks {len(missing)} listed files: {', '.join(missing[:5])}")
        relative_paths = iter(folder.files)
    for relative in relative_paths:
        try:
            relative.encode()
        except UnicodeEncodeError:
            raise DatasetError(f"{folder.path}: the file name {relative!a} is not valid UTF-8; rename it") from None
        yield prefix + relative, (folder.path / relative).absolute()  # workers may run in another folder


def _walk(root: Path) -> Iterator[str]:
    """Relative paths of the image files below a folder; follows links, but into each folder only once."""
    visited = set()
    for directory, subdirectories, files in os.walk(root, followlinks=True, onerror=_raise):
        real = os.path.realpath(directory)
        if real in visited:
            subdirectories.clear()
            continue
        visited.add(real)
        subdirectories[:] = sorted(name for name in subdirectories if not name.startswith("."))
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122 - hot
                relative = os.path.relpath(os.path.join(directory, name), root)  # noqa: PTH118
                yield relative.replace(os.sep, "/")


def _raise(error: OSError) -> None:
    raise DatasetError(f"{error.filename} cannot be listed ({error.strerror}); check its permissions") from error


def scan_sources(
    files: Sequence[tuple[str, Path]], *, num_threads: int, on_file: Callable[[int], None] | None = None
) -> list[Source]:
    """Hash every file and read its header.

    Parameters
    ----------
    files : sequence of (name, path)
        From `find_files`.
    num_threads : int
        Files read at the same time.
    on_file : callable, optional
        Called with the number of files done so far.
    """
    sources = []
    with ThreadPoolExecutor(num_threads) as pool:
        for source in pool.map(_scan, files):
            sources.append(source)
            if on_file is not None:
                on_file(len(sources))
    return sources


def _scan(file: tuple[str, Path]) -> Source:
    name, path = file
    sha256, num_bytes, height, width, rejected = "", 0, None, None, None
    try:
        content = read_file(path, name)
        sha256, num_bytes = hashlib.sha256(content).hexdigest(), len(content)
        height, width = image_size(content, name)
    except SourceError as error:
        rejected = error.reason
    return Source(
        name=name, path=path, sha256=sha256, num_bytes=num_bytes, height=height, width=width, rejected=rejected
    )


def sources_fingerprint(sources: Sequence[Source]) -> str:
    """SHA-256 over names and contents; where the files lie does not matter."""
    return fingerprint(sorted((source.name, source.sha256) for source in sources))
