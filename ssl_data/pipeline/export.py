"""Writing the masks of a store as single files, for programs that read those."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ssl_data.errors import DatasetError
from ssl_data.pipeline.masks import encode_mask
from ssl_data.store.layout import PATCHES_PATH
from ssl_data.store.manifest import PATCH_SCHEMA, read_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from ssl_data.pipeline.masks import MaskFormat
    from ssl_data.store.reader import Store

__all__ = ["export_masks"]


def export_masks(
    store: Store,
    folder: str | Path,
    *,
    form: MaskFormat = "png",
    by_folder: bool = False,
    on_mask: Callable[[int], None] | None = None,
) -> int:
    """Write the full edge mask of every patch, before edge_stride, under the authors' name of the patch.

    Parameters
    ----------
    folder : str or Path
        Does not exist yet, or is empty.
    form : {"png", "mat"}
        "png": 0 and 255. "mat": a variable ``mat`` of zeros and ones, which the authors' training code reads; needs
        SciPy.
    by_folder : bool
        Whether masks go into folders as the images do, in place of all into one.
    on_mask : callable, optional
        Called with the number of masks written so far.

    Returns
    -------
    int
        Masks written.

    Raises
    ------
    DatasetError
        If two patches have the same name, or the folder holds something. Nothing is written then.
    MissingDependencyError
        If SciPy is needed and not installed.
    """
    root = Path(folder)
    names = _names(store, by_folder=by_folder)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DatasetError(f"{root} exists and is not an empty folder; name another one for the masks")
    for index, name in enumerate(names):
        content = encode_mask(store.read_edge_mask(index), form)
        path = root / f"{name}.{form}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if on_mask is not None:
            on_mask(index + 1)
    return len(names)


def _names(store: Store, *, by_folder: bool) -> list[str]:
    """The authors' name of each patch of the store, with the image's folder in front if asked for."""
    table = read_table(store.source, PATCHES_PATH, PATCH_SCHEMA)
    patches = table.filter(table["filtered"].is_null()).to_pylist()
    names = [_name(patch, by_folder=by_folder) for patch in patches]
    counts = Counter(names)
    twice = [(name, patch["patch_id"]) for name, patch in zip(names, patches, strict=True) if counts[name] > 1]
    if twice:
        examples = ", ".join(patch_id for name, patch_id in twice if name == twice[0][0])
        remedy = (
            "rename the images" if by_folder else "--by-folder keeps the images' folders apart, or rename the images"
        )
        raise DatasetError(
            f"{len(twice)} patches of {store.url} share the authors' name with another ({twice[0][0]}: {examples}). "
            f"Their code tells patches apart by that name: {remedy}"
        )
    return names


def _name(patch: dict[str, Any], *, by_folder: bool) -> str:
    path = (
        PurePosixPath(patch["source"]).parent / patch["author_name"]
        if by_folder
        else PurePosixPath(patch["author_name"])
    )
    if path.is_absolute() or ".." in path.parts:
        raise DatasetError(f"the store names a patch {path}, which is outside of the folder of the masks")
    return str(path)
