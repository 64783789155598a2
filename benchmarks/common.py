"""What the benchmarks share: the machine, the photographs, timing and printing.

Figures are medians of several rounds. What is compared is measured in turn within one run, so that a machine that gets
slower or busier meanwhile does so for all alike; ratios are therefore safer than seconds.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_data.pipeline.cores import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["benchmark_parser", "machine", "machine_line", "medians", "photographs", "print_report", "sample_folder"]

SAMPLE_FILES = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "rocket.jpg",
)
"""The colour photographs inside the scikit-image wheel."""

_LIBRARIES = ("ssl_data", "numpy", "numcodecs", "zarr", "pillow", "torch", "ray")


def machine() -> dict[str, Any]:
    """What figures depend on: processor, cores this process may use, versions."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)  # the last core's entry; they are alike
    names = {key.strip(): value.strip() for key, value in fields.items()}
    model = names.get("model name", platform.machine())
    numbers = ", ".join(f"{key} {names[key]}" for key in ("cpu family", "model") if key in names)
    widest = next((name for name in ("avx512_vnni", "avx512bw", "avx2") if name in names.get("flags", "").split()), "")
    return f"{model} ({', '.join(part for part in (numbers, widest) if part)})"


def machine_line(description: Mapping[str, Any] | None = None) -> str:
    """`machine` on one line."""
    values = machine() if description is None else description
    versions = ", ".join(f"{name} {version}" for name, version in values["versions"].items())
    return f"{values['cpu']}, {values['cores']} cores, {values['system']}, Python {values['python']}; {versions}"


def sample_folder() -> Path:
    """The folder of images inside the scikit-image wheel, found without importing it.

    Raises
    ------
    SystemExit
        If scikit-image is not installed.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the photographs come with scikit-image: pip install 'ssl_data[sample]', or name a folder")
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def photographs(folder: str | Path | None = None) -> list[Path]:
    """The images of a folder, or the photographs inside the scikit-image wheel."""
    if folder is None:
        return [sample_folder() / name for name in SAMPLE_FILES]
    suffixes = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
    found = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in suffixes)
    if not found:
        raise SystemExit(f"no images below {folder}")
    return found


def medians(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warm_up: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each candidate; all run once per round, in turn.

    Parameters
    ----------
    candidates : mapping of name to callable
    rounds : int
        Measured rounds.
    warm_up : bool
        Run everything once before, unmeasured.
    clock : callable
        `time.perf_counter` for wall-clock time, `time.process_time` for the processor time of this process.
    """
    if warm_up:
        for function in candidates.values():
            function()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, function in candidates.items():
            began = clock()
            function()
            seconds[name].append(clock() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def benchmark_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark: images, ``--rounds``, ``--tiny``, ``--json``."""
    parser = argparse.ArgumentParser(
        prog=f"ssl-data bench {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", nargs="?", help="folder of images [the photographs inside the scikit-image wheel]")
    parser.add_argument("--rounds", type=int, help="measured rounds, of which the median is taken")
    parser.add_argument("--tiny", action="store_true", help="a few seconds of work: shows that it runs, not how fast")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    return parser


def print_report(report: dict[str, Any], *, as_json: bool) -> None:
    """Print a benchmark's result: "title", "tables" (lists of rows, each a mapping) and "notes" by name.

    The machine is added. As text, every table is aligned, with numbers to three significant digits.
    """
    report = {**report, "machine": machine(), "load_average": round(os.getloadavg()[0], 2)}
    if as_json:
        print(json.dumps(report, indent=2))
        return
    print(report["title"])
    print(machine_line(report["machine"]))
    for name, rows in report["tables"].items():
        print(f"\n{name}")
        for line in _aligned(rows):
            print(f"  {line}")
    if report.get("notes"):
        print()
    for name, value in report.get("notes", {}).items():
        print(f"{name}: {_text(value)}")


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _aligned(rows: list[dict[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *([_text(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    ]
