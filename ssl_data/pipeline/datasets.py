"""What `--dataset` means: a name that ships with the package, a dataset file, or a directory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from ssl_data.config import PatchSpec
from ssl_data.errors import ConfigError, DatasetError

__all__ = ["ROOT_VARIABLE", "Dataset", "Folder", "list_datasets", "load_dataset"]

ROOT_VARIABLE = "SSL_DATA_ROOT"
DIRECTORY = "directory"
"""Name of the dataset of a plain directory: where images lie must not show in the bytes of a store."""
_FIELDS = {"name", "title", "home", "licence", "patch", "folders"}
_FOLDER_FIELDS = {"name", "path", "package", "files"}


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder of images."""

    name: str
    """Prefix of the names of its images within the dataset; empty for a plain directory."""
    path: Path
    files: tuple[str, ...] | None = None
    """Only these, by path relative to the folder; everything where None."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A named set of folders, with its usual way of being cut."""

    name: str
    folders: tuple[Folder, ...]
    patch: PatchSpec
    title: str = ""
    home: str = ""
    licence: str = ""


def list_datasets() -> list[str]:
    """Names of the datasets that ship with the package."""
    folder = resources.files("ssl_data.manifests") / "datasets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_dataset(dataset: str, root: str | None = None) -> Dataset:
    """Resolve what the user named.

    Parameters
    ----------
    dataset : str
        A name from `list_datasets`, the path of a ``.yaml`` file, or a directory.
    root : str, optional
        Folder to which relative folders of a dataset refer; the environment variable ``SSL_DATA_ROOT``, else the folder
        of the dataset file, else the current one.

    Raises
    ------
    DatasetError
        If nothing of that name exists, the file has mistakes (all are listed), or a folder is missing.
    """
    path = Path(dataset)
    base = Path(root or os.environ.get(ROOT_VARIABLE) or ".")
    if dataset in list_datasets():
        text = (resources.files("ssl_data.manifests") / "datasets" / f"{dataset}.yaml").read_text(encoding="utf-8")
        return _parse(text, dataset, base)
    if path.suffix in {".yaml", ".yml"} and path.is_file():
        own_base = base if root or os.environ.get(ROOT_VARIABLE) else path.parent
        return _parse(path.read_text(encoding="utf-8"), dataset, own_base)
    if path.is_dir():
        return Dataset(name=DIRECTORY, folders=(Folder(name="", path=path),), patch=PatchSpec())
    known = ", ".join(list_datasets())
    raise DatasetError(f"--dataset {dataset}: neither a directory, nor a .yaml file, nor one of the datasets: {known}")


def _parse(text: str, where: str, base: Path) -> Dataset:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DatasetError(f"{where} is not YAML: {error}") from error
    problems: list[str] = []
    if not isinstance(values, dict) or not isinstance(values.get("folders"), list) or not values["folders"]:
        raise DatasetError(f"{where}: a dataset file is a mapping with a non-empty list 'folders'")
    unknown = sorted(map(str, set(values) - _FIELDS))
    if unknown:
        problems.append(f"unknown field {', '.join(unknown)}; known: {', '.join(sorted(_FIELDS))}")
    patch = PatchSpec()
    try:
        patch = PatchSpec.from_dict(values.get("patch") or {})
    except (ConfigError, TypeError) as error:
        problems.append(f"patch: {error}")
    folders = [_parse_folder(entry, number, base, problems) for number, entry in enumerate(values["folders"], 1)]
    names = [folder.name for folder in folders]
    problems += [f"folder name {name!r} is used twice" for name in sorted(set(names)) if names.count(name) > 1]
    if problems:
        raise DatasetError(f"{where}:\n  " + "\n  ".join(problems))
    texts = {key: str(values.get(key, "")) for key in ("title", "home", "licence")}
    return Dataset(name=str(values.get("name", Path(where).stem)), folders=tuple(folders), patch=patch, **texts)


def _parse_folder(entry: Any, number: int, base: Path, problems: list[str]) -> Folder:  # noqa: ANN401 - from YAML
    label = f"folders[{number}]"
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        problems.append(f"{label} must be a mapping with a 'path'")
        return Folder(name=label, path=base)
    unknown = sorted(map(str, set(entry) - _FOLDER_FIELDS))
    if unknown:
        problems.append(f"{label}: unknown field {', '.join(unknown)}; known: {', '.join(sorted(_FOLDER_FIELDS))}")
    package = entry.get("package")
    location = base if package is None else _package_folder(str(package), label, problems)
    path = location / entry["path"]
    if not path.is_dir():
        problems.append(f"{label}: {path} is not a folder; say where the datasets lie with --root or {ROOT_VARIABLE}")
    files = entry.get("files")
    if files is not None and not isinstance(files, list):
        problems.append(f"{label}: 'files' must be a list of names, got {files!r}")
        files = None
    return Folder(
        name=str(entry.get("name", path.name)),
        path=path,
        files=None if files is None else tuple(sorted(map(str, files))),
    )


def _package_folder(package: str, label: str, problems: list[str]) -> Path:
    """The folder of an installed package, without importing it."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):  # not the name of a package at all
        spec = None
    if spec is None or not spec.submodule_search_locations:
        problems.append(f"{label}: the Python package {package} is not installed: pip install 'ssl_data[sample]'")
        return Path()
    return Path(next(iter(spec.submodule_search_locations)))
