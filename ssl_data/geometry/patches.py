"""Where the patches of an image lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ssl_data.config import PatchSpec

__all__ = ["enlarged_size", "grid_positions", "patch_grid"]


def enlarged_size(height: int, width: int, shortest_side: int) -> tuple[int, int]:
    """Height and width of an image after enlarging it until its shortest side has a size; as they are, if it has.

    Examples
    --------
    >>> enlarged_size(300, 450, 512)
    (512, 768)
    >>> enlarged_size(600, 450, 128)
    (600, 450)
    """
    shortest = min(height, width)
    if shortest >= shortest_side:
        return height, width
    rounded = ((2 * side * shortest_side + shortest) // (2 * shortest) for side in (height, width))
    return next(rounded), next(rounded)


def grid_positions(length: int, *, patch_size: int, step: int, tail_threshold: int) -> list[int]:
    """First pixels of the patches along one axis.

    Patches start at 0, step, 2 step, ... as long as they fit. If more than `tail_threshold` pixels remain behind the
    last of them, one more is laid flush with the far side (the rule of the authors' sub-image script).

    Parameters
    ----------
    length : int
        Size of the image along the axis, in pixels.

    Returns
    -------
    list of int
        Ascending; empty where the image is smaller than a patch.

    Examples
    --------
    >>> grid_positions(1201, patch_size=512, step=256, tail_threshold=0)
    [0, 256, 512, 689]
    >>> grid_positions(511, patch_size=512, step=256, tail_threshold=0)
    []
    """
    if length < patch_size:
        return []
    last = (length - patch_size) // step * step
    positions = list(range(0, last + 1, step))
    if length - patch_size - last > tail_threshold:
        positions.append(length - patch_size)
    return positions


def patch_grid(height: int, width: int, spec: PatchSpec) -> NDArray[np.int32]:
    """Top left corners of all patches of an image: int32 (P, 2) row, col in row-major order."""
    rows, cols = (
        grid_positions(side, patch_size=spec.patch_size, step=spec.step, tail_threshold=spec.tail_threshold)
        for side in (height, width)
    )
    corners = np.array([(row, col) for row in rows for col in cols], dtype=np.int32)
    return corners.reshape(-1, 2)
