"""Finding the image files of a dataset and reading their headers."""

from __future__ import annotations

import hashlib
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssl_data.config import MAX_PIXELS, fingerprint
from ssl_data.errors import DatasetError, SourceError, one_line
from ssl_data.pipeline.datasets import DatasetWarning, draw_subset
from ssl_data.pipeline.decode import file_image_size, image_size, read_file
from ssl_data.pipeline.remote_path import RemotePath
from ssl_data.store.plan import source_identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ssl_data.errors import ReasonCode
    from ssl_data.pipeline.datasets import Dataset, Folder
    from ssl_data.pipeline.remote_path import ImagePath

__all__ = [
    "IMAGE_SUFFIXES",
    "Source",
    "count_images",
    "find_files",
    "scan_sources",
    "sources_fingerprint",
    "stored_name",
]

_READ = ".apng .bmp .dib .gif .jfif .jpe .jpeg .jpg .mpo .pbm .pgm .png .pnm .ppm .tif .tiff .webp"
_NOT_READ = ".avif .exr .hdr .heic .heif .ico .j2k .jp2 .jpx .jxl .psd .svg .tga"
_CAMERA_RAW = ".arw .cr2 .cr3 .dng .nef .orf .raf .rw2"
IMAGE_SUFFIXES = frozenset(f"{_READ} {_NOT_READ} {_CAMERA_RAW}".split())
"""Files with other names are not looked at; what these contain is decided by content. Formats that are not read are
rejected, and so accounted for."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One image file of a dataset."""

    name: str
    """Unique in the dataset: folder name and relative path, with forward slashes."""
    path: ImagePath
    sha256: str
    num_bytes: int
    height: int | None
    """Of the upright image, in pixels; None where it was rejected."""
    width: int | None
    rejected: str | None
    """Why it cannot be used."""
    reason_code: ReasonCode | None = None
    """What kind of reason that is."""
    mask_path: Path | None = None
    """File of the given edge mask, see `ssl_data.pipeline.masks`; None where masks are computed."""
    mask_sha256: str | None = None

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes two sources of one name the same."""
        return source_identity(self.sha256, self.mask_sha256)

    def to_row(self) -> dict[str, Any]:
        """As a row of ``manifest/sources.parquet``; the path belongs to this machine and stays out."""
        names = ("sha256", "num_bytes", "height", "width", "mask_sha256", "rejected", "reason_code")
        return {"source": self.name, **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], path: ImagePath) -> Source:
        """The source that `to_row` describes, as it lies on this machine."""
        return cls(name=row["source"], path=path, **{name: value for name, value in row.items() if name != "source"})


def find_files(dataset: Dataset, *, strict: bool = False) -> list[tuple[str, ImagePath]]:
    """Name and path of every image file, sorted by name, whatever the order of folders and directory entries.

    Parameters
    ----------
    strict : bool
        Whether another number of images than the dataset expects is an error; else it is a `DatasetWarning`.

    Raises
    ------
    DatasetError
        If a file that the dataset lists is missing, or there is no image file at all.
    """
    found, surprises = [], []
    for folder in dataset.folders:
        files = dict(_files_of(folder))
        if folder.expected_images not in {None, len(files)}:
            surprises.append(f"{folder.path} holds {len(files)} images, expected are {folder.expected_images}")
        found += [(name, files[name]) for name in draw_subset(files, folder.subset)]
    _report_surprises(surprises, strict=strict)
    found.sort()
    if not found:
        places = ", ".join(str(folder.path) for folder in dataset.folders)
        raise DatasetError(f"no image files below {places} (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
    return found


def stored_name(name: str) -> str:
    """The name of a file in the manifest, which is UTF-8."""
    return name.encode(errors="backslashreplace").decode()


def count_images(folder: Folder) -> int:
    """Image files in a folder, before a subset is drawn.

    Raises
    ------
    DatasetError
        See `find_files`.
    """
    return sum(1 for _ in _files_of(folder))


def _report_surprises(surprises: list[str], *, strict: bool) -> None:
    if surprises and strict:
        raise DatasetError("\n".join([*surprises, "Complete the dataset, or build without --strict"]))
    for surprise in surprises:
        warnings.warn(f"{surprise}; the store is made of what is there", DatasetWarning, stacklevel=3)


def _files_of(folder: Folder) -> Iterator[tuple[str, ImagePath]]:
    prefix = f"{folder.name}/" if folder.name else ""
    if folder.files is None:
        relative_paths = _walk_objects(folder.path) if isinstance(folder.path, RemotePath) else _walk(folder.path)
    else:
        missing = [name for name in folder.files if not (folder.path / name).is_file()]
        if missing:
            names = one_line(", ".join(missing[:5]))
            raise DatasetError(f"{folder.path} lacks {len(missing)} listed files: {names}")
        relative_paths = iter(folder.files)
    for relative in relative_paths:
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
            if _is_image_name(name):
                relative = os.path.relpath(os.path.join(directory, name), root)  # noqa: PTH118
                yield relative.replace(os.sep, "/")


def _walk_objects(root: RemotePath) -> Iterator[str]:
    """The same below a prefix of an object store."""
    for relative in root.walk():
        *folders, name = relative.split("/")
        if _is_image_name(name) and not any(folder.startswith(".") for folder in folders):
            yield relative


def _is_image_name(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 - hot


def _raise(error: OSError) -> None:
    raise DatasetError(
        f"{one_line(str(error.filename))} cannot be listed ({error.strerror}); check its permissions"
    ) from error


def scan_sources(
    files: Sequence[tuple[str, ImagePath]],
    *,
    num_threads: int,
    max_pixels: int = MAX_PIXELS,
    hashed: bool = True,
    on_file: Callable[[int], None] | None = None,
) -> list[Source]:
    """Hash every file and read its header.

    Parameters
    ----------
    files : sequence of (name, path)
        From `find_files`.
    num_threads : int
        Files read at the same time.
    max_pixels : int
        Images that announce more are rejected.
    hashed : bool
        Whether files are read as a whole and hashed; else only their headers are read, and ``sha256`` stays empty.
    on_file : callable, optional
        Called with the number of files done so far.
    """
    sources = []
    with ThreadPoolExecutor(num_threads) as pool:
        for source in pool.map(lambda file: _scan(file, max_pixels, hashed=hashed), files):
            sources.append(source)
            if on_file is not None:
                on_file(len(sources))
    return sources


def _scan(file: tuple[str, ImagePath], max_pixels: int, *, hashed: bool) -> Source:
    name, path = file
    sha256, num_bytes, height, width, rejected, code = "", 0, None, None, None, None
    try:
        if hashed:
            content = read_file(path, name)
            sha256, num_bytes = hashlib.sha256(content).hexdigest(), len(content)
            height, width = image_size(content, name, max_pixels=max_pixels)
        else:
            height, width = file_image_size(path, name, max_pixels=max_pixels)
            num_bytes = path.num_bytes() if isinstance(path, RemotePath) else path.stat().st_size
        _refuse_bad_name(name)
    except SourceError as error:
        height, width, rejected, code = None, None, error.reason, error.reason_code
    return Source(
        name=stored_name(name),
        path=path,
        sha256=sha256,
        num_bytes=num_bytes,
        height=height,
        width=width,
        rejected=rejected,
        reason_code=code,
    )


def _refuse_bad_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:  # a manifest is UTF-8
        raise SourceError(name, "the file name is not valid UTF-8; rename it", "bad_name") from None


def sources_fingerprint(sources: Sequence[Source]) -> str:
    """SHA-256 over names and contents; where the files lie does not matter."""
    return fingerprint(sorted((source.name, *source.identity) for source in sources))
