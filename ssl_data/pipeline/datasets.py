"""What `--dataset` means: a name that ships with the package, a dataset file, or a directory; and where it lies."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ssl_data.config import MultiscaleSpec, PatchSpec
from ssl_data.errors import DatasetError
from ssl_data.pipeline.descriptions import (
    DatasetDescription,
    FolderDescription,
    Subset,
    list_datasets,
    parse_description,
    read_bundled,
)
from ssl_data.pipeline.remote_path import RemotePath, image_path, join_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ssl_data.pipeline.remote_path import ImagePath

__all__ = [
    "ROOT_VARIABLE",
    "Dataset",
    "DatasetWarning",
    "Folder",
    "candidate_folders",
    "describe_dataset",
    "draw_subset",
    "list_datasets",
    "load_dataset",
    "locate_folders",
    "root_folder",
]

ROOT_VARIABLE = "SSL_DATA_ROOT"
DIRECTORY = "directory"
"""Name of the dataset of a plain directory: where images lie must not show in the bytes of a store."""


class DatasetWarning(UserWarning):
    """A folder of a dataset does not hold what its description says."""


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder of images."""

    name: str
    """Prefix of the names of its images within the dataset; empty for a plain directory."""
    path: ImagePath
    files: tuple[str, ...] | None = None
    """Only these, by path relative to the folder; everything where None."""
    expected_images: int | None = None
    """How many images there should be, before `subset`."""
    subset: Subset | None = None
    """How many of them are used; all where None."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A named set of folders, with its usual way of being cut."""

    name: str
    folders: tuple[Folder, ...]
    patch: PatchSpec
    multiscale: MultiscaleSpec = field(default_factory=MultiscaleSpec)


def describe_dataset(dataset: str) -> DatasetDescription:
    """What the user named, whether or not its folders are there.

    Parameters
    ----------
    dataset : str
        A name from `list_datasets`, the path of a ``.yaml`` file, or a directory.

    Raises
    ------
    DatasetError
        If nothing of that name exists, or the file has mistakes; all of them are listed.
    """
    if dataset in list_datasets():
        return read_bundled(dataset)
    path = image_path(dataset)
    if isinstance(path, Path) and _is_dataset_file(path):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise DatasetError(f"{dataset} is not a text in UTF-8: {error}") from error
        return parse_description(text, dataset)
    if path.is_dir():
        return DatasetDescription(name=DIRECTORY, folders=(FolderDescription(name="", paths=(str(path.absolute()),)),))
    if isinstance(path, RemotePath):
        raise DatasetError(f"--dataset {dataset}: there are no objects below it")
    known = ", ".join(list_datasets())
    raise DatasetError(f"--dataset {dataset}: neither a directory, nor a .yaml file, nor one of the datasets: {known}")


def _is_dataset_file(path: Path) -> bool:
    return path.suffix in {".yaml", ".yml"} and path.is_file()


def root_folder(dataset: str, root: str | None = None) -> ImagePath:
    """The folder to which relative paths refer: `root`, else ``SSL_DATA_ROOT``, else the dataset file's, else here."""
    given = root or os.environ.get(ROOT_VARIABLE)
    if given:
        return image_path(given)
    return Path(dataset).parent if "://" not in dataset and _is_dataset_file(Path(dataset)) else Path()


def load_dataset(dataset: str, root: str | None = None) -> Dataset:
    """Resolve what the user named to folders.

    Parameters
    ----------
    dataset : str
        A name from `list_datasets`, the path of a ``.yaml`` file, or a directory.
    root : str, optional
        See `root_folder`.

    Raises
    ------
    DatasetError
        If nothing of that name exists, the file has mistakes (all are listed), or a folder is missing.
    """
    description = describe_dataset(dataset)
    base = root_folder(dataset, root)
    missing = _explain_missing(description, base)
    if missing:
        raise DatasetError(f"{dataset} is not there completely:\n" + "\n".join(missing))
    located = locate_folders(description, base)
    return Dataset(
        name=description.name,
        folders=tuple(folder for folder in located.values() if folder is not None),
        patch=description.patch,
        multiscale=description.multiscale,
    )


def locate_folders(description: DatasetDescription, base: ImagePath) -> dict[FolderDescription, Folder | None]:
    """The parts of the dataset to be used and the folders that hold them, None where one is missing.

    These are the dataset's parts, or the one folder of all of them where a part is missing but that one is there.
    """
    parts: dict[FolderDescription, Folder | None] = {}
    for include in description.includes:
        parts |= locate_folders(include, base)
    parts |= {part: _locate(part, base) for part in description.folders}
    merged = description.merged
    if None in parts.values() and merged is not None and (folder := _locate(merged, base)) is not None:
        return {merged: folder}
    return parts


def candidate_folders(folder: FolderDescription, base: ImagePath) -> list[ImagePath]:
    """Where a folder may lie; none where it is in a package that is not installed."""
    location = base if folder.package is None else _package_folder(folder.package)
    return [] if location is None else [join_path(location, path) for path in folder.paths]


def _locate(part: FolderDescription, base: ImagePath) -> Folder | None:
    """The folder at the first place that exists, or None."""
    path = next((path for path in candidate_folders(part, base) if path.is_dir()), None)
    if path is None:
        return None
    return Folder(name=part.name, path=path, files=part.files, expected_images=part.expected_images, subset=part.subset)


def _explain_missing(description: DatasetDescription, base: ImagePath) -> list[str]:
    """Lines that say what was looked for, where, and how to get it; none where all is there."""
    if None not in locate_folders(description, base).values():
        return []
    lines = [line for include in description.includes for line in _explain_missing(include, base)]
    for part in description.folders:
        if _locate(part, base) is None:
            lines += _explain_missing_folder(part, base)
    if description.merged is not None:
        lines += [f"  or all of {description.name} in one of:"]
        lines += [f"    {path}" for path in candidate_folders(description.merged, base)]
    return lines


def _explain_missing_folder(part: FolderDescription, base: ImagePath) -> list[str]:
    candidates = candidate_folders(part, base)
    if not candidates:
        return [f"  {part.name}: the Python package {part.package} is not installed: pip install 'ssl_data[sample]'"]
    lines = [f"  {part.name}: none of these is a folder; say where the datasets lie with --root or {ROOT_VARIABLE}"]
    lines += [f"    {path}" for path in candidates]
    return lines + [f"    {label}: {text}" for label, text in (("get it", part.obtain), ("home", part.home)) if text]


def _package_folder(package: str) -> Path | None:
    """The folder of an installed package, without importing it."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):  # not the name of a package at all
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def draw_subset(names: Iterable[str], subset: Subset | None) -> list[str]:
    """The chosen names, sorted: those with the smallest SHA-256 of seed and file name without folder and suffix.

    Which images are chosen therefore depends neither on folders within the dataset, nor on other images, nor on the
    version of a random generator.
    """
    if subset is None:
        return sorted(names)

    def ticket(name: str) -> tuple[bytes, str]:
        return hashlib.sha256(f"{subset.seed}/{PurePosixPath(name).stem}".encode()).digest(), name

    return sorted(sorted(names, key=ticket)[: subset.num_images])
