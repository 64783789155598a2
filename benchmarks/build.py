"""Speed of a whole build, where its time goes, and the memory of a worker.

Builds a store several times in this process with one thread and with all cores, and with Ray workers. In the same run,
the parts of a build are timed one by one on the same images, each without the others: their sum is what a build cannot
go below, the rest is files, planning and Python. "Plainly" is how one would first do it, for some graphs of one image:
by NumPy, as float32 in a compressed ``.npz`` file. Memory is the peak of a process that builds a store of noise, in
which nearly half of the pixels are edge pixels and nothing compresses.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import yaml
from PIL import Image

from ssl_data import BuildConfig, PatchSpec, build, edge_mask, edge_pixels, self_similarity_graph
from ssl_data.benchmarks.common import benchmark_parser, photographs, print_report, sample_folder
from ssl_data.config import Compression, Quantization, StoreSpec
from ssl_data.kernels.codes import graph_codes
from ssl_data.kernels.resize import reduce_bicubic
from ssl_data.pipeline.cores import usable_cores
from ssl_data.pipeline.decode import decode_image, image_size
from ssl_data.pipeline.donor import rows_per_block
from ssl_data.pipeline.executors import RayExecutor, SerialExecutor
from ssl_data.pipeline.rates import StageTimer
from ssl_data.pipeline.run import make_build_plan
from ssl_data.store.codec import chunk_codec
from ssl_data.store.layout import EDGE_MASK, GT, SSG, array_layouts, lq_name
from ssl_data.store.reader import open_store
from ssl_data.store.writer import image_chunks, row_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ssl_data.config import BuildSpec
    from ssl_data.pipeline.executors import Executor
    from ssl_data.pipeline.plan import BuildPlan

_ROUNDS = 3
_PATCH_SIZES = (512, 256)
_PLAIN_GRAPHS = 1000
_ALLOWED = 1.25
"""Processor time of a whole build over that of its parts."""
_ALLOWED_BYTES = 1_500_000_000
"""Peak memory of a worker."""
_ONE_THREAD = "serial, 1 thread"


def time_parts(plan: BuildPlan) -> dict[str, float]:
    """Processor seconds of each part for all images of a plan, one thread, nothing written."""
    timer = StageTimer()
    spec = plan.store.spec
    size = spec.patch.patch_size
    for cut in plan.cuts:
        source = cut.source
        content = source.path.read_bytes()
        with timer.stage("hash"):
            hashlib.sha256(content)  # when the sources are listed
            hashlib.sha256(content)  # when the image is used
        with timer.stage("decode"):
            image_size(content, source.name)
            image = decode_image(content, source.name)
        for row, col in cut.corners.tolist():
            gt = np.ascontiguousarray(image[row : row + size, col : col + size])
            _time_patch(timer, gt, spec)
    return dict(timer.seconds)


def _time_patch(timer: StageTimer, gt: NDArray[np.uint8], spec: BuildSpec) -> None:
    arrays: dict[str, NDArray[Any]] = {GT: gt}
    with timer.stage("hash"):
        hashlib.sha256(gt.data)  # tells duplicates
    with timer.stage("mask"):
        arrays[EDGE_MASK] = edge_mask(gt, threshold=spec.edge.threshold)
        pixels = edge_pixels(arrays[EDGE_MASK], edge_stride=spec.edge.edge_stride)
    if spec.store.lq_scale is not None:
        with timer.stage("resize"):
            arrays[lq_name(spec.store.lq_scale)] = reduce_bicubic(gt, spec.store.lq_scale)
    block_rows = rows_per_block(spec.store.chunk_rows)
    for first in range(0, len(pixels), block_rows):
        with timer.stage("kernel"):
            codes = graph_codes(gt, pixels[first : first + block_rows], spec.ssg, spec.store.quantization)
        _time_writing(timer, SSG, codes, spec)
    for name, array in arrays.items():
        _time_writing(timer, name, array, spec)


def _time_writing(timer: StageTimer, name: str, array: NDArray[Any], spec: BuildSpec) -> None:
    codec = chunk_codec(spec.store.compression, array.itemsize, array=name)
    chunks = list(_chunks(name, array, spec))
    with timer.stage("encode"):
        encoded = [codec.encode(chunk) for chunk in chunks]
    with timer.stage("hash"):
        for content in encoded:
            hashlib.sha256(content)


def _chunks(name: str, array: NDArray[Any], spec: BuildSpec) -> Iterator[NDArray[Any]]:
    """What a store holds of one patch, or of some of its graphs, chunk by chunk."""
    chunk_shape = {layout.name: layout.chunk_shape for layout in array_layouts(spec, 1)}[name]
    chunks = row_chunks(array, chunk_shape[0]) if name == SSG else image_chunks(array, chunk_shape[1])
    return map(np.ascontiguousarray, chunks)


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

    def run_in_turn(
        self, executors: Mapping[str, Executor], rounds: int, between: Callable[[], None] = lambda: None
    ) -> str:
        """Build with each executor in every round, after one that does not count; the last store is left behind."""
        out = ""
        for number in range(rounds + 1):
            for name, executor in executors.items():
                if out:
                    shutil.rmtree(out)
                out = tempfile.mkdtemp(dir=self._folder)
                wall, processor = time.perf_counter(), time.process_time()
                build(replace(self._config, out=out, workers=1), executor=executor)
                if number:  # the first loads libraries, starts Ray's worker processes
                    self.wall[name].append(time.perf_counter() - wall)
                    self.processor[name].append(time.process_time() - processor)
            if number:
                between()
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


def measure(options: argparse.Namespace, patch_size: int, folder: Path) -> tuple[dict[str, Any], str]:
    """All builds and parts with patches of one size: two tables, and what was built, in words."""
    rounds = options.rounds or (1 if options.tiny else _ROUNDS)
    config = BuildConfig(
        dataset=dataset_file(options, folder),
        out=str(folder / "plan"),
        patch=PatchSpec(patch_size=patch_size, step=options.step or patch_size // 2),
        store=_store_spec(options),
    )
    plan = make_build_plan(config)
    builds = Builds(config, folder)
    executors = {_ONE_THREAD: SerialExecutor(1)}
    if usable_cores() > 1:
        executors[f"serial, {usable_cores()} threads"] = SerialExecutor(usable_cores())
    parts: list[dict[str, float]] = []
    out = builds.run_in_turn(executors, rounds, lambda: parts.append(time_parts(plan)))
    for workers in sorted({1, options.workers}) if options.ray else ():
        with ray_workers(workers):  # one after the other: a Ray of two cores would give both to one worker's tasks
            shutil.rmtree(out)
            out = builds.run_in_turn(
                {f"Ray, {workers} worker{'s' if workers > 1 else ''}": RayExecutor(workers)}, rounds
            )
    store = open_store(out)
    entries = int(store.counts.sum()) * store.spec.num_positions
    ssg_bytes = sum(path.stat().st_size for path in (Path(out) / SSG).rglob("*") if path.is_file())
    shutil.rmtree(out)
    tables = {
        f"builds, {patch_size}": _speeds(builds, plan, store.num_patches, entries),
        f"parts, {patch_size}": _shares(builds, parts),
        f"plainly, {patch_size}": [
            measure_plainly(options, statistics.median(builds.processor[_ONE_THREAD]) / entries, folder)
        ],
    }
    what = (
        f"{store.num_patches} patches, {store.counts.sum():,} graphs, {plan.store.num_shards} shards, "
        f"{ssg_bytes / entries:.3f} bytes per entry on disk; medians of {rounds}"
    )
    return tables, what


def measure_plainly(options: argparse.Namespace, seconds_per_entry: float, folder: Path) -> dict[str, Any]:
    """Processor time per entry without this library's kernels and store, and how many times a whole build's that is."""
    path = photographs(options.images)[0]
    began = time.process_time()
    with Image.open(path) as opened:
        image = np.asarray(opened.convert("RGB"))
    pixels = edge_pixels(edge_mask(image))[:_PLAIN_GRAPHS]
    graphs = self_similarity_graph(image, pixels, backend="numpy")
    np.savez_compressed(folder / "plain.npz", gt=image, pixels=pixels, ssg=graphs)
    plain = (time.process_time() - began) / graphs.size
    return {
        "build": f"NumPy and .npz, {len(pixels)} graphs",
        "ns/entry": plain * 1e9,
        "times a whole build": plain / seconds_per_entry,
    }


def _store_spec(options: argparse.Namespace) -> StoreSpec:
    return StoreSpec(compression=options.compression, quantization=options.quantization, lq_scale=options.lq_scale)


def _speeds(builds: Builds, plan: BuildPlan, num_patches: int, entries: int) -> list[dict[str, Any]]:
    used = [cut.source for cut in plan.cuts]  # once each: the benchmark makes no copies
    source_bytes = sum(3 * (s.height or 0) * (s.width or 0) for s in used)
    alone = {name.split(",")[0]: statistics.median(walls) for name, walls in builds.wall.items() if " 1 " in name}
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
                "speed-up": alone[name.split(",")[0]] / seconds,
            }
        )
    return rows


def _shares(builds: Builds, parts: list[dict[str, float]]) -> list[dict[str, Any]]:
    whole = statistics.median(builds.processor[_ONE_THREAD])
    medians = {name: statistics.median(part[name] for part in parts) for name in parts[0]}
    total = sum(medians.values())
    medians |= {"sum of the parts": total, "whole build": whole, "allowed": _ALLOWED * total}
    return [
        {"part (processor time, 1 thread)": name, "s": seconds, "of the sum": seconds / total}
        for name, seconds in medians.items()
    ]


def measure_memory(options: argparse.Namespace, patch_size: int, folder: Path) -> dict[str, Any]:
    """Peak memory of a process that builds a store of noise."""
    images = folder / f"noise-{patch_size}"
    images.mkdir()
    side = 2 * patch_size
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise).save(images / "noise.png")
    command = [sys.executable, "-m", __name__, str(images), "--peak", "--patch-size", str(patch_size)]
    command += ["--compression", options.compression, "--quantization", options.quantization]
    if options.lq_scale is not None:
        command += ["--lq-scale", str(options.lq_scale)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    peak = int(done.stdout)
    return {
        "patch": f"{patch_size}",
        "peak MB": peak / 1e6,
        "allowed MB": _ALLOWED_BYTES / 1e6,
        "of allowed": peak / _ALLOWED_BYTES,
    }


def peak_of_build(options: argparse.Namespace, folder: Path) -> int:
    """Build here with one thread; the peak resident memory of this process until now, in bytes."""
    (patch_size,) = options.patch_size
    patch = PatchSpec(patch_size=patch_size, step=options.step or patch_size // 2)
    config = BuildConfig(dataset=options.images, out=str(folder / "peak"), patch=patch, store=_store_spec(options))
    build(config, executor=SerialExecutor(1))
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = benchmark_parser("build", __doc__)
    parser.add_argument("--patch-size", type=int, nargs="+", help=f"one or more {list(_PATCH_SIZES)}")
    parser.add_argument("--step", type=int, help="of the patches [half of their size]")
    parser.add_argument("--lq-scale", type=int, help="also store reduced patches [not]")
    parser.add_argument("--compression", choices=get_args(Compression), default=StoreSpec().compression)
    parser.add_argument("--quantization", choices=get_args(Quantization), default=StoreSpec().quantization)
    parser.add_argument("--workers", type=int, default=2, help="Ray workers")
    parser.add_argument("--ray", action=argparse.BooleanOptionalAction, help="with Ray [yes, but not with --tiny]")
    parser.add_argument("--work-dir", help="existing folder for the stores, removed afterwards [the system's]")
    parser.add_argument("--peak", action="store_true", help="only build once, and print the peak memory in bytes")
    options = parser.parse_args(arguments)
    if options.ray is None:
        options.ray = not options.tiny
    options.patch_size = options.patch_size or ([64] if options.tiny else _PATCH_SIZES)
    with tempfile.TemporaryDirectory(dir=options.work_dir) as name:
        folder = Path(name)
        if options.peak:
            print(peak_of_build(options, folder))
            return
        tables: dict[str, Any] = {}
        notes: dict[str, Any] = {"compression": options.compression, "quantization": options.quantization}
        for patch_size in options.patch_size:
            found, notes[f"patches of {patch_size}"] = measure(options, patch_size, folder)
            tables |= found
        tables["memory of a worker, dense noise"] = [
            measure_memory(options, patch_size, folder) for patch_size in options.patch_size
        ]
        report = {"title": "Whole builds and their parts", "tables": tables, "notes": notes}
        print_report(report, as_json=options.json)


if __name__ == "__main__":
    main()
