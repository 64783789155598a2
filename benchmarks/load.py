"""Samples per second of `SSLCachedDataset`, beside the least that reading could cost and beside PNG files.

Five tables, the first three for random crops of large patches and for whole small ones:

* How near loading comes to its bound: the same bytes read with `os.preadv` and decoded with numcodecs in a bare loop.
  In this process, batch by batch, and through a `DataLoader` with worker processes. Border mode "exact" also computes
  the graphs along the crop's border, which the bound leaves out; "computed" is their share.
* Reading the graphs of a sample, against computing all of them with the fastest backend: processor time.
* Samples per second, against the usual way without graphs: PNG files and mask files.
* The memory that worker processes share with the trainer, in huge pages and in small ones.
* Reads of a file that was written as shards are, and of one that was written piece by piece.

Files are in the page cache: with a cold disk or a network, everything here is slower.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

import ssl_data
from ssl_data import BuildConfig, PatchSpec, SSLCachedDataset, StoreSpec, collate, self_similarity_graph
from ssl_data.benchmarks.bare_loop import BareLoop, traced_reads
from ssl_data.benchmarks.common import (
    benchmark_parser,
    medians,
    photographs,
    print_report,
    sample_folder,
)
from ssl_data.benchmarks.png_pipeline import PNGDataset, write_files
from ssl_data.geometry.positions import Dihedral, Window
from ssl_data.store.files import AtomicFile
from ssl_data.training.buffers import take_arrays
from ssl_data.training.graphs import plan_graphs, read_graphs
from ssl_data.training.huge_pages import map_shared, use_huge_pages

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from torch.utils.data import Dataset

_ROUNDS = 5
_SCALE = 4
_MOST_SAMPLES = 128
_BATCH_BYTES, _TINY_BATCH_BYTES = 64 << 20, 4 << 20
_TURNED = {"hflip": True, "vflip": True, "transpose": True}


@dataclass(frozen=True, kw_only=True)
class Load:
    """One way to read a store."""

    patch_size: int
    crop_size: int | None
    border: str = "exact"
    turned: bool = False

    def __str__(self) -> str:
        if self.crop_size is None:
            return f"patch {self.patch_size}" + (", turned" if self.turned else "")
        return f"patch {self.patch_size}, crop {self.crop_size}, {self.border}" + (", turned" if self.turned else "")

    @property
    def size(self) -> int:
        """Side of a sample, in pixels."""
        return self.crop_size or self.patch_size

    def dataset(self, store: ssl_data.Store) -> SSLCachedDataset:
        """The dataset that reads so."""
        turned = _TURNED if self.turned else {}
        return SSLCachedDataset(store, crop_size=self.crop_size, border=self.border, **turned)  # type: ignore[arg-type]


def loads(*, tiny: bool) -> list[Load]:
    """What is measured."""
    large, small, crop = (64, 48, 32) if tiny else (512, 256, 128)
    borders = [Load(patch_size=large, crop_size=crop, border=border) for border in ("interior", "cached", "exact")]
    return [
        *borders,
        Load(patch_size=large, crop_size=crop, turned=True),
        Load(patch_size=small, crop_size=crop, border="interior"),
        Load(patch_size=small, crop_size=crop),
        Load(patch_size=small, crop_size=None),
        Load(patch_size=small, crop_size=None, turned=True),
    ]


class _Batches:
    """A dataset read batch by batch in this process: as a loader without workers does it."""

    def __init__(self, dataset: Dataset[Any], batch_size: int, count: int) -> None:
        self._dataset = dataset
        self._batches = [list(range(first, min(first + batch_size, count))) for first in range(0, count, batch_size)]

    def __call__(self) -> None:
        read = getattr(self._dataset, "__getitems__", None)
        for batch in self._batches:
            collate(read(batch) if read else [self._dataset[index] for index in batch])


def _run_through(loader: DataLoader[Any]) -> None:
    for _ in loader:
        pass


def _through_workers(dataset: Dataset[Any], options: argparse.Namespace, count: int) -> Callable[[], object]:
    loader = DataLoader(
        torch.utils.data.Subset(dataset, range(count)),
        batch_size=options.batch_size,
        num_workers=options.workers,
        collate_fn=collate,
        persistent_workers=True,
    )
    return lambda: _run_through(loader)


def nearness(load: Load, store: ssl_data.Store, options: argparse.Namespace) -> dict[str, Any]:
    """How near loading comes to its bound."""
    dataset = load.dataset(store)
    count = min(len(dataset), _MOST_SAMPLES)
    with traced_reads() as reads:
        num_graphs = sum(len(dataset[index]["ssg"]) for index in range(count))
    num_computed = num_graphs - _num_stored(load, dataset, count)
    bound = BareLoop(reads, store.build_spec.store.compression)
    timed: dict[str, Callable[[], object]] = {
        "bound": bound,
        "here": _Batches(dataset, options.batch_size, count),
        "workers": _through_workers(dataset, options, count),
    }
    seconds = medians(timed, rounds=options.rounds)
    bound.close()
    workers = f"{options.workers} worker{'s' if options.workers > 1 else ''}"
    return {
        "sample": str(load),
        "graphs": num_graphs / count,
        "computed": num_computed / max(num_graphs, 1),
        "MB read": bound.num_bytes / count / 1e6,
        "bound/s": count / seconds["bound"],
        "here/s": count / seconds["here"],
        "of bound": seconds["bound"] / seconds["here"],
        f"{workers}/s": count / seconds["workers"],
        f"{workers}, of bound": seconds["bound"] / seconds["workers"],
    }


def _num_stored(load: Load, dataset: SSLCachedDataset, count: int) -> int:
    """Graphs of the samples that come from the store."""
    interior = Load(patch_size=load.patch_size, crop_size=load.crop_size, border="interior")
    dataset = interior.dataset(dataset.store) if load.border == "exact" else dataset
    return sum(len(dataset[index]["ssg"]) for index in range(count))


def against_computing(load: Load, store: ssl_data.Store, options: argparse.Namespace) -> dict[str, Any]:
    """Reading the graphs of a sample, without images, beside computing them from the image."""
    count, batch_size, random = min(len(store), _MOST_SAMPLES), options.batch_size, np.random.default_rng(0)
    samples = []
    for index in range(count):
        top, left = (random.integers((load.patch_size - load.size) // _SCALE + 1, size=2) * _SCALE).tolist()
        window = Window(top=top, left=left, bottom=top + load.size, right=left + load.size)
        plan = plan_graphs(store, index, window, Dihedral(), border="cached")
        pixels = np.stack([plan.pixels.row, plan.pixels.col], axis=1)
        samples.append((plan, pixels, store.read_gt(index, window)))
    num_graphs = sum(len(plan) for plan, *_ in samples)

    def read() -> None:
        for first in range(0, count, batch_size):  # into memory of batches, as the dataset does
            plans = [plan for plan, *_ in samples[first : first + batch_size]]
            outs = take_arrays(*(((len(plan), store.spec.num_positions), np.uint8) for plan in plans))
            read_graphs(store, plans, outs)

    def compute() -> None:
        for _, pixels, image in samples:
            self_similarity_graph(image, pixels, store.spec, output="codes")

    seconds = medians({"read": read, "compute": compute}, rounds=options.rounds, clock=time.process_time)
    num_entries = num_graphs * store.spec.num_positions
    return {
        "graphs of": str(load).removesuffix(", exact"),
        "reading, ns/entry": seconds["read"] / num_entries * 1e9,
        "computing, ns/entry": seconds["compute"] / num_entries * 1e9,
        "reading : computing": seconds["read"] / seconds["compute"],
    }


def against_files(load: Load, store: ssl_data.Store, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """GT, LQ, mask and graphs from the store, beside GT, LQ and mask from files, in this process."""
    count = min(len(store), _MOST_SAMPLES)
    files = partial(PNGDataset, folder, scale=_SCALE, crop_size=load.size, turned=load.turned)
    candidates: dict[str, Dataset[Any]] = {
        "PNG, masks as PNG": files(mask_format="png"),
        "PNG, masks as .mat": files(mask_format="mat"),
        "store, with graphs": load.dataset(store),
    }
    timed = {name: _Batches(dataset, options.batch_size, count) for name, dataset in candidates.items()}
    seconds = medians(timed, rounds=options.rounds, clock=time.process_time)
    return [
        {
            "sample, from": f"{load}: {name}",
            "samples/s": count / value,
            "times faster": seconds["PNG, masks as PNG"] / value,
        }
        for name, value in seconds.items()
    ]


class _SharedMemory:
    """The memory of a batch, between a worker and the trainer."""

    def __init__(self, num_bytes: int, *, huge: bool) -> None:
        self._descriptor = os.memfd_create("ssl_data-bench")
        os.ftruncate(self._descriptor, num_bytes)
        self._memory = map_shared(self._descriptor, num_bytes)
        self.granted = huge and use_huge_pages(self._memory)

    def close(self) -> None:
        os.close(self._descriptor)

    def fill(self) -> None:
        self._memory.fill(1)

    def receive(self) -> None:
        """Map it once more and look at a value of every line of 64 bytes."""
        map_shared(self._descriptor, self._memory.size)[::64].max()


def memory_of_batches(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Filling and receiving memory of batches, in huge pages and in small ones."""
    num_bytes = _TINY_BATCH_BYTES if options.tiny else _BATCH_BYTES

    def first_filling(*, huge: bool) -> None:
        memory = _SharedMemory(num_bytes, huge=huge)
        memory.fill()
        memory.close()

    rows = []
    kept = {name: _SharedMemory(num_bytes, huge=name == "huge") for name in ("small", "huge")}
    timed: dict[str, Callable[[], object]] = {}
    for name, memory in kept.items():
        timed |= {
            f"{name}, first": partial(first_filling, huge=name == "huge"),
            f"{name}, again": memory.fill,
            f"{name}, receiving": memory.receive,
        }
    seconds = medians(timed, rounds=options.rounds)
    for name, memory in kept.items():
        memory.close()
        rows.append(
            {
                "pages": name,
                "granted": memory.granted,
                "first filling, ms/MB": seconds[f"{name}, first"] / num_bytes * 1e9,
                "filling again, ms/MB": seconds[f"{name}, again"] / num_bytes * 1e9,
                "receiving, ms/MB": seconds[f"{name}, receiving"] / num_bytes * 1e9,
            }
        )
    return rows


def _shmem_enabled() -> str:
    """What the system does about huge pages in shared memory: with "[always]", small ones are not small."""
    try:
        return Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled").read_text(encoding="utf-8").strip()
    except OSError:
        return "unknown"


def reads_of_files(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Small reads at random places of a file that the system keeps in memory."""
    piece, num_pieces = np.random.default_rng(0).bytes(100_000), 40 if options.tiny else 2500
    shard = AtomicFile(folder / "shard", folder)
    with (folder / "pieces").open("wb") as pieces:
        for file in (pieces, shard.file):
            for _ in range(num_pieces):
                file.write(piece)
        pieces.flush()
        os.fsync(pieces.fileno())
    shard.commit()
    into, num_reads = [memoryview(bytearray(8192))], 10_000
    places = np.random.default_rng(1).integers(0, num_pieces * len(piece) - 8192, num_reads).tolist()

    def read(descriptor: int) -> None:
        for place in places:
            os.preadv(descriptor, into, place)

    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context((folder / name).open("rb")) for name in ("pieces", "shard")}
        timed = {name: partial(read, file.fileno()) for name, file in files.items()}
        seconds = medians(timed, rounds=options.rounds, clock=time.process_time)
    return [{"written as": name, "us per read of 8 KB": value / num_reads * 1e6} for name, value in seconds.items()]


def make_store(patch_size: int, options: argparse.Namespace, folder: Path) -> ssl_data.Store:
    """A store of the images with patches of this size."""
    images = Path(options.images) if options.images else folder / "images"
    if not images.exists():
        images.mkdir()
        for path in photographs()[1:2] if options.tiny else photographs():
            (images / path.name).symlink_to(sample_folder() / path.name)
    config = BuildConfig(
        dataset=str(images),
        out=str(folder / f"store-{patch_size}.zarr"),
        patch=PatchSpec(patch_size=patch_size, step=patch_size // (1 if options.images else 4)),
        store=StoreSpec(compression=options.compression, lq_scale=_SCALE),
    )
    ssl_data.build(config)
    return ssl_data.open_store(config.out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = benchmark_parser("load", __doc__)
    parser.add_argument("--compression", choices=("fast", "balanced", "small"), default=StoreSpec().compression)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--workers", type=int, default=1, help="worker processes of the DataLoader [1]")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.tiny else _ROUNDS)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    near, computed, files = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stores = {
            size: make_store(size, options, folder) for size in {load.patch_size for load in loads(tiny=options.tiny)}
        }
        for size, store in stores.items():
            write_files(store, folder / f"files-{size}")
        for load in loads(tiny=options.tiny):
            store = stores[load.patch_size]
            near.append(nearness(load, store, options))
            if load.border == "exact" and not load.turned:
                computed.append(against_computing(load, store, options))
            files += against_files(load, store, folder / f"files-{load.patch_size}", options)
        reads = reads_of_files(folder, options)
    report = {
        "title": f"Loading, {options.compression}, batches of {options.batch_size}; medians of {options.rounds} rounds",
        "tables": {
            "bound": near,
            "graphs": computed,
            "files": files,
            "memory": memory_of_batches(options) if hasattr(os, "memfd_create") else [],
            "reads": reads,
        },
        "notes": {
            **{f"patches of {size}": len(store) for size, store in stores.items()},
            "shmem_enabled": _shmem_enabled(),
        },
    }
    print_report(report, as_json=options.json)


if __name__ == "__main__":
    main()
