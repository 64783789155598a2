"""Speed of the self-similarity graph: every backend, against other ways to compute the same, in one run.

The unit is nanoseconds per entry: one of the K = 625 values of one edge pixel, one thread. "unfold" is the graph as one
would write it with `Tensor.unfold`. The box filters compute, one search offset after the other, the squared difference
of the image and the moved image and its sums over all windows, from which the edge pixels are picked. One map of sums
serves an offset and its opposite, so that there are only (K + 1) / 2 of them. They work on whole images, whatever the
density of edge pixels, and for boundary "image" only: "if all" is what they would need per entry if every pixel were an
edge pixel. With one thread, time is processor time, with more it is wall-clock time. The fastest round says more about
the program than the median where a machine is busy with other things.
"""

from __future__ import annotations

import time
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from PIL import Image

from ssl_data import SSGSpec, available_backends, edge_mask, edge_pixels, self_similarity_graph
from ssl_data.benchmarks.common import benchmark_parser, medians, photographs, print_report
from ssl_data.config import Boundary
from ssl_data.geometry.positions import search_offsets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ssl_data.kernels.ssg import Output

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


def graph(sample: Sample, spec: SSGSpec, output: Output, **options: Any) -> Callable[[], None]:  # noqa: ANN401 - passed on
    """A call of `self_similarity_graph` for all photographs, which writes into the same memory every time."""
    dtype = {"codes": np.uint8, "normalized": np.float32, "ssd": np.int32}[output]
    out = np.zeros((max(len(pixels) for _, pixels in sample), spec.num_positions), dtype)

    def call() -> None:
        for image, pixels in sample:
            self_similarity_graph(image, pixels, spec, output=output, out=out[: len(pixels)], **options)

    return call


def rounds_of(candidates: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Processor seconds of each round, ascending; candidates take turns, and are called once before."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for measured in range(-1, rounds):
        for name, call in candidates.items():
            began = time.process_time()
            call()
            if measured >= 0:
                seconds[name].append(time.process_time() - began)
    return {name: sorted(values) for name, values in seconds.items()}


def entries(sample: Sample, spec: SSGSpec) -> int:
    """Values that one pass over the sample computes."""
    return sum(len(pixels) for _, pixels in sample) * spec.num_positions


def few(sample: Sample) -> Sample:
    """The same photographs with `_FEW` edge pixels each, spread evenly."""
    return [(image, pixels[:: max(len(pixels) // _FEW, 1)][:_FEW]) for image, pixels in sample]


def box_sums_opencv(fixed: list[NDArray[np.uint8]], moved: list[NDArray[np.uint8]], size: int) -> NDArray[Any]:
    """Differences of bytes and a running box filter: the fastest of OpenCV's ways that we found."""
    import cv2  # noqa: PLC0415 - optional

    squares = np.zeros(fixed[0].shape, np.float32)
    for one, other in zip(fixed, moved, strict=True):
        cv2.accumulateSquare(cv2.absdiff(one, other), squares)
    options: dict[str, Any] = {"normalize": False, "borderType": cv2.BORDER_CONSTANT}
    radius = size // 2
    sums: NDArray[Any] = cv2.boxFilter(squares, -1, (size, size), **options)
    return sums[radius:-radius, radius:-radius]


def box_sums_numpy(fixed: list[NDArray[np.uint8]], moved: list[NDArray[np.uint8]], size: int) -> NDArray[Any]:
    """Differences in int16, sums of rows and columns in int32 by doubling: 1 + 1, 2 + 2, 4 + 4, 8 + 1."""
    squares = np.zeros(fixed[0].shape, np.int32)
    for one, other in zip(fixed, moved, strict=True):
        difference = np.subtract(one, other, dtype=np.int16).astype(np.int32)
        difference *= difference
        squares += difference
    sums: NDArray[Any] = _sum_columns(_sum_columns(squares, size).T, size).T
    return sums


def box_sums_torch(fixed: list[NDArray[np.uint8]], moved: list[NDArray[np.uint8]], size: int) -> NDArray[Any]:
    """The same in float32, which torch adds faster than integers."""
    import torch  # noqa: PLC0415 - optional

    squares = torch.zeros(fixed[0].shape)
    for one, other in zip(fixed, moved, strict=True):
        difference = torch.from_numpy(one).float().sub_(torch.from_numpy(other))
        squares.addcmul_(difference, difference)
    sums: NDArray[Any] = _sum_columns(_sum_columns(squares, size).T, size).T.numpy()
    return sums


def _sum_columns(values: Any, size: int) -> Any:  # noqa: ANN401 - an array or a tensor
    """Sums of `size` rows each, by sums of powers of two of them."""
    total, reached, power, part = None, 0, 1, values
    num_sums = len(values) - size + 1
    while power <= size:
        if size & power:
            term = part[reached : reached + num_sums]
            total = term if total is None else total + term
            reached += power
        power *= 2
        if power <= size:
            part = part[: len(part) - power // 2] + part[power // 2 :]
    return total


def box_filter(
    image: NDArray[np.uint8], pixels: NDArray[np.int32], spec: SSGSpec, box_sums: Callable[..., NDArray[Any]]
) -> NDArray[np.float32]:
    """Sums of squared differences, offset by offset, over half of the offsets.

    The sums for the offset d at p are those for -d at p + d; so a map for d covers the edge pixels p and p - d.
    """
    height, width = image.shape[:2]
    window, reach = spec.window_radius, spec.search_radius + spec.window_radius
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    planes = [np.ascontiguousarray(padded[..., channel]) for channel in range(3)]
    row, col = pixels[:, 0], pixels[:, 1]
    ssd = np.empty((spec.num_positions, len(pixels)), dtype=np.float32)
    centre = spec.num_positions // 2
    for position, (dy, dx) in enumerate(search_offsets(spec)[centre:].tolist(), centre):
        left, right = max(dx, 0), max(-dx, 0)
        top, bottom = reach - window - dy, reach + window + height
        first, last = reach - window - left, reach + window + width + right
        fixed = [plane[top:bottom, first:last] for plane in planes]
        moved = [plane[top + dy : bottom + dy, first + dx : last + dx] for plane in planes]
        sums = box_sums(fixed, moved, spec.window_size)
        ssd[position] = sums[row + dy, col + left]
        ssd[spec.num_positions - 1 - position] = sums[row, col + left - dx]
    return ssd.T


def unfold(image: NDArray[np.uint8], pixels: NDArray[np.int32], spec: SSGSpec) -> NDArray[np.float32]:
    """The graph as one would first write it with torch."""
    import torch  # noqa: PLC0415 - optional

    from ssl_data.benchmarks.unfold_loss import unfold_ssd  # noqa: PLC0415 - needs torch

    tensor = torch.from_numpy(image).movedim(2, 0)[None].float()
    row, col = torch.from_numpy(pixels.astype(np.int64)).unbind(1)
    ssd: NDArray[np.float32] = unfold_ssd(tensor, torch.zeros_like(row), row, col, spec).numpy()
    return ssd


def measure_backends(sample: Sample, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Nanoseconds per entry of every backend, boundary and output: median and fastest round."""
    outputs: tuple[Output, ...] = ("codes", "normalized")
    tables: dict[str, list[dict[str, Any]]] = {"median": [], "fastest round": []}
    for backend in [name for name in available_backends() if name != "native"]:  # the same as the next one
        used = few(sample) if backend == "numpy" else sample
        candidates = {
            f"{boundary} {output}": graph(used, SSGSpec(boundary=boundary), output, backend=backend)
            for boundary in get_args(Boundary)
            for output in outputs
        }
        unit = 1e9 / entries(used, SSGSpec())
        seconds = rounds_of(candidates, rounds)
        for table, index in (("median", rounds // 2), ("fastest round", 0)):
            tables[table].append(
                {"backend": backend} | {name: values[index] * unit for name, values in seconds.items()}
            )
    return tables


def measure_others(sample: Sample, whole: Sample, rounds: int) -> list[dict[str, Any]]:
    """Sums of squared differences, boundary "image": nanoseconds per entry, and how many times longer than ours.

    `whole` holds all edge pixels of a photograph, for the box filters: to them it makes no difference how many.
    """
    spec = SSGSpec(boundary="image")
    ours = available_backends()[0]
    out = np.zeros((max(len(pixels) for _, pixels in sample), spec.num_positions), np.int32)

    def compute(image: NDArray[np.uint8], pixels: NDArray[np.int32], spec: SSGSpec) -> NDArray[Any]:
        return self_similarity_graph(image, pixels, spec, output="ssd", backend=ours, out=out[: len(pixels)])

    native = {} if ours == "numpy" else {ours: (compute, sample)}
    methods: dict[str, tuple[Callable[..., Any], Sample]] = {
        **native,
        "numpy (oracle)": (partial(self_similarity_graph, output="ssd", backend="numpy"), few(sample)),
        "box filter, numpy": (partial(box_filter, box_sums=box_sums_numpy), whole),
    }
    if find_spec("cv2"):
        methods["box filter, OpenCV"] = (partial(box_filter, box_sums=box_sums_opencv), whole)
    if find_spec("torch"):
        import torch  # noqa: PLC0415 - optional

        torch.set_num_threads(1)
        methods["box filter, torch"] = (partial(box_filter, box_sums=box_sums_torch), whole)
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
    chosen = {
        str(percent): [(image, edge_pixels(generator.random(image.shape[:2]) * 100 < percent))]
        for percent in (1, 2, 5, 15, 50)
    }
    seconds = rounds_of({percent: graph(one, spec, "codes") for percent, one in chosen.items()}, rounds)
    rows = []
    for percent, values in seconds.items():
        unit = 1e9 / entries(chosen[percent], spec)
        rows.append({"edge pixels, %": percent, "median": values[rounds // 2] * unit, "fastest": values[0] * unit})
    return rows


def measure_threads(sample: Sample, rounds: int) -> list[dict[str, Any]]:
    """Codes with one and two threads."""
    spec = SSGSpec()
    candidates = {str(threads): graph(sample, spec, "codes", num_threads=threads) for threads in (1, 2)}
    seconds = medians(candidates, rounds=rounds)
    return [
        {"threads": threads, "ns/entry": value * 1e9 / entries(sample, spec), "speed-up": seconds["1"] / value}
        for threads, value in seconds.items()
    ]


def measure_calls(rounds: int) -> list[dict[str, Any]]:
    """Microseconds of a call for some pixels near the border of a crop, as `SSLCachedDataset` makes them."""
    spec, generator = SSGSpec(), np.random.default_rng(0)
    image = generator.integers(0, 256, (128, 128, 3), dtype=np.uint8)
    ring = np.ones((128, 128), dtype=bool)
    ring[spec.pad : -spec.pad, spec.pad : -spec.pad] = False
    border = edge_pixels(ring)
    rows = []
    for count in (0, 1, 100, 600):
        pixels = border[np.sort(generator.choice(len(border), count, replace=False))]
        many = graph([(image, pixels)] * 100, spec, "codes")
        rows.append({"pixels": count, "us/call": medians({"calls": many}, rounds=rounds)["calls"] / 100 * 1e6})
    return rows


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
    tables: dict[str, list[dict[str, Any]]] = {
        f"backends, ns per entry, {name}": rows for name, rows in measure_backends(sample, rounds).items()
    }
    tables["other ways, plain sums, boundary image"] = measure_others(sample, whole, rounds)
    notes: dict[str, Any] = {"rounds": rounds}
    if available_backends() == ("numpy",):
        notes["extension"] = "missing: nothing but NumPy was measured; a C++17 compiler and a new installation bring it"
    else:
        tables |= {
            "density, ns per entry": measure_density(sample, rounds),
            "threads": measure_threads(sample, rounds),
            "calls": measure_calls(rounds),
        }
    num_pixels = sum(len(pixels) for _, pixels in sample)
    report = {
        "title": f"Self-similarity graphs, {len(sample)} photographs, {num_pixels} edge pixels",
        "tables": tables,
        "notes": notes,
    }
    print_report(report, as_json=arguments.json)


if __name__ == "__main__":
    main()
