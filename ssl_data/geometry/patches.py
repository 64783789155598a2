"""Where the patches of an image lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ssl_data.config import PatchSpec

__all__ = ["covered_pixels", "grid_positions", "patch_grid"]


def grid_positions(length: int, spec: PatchSpec) -> list[int]:
    """First pixels of the patches along one axis.

    Patches start at 0, step, 2 step, ... as long as they fit. What happens to the pixels behind the last of them is the
    choice of `PatchSpec.edge_patches`:

    * "flush": if they are more than `tail_threshold`, one more patch is laid flush with the far side (the rule of the
      authors' sub-image script). It may be a copy of its neighbour, shifted by as little as a pixel.
    * "drop": they are in no patch.
    * "min-overlap": the patches are spread evenly from side to side, as many as come closest to `step`. Neighbours are
      more than half a step apart; a single patch lies in the middle.

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
    >>> from ssl_data.config import PatchSpec
    >>> [grid_positions(1201, PatchSpec(edge_patches=rule)) for rule in ("flush", "drop", "min-overlap")]
    [[0, 256, 512, 689], [0, 256, 512], [0, 229, 459, 689]]
    >>> [grid_positions(769, PatchSpec(edge_patches=rule)) for rule in ("flush", "drop", "min-overlap")]
    [[0, 256, 257], [0, 256], [0, 257]]
    >>> grid_positions(511, PatchSpec())
    []
    """
    room = length - spec.patch_size
    if room < 0:
        return []
    if spec.edge_patches == "min-overlap":
        intervals = (2 * room + spec.step - 1) // (2 * spec.step)  # room / step, rounded, half down
        return [index * room // intervals for index in range(intervals + 1)] if intervals else [room // 2]
    positions = list(range(0, room + 1, spec.step))
    if spec.edge_patches == "flush" and room - positions[-1] > spec.tail_threshold:
        positions.append(room)
    return positions


def patch_grid(height: int, width: int, spec: PatchSpec) -> NDArray[np.int32]:
    """Top left corners of all patches of an image: int32 (P, 2) row, col in row-major order."""
    rows, cols = grid_positions(height, spec), grid_positions(width, spec)
    corners = np.array([(row, col) for row in rows for col in cols], dtype=np.int32)
    return corners.reshape(-1, 2)


def covered_pixels(corners: NDArray[np.int32], patch_size: int) -> int:
    """Pixels that lie in at least one patch of a grid.

    Parameters
    ----------
    corners : int32 (P, 2)
        From `patch_grid`.

    Examples
    --------
    >>> from ssl_data.config import PatchSpec
    >>> covered_pixels(patch_grid(100, 70, PatchSpec(patch_size=64, step=32, edge_patches="drop")), 64)
    6144
    """

    def covered(positions: NDArray[np.int32]) -> int:
        return int(np.minimum(np.diff(np.unique(positions)), patch_size).sum()) + patch_size

    return covered(corners[:, 0]) * covered(corners[:, 1]) if len(corners) else 0
