"""Speed of the self-similarity graph: every backend, against other ways to compute the same, in one run.

The unit is nanoseconds per entry: one of the K = 625 values of one edge pixel, one thread. "unfold" is the graph as one
would write it with `Tensor.unfold`; the box filters compute, one search offset after the other, the squared difference
of the image and the moved image and its sums over all windows, from which the edge pixels are picked. They work on
whole images, whatever the density of edge pixels, and for boundary "image" only: "if all" is what they would need per
entry if every pixel were an edge pixel. With one thread, time is processor time; with more it is wall-clock time.
"""

from __future__ import annotations

import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ssl_data import SSGSpec, available_backends, edge_mask, edge_pixels, self_similarity_graph
from ssl_data.benchmarks.common import benchmark_parser, medians, photographs, print_report
from ssl_data.geometry.positions import search_offsets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_SIDE = 512
"""Photographs are cropped to this height and width, as in a build."""
_MOST = 12_000
"""Edge pixels of one photograph, spread evenly: 30 MB of float32 graphs, for which memory is not fetched anew."""
_FEW = 64
"""Edge pixels given to what is some hundred times slower."""

Sample = list[tuple["NDArray[np.uint8]", "NDArray[np.int32]"]]
"""Photographs with their edge pixels."""


def load(path: Path, side: int) -> NDArray[np.uint8]:
    """The centre of a photograph."""
    with Image.open(path) as opened:
        image: NDArray[np.uint8] = np.array(opened.convert("RGB"))
    top, left = (max(length - side, 0) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side].copy()


def graph(sample: Sample, spec: SSGSpec, **options: Any) -> Callable[[], object]:  # noqa: ANN401 - passed on
    """A call of `self_similarity_graph` for all photographs."""
    return lambda: [self_similarity_graph(image, pixels, spec, **options) for image, pixels in sample]


def entries(sample: Sample, spec: SSGSpec) -> int:
    """Values that one pass over the sample computes."""
    return sum(len(pixels) for _, pixels in sample) * spec.num_positions


def few(sample: Sample) -> Sample:
    """The same photographs with `_FEW` edge pixels each, spread evenly."""
    return [(image, pixels[:: max(len(pixels) // _FEW, 1)][:_FEW]) for image, pixels in sample]


def box_filter_opencv(image: NDArray[np.uint8], pixels: NDArray[np.int32], spec: SSGSpec) -> NDArray[np.float32]:
    """Sums of squared differences by one ``cv2.boxFilter`` per offset."""
    import cv2  # noqa: PLC0415 - optional

    size = (spec.window_size, spec.window_size)
    options: dict[str, Any] = {"normalize": False, "borderType": cv2.BORDER_CONSTANT}

    def box(squares: NDArray[np.float32]) -> NDArray[np.float32]:
        return cv2.boxFilter(squares, -1, size, **options).astype(np.float32, copy=False)

    return _box_filter(image, pixels, spec, box)


def box_filter_numpy(image: NDArray[np.uint8], pixels: NDArray[np.int32], spec: SSGSpec) -> NDArray[np.float32]:
    """The same by cumulative sums, in float64: those of float32 would be inexact."""
    before, after = spec.window_radius + 1, spec.window_radius

    def box(squares: NDArray[np.float32]) -> NDArray[np.float32]:
        sums: NDArray[np.float64] = np.pad(squares.astype(np.float64), ((before, after), (before, after)))
        for axis in range(2):
            sums = sums.cumsum(axis=axis)
            length = sums.shape[axis]
            sums = sums.take(range(spec.window_size, length), axis) - sums.take(range(length - spec.window_size), axis)
        return sums.astype(np.float32)

    return _box_filter(image, pixels, spec, box)


def box_filter_torch(image: NDArray[np.uint8], pixels: NDArray[np.int32], spec: SSGSpec) -> NDArray[np.float32]:
    """The same by ``avg_pool2d``."""
    import torch  # noqa: PLC0415 - optional

    def box(squares: NDArray[np.float32]) -> NDArray[np.float32]:
        tensor = torch.from_numpy(squares)[None, None]
        pooled = torch.nn.functional.avg_pool2d(tensor, spec.window_size, 1, spec.window_radius, divisor_override=1)
        summed: NDArray[np.float32] = pooled[0, 0].numpy()
        return summed

    return _box_filter(image, pixels, spec, box)


def _box_filter(
    image: NDArray[np.uint8],
    pixels: NDArray[np.int32],
    spec: SSGSpec,
    box: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """`box` gives, for every pixel, the sum over the window around it."""
    height, width = image.shape[:2]
    search, window = spec.search_radius, spec.window_radius
    reach = search + window
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect").astype(np.float32)
    fixed = padded[search : search + height + 2 * window, search : search + width + 2 * window]
    rows, cols = pixels[:, 0] + window, pixels[:, 1] + window
    ssd = np.empty((len(pixels), spec.num_positions), dtype=np.float32)
    for position, (dy, dx) in enumerate(search_offsets(spec) + search):
        moved = padded[dy : dy + height + 2 * window, dx : dx + width + 2 * window]
        difference = fixed - moved
        squares: NDArray[np.float32] = np.einsum("ijc,ijc->ij", difference, difference)
        ssd[:, position] = box(squares)[rows, cols]
    return ssd


def unfold(image: NDArray[np.uint8], pixels: NDArray[np.int32], spec: SSGSpec) -> NDArray[np.float32]:
    """The graph as one would first write it with torch."""
    import torch  # noqa: PLC0415 - optional

    from ssl_data.benchmarks.unfold_loss import unfold_ssd  # noqa: PLC0415 - needs torch

    tensor = torch.from_numpy(image).movedim(2, 0)[None].float()
    row, col = torch.from_numpy(pixels.astype(np.int64)).unbind(1)
    ssd: NDArray[np.float32] = unfold_ssd(tensor, torch.zeros_like(row), row, col, spec).numpy()
    return ssd


def measure_backends(sample: Sample, rounds: int) -> list[dict[str, Any]]:
    """Nanoseconds per entry of every backend, boundary and output."""
    rows = []
    for backend in available_backends()[1:]:
        used = few(sample) if backend == "numpy" else sample
        row: dict[str, Any] = {"backend": backend}
        for boundary in ("zero", "image"):
            spec = SSGSpec(boundary=boundary)
            candidates = {
                f"{boundary} {output}": graph(used, spec, output=output, backend=backend)
                for output in ("codes", "normalized")
            }
            seconds = medians(candidates, rounds=rounds, clock=time.process_time)
            row |= {name: value * 1e9 / entries(used, spec) for name, value in seconds.items()}
        rows.append(row)
    return rows


def measure_others(sample: Sample, whole: Sample, rounds: int) -> list[dict[str, Any]]:
    """Sums of squared differences, boundary "image": nanoseconds per entry, and how many times longer than ours.

    `whole` holds all edge pixels of a photograph, for the box filters: to them it makes no difference how many.
    """
    spec = SSGSpec(boundary="image")
    ours = available_backends()[0]
    methods: dict[str, tuple[Callable[..., Any], Sample]] = {
        ours: (lambda *case: self_similarity_graph(*case, output="ssd", backend=ours), sample),
        "numpy (oracle)": (lambda *case: self_similarity_graph(*case, output="ssd", backend="numpy"), few(sample)),
        "box filter, numpy": (box_filter_numpy, whole),
    }
    if find_spec("cv2"):
        methods["box filter, OpenCV"] = (box_filter_opencv, whole)
    if find_spec("torch"):
        import torch  # noqa: PLC0415 - optional

        torch.set_num_threads(1)
        methods["box filter, torch"] = (box_filter_torch, whole)
        methods["unfold, torch"] = (unfold, few(sample))
    if find_spec("cv2"):
        import cv2  # noqa: PLC0415 - optional

        cv2.setNumThreads(1)
    _check(methods, sample, spec)
    rows: list[dict[str, Any]] = []
    for name, (method, used) in methods.items():
        calls = {name: lambda method=method, used=used: [method(*case, spec) for case in used]}
        # The slow ones would be measured for minutes otherwise; they are not in doubt by a few per cent.
        fast = name == ours
        seconds = medians(calls, rounds=rounds if fast else 1, warm_up=fast, clock=time.process_time)[name]
        row = {"method": name, "ns/entry": seconds * 1e9 / entries(used, spec)}
        row["times ours"] = row["ns/entry"] / rows[0]["ns/entry"] if rows else 1
        if "box" in name:
            row["if all"] = seconds * 1e9 / sum(image[..., 0].size * spec.num_positions for image, _ in used)
        rows.append(row)
    return rows


def _check(methods: dict[str, tuple[Callable[..., Any], Sample]], sample: Sample, spec: SSGSpec) -> None:
    """All methods give the same sums; those of float32 are exact too, since they stay below 2^24."""
    image, pixels = few(sample)[0]
    image = image[:96, :96]
    pixels = (pixels % 96).astype(np.int32)
    expected = self_similarity_graph(image, pixels, spec, output="ssd", backend="numpy")
    for name, (method, _) in methods.items():
        if not np.array_equal(method(image, pixels, spec), expected):
            raise SystemExit(f"{name} computes something else")


def measure_density(sample: Sample, rounds: int) -> list[dict[str, Any]]:
    """Random pixels, few to many: nanoseconds per entry of the codes."""
    image = sample[0][0]
    generator = np.random.default_rng(0)
    spec = SSGSpec()
    chosen = {}
    for percent in (1, 2, 5, 15, 50):
        pixels = edge_pixels(generator.random(image.shape[:2]) * 100 < percent)
        chosen[percent] = [(image, pixels)]
    seconds = medians(
        {str(percent): graph(one, spec, output="codes") for percent, one in chosen.items()},
        rounds=rounds,
        clock=time.process_time,
    )
    return [
        {"edge pixels, %": percent, "ns/entry": seconds[str(percent)] * 1e9 / entries(one, spec)}
        for percent, one in chosen.items()
    ]


def measure_threads(sample: Sample, rounds: int) -> list[dict[str, Any]]:
    """Codes with one and two threads."""
    spec = SSGSpec()
    candidates = {str(threads): graph(sample, spec, output="codes", num_threads=threads) for threads in (1, 2)}
    seconds = medians(candidates, rounds=rounds)
    return [
        {"threads": threads, "ns/entry": value * 1e9 / entries(sample, spec), "speed-up": seconds["1"] / value}
        for threads, value in seconds.items()
    ]


def main(options: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = benchmark_parser("kernel", __doc__).parse_args(options)
    rounds = arguments.rounds or (1 if arguments.tiny else 7)
    side, most = (64, 50) if arguments.tiny else (_SIDE, _MOST)
    sample: Sample = []
    whole: Sample = []
    for path in photographs(arguments.images)[: 1 if arguments.tiny else None]:
        image = load(path, side)
        pixels = edge_pixels(edge_mask(image))
        if min(image.shape[:2]) >= SSGSpec(boundary="image").min_side and len(pixels):
            sample.append((image, pixels[:: -(-len(pixels) // most)]))
            whole.append((image, pixels))
    if not sample:
        raise SystemExit("no image has edge pixels")
    report = {
        "title": f"Self-similarity graphs, {len(sample)} photographs, {sum(len(p) for _, p in sample)} edge pixels",
        "tables": {
            "backends, ns per entry": measure_backends(sample, rounds),
            "other ways, plain sums, boundary image": measure_others(sample, whole[:1], rounds),
            "density": measure_density(sample, rounds),
            "threads": measure_threads(sample, rounds),
        },
        "notes": {"rounds": rounds},
    }
    print_report(report, as_json=arguments.json)


if __name__ == "__main__":
    main()
