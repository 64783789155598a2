"""Differences between neighbouring values of a graph, which compress better than the values; and the way back.

The K values of a graph lie on a square grid of search positions, and are smooth there. What the gradient predictor of
image compression (left + above - corner) leaves of them is small; see docs/decisions/0005-lz4-by-default.md for what it
saves. All sums are modulo 256, so that nothing is lost.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ssl_data.store import extension

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["differences", "restore"]


def differences(graphs: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What the gradient predictor leaves of each graph.

    Parameters
    ----------
    graphs : uint8 (n, K)
        K is a square number.

    Returns
    -------
    uint8 (n, K)
        ``q[y, x] - q[y, x-1] - q[y-1, x] + q[y-1, x-1]``, modulo 256; 0 stands for what lies outside.
    """
    grids = graphs.reshape(-1, _side(graphs), _side(graphs))
    down = grids.copy()
    down[:, 1:] -= grids[:, :-1]
    both = down.copy()
    both[:, :, 1:] -= down[:, :, :-1]
    return both.reshape(graphs.shape)


def restore(graphs: NDArray[np.uint8]) -> None:
    """Turn `differences` back into the graphs, in place.

    Parameters
    ----------
    graphs : uint8 (n, K)
        C-contiguous.

    Notes
    -----
    Running sums along both axes of the grid; compiled in one pass, without the extension by NumPy.
    """
    side = _side(graphs)
    if extension.is_compiled():
        extension.native.restore(graphs, side)
        return
    grids = graphs.reshape(-1, side, side)
    for place in range(1, side):
        grids[:, place] += grids[:, place - 1]
    for place in range(1, side):
        grids[:, :, place] += grids[:, :, place - 1]


def _side(graphs: NDArray[np.uint8]) -> int:
    side = math.isqrt(graphs.shape[1])
    if side**2 != graphs.shape[1]:
        raise ValueError(f"graphs must have a square number of values, got {graphs.shape[1]}")
    return side
