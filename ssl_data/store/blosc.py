"""Parts of a Blosc frame: the rows of a chunk that a crop needs, without decoding what lies between them.

A frame is a list of blocks which are compressed independently of each other. Numcodecs writes and reads whole frames,
but has no way to decode some blocks only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_data.store import extension

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["decode_rows"]


def decode_rows(frame: memoryview, rows: NDArray[np.int32], out: NDArray[Any]) -> bool:
    """Fill the wanted rows of a chunk.

    Parameters
    ----------
    frame : memoryview
        A Blosc 1 frame of the whole chunk, unaltered.
    rows : int32 (m,)
        The wanted rows, ascending.
    out : (n, columns)
        C-contiguous. Rows that are not wanted may hold anything afterwards.

    Returns
    -------
    bool
        False where nothing was done, since the frame is none of LZ4 without shuffling, or this is not compiled.

    Raises
    ------
    RuntimeError
        If it is no frame of a chunk of this size.
    """
    if not extension.is_compiled():
        return False
    return extension.native.decode_rows(np.frombuffer(frame, dtype=np.uint8), rows, out.view(np.uint8))
