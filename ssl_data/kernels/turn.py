"""Images and graphs on their way from the store to a sample: flipped and transposed in one pass."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_data.kernels.extension import is_portable, native, use_native

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ssl_data.geometry.positions import Dihedral

__all__ = ["turn_graphs", "turned_columns", "unit_range"]


@cache
def turned_columns(turn: Dihedral, num_positions: int) -> NDArray[np.uint16] | None:
    """For each column of a turned graph, the column it comes from: uint16 (K,); None where they stay as they are."""
    if turn.is_identity:
        return None
    columns: NDArray[np.uint16] = turn.graphs(np.arange(num_positions, dtype=np.uint16)[None])[0]
    columns.setflags(write=False)  # all who ask get the same array
    return columns


def turn_graphs(
    graphs: NDArray[np.unsignedinteger[Any]],
    rows: NDArray[np.int32],
    out: NDArray[np.unsignedinteger[Any]],
    places: NDArray[np.int32],
    turn: Dihedral,
) -> None:
    """Put the graphs ``graphs[rows]``, turned, into the rows `places` of `out`.

    Parameters
    ----------
    graphs, out : uint8 or uint16 (n, K)
        Both of one type, C-contiguous; other rows of `out` stay as they are.
    rows, places : int32 (m,)
        Where each graph lies, and where it goes.
    turn : Dihedral
        What has been done to the image.

    Notes
    -----
    The same as ``out[places] = turn.graphs(graphs[rows])``, which is what happens without the compiled extension or
    with the environment variable ``SSL_DATA_BACKEND`` at "numpy"; in one pass where it is compiled.
    """
    if not use_native():
        out[places] = turn.graphs(graphs[rows])
        return
    columns = turned_columns(turn, out.shape[1])
    native.turn_graphs(graphs, rows, places, columns, out, is_portable())


def unit_range(image: NDArray[np.uint8], turn: Dihedral, out: NDArray[np.float32]) -> None:
    """Put an image, turned, into `out`, with intensities in [0, 1].

    Parameters
    ----------
    image : uint8 (H, W, 3)
    turn : Dihedral
    out : float32 (3, H, W), or (3, W, H) if transposed
        C-contiguous. Exactly ``image / 255`` in float32.
    """
    if not use_native():
        np.divide(turn.image(image).transpose(2, 0, 1), np.float32(255), out=out)
        return
    native.unit_range(image, turn.hflip, turn.vflip, turn.transpose, out, is_portable())
