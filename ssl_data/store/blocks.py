"""Block tables: where the blocks of a chunk lie, and their checksums, so that some can be read without the rest.

A crop wants some rows of a chunk of graphs. The chunk's own checksum covers all of it: whoever wants to trust a part of
the chunk must read the whole. So behind the chunks of a shard lies a table for each, with a checksum for every block of
the Blosc frame; FORMAT.md describes it. Zarr readers pass the tables by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import google_crc32c
import numpy as np

from ssl_data.store import extension
from ssl_data.store.blosc import HEADER_BYTES, WORD

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["block_table", "table_bytes"]

_CRC_BYTES = 4
_STORED = 2
"""Flag of a Blosc frame that is not compressed at all."""


def table_bytes(chunk_bytes: int, block_bytes: int | None) -> int:
    """Size of the table of a chunk; 0 where chunks have none: they are not cut into blocks, or smaller than one.

    Parameters
    ----------
    chunk_bytes : int
        Size of a chunk before compression.
    block_bytes : int, optional
        See `ssl_data.store.codec.ChunkCodec.part_bytes`.
    """
    if block_bytes is None or chunk_bytes < block_bytes:
        return 0
    return 2 * WORD.itemsize * -(-chunk_bytes // block_bytes) + _CRC_BYTES


def block_table(encoded: bytes, chunk_bytes: int, block_bytes: int | None) -> bytes:
    """The table of a chunk.

    Parameters
    ----------
    encoded : bytes
        As `ChunkCodec.encode` made it: a Blosc frame and its checksum, where there are blocks.
    chunk_bytes, block_bytes : int
        See `table_bytes`.

    Returns
    -------
    bytes
        Nothing where chunks have no table. Little-endian uint32: for each block, where in the chunk it ends, and the
        CRC-32C of what lies between there and the end of the one before; then the CRC-32C of all that. Ends and
        checksums are 0 where Blosc has stored the chunk as it is.
    """
    if block_bytes is None or not table_bytes(chunk_bytes, block_bytes):
        return b""
    frame = np.frombuffer(encoded, dtype=np.uint8)[:-_CRC_BYTES]
    if extension.has_crc32c():
        return extension.native.block_table(frame, block_bytes)
    return _block_table_numpy(frame, block_bytes)


def _block_table_numpy(frame: NDArray[np.uint8], block_bytes: int) -> bytes:
    num_bytes = int(frame[4:8].view(WORD)[0])
    table = np.zeros((-(-num_bytes // block_bytes), 2), dtype=WORD)
    if not frame[2] & _STORED:
        first = HEADER_BYTES + WORD.itemsize * len(table)
        starts = frame[HEADER_BYTES:first].view(WORD)
        table[:, 0] = [*starts[1:], len(frame)]
        if starts[0] != first or (table[:, 0] <= starts).any():
            raise ValueError("the blocks of a frame must be in order")
        for entry, start in zip(table, starts.tolist(), strict=True):
            entry[1] = google_crc32c.value(frame[start : entry[0]])
    own: int = google_crc32c.value(table.view(np.uint8).reshape(-1))
    return table.tobytes() + own.to_bytes(_CRC_BYTES, "little")
