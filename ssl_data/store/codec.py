"""Compression of one chunk: standard Zarr v3 codecs, always with a checksum.

Blosc and plain Zstandard decode most flipped bytes without complaint, so Blosc chunks are followed by a CRC-32C and
Zstandard frames carry their own content checksum. Values of two bytes go through Blosc, which first puts all their
lower bytes together and all their upper ones. With LZ4, graph codes of one byte are cut into small blocks, of which a
crop needs some, and masks are packed to their bits (see `ssl_data.store.blosc`). With the preset "small", graph codes
of one byte are stored as `differences` (see `ssl_data.store.gradient`); Zarr knows nothing of that step, the array's
attributes describe it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, get_args

import google_crc32c
import numcodecs.blosc
import numpy as np
from numcodecs.blosc import AUTOBLOCKS, Blosc, decompress
from numcodecs.zstd import Zstd

from ssl_data.config import STORED_AS_DIFFERENCES, Compression
from ssl_data.errors import StoreCorruptError, StoreError
from ssl_data.store import extension
from ssl_data.store.blosc import decode_mask, decode_rows
from ssl_data.store.gradient import differences, restore
from ssl_data.store.graph_encoder import encode_graphs
from ssl_data.store.layout import EDGE_MASK, GT, SSG

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ChunkCodec", "chunk_codec", "codec_from_metadata", "crc32c"]

# With threads, Blosc puts the blocks of a frame in the order in which they are done, another one each time. The workers
# of a build and of a loader have a core each anyway. (Zarr sets the same.)
numcodecs.blosc.use_threads = False

_ZSTD_LEVELS: dict[Compression, int] = {"balanced": 1, "small": 12}
_BLOSC_ZSTD_LEVELS: dict[Compression, int] = {"balanced": 1, "small": 7}  # Zstandard's own levels 1 and 13
_LZ4_LEVEL = 9  # of Blosc: smaller than its default of 5 by 7 %, and read faster
_GRAPH_BLOCK_BYTES = 2500
"""Of the blocks of LZ4 that graphs are cut into: four graphs of 625; see docs/decisions/0015-blocks-of-graphs.md."""
_UNSPLIT_ITEM_BYTES = 20
"""The size of their items as Blosc is told it: above 16, and a divisor, or else it makes blocks of another size."""
_SHUFFLES = {Blosc.NOSHUFFLE: "noshuffle", Blosc.SHUFFLE: "shuffle", Blosc.BITSHUFFLE: "bitshuffle"}
_CRC_BYTES = 4


def crc32c(data: bytes | memoryview) -> bytes:
    """CRC-32C (RFC 3720) of some bytes, little-endian as in Zarr's ``crc32c`` codec."""
    array = np.frombuffer(data, dtype=np.uint8)
    checksum: int = extension.native.crc32c(array) if extension.has_crc32c() else google_crc32c.value(array)
    return checksum.to_bytes(_CRC_BYTES, "little")


class ChunkCodec(Protocol):
    """One chunk of values, of one or two bytes each, to bytes and back."""

    def encode(self, chunk: NDArray[Any]) -> bytes:
        """Compressed form of a C-contiguous chunk, checksum included; the same bytes for the same chunk."""
        ...

    def decode_into(
        self, encoded: bytes | memoryview, out: NDArray[Any], rows: NDArray[np.int32] | None = None
    ) -> None:
        """Fill the C-contiguous `out` with the chunk.

        Where `rows` is given, ascending, only these of its rows are wanted: the others may hold anything afterwards.

        Raises
        ------
        StoreCorruptError
            If the bytes are not what was written.
        """
        ...

    @property
    def part_bytes(self) -> int | None:
        """Size of the parts of which only those with wanted rows are decoded; None where that is all or nothing."""
        ...

    @property
    def is_frame(self) -> bool:
        """Whether a chunk is a Blosc frame of its values and a CRC-32C."""
        ...

    @property
    def metadata(self) -> list[dict[str, Any]]:
        """The Zarr v3 codecs after ``bytes``."""
        ...


@dataclass(frozen=True)
class _ZstdCodec:
    level: int

    def encode(self, chunk: NDArray[Any]) -> bytes:
        return bytes(Zstd(level=self.level, checksum=True).encode(chunk))

    def decode_into(
        self,
        encoded: bytes | memoryview,
        out: NDArray[Any],
        rows: NDArray[np.int32] | None = None,  # noqa: ARG002
    ) -> None:
        _check_out(_zstd_content_size(encoded), out)
        try:
            Zstd().decode(encoded, out.reshape(-1).view("uint8"))
        except (RuntimeError, ValueError) as error:
            raise StoreCorruptError(f"a Zstandard frame does not decode ({error})") from error

    @property
    def part_bytes(self) -> int | None:
        return None

    @property
    def is_frame(self) -> bool:
        return False

    @property
    def metadata(self) -> list[dict[str, Any]]:
        return [{"name": "zstd", "configuration": {"level": self.level, "checksum": True}}]


@dataclass(frozen=True)
class _BloscCodec:
    name: str
    level: int
    item_bytes: int
    shuffle: int = Blosc.NOSHUFFLE
    block_bytes: int = AUTOBLOCKS

    def encode(self, chunk: NDArray[Any]) -> bytes:
        # Blocks have a size of their own only where a crop may want some: they are of graphs.
        encoded = encode_graphs(chunk, self.block_bytes, self.item_bytes) if self.block_bytes else None
        if encoded is None:
            codec = Blosc(
                cname=self.name,
                clevel=self.level,
                shuffle=self.shuffle,
                blocksize=self.block_bytes,
                typesize=self.item_bytes,
            )
            encoded = bytes(codec.encode(chunk))
        return encoded + crc32c(encoded)

    def decode_into(
        self, encoded: bytes | memoryview, out: NDArray[Any], rows: NDArray[np.int32] | None = None
    ) -> None:
        view = memoryview(encoded)
        body, checksum = view[:-_CRC_BYTES], view[-_CRC_BYTES:]
        if len(view) <= _CRC_BYTES or crc32c(body) != checksum:
            raise StoreCorruptError("a chunk's CRC-32C does not match")
        _check_out(int.from_bytes(body[4:8], "little"), out)  # Blosc header: the size before compression
        try:
            if not self._decode_natively(body, out, rows):
                decompress(body, out.reshape(-1).view("uint8"))
        except (RuntimeError, ValueError) as error:
            raise StoreCorruptError(f"a Blosc frame does not decode ({error})") from error

    def _decode_natively(self, body: memoryview, out: NDArray[Any], rows: NDArray[np.int32] | None) -> bool:
        if self.shuffle == Blosc.BITSHUFFLE:
            return decode_mask(body, out)
        return rows is not None and len(rows) < len(out) and decode_rows(body, rows, out)

    @property
    def part_bytes(self) -> int | None:
        return self.block_bytes or None

    @property
    def is_frame(self) -> bool:
        return True

    @property
    def metadata(self) -> list[dict[str, Any]]:
        blosc = {
            "typesize": self.item_bytes,
            "cname": self.name,
            "clevel": self.level,
            "shuffle": _SHUFFLES[self.shuffle],
            "blocksize": self.block_bytes,
        }
        return [{"name": "blosc", "configuration": blosc}, {"name": "crc32c"}]


@dataclass(frozen=True)
class _DifferenceCodec:
    inner: ChunkCodec

    def encode(self, chunk: NDArray[Any]) -> bytes:
        return self.inner.encode(differences(chunk))

    def decode_into(
        self, encoded: bytes | memoryview, out: NDArray[Any], rows: NDArray[np.int32] | None = None
    ) -> None:
        self.inner.decode_into(encoded, out, rows)
        restore(out)

    @property
    def part_bytes(self) -> int | None:
        return self.inner.part_bytes

    @property
    def is_frame(self) -> bool:
        return False

    @property
    def metadata(self) -> list[dict[str, Any]]:
        return self.inner.metadata


def _zstd_content_size(frame: bytes | memoryview) -> int:
    """The decompressed size that a Zstandard frame announces (RFC 8878, section 3.1.1.1); -1 where it announces none.

    The decoder fills a larger buffer partly without complaint, so that the size must be compared beforehand.
    """
    if len(frame) < 5:
        return -1
    descriptor = frame[4]
    size_flag, single_segment = descriptor >> 6, descriptor >> 5 & 1
    num_bytes = (single_segment, 2, 4, 8)[size_flag]
    first = 5 + (1 - single_segment) + (0, 1, 2, 4)[descriptor & 3]
    if not num_bytes:
        return -1
    return int.from_bytes(frame[first : first + num_bytes], "little") + (256 if size_flag == 1 else 0)


def _check_out(num_bytes: int, out: NDArray[Any]) -> None:
    if not out.flags.c_contiguous:
        raise ValueError("out must be C-contiguous")
    if num_bytes != out.nbytes:
        raise StoreCorruptError(f"a chunk holds {num_bytes} bytes instead of {out.nbytes}")


def chunk_codec(compression: Compression, item_bytes: int = 1, *, array: str = GT) -> ChunkCodec:
    """The codec behind a compression preset, for an array of the store with values of one or two bytes."""
    if item_bytes > 1:
        name, level = ("lz4", _LZ4_LEVEL) if compression == "fast" else ("zstd", _BLOSC_ZSTD_LEVELS[compression])
        return _BloscCodec(name, level, item_bytes, shuffle=Blosc.SHUFFLE)
    if compression == "fast":
        if array == SSG:
            return _BloscCodec("lz4", _LZ4_LEVEL, _UNSPLIT_ITEM_BYTES, block_bytes=_GRAPH_BLOCK_BYTES)
        shuffle = Blosc.BITSHUFFLE if array == EDGE_MASK else Blosc.NOSHUFFLE
        return _BloscCodec("lz4", _LZ4_LEVEL, item_bytes, shuffle=shuffle)
    codec = _ZstdCodec(level=_ZSTD_LEVELS[compression])
    return _DifferenceCodec(codec) if array == SSG and compression in STORED_AS_DIFFERENCES else codec


def codec_from_metadata(codecs: list[dict[str, Any]], item_bytes: int = 1, *, array: str = GT) -> ChunkCodec:
    """The codec that reads chunks written with these Zarr v3 codecs (``bytes`` first).

    Raises
    ------
    StoreError
        If it is none of those this library writes.
    """
    to_bytes = {"name": "bytes"} if item_bytes == 1 else {"name": "bytes", "configuration": {"endian": "little"}}
    for compression in get_args(Compression):
        candidate = chunk_codec(compression, item_bytes, array=array)
        if codecs == [to_bytes, *candidate.metadata]:
            return candidate
    raise StoreError(f"unknown chunk codecs {codecs}: the store was written by another version or another program")
