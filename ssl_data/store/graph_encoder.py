"""Compressing graphs so that they decode fast: LZ4 blocks in a Blosc frame, as any reader of Blosc reads them.

What repeats in graphs lies at few distances. For each of these the longest match is known at every byte; the longest of
all is taken, unless the next byte starts one that is longer by two, and none of less than six bytes. What that is
compared with is told in docs/decisions/0017-encoding-graphs.md. Compiled code makes the same bytes in a hundredth of
the time.

LZ4 blocks: https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md; frames:
https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from ssl_data.store import extension
from ssl_data.store.blosc import HEADER_BYTES, WORD

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["encode_graphs"]

_SHORTEST = 6
_SHORTEST_ENCODED = 4
"""What a length of 0 in the block stands for."""
_LAST_LITERALS, _LAST_START = 5, 12
"""A block ends with five literal bytes, and no match starts after its twelfth byte from the end."""
_MOST_DISTANCE = 0xFFFF
_LONG, _MORE = 15, 255
_BEGINNING = bytes([2, 1, 0x30])
"""Versions of frame and LZ4, and flags: LZ4, blocks that are not split by the bytes of an item."""


def encode_graphs(chunk: NDArray[np.uint8], block_bytes: int, item_bytes: int) -> bytes | None:
    """Compress graphs so that they are decoded fast.

    Parameters
    ----------
    chunk : uint8 (n, K)
        Codes of graphs, C-contiguous.
    block_bytes : int
        Size of the blocks of the frame.
    item_bytes : int
        Size of the items, as the frame gives it; more than 16.

    Returns
    -------
    bytes, optional
        A Blosc 1 frame of LZ4, of about the size that numcodecs makes of the chunk at its highest level. None where it
        were no smaller than the chunk.
    """
    if extension.is_compiled():
        return extension.native.encode_graphs(chunk, block_bytes, item_bytes)
    return _encode_graphs_numpy(chunk, block_bytes, item_bytes)


def _encode_graphs_numpy(chunk: NDArray[np.uint8], block_bytes: int, item_bytes: int) -> bytes | None:
    content = chunk.reshape(-1)
    block_bytes = min(block_bytes, len(content))
    lengths, distances = _longest_matches(content, chunk.shape[1], block_bytes)
    blocks = []
    for begin in range(0, len(content), block_bytes):
        span = slice(begin, begin + block_bytes)
        block = content[span].tobytes()
        encoded = _encode_block(block, lengths[span].tolist(), distances[span].tolist())
        blocks.append(encoded if len(encoded) < len(block) else block)
    sizes = [WORD.itemsize + len(block) for block in blocks]
    *starts, end = accumulate(sizes, initial=HEADER_BYTES + WORD.itemsize * len(blocks))
    if end >= HEADER_BYTES + len(content):
        return None
    words = np.array([len(content), block_bytes, end, *starts], dtype=WORD)
    body = b"".join(len(block).to_bytes(WORD.itemsize, "little") + block for block in blocks)
    return _BEGINNING + bytes([item_bytes]) + words.tobytes() + body


def _distances(row_bytes: int, block_bytes: int) -> list[int]:
    """Those at which graphs of so many values, which are square, repeat themselves, the most frequent first."""
    above, before = math.isqrt(row_bytes), row_bytes
    near = [above, before, above + 1, above - 1, before - 1, 2 * above, 2 * above + 1]
    near += [before - above, before + above, before + 1, 1]
    return [distance for distance in dict.fromkeys(near) if 0 < distance < block_bytes and distance <= _MOST_DISTANCE]


def _longest_matches(
    content: NDArray[np.uint8], row_bytes: int, block_bytes: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """For each byte, the length and distance of the longest match that starts there; length 0 where none may start."""
    places, size = np.arange(len(content), dtype=np.int32), np.int32(len(content))
    in_block = places % np.int32(block_bytes)
    left = np.minimum(np.int32(block_bytes), size - (places - in_block)) - in_block  # bytes of the block from here on
    lengths, distances = np.zeros_like(places), np.zeros_like(places)
    for distance in _distances(row_bytes, block_bytes):
        is_equal = (in_block >= distance) & (left > _LAST_LITERALS)
        is_equal[distance:] &= content[distance:] == content[:-distance]
        next_other = np.minimum.accumulate(np.where(is_equal, size, places)[::-1])[::-1]
        found = next_other - places
        is_longer = found > lengths
        np.copyto(lengths, found, where=is_longer)
        np.copyto(distances, np.int32(distance), where=is_longer)
    lengths[(lengths < _SHORTEST) | (left < _LAST_START)] = 0
    return lengths, distances


def _encode_block(block: bytes, lengths: list[int], distances: list[int]) -> bytes:
    encoded, begin, place = bytearray(), 0, 0
    while place < len(block):
        if not lengths[place]:
            place += 1
            continue
        while lengths[place + 1] > lengths[place] + 1:
            place += 1
        length = lengths[place] - _SHORTEST_ENCODED
        encoded += _literals(block[begin:place], length)
        encoded += distances[place].to_bytes(2, "little") + _rest(length)
        begin = place = place + lengths[place]
    return bytes(encoded + _literals(block[begin:], 0))


def _literals(literals: bytes, match: int) -> bytes:
    """A token, which says how long the literals and the match behind them are, and the literals."""
    token = min(len(literals), _LONG) << 4 | min(match, _LONG)
    return bytes([token]) + _rest(len(literals)) + literals


def _rest(length: int) -> bytes:
    """What of a length does not fit into its half of the token."""
    if length < _LONG:
        return b""
    full, last = divmod(length - _LONG, _MORE)
    return bytes([_MORE] * full + [last])
