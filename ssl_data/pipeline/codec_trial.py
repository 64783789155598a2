"""What a compression preset makes of some chunks: bytes, and the time of both ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from ssl_data.config import Compression
from ssl_data.pipeline.rates import StageTimer
from ssl_data.store.blocks import block_table
from ssl_data.store.codec import chunk_codec

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["COMPRESSIONS", "CodecTrial", "EncodedArray"]

COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)


@dataclass(frozen=True, kw_only=True)
class EncodedArray:
    """What one array of one patch becomes with one compression."""

    num_bytes: float
    encode_seconds: float
    decode_seconds: float


class CodecTrial:
    """Encodes and decodes chunks of an array with one compression."""

    def __init__(self, compression: Compression, *, array: str) -> None:
        self.compression = compression
        self._array = array
        self._timer = StageTimer()
        self._num_bytes = 0

    def run(self, chunk: NDArray[Any]) -> None:
        """Encode one chunk, and decode it."""
        codec = chunk_codec(self.compression, chunk.itemsize, array=self._array)
        with self._timer.stage("encode"):
            encoded = codec.encode(chunk)
            table = block_table(encoded, chunk.nbytes, codec.part_bytes)
        out = np.ones_like(chunk)  # touched: a loader has its memory already
        with self._timer.stage("decode"):
            codec.decode_into(encoded, out)
        self._num_bytes += len(encoded) + len(table)

    def result(self, times: float) -> EncodedArray:
        """For so many times the chunks tried."""
        return EncodedArray(
            num_bytes=times * self._num_bytes,
            encode_seconds=times * self._timer.seconds["encode"],
            decode_seconds=times * self._timer.seconds["decode"],
        )
