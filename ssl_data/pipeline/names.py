"""What patches are called: by us, so that all names differ, and by the authors' scripts, so that theirs are found."""

from __future__ import annotations

from pathlib import PurePosixPath

from ssl_data.geometry.scales import COPIES, ORIGINAL, ScaledSize

__all__ = ["author_name", "patch_id"]

_CUT_OUT = ("x2", "x3", "x4", "x8")
"""The authors' script removes these, meant as marks of low-quality images, wherever they stand in a file name."""


def patch_id(source: str, size: ScaledSize, corner: tuple[int, int]) -> str:
    """Our name, unique in a store: image, size where it is not the original one, row and column.

    Examples
    --------
    >>> patch_id("OST/fox4.png", ScaledSize(label="T0", height=657, width=900), (0, 256))
    'OST/fox4.png@T0:0,256'
    """
    scale = "" if size.label == ORIGINAL else f"@{size.label}"
    row, col = corner
    return f"{source}{scale}:{row},{col}"


def author_name(source: str, size: ScaledSize, number: int, *, is_whole: bool) -> str:
    """The authors' file name, without folder and suffix. Different images may get the same.

    Parameters
    ----------
    source : str
        Name of the image in the dataset.
    number : int
        Of the patch among those of this size of the image, from 1 row by row.
    is_whole : bool
        Whether the patch is the image as it lies on disk, which then is taken for one of the authors' sub-images.

    Examples
    --------
    >>> author_name("OST/fox4_shore.png", ScaledSize(label="T0", height=657, width=900), 2, is_whole=False)
    'fo_shoreT0_s002'
    """
    name = PurePosixPath(source).stem
    if is_whole:
        return name
    if size.label in COPIES:
        name += size.label
    for text in _CUT_OUT:
        name = name.replace(text, "")
    return f"{name}_s{number:03d}"
