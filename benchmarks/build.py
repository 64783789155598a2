"""Speed of a whole build, and where its time goes.

Builds a store several times in this process with one thread and with all cores, and with Ray workers. In the same run,
the parts of a build are timed one by one on the same images, each without the others: their sum is what a build cannot
go below, the rest is files, planning and Python.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from ssl_data import BuildConfig, PatchSpec, build, edge_mask, edge_pixels, self_similarity_graph
from ssl_data.benchmarks.common import benchmark_parser, photographs, print_report, sample_folder
from ssl_data.config import StoreSpec
from ssl_data.pipeline.decode import decode_image, image_size
from ssl_data.pipeline.executors import RayExecutor, SerialExecutor, usable_cores
from ssl_data.pipeline.run import make_build_plan
from ssl_data.store.codec import chunk_codec
from ssl_data.store.layout import GT, SSG, array_layouts
from ssl_data.store.reader import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ssl_data.config import BuildSpec
    from ssl_data.pipeline.executors import Executor
    from ssl_data.pipeline.plan import BuildPlan
    from ssl_data.store.codec import ChunkCodec

_ROUNDS = 3
_ONE_THREAD = "serial, 1 thread"


class PartTimer:
    """Processor time of this thread by the name of a part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add what happens inside to a part."""
        began = time.process_time()
        yield
        self.seconds[name] += time.process_time() - began


def time_parts(plan: BuildPlan) -> dict[str, float]:
    """Processor seconds of each part for all images of a plan, one thread, nothing written."""
    timer = PartTimer()
    spec = plan.store.spec
    codec = chunk_codec(spec.store.compression)
    size = spec.patch.patch_size
    for cut in plan.cuts:
        source = cut.source
        content = source.path.read_bytes()
        with timer.part("hash"):
            hashlib.sha256(content)  # when the sources are listed
            hashlib.sha256(content)  # when the image is used
        with timer.part("decode"):
            image_size(content, source.name)
            image = decode_image(content, source.name)
        for row, col in cut.corners.tolist():
            gt = np.ascontiguousarray(image[row : row + size, col : col + size])
            _time_patch(timer, gt, spec, codec)
    return dict(timer.seconds)


def _time_patch(timer: PartTimer, gt: NDArray[np.uint8], spec: BuildSpec, codec: ChunkCodec) -> None:
    with timer.part("mask"):
        mask = edge_mask(gt, threshold=spec.edge.threshold)
        pixels = edge_pixels(mask, edge_stride=spec.edge.edge_stride)
    with timer.part("kernel"):
        codes = self_similarity_graph(gt, pixels, spec.ssg, output="codes")
    chunks = _chunks(gt, mask, codes, spec)
    with timer.part("encode"):
        encoded = [codec.encode(chunk) for chunk in chunks]
    with timer.part("hash"):
        hashlib.sha256(gt.data)
        for content in encoded:
            hashlib.sha256(content)


def _chunks(
    gt: NDArray[np.uint8], mask: NDArray[np.bool_], codes: NDArray[np.uint8], spec: BuildSpec
) -> list[NDArray[Any]]:
    """What a store holds of one patch, chunk by chunk."""
    layouts = {layout.name: layout for layout in array_layouts(spec, 1)}
    tile = layouts[GT].chunk_shape[1]
    starts = range(0, len(gt), tile)
    tiles = [np.ascontiguousarray(gt[row : row + tile, col : col + tile]) for row in starts for col in starts]
    chunk_rows = layouts[SSG].chunk_shape[0]
    padded = np.pad(codes, ((0, -len(codes) % chunk_rows), (0, 0)))
    return [*tiles, mask, *(padded[first : first + chunk_rows] for first in range(0, len(padded), chunk_rows))]


@contextlib.contextmanager
def ray_workers(workers: int) -> Iterator[float]:
    """A running Ray of so many workers; gives the seconds its start took."""
    import ray  # noqa: PLC0415 - optional

    began = time.perf_counter()
    ray.init(
        num_cpus=workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=128 * 1024**2,
        _node_ip_address="127.0.0.1",
    )
    try:
        yield time.perf_counter() - began
    finally:
        ray.shutdown()


class Builds:
    """Builds one configuration again and again, each time into a new folder below `folder`."""

    def __init__(self, config: BuildConfig, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self.wall: dict[str, list[float]] = defaultdict(list)
        self.processor: dict[str, list[float]] = defaultdict(list)

    def run(self, name: str, executor: Executor) -> str:
        """Build once; the store is left behind."""
        out = tempfile.mkdtemp(dir=self._folder)
        wall, processor = time.perf_counter(), time.process_time()
        build(replace(self._config, out=out, workers=1), executor=executor)
        self.wall[name].append(time.perf_counter() - wall)
        self.processor[name].append(time.process_time() - processor)
        return out


def dataset_file(options: argparse.Namespace, folder: Path) -> str:
    """What to build from: the folder given, the sample photographs, or only one of them."""
    if options.images:
        return str(options.images)
    files = ["chelsea.png"] if options.tiny else [path.name for path in photographs()]
    path = folder / "photographs.yaml"
    entry = {"name": "skimage", "path": str(sample_folder()), "files": files}
    path.write_text(yaml.safe_dump({"folders": [entry]}), encoding="utf-8")
    return str(path)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All builds and parts; the report."""
    rounds = options.rounds or (1 if options.tiny else _ROUNDS)
    config = BuildConfig(
        dataset=dataset_file(options, folder),
        out=str(folder / "plan"),
        patch=PatchSpec(patch_size=options.patch_size, step=options.step),
        store=StoreSpec(compression=options.compression),
    )
    plan = make_build_plan(config)
    builds = Builds(config, folder)
    executors: dict[str, Executor] = {_ONE_THREAD: SerialExecutor(1)}
    if usable_cores() > 1:
        executors[f"serial, {usable_cores()} threads"] = SerialExecutor(usable_cores())
    notes: dict[str, Any] = {}
    parts = []
    with contextlib.ExitStack() as stack:
        if options.ray:
            notes["start of Ray, s"] = stack.enter_context(ray_workers(options.workers))
            executors[f"Ray, {options.workers} workers"] = RayExecutor(options.workers)
        warm_up = Builds(config, folder)  # loads libraries, starts Ray's worker processes
        for name, executor in executors.items():
            out = warm_up.run(name, executor)
        for _ in range(rounds):
            for name, executor in executors.items():
                out = builds.run(name, executor)
            parts.append(time_parts(plan))
    store = open_store(out)
    entries = int(store.counts.sum()) * store.spec.num_positions
    ssg_bytes = sum(path.stat().st_size for path in (Path(out) / SSG).rglob("*") if path.is_file())
    notes["bytes per SSG entry on disk"] = ssg_bytes / entries
    return {
        "title": f"Builds of {store.num_patches} patches of {store.patch_size}x{store.patch_size}, "
        f"{store.counts.sum():,} graphs, {plan.store.num_shards} shards, {options.compression}; medians of {rounds}",
        "tables": {"builds": _speeds(builds, plan, store.num_patches, entries), "parts": _shares(builds, parts)},
        "notes": notes,
    }


def _speeds(builds: Builds, plan: BuildPlan, num_patches: int, entries: int) -> list[dict[str, Any]]:
    used = [cut.source for cut in plan.cuts]  # once each: the benchmark makes no copies
    source_bytes = sum(3 * (s.height or 0) * (s.width or 0) for s in used)
    slowest = statistics.median(builds.wall[_ONE_THREAD])
    rows = []
    for name, walls in builds.wall.items():
        seconds = statistics.median(walls)
        rows.append(
            {
                "executor": name,
                "s": seconds,
                "source MB/s": source_bytes / seconds / 1e6,
                "patches/s": num_patches / seconds,
                "ns/entry": seconds / entries * 1e9,
                "speed-up": slowest / seconds,
            }
        )
    return rows


def _shares(builds: Builds, parts: list[dict[str, float]]) -> list[dict[str, Any]]:
    whole = statistics.median(builds.processor[_ONE_THREAD])
    medians = {name: statistics.median(part[name] for part in parts) for name in parts[0]}
    medians["sum of the parts"] = sum(medians.values())
    medians["whole build"] = whole
    return [
        {"part (processor time, 1 thread)": name, "s": seconds, "share of the build": seconds / whole}
        for name, seconds in medians.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = benchmark_parser("build", __doc__)
    parser.add_argument("--patch-size", type=int, default=256)
    parser.add_argument("--step", type=int, default=128)
    parser.add_argument("--compression", choices=("fast", "balanced", "small"), default=StoreSpec().compression)
    parser.add_argument("--workers", type=int, default=2, help="Ray workers")
    parser.add_argument("--ray", action=argparse.BooleanOptionalAction, help="with Ray [yes, but not with --tiny]")
    parser.add_argument("--work-dir", help="existing folder for the stores, removed afterwards [the system's]")
    options = parser.parse_args(arguments)
    if options.ray is None:
        options.ray = not options.tiny
    with tempfile.TemporaryDirectory(dir=options.work_dir) as folder:
        print_report(measure(options, Path(folder)), as_json=options.json)


if __name__ == "__main__":
    main()
