"""Dataset files: which folders make up a dataset, where they may lie, and how its images are cut.

A dataset file is YAML; docs/datasets.md describes every field. Reading one looks at no folder: that is for
`ssl_data.pipeline.datasets`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from ssl_data.config import MultiscaleSpec, PatchSpec
from ssl_data.errors import ConfigError, DatasetError
from ssl_data.store.layout import stays_inside

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DatasetDescription", "FolderDescription", "Subset", "list_datasets", "parse_description", "read_bundled"]

_Spec = TypeVar("_Spec", PatchSpec, MultiscaleSpec)

_TEXTS = ("title", "home", "licence", "obtain")


@dataclass(frozen=True, kw_only=True)
class Subset:
    """Some images of a folder, drawn by their names."""

    num_images: int
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class FolderDescription:
    """One folder of a dataset, and where people have it."""

    name: str
    """Prefix of the names of its images within the dataset; empty for a plain directory."""
    paths: tuple[str, ...]
    """Where it may lie, relative to the root; the first that exists is taken."""
    package: str | None = None
    """A Python package that holds the folder, in place of the root."""
    files: tuple[str, ...] | None = None
    """Only these files, by path relative to the folder; all images where None."""
    expected_images: int | None = None
    """How many images the complete folder has."""
    subset: Subset | None = None
    """How many of them are used; all where None."""
    home: str = ""
    """Where it comes from."""
    licence: str = ""
    """What one may do with it."""
    obtain: str = ""
    """How to get it."""

    @property
    def num_images(self) -> int | None:
        """Images that the complete dataset uses of this folder; None where unknown."""
        if self.files is not None:
            return len(self.files)
        if self.subset is None or self.expected_images is None:
            return self.expected_images
        return min(self.subset.num_images, self.expected_images)


@dataclass(frozen=True, kw_only=True)
class DatasetDescription:
    """What a dataset file says."""

    name: str
    folders: tuple[FolderDescription, ...]
    """Its own folders, besides those of `includes`."""
    patch: PatchSpec = field(default_factory=PatchSpec)
    multiscale: MultiscaleSpec = field(default_factory=MultiscaleSpec)
    includes: tuple[DatasetDescription, ...] = ()
    """Bundled datasets that are part of it."""
    merged: FolderDescription | None = None
    """One folder with all of its images, which many people make; used where the parts are not all there."""
    title: str = ""
    home: str = ""
    licence: str = ""
    obtain: str = ""

    @property
    def parts(self) -> tuple[FolderDescription, ...]:
        """Its folders, those of `includes` first."""
        return tuple(part for include in self.includes for part in include.parts) + self.folders

    @property
    def folder_names(self) -> list[str]:
        """Names of all folders that may be used, merged ones among them."""
        merged = [] if self.merged is None else [self.merged.name]
        included = [name for include in self.includes for name in include.folder_names]
        return included + [folder.name for folder in self.folders] + merged

    @property
    def num_images(self) -> int | None:
        """Images of the complete dataset; None where unknown."""
        numbers = [part.num_images for part in self.parts]
        return None if None in numbers else sum(number for number in numbers if number is not None)


def list_datasets() -> list[str]:
    """Names of the datasets that ship with the package."""
    folder = resources.files("ssl_data.manifests") / "datasets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_bundled(name: str) -> DatasetDescription:
    """The dataset of that name among `list_datasets`."""
    text = (resources.files("ssl_data.manifests") / "datasets" / f"{name}.yaml").read_text(encoding="utf-8")
    return parse_description(text, name)


def parse_description(text: str, where: str) -> DatasetDescription:
    """The dataset in a YAML text.

    Parameters
    ----------
    where : str
        What error messages call it; its stem is the name of a dataset that gives none.

    Raises
    ------
    DatasetError
        If the text has mistakes; all of them are listed.
    """
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DatasetError(f"{where} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise DatasetError(f"{where}: a dataset file is a mapping with a list 'folders' or 'includes'")
    fields = _Fields(values, "")
    texts = {name: fields.take(name, _is_text, "be a non-empty text", "") for name in _TEXTS}
    name = fields.take("name", _is_text, "be a non-empty text", Path(where).stem)
    patch = fields.take_spec("patch", PatchSpec)
    multiscale = fields.take_spec("multiscale", MultiscaleSpec)
    entries = fields.take("folders", _is_list, "be a non-empty list", [])
    included = fields.take("includes", _is_texts, "be a non-empty list of names of bundled datasets", [])
    merged_entry = fields.take("merged", _is_mapping, "be a mapping", None)
    problems = fields.finish()
    merged = None
    if merged_entry is not None:
        merged = next(iter(_parse_folder({"name": name, **merged_entry}, "merged", texts, problems)), None)
    known = list_datasets()
    problems += [f"includes: there is no dataset {n!r}; known: {', '.join(known)}" for n in included if n not in known]
    folders: list[FolderDescription] = []
    for number, entry in enumerate(entries, 1):
        folders += _parse_folder(entry, f"folders[{number}]", texts, problems)
    description = DatasetDescription(
        name=name,
        folders=tuple(folders),
        patch=patch,
        multiscale=multiscale,
        includes=tuple(read_bundled(include) for include in included if include in known),
        merged=merged,
        **texts,
    )
    used = Counter(description.folder_names)
    problems += [f"folder name {folder!r} is used twice" for folder in sorted(used) if used[folder] > 1]
    if not entries and not included and not problems:
        problems.append("a dataset file needs 'folders' or 'includes'")
    if problems:
        raise DatasetError(f"{where}:\n  " + "\n  ".join(problems))
    return description


def _parse_folder(
    entry: Any,  # noqa: ANN401 - from YAML
    label: str,
    texts: dict[str, str],
    problems: list[str],
) -> list[FolderDescription]:
    """The folder, or none where the entry has mistakes; these are added to `problems`."""
    if not isinstance(entry, dict):
        problems.append(f"{label} must be a mapping with a 'path', got {entry!r}")
        return []
    fields = _Fields(entry, label + ".")
    path = fields.take("path", _is_text, "be a non-empty text", None)
    paths = fields.take("paths", _is_texts, "be a non-empty list of texts", [path] if path else [])
    package = fields.take("package", _is_text, "be a non-empty text", None)
    files = fields.take("files", _are_inside, "be a non-empty list of paths that stay in the folder", None)
    expected = fields.take("expected_images", _is_count, "be an integer >= 1", None)
    subset = _parse_subset(fields.take("subset", _is_mapping, "be a mapping", None), f"{label}.subset", problems)
    own_texts = {name: fields.take(name, _is_text, "be a non-empty text", texts[name]) for name in _TEXTS[1:]}
    name = fields.take("name", _is_text, "be a non-empty text", Path(paths[0]).name if len(paths) == 1 else "")
    mistakes = fields.finish()
    if not mistakes and ("path" in entry) == ("paths" in entry):
        mistakes.append(f"{label} must have either a 'path' or a list 'paths'")
    elif not mistakes and not name:
        mistakes.append(f"{label} must have a 'name', because it has several 'paths'")
    problems += mistakes
    if mistakes:
        return []
    return [
        FolderDescription(
            name=name,
            paths=tuple(paths),
            package=package,
            files=None if files is None else tuple(sorted(files)),
            expected_images=expected,
            subset=subset,
            **own_texts,
        )
    ]


def _parse_subset(values: dict[Any, Any] | None, label: str, problems: list[str]) -> Subset | None:
    if values is None:
        return None
    fields = _Fields(values, label + ".")
    num_images = fields.take("num_images", _is_count, "be an integer >= 1", None)
    seed = fields.take("seed", _is_seed, "be an integer >= 0", 0)
    mistakes = fields.finish()
    if not mistakes and num_images is None:
        mistakes.append(f"{label}.num_images is missing")
    problems += mistakes
    return None if mistakes else Subset(num_images=num_images, seed=seed)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_list(value: object) -> bool:
    return isinstance(value, list) and bool(value)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


def _are_inside(value: object) -> bool:
    return isinstance(value, list) and _is_texts(value) and all(map(stays_inside, value))


def _is_mapping(value: object) -> bool:
    return isinstance(value, dict)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 1


def _is_seed(value: object) -> bool:
    return type(value) is int and value >= 0


class _Fields:
    """Takes fields out of a mapping one by one and remembers what is wrong with them."""

    def __init__(self, values: dict[Any, Any], prefix: str) -> None:
        self._values = values
        self._prefix = prefix
        self._known: list[str] = []
        self._problems: list[str] = []

    def take(self, name: str, holds: Callable[[Any], bool], rule: str, default: Any) -> Any:  # noqa: ANN401 - from YAML
        """The value of a field; the default where it is absent or breaks its rule."""
        self._known.append(name)
        if name not in self._values:
            return default
        value = self._values[name]
        if holds(value):
            return value
        self._problems.append(f"{self._prefix}{name} must {rule}, got {value!r}")
        return default

    def take_spec(self, name: str, kind: type[_Spec]) -> _Spec:
        """The spec in a field; the default one where it is absent or has mistakes."""
        try:
            return kind.from_dict(self.take(name, _is_mapping, f"be a mapping with fields of {kind.__name__}", {}))
        except (ConfigError, TypeError) as error:
            self._problems.append(f"{self._prefix}{name}: {error}")
            return kind()

    def finish(self) -> list[str]:
        """All problems, those of unknown fields among them."""
        unknown = [str(name) for name in self._values if name not in self._known]
        if unknown:
            self._problems.append(
                f"{self._prefix}{', '.join(unknown)}: unknown; known are {', '.join(sorted(self._known))}"
            )
        return self._problems
