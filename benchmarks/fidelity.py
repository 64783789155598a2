"""What storing graphs in few bits costs the loss and its gradient, on photographs.

Every photograph's centre is the ground truth. Its exact graphs are computed in float64; then they are stored and
decoded in each way, and the loss and its gradient, in float64, are compared with those of the exact ones:

    sqrt8, sqrt12   as a store holds them, through `SSGBatch`
    float16         the normalised graph
    linear8         round(255 S) in one byte

for two super-resolved images: "bicubic", reduced by 4 and enlarged again, which is blurred; and "sharp", the mean of
that and the ground truth (``--share`` says in which proportion) with noise of 2/255, which has wrong details as the
output of a trained network has. "Loss" is the total with the default weights. Errors of gradients are relative,
|g - g0| / |g0| in the Euclidean norm; "KL" and "L1" are those of the two terms alone. A photograph with few edge pixels
counts as much as any other; the worst one decides. The nearer an image comes to the ground truth, the smaller is the
loss, and the larger are the errors relative to it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import cosine_similarity, interpolate

from ssl_data import SelfSimilarityLoss, SSGBatch, SSGSpec, edge_mask, edge_pixels, self_similarity_graph
from ssl_data.benchmarks.common import benchmark_parser, medians, photographs, print_report
from ssl_data.config import CODE_TYPES
from ssl_data.kernels.codes import graph_codes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from ssl_data.config import Quantization

__all__ = ["ALLOWED", "measure"]

_SPEC = SSGSpec()
_SIDE, _TINY_SIDE = 128, 64
_FEWEST = 300
"""Photographs with fewer edge pixels in their centre are left out."""

ALLOWED: dict[str, dict[str, float]] = {
    "sqrt8": {"loss": 1.2e-3, "1 - cosine": 1.5e-4, "KL gradient": 3e-3, "L1 gradient": 2e-2},
    "sqrt12": {"loss": 2e-5, "1 - cosine": 1e-5, "KL gradient": 2e-4, "L1 gradient": 5e-3},
}
"""Largest errors that a store's codes may have on a photograph."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The centre of a photograph, and what is made of it."""

    pixels: NDArray[np.uint8]
    gt: Tensor
    """float64 (1, 3, H, W)"""
    mask: Tensor
    """bool (1, 1, H, W)"""

    def exact(self) -> SSGBatch:
        """The exact graphs, float64."""
        return SSGBatch.from_images(self.gt, self.mask, _SPEC)

    def super_resolved(self, share: float) -> dict[str, Tensor]:
        """The two kinds, by name; `share` is that of the ground truth in the sharp one."""
        small = interpolate(self.gt, scale_factor=1 / 4, mode="bicubic", antialias=True)
        bicubic = interpolate(small, scale_factor=4, mode="bicubic").clamp(0, 1)
        noise = torch.randn(self.gt.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        sharp = (bicubic + share * (self.gt - bicubic) + 2 / 255 * noise).clamp(0, 1)
        return {"bicubic": bicubic, "sharp": sharp}


def load_scene(path: Path, side: int) -> Scene | None:
    """The centre of a photograph; None where it has hardly any edges."""
    with Image.open(path) as opened:
        image = np.asarray(opened.convert("RGB"))
    height, width = (min(side, length) // 4 * 4 for length in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    pixels = np.ascontiguousarray(image[top : top + height, left : left + width])
    mask = edge_mask(pixels)
    if mask.sum() < _FEWEST:
        return None
    gt = torch.from_numpy(pixels).double().div(255).permute(2, 0, 1)[None]
    return Scene(pixels=pixels, gt=gt, mask=torch.from_numpy(mask)[None, None])


def stored(scene: Scene, exact: SSGBatch) -> dict[str, SSGBatch]:
    """The graphs as they come back from each way of storing them."""
    index = {"image": exact.image, "row": exact.row, "col": exact.col}
    values = exact.normalized()
    similarity = values / values[:, _SPEC.num_positions // 2, None]  # 1 at the search centre
    linear = (255 * similarity).round() / 255
    batches: dict[str, SSGBatch] = {name: SSGBatch(codes=_codes(scene, name), **index) for name in CODE_TYPES}
    batches["float16"] = SSGBatch(values=values.half().double(), **index)
    batches["linear8"] = SSGBatch(values=linear / linear.sum(1, keepdim=True), **index)
    return batches


def _codes(scene: Scene, quantization: Quantization) -> Tensor:
    pixels = edge_pixels(scene.mask[0, 0].numpy())
    return torch.from_numpy(graph_codes(scene.pixels, pixels, _SPEC, quantization))


def losses_and_gradients(sr: Tensor, graphs: SSGBatch) -> dict[str, Tensor]:
    """Total, and the gradients of KL, of L1 and of both."""
    sr = sr.clone().requires_grad_()
    terms = SelfSimilarityLoss(_SPEC, backend="torch")(sr, graphs)
    (kl,) = torch.autograd.grad(terms.kl, sr, retain_graph=True)
    (l1,) = torch.autograd.grad(terms.l1, sr)
    return {"loss": terms.total.detach(), "KL gradient": kl.flatten(), "L1 gradient": l1.flatten()}


def errors(found: dict[str, Tensor], exact: dict[str, Tensor]) -> dict[str, float]:
    """Of the loss and of the gradients, relative."""
    whole, exact_whole = (one["KL gradient"] + one["L1 gradient"] for one in (found, exact))
    relative = {name: ((found[name] - exact[name]).norm() / exact[name].norm()).item() for name in exact}
    cosine = cosine_similarity(whole, exact_whole, dim=0).item()
    return {"loss": relative.pop("loss"), "1 - cosine": 1 - cosine, **relative}


def measure(paths: Sequence[Path], side: int, share: float = 0.5) -> list[dict[str, Any]]:
    """Errors of every way of storing, for every photograph and kind of super-resolved image."""
    rows = []
    for path in paths:
        scene = load_scene(path, side)
        if scene is None:
            continue
        exact = scene.exact()
        ways = stored(scene, exact)
        for kind, sr in scene.super_resolved(share).items():
            reference = losses_and_gradients(sr, exact)
            for name, graphs in ways.items():
                found = errors(losses_and_gradients(sr, graphs), reference)
                rows.append({"photograph": path.name, "sr": kind, "stored as": name, **found})
    return rows


def summarize(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per kind and way of storing: the mean error of the loss, and the worst of everything."""
    table = []
    for sr, name in dict.fromkeys((row["sr"], row["stored as"]) for row in rows):
        group = [row for row in rows if (row["sr"], row["stored as"]) == (sr, name)]
        line: dict[str, Any] = {"SR, stored as": f"{sr}, {name}"}
        line["loss, mean"] = float(np.mean([row["loss"] for row in group]))
        line |= {f"{error}, worst": max(row[error] for row in group) for error in ALLOWED["sqrt8"]}
        table.append(line)
    return table


def against_allowed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The worst errors of the store's codes beside what they may be, and beside linear codes."""
    table = []
    for name, bounds in ALLOWED.items():
        for error, bound in bounds.items():
            worst = max(row[error] for row in rows if row["stored as"] == name)
            linear = max(row[error] for row in rows if row["stored as"] == "linear8")
            line = {"worst error of any photograph": f"{name}, {error}", "found": worst, "allowed": bound}
            table.append({**line, "of allowed": worst / bound, "linear8, times": linear / worst})
    return table


def measure_coding(paths: Sequence[Path], side: int, rounds: int) -> list[dict[str, Any]]:
    """Time to compute codes, one thread."""
    scenes = [scene for scene in (load_scene(path, side) for path in paths) if scene is not None]
    cases = [(scene.pixels, edge_pixels(scene.mask[0, 0].numpy())) for scene in scenes]
    entries = sum(len(pixels) for _, pixels in cases) * _SPEC.num_positions

    def coder(quantization: Quantization) -> Callable[[], object]:
        return lambda: [graph_codes(image, pixels, _SPEC, quantization) for image, pixels in cases]

    calls: dict[str, Callable[[], object]] = {name: coder(name) for name in CODE_TYPES}
    calls["no codes, only ssd"] = lambda: [self_similarity_graph(*case, _SPEC, output="ssd") for case in cases]
    seconds = medians(calls, rounds=rounds, clock=time.process_time)
    return [
        {"computing": name, "ns/entry": value * 1e9 / entries, "times sqrt8": value / seconds["sqrt8"]}
        for name, value in seconds.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = benchmark_parser("fidelity", __doc__)
    parser.add_argument("--share", type=float, default=0.5, help="of the ground truth in the sharp images [0.5]")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    paths = photographs(options.images)[: 1 if options.tiny else None]
    side = _TINY_SIDE if options.tiny else _SIDE
    rows = measure(paths, side, options.share)
    if not rows:
        raise SystemExit("no image has edge pixels in its centre")
    count = len({row["photograph"] for row in rows})
    report = {
        "title": f"Loss and gradient with stored graphs, centres of {side}x{side} of {count} photographs, float64",
        "tables": {
            "errors": summarize(rows),
            "bounds": against_allowed(rows),
            "coding, 1 thread": measure_coding(paths, side, options.rounds or (1 if options.tiny else 5)),
        },
    }
    print_report(report, as_json=options.json)


if __name__ == "__main__":
    main()
