"""One shard file of Zarr's ``sharding_indexed`` codec: chunks end to end, then an index, then the index's checksum.

The index holds (offset, size) as little-endian uint64 for every chunk in row-major order; both are 2^64 - 1 for a chunk
that was never written. Chunks are written here in index order, so that neighbours can be read in one request. Where
chunks are cut into blocks, their block tables lie between the last chunk and the index (see `ssl_data.store.blocks`).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ssl_data.errors import StoreCorruptError
from ssl_data.store import extension
from ssl_data.store.blocks import block_table, table_bytes
from ssl_data.store.codec import crc32c
from ssl_data.store.scratch import borrow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ssl_data.store.codec import ChunkCodec
    from ssl_data.store.source import ByteFile

__all__ = ["Gather", "ShardReader", "ShardWriter", "gather_all", "index_bytes", "runs"]

_MISSING = np.uint64(2**64 - 1)
_INDEX_DTYPE = np.dtype("<u8")
_CHECKSUM_BYTES = 4
_OTHER = "other"
"""What compiled code says of a chunk that it leaves to the library, e.g. one that was compressed in another way."""


def index_bytes(num_chunks: int) -> int:
    """Size of a shard file without its chunks."""
    return num_chunks * 2 * _INDEX_DTYPE.itemsize + _CHECKSUM_BYTES


class ShardWriter:
    """Writes the chunks of one shard, in ascending order, into an open file.

    Parameters
    ----------
    file : binary file
        Empty, writable.
    num_chunks : int
        Chunks of the shard, written or not.
    codec : ChunkCodec
    """

    def __init__(self, file: BinaryIO, num_chunks: int, codec: ChunkCodec) -> None:
        self._file = file
        self._codec = codec
        self._index = np.full((num_chunks, 2), _MISSING, dtype=_INDEX_DTYPE)
        self._tables: list[bytes] = []
        self._sha256 = hashlib.sha256()
        self._next_chunk = 0
        self.num_bytes = 0

    def write(self, chunk: int, values: NDArray[Any]) -> None:
        """Append chunk number `chunk`, which must be greater than all before it."""
        if chunk < self._next_chunk:
            raise ValueError(f"chunks must be written in ascending order: {chunk} after {self._next_chunk - 1}")
        encoded = self._codec.encode(values)
        self._index[chunk] = self.num_bytes, len(encoded)
        self._next_chunk = chunk + 1
        self._append(encoded)
        self._tables.append(block_table(encoded, values.nbytes, self._codec.part_bytes))

    def finish(self) -> str:
        """Append block tables and index; return the SHA-256 (hexadecimal) of the whole file."""
        index = self._index.tobytes()
        self._append(b"".join(self._tables) + index + crc32c(index))
        return self._sha256.hexdigest()

    def _append(self, content: bytes) -> None:
        self._file.write(content)
        self._sha256.update(content)
        self.num_bytes += len(content)


def runs(num_bytes: Sequence[int], most_bytes: int) -> Iterator[range]:
    """Neighbours by their number, put together while they have no more than `most_bytes` bytes; one alone may have."""
    begin, total = 0, 0
    for place, size in enumerate(num_bytes):
        if place > begin and total + size > most_bytes:
            yield range(begin, place)
            begin, total = place, 0
        total += size
    yield range(begin, len(num_bytes))


class ShardReader:
    """Reads chunks of one shard file; the index is read and checked once.

    Parameters
    ----------
    file : ByteFile
        Open; may be shared by forked processes, as this object may.
    num_chunks : int
    codec : ChunkCodec
    chunk_bytes : int
        Size of a chunk before compression.

    Raises
    ------
    StoreCorruptError
        If the file is missing, too short, or its index altered.
    """

    def __init__(self, file: ByteFile, num_chunks: int, codec: ChunkCodec, chunk_bytes: int) -> None:
        self.path = file.name
        self._file = file
        self._codec = codec
        self._chunk_bytes = chunk_bytes
        self._table_bytes = table_bytes(chunk_bytes, codec.part_bytes)
        self._num_chunks = num_chunks
        self._index: NDArray[np.uint64] | None = self._read_index()

    @property
    def _index_bytes(self) -> int:
        return self._num_chunks * 2 * _INDEX_DTYPE.itemsize

    def _read_index(self) -> NDArray[np.uint64]:
        num_bytes = self._index_bytes
        start = self._file.num_bytes - num_bytes - _CHECKSUM_BYTES
        tail = self._file.read(start, num_bytes + _CHECKSUM_BYTES) if start >= 0 else b""
        if not tail or crc32c(tail[:num_bytes]) != tail[num_bytes:]:
            self._forget_index()
            raise StoreCorruptError(f"{self.path} is truncated or its index was altered; run `ssl-data verify`")
        index = np.frombuffer(bytes(tail[:num_bytes]), dtype=_INDEX_DTYPE).reshape(self._num_chunks, 2)
        is_written = index[:, 0] != _MISSING
        self._first_missing = len(index) if is_written.all() else int(np.argmin(is_written))
        written = index[is_written]
        # Of the chunks that are written, the how manieth each is, and with it its table.
        self._ranks: NDArray[np.int32] = np.cumsum(is_written, dtype=np.int32) - np.int32(1)
        self._first_table = start - len(written) * self._table_bytes
        if len(written) and max(written.max(), written.sum(axis=1).max()) > self._first_table:  # sums may wrap around
            self._forget_index()
            raise StoreCorruptError(f"the index of {self.path} points outside the file; run `ssl-data verify`")
        return index

    def _forget_index(self) -> None:
        """It is wrong: read it anew when it is needed next, past any cache."""
        self._index = None
        num_bytes = self._index_bytes + _CHECKSUM_BYTES
        self._file.forget(max(self._file.num_bytes - num_bytes, 0), num_bytes)

    def _places(self, chunks: range) -> NDArray[np.uint64]:
        """Offset and size of some chunks which follow each other: uint64 (n, 2)."""
        places = self._entries(chunks)
        missing = self._missing(chunks, places)
        if len(missing):
            self._forget_index()
            chunk = chunks[int(missing[0])]
            raise StoreCorruptError(f"chunk {chunk} of {self.path} was never written; run `ssl-data verify`")
        return places

    def _entries(self, chunks: range) -> NDArray[np.uint64]:
        """The same, though some of them may be missing."""
        if self._index is None:
            self._index = self._read_index()
        return self._index[chunks.start : chunks.stop]

    def _missing(self, chunks: range, entries: NDArray[np.uint64]) -> Sequence[int] | NDArray[np.intp]:
        """Which of some chunks were never written."""
        return np.flatnonzero(entries[:, 0] == _MISSING) if chunks.stop > self._first_missing else ()

    @property
    def descriptor(self) -> int | None:
        """What compiled code reads from; None where this is no local file, or there is no such code on this machine."""
        return self._file.descriptor if extension.has_crc32c() else None

    def _faulty(self, chunk: int, fault: object) -> StoreCorruptError:
        return StoreCorruptError(f"chunk {chunk} of {self.path}: {fault}; run `ssl-data verify`")

    def is_filled(self, chunks: range, place: int, trouble: str, error: int) -> bool:
        """What compiled code says of some chunks, as `gather_all` and `read_tiles` say it."""
        if error:
            raise OSError(error, os.strerror(error), str(self.path))
        if trouble == _OTHER:
            return False
        if trouble:
            raise self._faulty(chunks[place], trouble)
        return True

    def decode(
        self,
        chunks: range,
        outs: Sequence[NDArray[Any] | None],
        rows: Sequence[NDArray[np.int32] | None] | None = None,
    ) -> Iterator[int]:
        """Decode a run of chunks into the arrays `outs`, one after the other, with as few reads as the file likes.

        Parameters
        ----------
        chunks : range
            Numbers of the chunks.
        outs : sequence
            An array for each chunk; None for one that is not wanted. An array may serve several chunks.
        rows : sequence, optional
            For each chunk the rows that are wanted of it, ascending, or None for all. Others may hold anything
            afterwards.

        Yields
        ------
        int
            The place in `outs` of each array as it has been filled.

        Raises
        ------
        StoreCorruptError
            Naming file and chunk, if a chunk was never written or does not decode.
        """
        if not chunks:
            return
        places = self._places(chunks).tolist()
        for run in runs([num_bytes for _, num_bytes in places], self._file.most_bytes):
            first = min(places[place][0] for place in run)
            with borrow(max(sum(places[place]) for place in run) - first) as buffer:
                content = buffer.data
                self._file.read_into(first, content)
                for place in run:
                    out, (offset, num_bytes) = outs[place], places[place]
                    if out is None:
                        continue
                    encoded = content[offset - first : offset - first + num_bytes]
                    try:
                        self._codec.decode_into(encoded, out, None if rows is None else rows[place])
                    except StoreCorruptError as error:
                        self._file.forget(offset, num_bytes)
                        raise self._faulty(chunks[place], error) from error
                    yield place

    def read(self, chunks: range, outs: Sequence[NDArray[Any]]) -> None:
        """The same at once, for all of them."""
        for _ in self.decode(chunks, outs):
            pass

    def prepare_gather(
        self,
        chunks: range,
        rows: NDArray[np.int32],
        out: NDArray[Any],
        places: NDArray[np.int32],
        columns: NDArray[np.uint16] | None,
        *,
        shift: int = 0,
    ) -> Gather:
        """Prepare to fill ``out[places]`` with ``chunks[rows][:, columns]``, reading only the blocks of the rows.

        Parameters
        ----------
        chunks : range
            A run of chunks, with rows of as many bytes as `out`.
        rows, places : int32 (m,)
            Rows, strictly ascending, counted from the first of the chunks, less `shift`; where each goes.
        out : (N, K)
            C-contiguous; other rows stay as they are. Values of two bytes are left to `decode`.
        columns : uint16 (K,), optional
            For each column of `out`, the column it comes from; as they are where not given.

        Returns
        -------
        Gather
            Keeps the file open. Cannot be carried out where this is no local file, a chunk is not cut into blocks, or
            there is no compiled code for them on this machine.

        Raises
        ------
        StoreCorruptError
            Here or later, naming file and chunk, if a chunk was never written or does not decode.
        """
        block_bytes = self._codec.part_bytes
        if self.descriptor is None or block_bytes is None or not self._table_bytes:
            return Gather()
        entries = self._places(chunks)
        tables = self._first_table + int(self._ranks[chunks.start]) * self._table_bytes
        request = extension.native.GatherRequest(
            entries, tables, self._chunk_bytes // out.shape[1], block_bytes, shift, rows, places, columns, out
        )
        return Gather(self, chunks, request)

    def read_tiles(self, image: int, per_row: int, corner: tuple[int, int], side: int, out: NDArray[np.uint8]) -> bool:
        """Fill `out` with a rectangle of an image whose tiles are chunks, in one call.

        Parameters
        ----------
        image : int
            The image's first chunk.
        per_row : int
            Tiles side by side.
        corner : (row, col)
            Of the rectangle, which lies in the image.
        side : int
            Of a tile.
        out : uint8 (H, W, C)
            C-contiguous.

        Returns
        -------
        bool
            False where `out` is not filled, since this is no local file, tiles are missing or compressed in another
            way, or there is no compiled code for them on this machine.

        Raises
        ------
        StoreCorruptError
            Naming file and chunk, if a chunk does not decode.
        """
        descriptor = self.descriptor
        if descriptor is None or not self._codec.is_frame:
            return False
        top, left = corner
        first = top // side * per_row + left // side
        last = (top + out.shape[0] - 1) // side * per_row + (left + out.shape[1] - 1) // side
        chunks = range(image + first, image + last + 1)
        places = self._entries(chunks)
        if len(self._missing(chunks, places)):
            return False  # the longer way finds out whether one of them is needed
        return self.is_filled(
            chunks, *extension.native.read_tiles(descriptor, places, first, per_row, side, top, left, out)
        )

    def read_bits(self, chunk: int, out: NDArray[np.uint8]) -> bool:
        """Fill `out`, C-contiguous, with a chunk of zeros and ones, eight to a byte, the first in the lowest bit.

        Returns
        -------
        bool
            False where `out` is not filled, as with `read_tiles`.

        Raises
        ------
        StoreCorruptError
            Naming file and chunk, if the chunk does not decode.
        """
        descriptor, chunks = self.descriptor, range(chunk, chunk + 1)
        if descriptor is None or not self._codec.is_frame:
            return False
        return self.is_filled(chunks, *extension.native.read_bits(descriptor, self._places(chunks), out))

    def close(self) -> None:
        """Close the file; reading afterwards fails."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class Gather:
    """A prepared reading of rows; see `ShardReader.prepare_gather`. By default one that cannot be carried out."""

    reader: ShardReader | None = None
    chunks: range = range(0)
    request: extension.native.GatherRequest | None = None
    is_done: bool = False
    """Without a request: whether nothing is to be done."""

    def __call__(self) -> bool:
        """Carry it out, see `gather_all`."""
        return gather_all([self])[0]


def gather_all(gathers: Sequence[Gather]) -> list[bool]:
    """Carry out some readings, one after the other, with nothing between them.

    Returns
    -------
    list of bool
        For each, whether it could be carried out. The chunks of the others are to be decoded.

    Raises
    ------
    StoreCorruptError
        Naming file and chunk, for the first chunk that does not decode.
    OSError
        Naming the file, if the system cannot read it, or if it has been closed.
    """
    done = [gather.is_done for gather in gathers]
    waiting = [
        (number, gather.reader, gather.chunks, gather.request)
        for number, gather in enumerate(gathers)
        if gather.reader is not None and gather.request is not None
    ]
    while waiting:
        # The descriptors of now, which are -1 for files that have been closed since.
        descriptors = [reader.descriptor for _, reader, _, _ in waiting]
        files = [-1 if descriptor is None else descriptor for descriptor in descriptors]
        count, report = extension.native.gather(files, [request for *_, request in waiting])
        for number, *_ in waiting[:count]:
            done[number] = True
        for number, reader, chunks, _ in waiting[count : count + 1]:
            done[number] = reader.is_filled(chunks, *report)
        waiting = waiting[count + 1 :]
    return done
