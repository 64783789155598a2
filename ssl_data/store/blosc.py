"""Blosc frames that can be read faster than by numcodecs, which reads all others.

A frame is a list of blocks which are compressed independently of each other. Of a chunk of graphs, a crop needs some
rows: numcodecs has no way to decode only the blocks in which they lie. Of a mask, bit shuffling puts the lowest bits of
all bytes together, and then the other bits, which are zero: that is soon undone where it is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_data.store import extension

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["HEADER_BYTES", "WORD", "decode_mask", "decode_rows"]

HEADER_BYTES = 16
"""Of a frame; then follows, for each block, where it begins."""
WORD = np.dtype("<u4")
"""Type of all sizes and places in a frame."""


def decode_rows(frame: memoryview, rows: NDArray[np.int32], out: NDArray[Any]) -> bool:
    """Fill the wanted rows of a chunk.

    Parameters
    ----------
    frame : memoryview
        A Blosc 1 frame of the whole chunk, unaltered.
    rows : int32 (m,)
        The wanted rows, ascending.
    out : (n, ...)
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
    rows_of_bytes = out.reshape(len(out), -1).view(np.uint8)
    return extension.native.decode_rows(np.frombuffer(frame, dtype=np.uint8), rows, rows_of_bytes)


def decode_mask(frame: memoryview, out: NDArray[Any]) -> bool:
    """Fill a mask from its bits.

    Parameters
    ----------
    frame : memoryview
        A Blosc 1 frame of the whole chunk, unaltered.
    out : (any shape)
        C-contiguous, of one byte per value.

    Returns
    -------
    bool
        False where `out` is not filled, since the frame is none of LZ4 with bit shuffling, or of something else than
        zeros and ones, or this is not compiled.

    Raises
    ------
    RuntimeError
        If it is no frame of a chunk of this size.
    """
    if not extension.is_compiled():
        return False
    return extension.native.decode_mask(np.frombuffer(frame, dtype=np.uint8), out.reshape(-1).view(np.uint8))
