"""The least that reading samples can cost: their bytes with `os.preadv`, decoded with numcodecs, and nothing else.

The bound of the benchmark of loading. It repeats exactly the reads that the dataset makes, into the same two buffers,
without checksums, tensors or Python between them. Chunks are read and decoded whole: numcodecs cannot decode parts of
them. The dataset does so as well while its reads are traced, and reads some blocks otherwise.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd

from ssl_data.store.local import LocalFile
from ssl_data.store.shard import Gather, ShardReader, runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["BareLoop", "Read", "traced_reads"]

_CRC_BYTES = 4


@dataclass(frozen=True)
class Read:
    """A run of chunks that the dataset reads at once."""

    path: Path
    chunks: range
    decoded: tuple[bool, ...]
    """Which of them it decodes."""
    chunk_bytes: int
    """Of one chunk, decoded."""


@contextlib.contextmanager
def traced_reads() -> Iterator[list[Read]]:
    """The reads of chunks made inside, as they happen; chunks are read whole."""
    reads: list[Read] = []
    original = ShardReader.decode

    def decode(
        reader: ShardReader,
        chunks: range,
        outs: Sequence[NDArray[Any] | None],
        rows: Any = None,  # noqa: ANN401
    ) -> Iterator[int]:
        wanted = [out for out in outs if out is not None]
        if wanted:
            decoded = tuple(out is not None for out in outs)
            reads.append(Read(Path(reader.path), chunks, decoded, wanted[0].nbytes))
        return original(reader, chunks, outs, rows)

    ShardReader.decode = decode  # type: ignore[method-assign, assignment]
    shortcuts = {name: getattr(ShardReader, name) for name in ("prepare_gather", "read_tiles", "read_bits")}
    ShardReader.prepare_gather = lambda *_, **__: Gather()  # type: ignore[method-assign]
    ShardReader.read_tiles = lambda *_: False  # type: ignore[method-assign]
    ShardReader.read_bits = lambda *_: False  # type: ignore[method-assign]
    try:
        yield reads
    finally:
        ShardReader.decode = original  # type: ignore[method-assign]
        for name, method in shortcuts.items():
            setattr(ShardReader, name, method)


@dataclass(frozen=True)
class _Step:
    descriptor: int
    offset: int
    num_bytes: int
    parts: list[tuple[int, int]]
    """Where the chunks to be decoded begin and end in what has been read."""
    chunk_bytes: int


class BareLoop:
    """Repeats reads; call it to do all of them once.

    Parameters
    ----------
    reads : sequence of Read
    compression : str
        Of the store.
    """

    def __init__(self, reads: Sequence[Read], compression: str) -> None:
        self._codec = Blosc() if compression == "fast" else Zstd()
        self._checksum_bytes = _CRC_BYTES if compression == "fast" else 0
        self._files: dict[Path, tuple[int, NDArray[np.uint64]]] = {}
        self._steps = [step for read in reads for step in self._steps_of(read)]
        self._encoded = memoryview(bytearray(max(step.num_bytes for step in self._steps)))
        self._decoded = np.empty(max(step.chunk_bytes for step in self._steps), dtype=np.uint8)
        self.num_bytes = sum(step.num_bytes for step in self._steps)
        """Bytes read."""

    def _steps_of(self, read: Read) -> Iterator[_Step]:
        descriptor, index = self._open(read.path)
        places = index[read.chunks.start : read.chunks.stop].tolist()
        for run in runs([num_bytes for _, num_bytes in places], LocalFile.most_bytes):
            first = places[run.start][0]
            parts = [
                (places[place][0] - first, sum(places[place]) - first - self._checksum_bytes)
                for place in run
                if read.decoded[place]
            ]
            yield _Step(descriptor, first, sum(places[run[-1]]) - first, parts, read.chunk_bytes)

    def _open(self, path: Path) -> tuple[int, NDArray[np.uint64]]:
        """An open shard and its index, which is found from behind: chunks, then (offset, size) of each, then a CRC."""
        if path not in self._files:
            num_chunks = _chunks_per_shard(path)
            with path.open("rb") as file:
                file.seek(-(16 * num_chunks + _CRC_BYTES), os.SEEK_END)
                index = np.frombuffer(file.read(16 * num_chunks), dtype="<u8").reshape(num_chunks, 2)
            self._files[path] = os.open(path, os.O_RDONLY), index
        return self._files[path]

    def __call__(self) -> None:
        """Do all reads once."""
        for step in self._steps:
            os.preadv(step.descriptor, [self._encoded[: step.num_bytes]], step.offset)
            out = self._decoded[: step.chunk_bytes]
            for start, stop in step.parts:
                self._codec.decode(self._encoded[start:stop], out)

    def close(self) -> None:
        """Close the files."""
        for descriptor, _ in self._files.values():
            os.close(descriptor)


def _chunks_per_shard(path: Path) -> int:
    array = zarr.open_array(next(parent for parent in path.parents if (parent / "zarr.json").exists()), mode="r")
    shards = array.shards or array.chunks
    return int(np.prod([shard // chunk for shard, chunk in zip(shards, array.chunks, strict=True)]))
