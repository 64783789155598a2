"""Size and speed of chunk codecs on the graph codes of real photographs, one thread, checksum included.

The presets of `StoreSpec.compression` are measured as the store uses them; LZ4 and Zstandard at other levels stand
beside them. Ratios refer to the default preset. An entry is one of the 625 values of a graph, one byte uncompressed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numcodecs import blosc
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd
from PIL import Image

import ssl_data
from ssl_data.benchmarks.common import benchmark_parser, medians, photographs, print_report
from ssl_data.config import StoreSpec
from ssl_data.store.codec import chunk_codec, crc32c

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ssl_data.config import Compression

_PRESETS: tuple[Compression, ...] = ("fast", "balanced", "small")
_ROUNDS = 5
_CHUNKS = 24
"""Chunks measured, drawn evenly from all images."""


class Codec(Protocol):
    """What is compared."""

    def encode(self, chunk: NDArray[Any]) -> bytes:
        """Compress one chunk."""
        ...

    def decode_into(self, encoded: bytes, out: NDArray[Any]) -> None:
        """Decompress one chunk."""
        ...


class Lz4WithChecksum:
    """LZ4 or LZ4-HC in Blosc, followed by a CRC-32C that is checked when decoding."""

    def __init__(self, name: str, level: int, shuffle: int = Blosc.NOSHUFFLE) -> None:
        self._blosc = Blosc(cname=name, clevel=level, shuffle=shuffle)

    def encode(self, chunk: NDArray[Any]) -> bytes:
        """Compress one chunk."""
        encoded = bytes(self._blosc.encode(chunk))
        return encoded + crc32c(encoded)

    def decode_into(self, encoded: bytes, out: NDArray[Any]) -> None:
        """Decompress one chunk."""
        body = memoryview(encoded)[:-4]
        if crc32c(body) != encoded[-4:]:
            raise ValueError("checksum")
        self._blosc.decode(body, out.reshape(-1).view("uint8"))


class ZstdWithChecksum:
    """A Zstandard frame with its own content checksum."""

    def __init__(self, level: int) -> None:
        self._zstd = Zstd(level=level, checksum=True)

    def encode(self, chunk: NDArray[Any]) -> bytes:
        """Compress one chunk."""
        return bytes(self._zstd.encode(chunk))

    def decode_into(self, encoded: bytes, out: NDArray[Any]) -> None:
        """Decompress one chunk."""
        self._zstd.decode(encoded, out.reshape(-1).view("uint8"))


def candidates(*, tiny: bool) -> dict[str, Codec]:
    """All codecs by name; only the quick ones for `tiny`."""
    found: dict[str, Codec] = {
        f"preset {preset}": chunk_codec(preset) for preset in _PRESETS if preset != "small" or not tiny
    }
    found |= {f"lz4 {level}": Lz4WithChecksum("lz4", level) for level in (1, 5, 9)}
    if not tiny:
        found |= {f"lz4hc {level}": Lz4WithChecksum("lz4hc", level) for level in (1, 5, 9)}
        found["lz4 9, bit shuffle"] = Lz4WithChecksum("lz4", 9, Blosc.BITSHUFFLE)
    found |= {f"zstd {level}": ZstdWithChecksum(level) for level in ((1,) if tiny else (1, 3, 5, 9, 12, 19))}
    return found


def real_chunks(paths: Sequence[Path], num_chunks: int) -> list[NDArray[np.uint8]]:
    """Full chunks of graph codes, as many from each image as from any other as far as they go."""
    chunk_rows = StoreSpec().chunk_rows
    per_image = -(-num_chunks // len(paths))
    chunks = [chunk for path in paths for chunk in _chunks_of(path, chunk_rows, per_image)]
    if not chunks:
        raise SystemExit(f"no image has {chunk_rows} edge pixels")
    return chunks[:num_chunks]


def _chunks_of(path: Path, chunk_rows: int, num_chunks: int) -> Iterator[NDArray[np.uint8]]:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    edges = ssl_data.edge_pixels(ssl_data.edge_mask(pixels))
    available = len(edges) // chunk_rows
    for index in np.unique(np.linspace(0, max(available - 1, 0), min(num_chunks, available)).astype(int)):
        rows = edges[index * chunk_rows : (index + 1) * chunk_rows]
        yield ssl_data.self_similarity_graph(pixels, rows, output="codes")


class Trial:
    """A codec and the chunks it works on."""

    def __init__(self, name: str, codec: Codec, chunks: Sequence[NDArray[np.uint8]]) -> None:
        self.name, self._codec, self._chunks = name, codec, chunks
        self._encoded = [codec.encode(chunk) for chunk in chunks]
        self._out = np.empty_like(chunks[0])
        for chunk, content in zip(chunks, self._encoded, strict=True):
            codec.decode_into(content, self._out)
            if not np.array_equal(self._out, chunk):
                raise SystemExit(f"{name} does not give back what it was given")

    @property
    def num_bytes(self) -> int:
        """Of all chunks, encoded."""
        return sum(map(len, self._encoded))

    def encode(self) -> None:
        """Encode all chunks."""
        for chunk in self._chunks:
            self._codec.encode(chunk)

    def decode(self) -> None:
        """Decode all chunks."""
        for content in self._encoded:
            self._codec.decode_into(content, self._out)


def measure(codecs: dict[str, Codec], chunks: Sequence[NDArray[np.uint8]], rounds: int) -> list[dict[str, Any]]:
    """Bytes and nanoseconds per entry of all codecs, measured in turn."""
    trials = [Trial(name, codec, chunks) for name, codec in codecs.items()]
    timed = {f"{trial.name} encode": trial.encode for trial in trials}
    timed |= {f"{trial.name} decode": trial.decode for trial in trials}
    seconds = medians(timed, rounds=rounds, warm_up=False, clock=time.process_time)
    entries = sum(chunk.size for chunk in chunks)
    return [
        {
            "codec": trial.name,
            "bytes/entry": trial.num_bytes / entries,
            "encode ns/entry": seconds[f"{trial.name} encode"] / entries * 1e9,
            "decode ns/entry": seconds[f"{trial.name} decode"] / entries * 1e9,
        }
        for trial in trials
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all codecs and print one table."""
    options = benchmark_parser("codec", __doc__).parse_args(arguments)
    rounds = options.rounds or (1 if options.tiny else _ROUNDS)
    paths = photographs(options.images)[: 1 if options.tiny else None]
    blosc.use_threads = False
    chunks = real_chunks(paths, 2 if options.tiny else _CHUNKS)
    rows = measure(candidates(tiny=options.tiny), chunks, rounds)
    usual = next(row for row in rows if row["codec"] == f"preset {StoreSpec().compression}")
    for row in rows:
        for name, ratio in (("bytes", "size ratio"), ("encode ns", "encode ratio"), ("decode ns", "decode ratio")):
            row[ratio] = row[f"{name}/entry"] / usual[f"{name}/entry"]
    report = {
        "title": f"Chunk codecs on {len(chunks)} chunks of {len(chunks[0])} graphs; images: {len(paths)}; "
        f"processor time of one thread, medians of {rounds}",
        "tables": {"codecs": rows},
    }
    print_report(report, as_json=options.json)


if __name__ == "__main__":
    main()
