"""Time and memory of the loss with its gradient, beside a straightforward implementation.

One training step's share of the loss: forward, KL + L1, backward to the SR images; graphs of the ground truth come as
uint8 codes, as a store gives them. An entry is one of the 625 values of a graph. The yardstick is the loss written with
`Tensor.unfold` and autograd (``benchmarks/unfold_loss.py``), on one small crop, because its memory allows no more; time
per entry does not depend on the number of edge pixels there. Peak memory is measured in a fresh process each: on a CPU
the growth of the resident set from before the step to its highest point, on a GPU what the allocator reports.

With ``--device cuda`` both backends are measured, triton and torch. A small crop shows little there but the launching
of kernels: compare them on the large batches, in the column "times faster than torch".
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

import ssl_data
from ssl_data.benchmarks.common import benchmark_parser, medians, photographs, print_report
from ssl_data.benchmarks.unfold_loss import unfold_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ssl_data.training.loss import Backend

_SPEC = ssl_data.SSGSpec()
_ROUNDS = 5
_UNFOLD = "unfold + autograd"
_BACKENDS: dict[str, Backend] = {"ssl_data": "auto", "ssl_data, triton": "triton", "ssl_data, torch": "torch"}


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a step is measured on."""

    count: int
    """Images in the batch."""
    side: int
    """Their height and width."""
    edge_stride: int = 1

    def __str__(self) -> str:
        return f"{self.count} x {self.side}^2" + (f", edge_stride {self.edge_stride}" if self.edge_stride > 1 else "")


_COMPARED = Load(count=1, side=64)
_TINY = Load(count=1, side=32)
_LOADS = [
    Load(count=4, side=128),
    Load(count=4, side=256),
    Load(count=4, side=128, edge_stride=3),
    Load(count=4, side=256, edge_stride=3),
]
_GPU_LOADS = [*_LOADS, Load(count=16, side=256), Load(count=16, side=256, edge_stride=3)]


def load_batch(paths: Sequence[Path], load: Load, device: str) -> tuple[torch.Tensor, ssl_data.SSGBatch]:
    """Noisy crops from the middle of photographs as SR images, and the graphs of the clean ones."""
    samples, crops = [], []
    for index in range(load.count):
        with Image.open(paths[index % len(paths)]) as image:
            pixels = np.asarray(image.convert("RGB"))
        top, left = ((length - load.side) // 2 for length in pixels.shape[:2])
        crop = np.ascontiguousarray(pixels[top : top + load.side, left : left + load.side])
        edges = ssl_data.edge_pixels(ssl_data.edge_mask(crop), edge_stride=load.edge_stride)
        row, col = torch.from_numpy(edges.T.copy())
        codes = torch.from_numpy(ssl_data.self_similarity_graph(crop, edges, _SPEC, output="codes"))
        samples.append({"ssg": ssl_data.SSGBatch(codes=codes, image=torch.zeros_like(row), row=row, col=col)})
        crops.append(torch.from_numpy(crop).movedim(2, 0).float() / 255)
    gt = torch.stack(crops)
    sr = (gt + 0.02 * torch.randn(gt.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    return sr.to(device).requires_grad_(), ssl_data.collate(samples)["ssg"].to(device)


def candidates(loads: Sequence[Load], device: str) -> list[tuple[str, Load]]:
    """What is measured: the yardstick on the first load only, ours on all."""
    ours = ["ssl_data"] if device == "cpu" else ["ssl_data, triton", "ssl_data, torch"]
    return [(_UNFOLD, loads[0]), *((name, load) for load in loads for name in ours)]


def make_step(name: str, sr: torch.Tensor, ssg: ssl_data.SSGBatch) -> Callable[[], None]:
    """Forward and backward by one of the implementations."""
    loss = ssl_data.SelfSimilarityLoss(_SPEC, backend=_BACKENDS.get(name, "auto"))

    def step() -> None:
        terms = loss(sr, ssg) if name in _BACKENDS else unfold_loss(sr, ssg, _SPEC)
        sr.grad = None
        terms.total.backward()
        if sr.is_cuda:
            torch.cuda.synchronize(sr.device)

    return step


def peak_bytes_here(step: Callable[[], None], device: str) -> int:
    """Growth of memory during one step, in this process; on a CPU under Linux only."""
    if device != "cpu":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest point so far is forgotten
    before = _status_bytes("VmRSS")
    step()
    return _status_bytes("VmHWM") - before


def _status_bytes(field: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition(f"{field}:")[2].split()[0])


def peak_bytes(name: str, load: Load, options: Any) -> int:  # noqa: ANN401 - parsed arguments
    """The same in a fresh process."""
    command = [sys.executable, __file__, "--peak", name, "--load", f"{load.count},{load.side},{load.edge_stride}"]
    command += ["--device", options.device, "--threads", str(options.threads)]
    command += [options.images] if options.images else []
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_speed(paths: Sequence[Path], loads: Sequence[Load], rounds: int, options: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    """Nanoseconds per entry of all candidates, measured in turn; the yardstick on the first load only."""
    steps, edge_pixels = {}, {}
    for name, load in candidates(loads, options.device):
        sr, ssg = load_batch(paths, load, options.device)
        steps[f"{name}, {load}"] = make_step(name, sr, ssg)
        edge_pixels[f"{name}, {load}"] = len(ssg), len(ssg) / (load.count * load.side**2)
    one_thread = options.device == "cpu" and options.threads == 1
    clock = time.process_time if one_thread else time.perf_counter
    seconds = medians(steps, rounds=rounds, clock=clock)
    rows = []
    for key, value in seconds.items():
        count, density = edge_pixels[key]
        row: dict[str, Any] = {"implementation, images": key, "edge pixels": count, "density": density}
        rows.append({**row, "ns/entry": value / (count * _SPEC.num_positions) * 1e9})
    for row in rows:
        row["times faster"] = rows[0]["ns/entry"] / row["ns/entry"]
    if options.device != "cpu":
        for ours, torch_path in zip(rows[1::2], rows[2::2], strict=True):
            ours["times faster than torch"] = torch_path["ns/entry"] / ours["ns/entry"]
    return rows


def measure_memory(paths: Sequence[Path], loads: Sequence[Load], options: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    """Peak memory of the same candidates, each in a process of its own."""
    rows: list[dict[str, Any]] = []
    for name, load in candidates(loads, options.device):
        count = len(load_batch(paths, load, "cpu")[1])
        peak = peak_bytes(name, load, options)
        row = {"implementation, images": f"{name}, {load}", "edge pixels": count, "peak MB": peak / 1e6}
        rows.append({**row, "kB/edge pixel": peak / count / 1e3})
    for row in rows:
        row["times less per edge pixel"] = rows[0]["kB/edge pixel"] / row["kB/edge pixel"]
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print two tables."""
    parser = benchmark_parser("loss", __doc__)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ... [cpu]")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU; with 1, processor time counts [1]")
    parser.add_argument(
        "--peak", choices=[*_BACKENDS, _UNFOLD], help="print only one implementation's peak memory, in bytes"
    )
    parser.add_argument("--load", default="1,64,1", help="with --peak: images, side, edge_stride")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    paths = photographs(options.images)
    if options.peak:
        count, side, edge_stride = map(int, options.load.split(","))
        batch = load_batch(paths, Load(count=count, side=side, edge_stride=edge_stride), options.device)
        print(peak_bytes_here(make_step(options.peak, *batch), options.device))
        return
    rounds = options.rounds or (1 if options.tiny else _ROUNDS)
    loads = [_TINY] if options.tiny else [_COMPARED, *(_LOADS if options.device == "cpu" else _GPU_LOADS)]
    device = (
        torch.cuda.get_device_name(options.device) if options.device != "cpu" else f"CPU, {options.threads} threads"
    )
    report = {
        "title": f"Loss, forward and backward, on {device}; medians of {rounds} rounds",
        "tables": {
            "time": measure_speed(paths, loads, rounds, options),
            "peak memory": measure_memory(paths, loads[:3], options),
        },
        "notes": {"command": shlex.join([*parser.prog.split(), *(sys.argv[1:] if arguments is None else arguments)])},
    }
    print_report(report, as_json=options.json)


if __name__ == "__main__":
    main()
