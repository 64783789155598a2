"""Size and speed of chunk codecs on the graph codes of real photographs, one thread, checksum included.

From each photograph come up to 8192 neighbouring graphs; photographs count alike, however many edge pixels they have.
The presets of `StoreSpec.compression` are measured as the store uses them; other codecs stand beside them. An entry is
one of the 625 values of a graph. "times smaller" compares with graphs in float32, "of computing" with what computing
the codes takes in the same run: a store whose entries take longer to read is of no use.

Rows with a predictor subtract from each value, before Zstandard, what its neighbours in the 25 x 25 search grid
suggest: "gradient" left + above - corner, as the store does it with the preset "small", "MED" the median of that, left
and above (as in JPEG-LS), whose times are NumPy's. "12 bits" are codes of the quantization "sqrt12".

The last table is about LZ4 in blocks of several sizes, and what a crop gains by them that is a quarter as wide as its
patch: it needs 15 neighbouring graphs of 61.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd
from PIL import Image

from ssl_data.benchmarks.common import benchmark_parser, medians, photographs, print_report
from ssl_data.config import Quantization, SSGSpec
from ssl_data.kernels.codes import graph_codes
from ssl_data.kernels.edges import edge_mask, edge_pixels
from ssl_data.store import extension
from ssl_data.store.blosc import decode_rows
from ssl_data.store.codec import chunk_codec, crc32c
from ssl_data.store.gradient import differences, restore
from ssl_data.store.layout import SSG

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ssl_data.config import Compression
    from ssl_data.store.codec import ChunkCodec

_PRESETS: tuple[Compression, ...] = ("fast", "balanced", "small")
_SPEC = SSGSpec()
_ROUNDS = 3
_ROWS = 8192
"""Graphs of one photograph."""
_TINY_ROWS = 1024
_SPEEDS = (100, 500, 2000, 7000)
"""Of a disk or network, in MB/s."""
_LARGE_CHUNK = 8192
_BLOCKS = (0, 1, 2, 4, 8, 16, 64)
"""Graphs in a block of LZ4; 0: what Blosc chooses."""
_RUN, _PERIOD = 15, 61
"""Graphs that a crop needs, of those of a row of the patch."""
_FLOAT32_BYTES = 4


class Codec(Protocol):
    """What is compared."""

    def encode(self, chunk: NDArray[Any]) -> bytes:
        """Compress one chunk."""
        ...

    def decode_into(self, encoded: bytes, out: NDArray[Any]) -> None:
        """Decompress one chunk."""
        ...


class BloscWithChecksum:
    """A codec in Blosc, followed by a CRC-32C that is checked when decoding."""

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


class BlockedBlosc(BloscWithChecksum):
    """LZ4 in blocks of some graphs, of which those with wanted rows may be decoded alone."""

    def __init__(self, num_graphs: int) -> None:
        block_bytes = num_graphs * _SPEC.num_positions
        self._blosc = Blosc(cname="lz4", clevel=9, shuffle=Blosc.NOSHUFFLE, blocksize=block_bytes, typesize=25)

    def decode_into(self, encoded: bytes, out: NDArray[Any], rows: NDArray[np.int32] | None = None) -> None:
        """Decompress one chunk, or some rows of it."""
        if rows is None:
            super().decode_into(encoded, out)
            return
        body = memoryview(encoded)[:-4]
        if crc32c(body) != encoded[-4:] or not decode_rows(body, rows, out):
            raise ValueError("checksum, or not compiled")


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


class Gradient:
    """Differences to left + above - corner in the search grid, modulo 256, before another codec."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def encode(self, chunk: NDArray[Any]) -> bytes:
        """Compress one chunk."""
        return self._codec.encode(differences(chunk))

    def decode_into(self, encoded: bytes, out: NDArray[Any]) -> None:
        """Decompress one chunk."""
        self._codec.decode_into(encoded, out)
        restore(out)


class Med:
    """Differences to the median of left, above and left + above - corner, modulo 256, before another codec."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def encode(self, chunk: NDArray[Any]) -> bytes:
        """Compress one chunk."""
        padded = np.pad(_grids(chunk), ((0, 0), (1, 0), (1, 0))).astype(np.int16)
        predicted = _med(padded[:, 1:, :-1], padded[:, :-1, 1:], padded[:, :-1, :-1])
        return self._codec.encode((padded[:, 1:, 1:] - predicted).astype(np.uint8))

    def decode_into(self, encoded: bytes, out: NDArray[Any]) -> None:
        """Decompress one chunk, one search position of all graphs after the other."""
        self._codec.decode_into(encoded, out)
        side = _SPEC.positions_per_side
        values = np.zeros((side + 1, side + 1, len(out)), dtype=np.int16)
        differences = np.ascontiguousarray(_grids(out).transpose(1, 2, 0))
        for row in range(side):
            for col in range(side):
                predicted = _med(values[row + 1, col], values[row, col + 1], values[row, col])
                values[row + 1, col + 1] = (predicted + differences[row, col]) & 255
        _grids(out)[:] = values[1:, 1:].transpose(2, 0, 1)


def _grids(chunk: NDArray[Any]) -> NDArray[Any]:
    return chunk.reshape(-1, _SPEC.positions_per_side, _SPEC.positions_per_side)


def _med(left: NDArray[np.int16], above: NDArray[np.int16], corner: NDArray[np.int16]) -> NDArray[np.int16]:
    median: NDArray[np.int16] = np.clip(left + above - corner, np.minimum(left, above), np.maximum(left, above))
    return median


class Packed:
    """Two codes of 12 bits in three bytes, before another codec."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def encode(self, chunk: NDArray[Any]) -> bytes:
        """Compress one chunk."""
        first, second = chunk.reshape(-1, 2).T
        packed = np.empty((len(first), 3), dtype=np.uint8)
        packed[:, 0] = first & 255
        packed[:, 1] = first >> 8 | (second & 15) << 4
        packed[:, 2] = second >> 4
        return self._codec.encode(packed)

    def decode_into(self, encoded: bytes, out: NDArray[Any]) -> None:
        """Decompress one chunk."""
        packed = np.empty((out.size // 2, 3), dtype=np.uint8)
        self._codec.decode_into(encoded, packed)
        low, middle, high = packed.astype(np.uint16).T
        pairs = out.reshape(-1, 2)
        pairs[:, 0] = low | (middle & 15) << 8
        pairs[:, 1] = middle >> 4 | high << 4


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A codec, and what it is given."""

    codec: Codec
    quantization: Quantization = "sqrt8"
    chunk_rows: int = 1024


def candidates(*, tiny: bool) -> dict[str, Candidate]:
    """All candidates by name; only the quick ones for `tiny`."""
    found = {f"preset {preset}": Candidate(codec=chunk_codec(preset, array=SSG)) for preset in _PRESETS}
    codecs: dict[str, Codec] = {f"lz4 {level}": BloscWithChecksum("lz4", level) for level in (1, 5, 9)}
    codecs |= {f"zstd {level}": ZstdWithChecksum(level) for level in ((1,) if tiny else (1, 3, 5, 9, 12, 19))}
    codecs |= {f"gradient, zstd {level}": Gradient(ZstdWithChecksum(level)) for level in (1, 5, 9, 15)}
    codecs |= {f"MED, zstd {level}": Med(ZstdWithChecksum(level)) for level in (1, 5)}
    if not tiny:
        codecs |= {f"lz4hc {level}": BloscWithChecksum("lz4hc", level) for level in (1, 3, 9)}
        codecs["lz4 9, bit shuffle"] = BloscWithChecksum("lz4", 9, Blosc.BITSHUFFLE)
    found |= {name: Candidate(codec=codec) for name, codec in codecs.items()}
    if not tiny:
        name = f"zstd 5, chunks of {_LARGE_CHUNK}"
        found[name] = Candidate(codec=ZstdWithChecksum(5), chunk_rows=_LARGE_CHUNK)
    for preset in _PRESETS:
        found[f"12 bits, preset {preset}"] = Candidate(codec=chunk_codec(preset, 2, array=SSG), quantization="sqrt12")
    two_bytes: dict[str, Codec] = {
        "uint16, lz4 9": BloscWithChecksum("lz4", 9),
        "uint16, zstd 1": ZstdWithChecksum(1),
        "packed, lz4 9": Packed(BloscWithChecksum("lz4", 9)),
        "packed, zstd 1": Packed(ZstdWithChecksum(1)),
    }
    found |= {f"12 bits, {name}": Candidate(codec=codec, quantization="sqrt12") for name, codec in two_bytes.items()}
    return found


class Photograph:
    """Neighbouring graphs of a photograph."""

    def __init__(self, image: NDArray[np.uint8], pixels: NDArray[np.int32]) -> None:
        self._image, self._pixels = image, pixels
        self._codes = {name: self.compute(name) for name in ("sqrt8", "sqrt12")}

    def compute(self, quantization: Quantization) -> NDArray[Any]:
        """The codes (N, K), computed anew."""
        return graph_codes(self._image, self._pixels, _SPEC, quantization)

    @property
    def num_entries(self) -> int:
        """N times K."""
        return len(self._pixels) * _SPEC.num_positions

    def chunks(self, candidate: Candidate) -> list[NDArray[Any]]:
        """The codes as a candidate gets them: whole chunks, the last one filled up with zeros as in a store."""
        codes = self._codes[candidate.quantization]
        padded = np.pad(codes, ((0, -len(codes) % candidate.chunk_rows), (0, 0)))
        return [padded[first : first + candidate.chunk_rows] for first in range(0, len(padded), candidate.chunk_rows)]


def load(paths: Sequence[Path], num_rows: int) -> list[Photograph]:
    """The photographs that have edge pixels, each with at most so many, from the middle."""
    loaded = []
    for path in paths:
        with Image.open(path) as opened:
            image = np.asarray(opened.convert("RGB"))
        pixels = edge_pixels(edge_mask(image))
        first = max(len(pixels) - num_rows, 0) // 2
        if len(pixels):
            loaded.append(Photograph(image, pixels[first : first + num_rows]))
    if not loaded:
        raise SystemExit("no image has edge pixels")
    return loaded


class Trial:
    """A candidate and the chunks it works on, encoded once."""

    def __init__(self, name: str, candidate: Candidate, sample: Sequence[Photograph]) -> None:
        self._codec = candidate.codec
        self._encoded: list[bytes] = []
        self._out = np.empty_like(sample[0].chunks(candidate)[0])
        self.encode_seconds = 0.0
        sizes = []
        for photograph in sample:
            chunks = photograph.chunks(candidate)
            began = time.process_time()
            encoded = [self._codec.encode(chunk) for chunk in chunks]
            self.encode_seconds += time.process_time() - began
            self._check(name, chunks[0], encoded[0])
            sizes.append(sum(map(len, encoded)) / photograph.num_entries)
            self._encoded += encoded
        self.bytes_per_entry = float(np.mean(sizes))

    def _check(self, name: str, chunk: NDArray[Any], encoded: bytes) -> None:
        self._codec.decode_into(encoded, self._out)
        if not np.array_equal(self._out, chunk):
            raise SystemExit(f"{name} does not give back what it was given")

    @property
    def num_chunks(self) -> int:
        """Of all photographs."""
        return len(self._encoded)

    def decode(self) -> None:
        """Decode all chunks."""
        for content in self._encoded:
            self._codec.decode_into(content, self._out)

    def decode_rows(self, codec: BlockedBlosc | ChunkCodec, rows: NDArray[np.int32]) -> None:
        """Decode some rows of all chunks."""
        for content in self._encoded:
            codec.decode_into(content, self._out, rows)


def measure(sample: Sequence[Photograph], rounds: int, *, tiny: bool) -> list[dict[str, Any]]:
    """Bytes and nanoseconds per entry of all candidates; encoding once, decoding in turn."""
    trials = {name: Trial(name, candidate, sample) for name, candidate in candidates(tiny=tiny).items()}
    timed: dict[str, Callable[[], object]] = {name: trial.decode for name, trial in trials.items()}
    timed["computing"] = lambda: [photograph.compute("sqrt8") for photograph in sample]
    seconds = medians(timed, rounds=rounds, warm_up=False, clock=time.process_time)
    entries = sum(photograph.num_entries for photograph in sample)
    return [
        {
            "codec": name,
            "bytes/entry": trial.bytes_per_entry,
            "encode ns/entry": trial.encode_seconds / entries * 1e9,
            "decode ns/entry": seconds[name] / entries * 1e9,
            "times smaller": _FLOAT32_BYTES / trial.bytes_per_entry,
            "of computing": seconds[name] / seconds["computing"],
        }
        for name, trial in trials.items()
    ]


def blocks(sample: Sequence[Photograph], rounds: int) -> list[dict[str, Any]]:
    """LZ4 in blocks of several sizes: all graphs of a chunk, and those that a crop needs."""
    rows = np.flatnonzero(np.arange(Candidate.chunk_rows) % _PERIOD < _RUN).astype(np.int32)
    table = []
    names = {graphs: f"{graphs * _SPEC.num_positions:,} bytes" for graphs in _BLOCKS} | {0: "chosen by Blosc"}
    codecs: dict[str, BlockedBlosc | ChunkCodec] = {name: BlockedBlosc(graphs) for graphs, name in names.items()}
    codecs["preset fast"] = chunk_codec("fast", array=SSG)
    for name, codec in codecs.items():
        trial = Trial(name, Candidate(codec=codec), sample)
        timed: dict[str, Callable[[], object]] = {
            "all": trial.decode,
            "some": partial(trial.decode_rows, codec, rows),
        }
        seconds = medians(timed, rounds=rounds, warm_up=False, clock=time.process_time)
        entries = trial.num_chunks * Candidate.chunk_rows * _SPEC.num_positions
        table.append(
            {
                "block": name,
                "bytes/entry": trial.bytes_per_entry,
                "all, ns/entry": seconds["all"] / entries * 1e9,
                "a crop's, ns/entry": seconds["some"] / (entries * len(rows) / Candidate.chunk_rows) * 1e9,
            }
        )
    return table


def per_epoch(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Reading and then decoding an entry once, in nanoseconds, from disks of several speeds."""
    table = []
    for row in rows:
        line = {"codec": row["codec"]}
        for speed in _SPEEDS:
            line[f"{speed:,} MB/s"] = row["bytes/entry"] / speed * 1e3 + row["decode ns/entry"]
        table.append(line)
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all codecs and print the tables."""
    options = benchmark_parser("codec", __doc__).parse_args(arguments)
    rounds = options.rounds or (1 if options.tiny else _ROUNDS)
    paths = photographs(options.images)[: 1 if options.tiny else None]
    sample = load(paths, _TINY_ROWS if options.tiny else _ROWS)
    rows = measure(sample, rounds, tiny=options.tiny)
    epoch = [row for row in rows if "," not in row["codec"]]
    report = {
        "title": f"Chunk codecs, {len(sample)} photographs, {sum(one.num_entries for one in sample):,} entries; "
        f"processor time of one thread; decoding: medians of {rounds}",
        "tables": {
            "codecs": rows,
            "reading and decoding, ns/entry": per_epoch(epoch),
            "blocks": blocks(sample, rounds) if extension.is_compiled() else [],
        },
    }
    print_report(report, as_json=options.json)


if __name__ == "__main__":
    main()
