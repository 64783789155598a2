"""Samples per second of `SSLCachedDataset`, beside the time that its reads and decoding alone would take.

For each way of cropping, one epoch is traced to learn which chunks it reads. The bound then reads exactly these bytes
with `os.preadv` and decodes them with numcodecs, in a bare loop without arrays, checks or tensors. Beside it: samples
alone; samples and `collate` in batches, as a `DataLoader` without workers does; and a `DataLoader` with worker
processes. Files are in the page cache, and every process uses one thread.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from common import benchmark_parser, medians, photographs, print_report, sample_folder
from numcodecs import blosc
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd
from torch.utils.data import DataLoader

import ssl_data
from ssl_data import BuildConfig, PatchSpec, SSLCachedDataset, StoreSpec, collate
from ssl_data.store.shard import ShardReader

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

_ROUNDS = 5
_CRC_BYTES = 4


@dataclass(frozen=True)
class Read:
    """A run of chunks that the dataset reads at once."""

    path: Path
    chunks: range
    chunk_bytes: int
    """Of one chunk, decoded."""


@contextlib.contextmanager
def traced_reads() -> Iterator[list[Read]]:
    """The reads of chunks made inside, as they happen."""
    reads: list[Read] = []
    original = ShardReader.read

    def read(reader: ShardReader, chunks: range, outs: list[NDArray[Any]]) -> None:
        reads.append(Read(Path(reader.path), chunks, outs[0].nbytes if outs else 0))
        original(reader, chunks, outs)

    ShardReader.read = read  # type: ignore[method-assign, assignment]
    try:
        yield reads
    finally:
        ShardReader.read = original  # type: ignore[method-assign]


class BareLoop:
    """Repeats reads with nothing but `os.preadv` and numcodecs."""

    def __init__(self, reads: Sequence[Read], compression: str) -> None:
        self._codec = Blosc() if compression == "fast" else Zstd()
        self._checksum_bytes = _CRC_BYTES if compression == "fast" else 0
        self._files: dict[Path, tuple[int, NDArray[np.uint64]]] = {}
        self._steps = [step for read in reads if read.chunks for step in [self._step(read)]]
        largest = max(size for _, _, size, _, _ in self._steps)
        self._encoded = bytearray(largest)
        self._decoded = np.empty(max(chunk_bytes for *_, chunk_bytes in self._steps), dtype=np.uint8)
        self.num_bytes = sum(size for _, _, size, _, _ in self._steps)

    def _step(self, read: Read) -> tuple[int, int, int, list[tuple[int, int]], int]:
        """File descriptor, offset and size of the read; where its chunks lie in it; bytes of one, decoded."""
        descriptor, index = self._open(read.path)
        places = index[read.chunks.start : read.chunks.stop].tolist()
        first = places[0][0]
        size = places[-1][0] + places[-1][1] - first
        parts = [(offset - first, offset - first + length - self._checksum_bytes) for offset, length in places]
        return descriptor, first, size, parts, read.chunk_bytes

    def _open(self, path: Path) -> tuple[int, NDArray[np.uint64]]:
        """An open shard and its index, which is found from behind: chunks, then (offset, size) of each, then a CRC."""
        if path not in self._files:
            num_chunks = self._num_chunks(path)
            with path.open("rb") as file:
                file.seek(-(16 * num_chunks + _CRC_BYTES), os.SEEK_END)
                index = np.frombuffer(file.read(16 * num_chunks), dtype="<u8").reshape(num_chunks, 2)
            self._files[path] = os.open(path, os.O_RDONLY), index
        return self._files[path]

    @staticmethod
    def _num_chunks(path: Path) -> int:
        import zarr  # noqa: PLC0415 - only here

        array = zarr.open_array(next(parent for parent in path.parents if (parent / "zarr.json").exists()), mode="r")
        shards = array.shards or array.chunks
        return int(np.prod([shard // chunk for shard, chunk in zip(shards, array.chunks, strict=True)]))

    def __call__(self) -> None:
        """Do all reads once."""
        view = memoryview(self._encoded)
        for descriptor, offset, size, parts, chunk_bytes in self._steps:
            os.preadv(descriptor, [view[:size]], offset)
            out = self._decoded[:chunk_bytes]
            for start, stop in parts:
                self._codec.decode(view[start:stop], out)

    def close(self) -> None:
        """Close the files."""
        for descriptor, _ in self._files.values():
            os.close(descriptor)


def ways(crop_size: int) -> dict[str, dict[str, Any]]:
    """What is measured: arguments of `SSLCachedDataset` by name."""
    turned = {"hflip": True, "vflip": True, "transpose": True}
    return {
        "whole patch": {},
        **{f"crop {crop_size}, {border}": {"crop_size": crop_size, "border": border} for border in _BORDERS},
        f"crop {crop_size}, exact, turned": {"crop_size": crop_size, **turned},
    }


_BORDERS = ("exact", "interior", "cached")


def measure_way(store: ssl_data.Store, arguments: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """One row: samples per second, and the bound."""
    dataset = SSLCachedDataset(store, **arguments)
    order = range(len(dataset))
    with traced_reads() as reads:
        num_graphs = sum(len(dataset[index]["ssg"]) for index in order)
    bound = BareLoop(reads, store.build_spec.store.compression)
    loader = DataLoader(
        dataset,
        batch_size=options.batch_size,
        num_workers=options.workers,
        collate_fn=collate,
        persistent_workers=options.workers > 0,
    )

    batches = [range(first, min(first + options.batch_size, len(dataset))) for first in order[:: options.batch_size]]

    def samples() -> None:
        for index in order:
            dataset[index]

    def batched() -> None:
        for batch in batches:
            collate([dataset[index] for index in batch])

    def workers() -> None:
        for _ in loader:
            pass

    timed: dict[str, Callable[[], object]] = {
        "bound": bound,
        "samples": samples,
        "batched": batched,
        "workers": workers,
    }
    seconds = medians(timed, rounds=options.rounds)
    bound.close()
    num_samples = len(dataset)
    return {
        "graphs/sample": num_graphs / num_samples,
        "MB read/sample": bound.num_bytes / num_samples / 1e6,
        "bound/s": num_samples / seconds["bound"],
        "samples/s": num_samples / seconds["samples"],
        "of bound": seconds["bound"] / seconds["samples"],
        "in batches/s": num_samples / seconds["batched"],
        f"{options.workers} workers/s": num_samples / seconds["workers"],
        "workers gain": seconds["batched"] / seconds["workers"],
    }


def make_store(options: argparse.Namespace, folder: Path) -> ssl_data.Store:
    """The store to read: the one given, or one of the images."""
    if options.store:
        return ssl_data.open_store(options.store)
    images = Path(options.images) if options.images else folder / "images"
    if not options.images:
        images.mkdir()
        for path in photographs()[1:2] if options.tiny else photographs():
            (images / path.name).symlink_to(sample_folder() / path.name)
    config = BuildConfig(
        dataset=str(images),
        out=str(folder / "store.zarr"),
        patch=PatchSpec(patch_size=options.patch_size, step=options.patch_size // 2),
        store=StoreSpec(compression=options.compression),
    )
    ssl_data.build(config)
    return ssl_data.open_store(config.out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--store", help="an existing store instead of images")
    parser.add_argument("--patch-size", type=int, default=256)
    parser.add_argument("--crop-size", type=int, default=128)
    parser.add_argument("--compression", choices=("fast", "balanced", "small"), default=StoreSpec().compression)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the DataLoader")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.tiny else _ROUNDS)
    torch.set_num_threads(1)
    blosc.use_threads = False
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(options, Path(folder))
        rows = [{"sample": name, **measure_way(store, way, options)} for name, way in ways(options.crop_size).items()]
        report = {
            "title": f"Loading from {store.num_patches} patches of {store.patch_size}x{store.patch_size}, "
            f"{store.build_spec.store.compression}, batches of {options.batch_size}; medians of {options.rounds}",
            "tables": {"samples per second": rows},
        }
    print_report(report, as_json=options.json)


if __name__ == "__main__":
    main()
