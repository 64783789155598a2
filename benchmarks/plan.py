"""How far the figures of ``ssl-data plan`` are from a real build.

The images are estimated and built in turn, with one thread; ratios are estimate to build. Processor time is what is
estimated: on a machine that is idle, and whose disk keeps up, the clock shows little more.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_data import BuildConfig, PatchSpec, build
from ssl_data.benchmarks.build import dataset_file
from ssl_data.benchmarks.common import benchmark_parser, print_report
from ssl_data.config import StoreSpec
from ssl_data.pipeline.preview import estimate_build

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from ssl_data.pipeline.estimate import BuildEstimate
    from ssl_data.pipeline.run import BuildReport

_ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One estimate, and the build that it is about."""

    estimate: BuildEstimate
    built: BuildReport
    processor_seconds: float
    """Of the build."""

    @property
    def num_bytes(self) -> float:
        """As estimated."""
        return self.estimate.total_bytes(self.estimate.spec.store.compression).value

    @property
    def seconds(self) -> float:
        """As estimated, with one thread."""
        return self.estimate.seconds("serial", 1, self.estimate.spec.store.compression).value


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Estimate and build as often as asked for; the report."""
    rounds = options.rounds or (1 if options.tiny else _ROUNDS)
    config = BuildConfig(
        dataset=dataset_file(options, folder),
        out=str(folder),
        patch=PatchSpec(patch_size=options.patch_size, step=options.step),
        store=StoreSpec(compression=options.compression),
        workers=1,
    )
    trials = []
    for number in range(rounds):
        estimate = estimate_build(config, num_images=options.sample, seed=number)
        began = time.process_time()
        built = build(replace(config, out=str(folder / f"store-{number}")))
        trials.append(Trial(estimate=estimate, built=built, processor_seconds=time.process_time() - began))
    estimate, built = trials[0].estimate, trials[0].built
    return {
        "title": f"Estimates and builds of {built.num_patches:,} patches of {options.patch_size}x{options.patch_size} "
        f"from {built.num_sources_used} images, of which {estimate.num_images_sampled} are sampled; "
        f"{options.compression}, medians of {rounds}",
        "tables": {"figures": _compare(trials)},
    }


def _compare(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    return [
        _row("graphs", [(trial.estimate.num_graphs.value, trial.built.num_graphs) for trial in trials]),
        _row("MB", [(trial.num_bytes / 1e6, trial.built.num_bytes / 1e6) for trial in trials]),
        _row("s, of the processor", [(trial.seconds, trial.processor_seconds) for trial in trials]),
        _row("s, by the clock", [(trial.seconds, trial.built.seconds) for trial in trials]),
    ]


def _row(name: str, figures: list[tuple[float, float]]) -> dict[str, Any]:
    found, real = zip(*figures, strict=True)
    ratios = [one / other for one, other in figures]
    return {
        "figure": name,
        "estimate": statistics.median(found),
        "build": statistics.median(real),
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = benchmark_parser("plan", __doc__)
    parser.add_argument("--patch-size", type=int, default=256)
    parser.add_argument("--step", type=int, default=128)
    parser.add_argument("--compression", choices=("fast", "balanced", "small"), default=StoreSpec().compression)
    parser.add_argument("--sample", type=int, default=32, help="images to measure")
    parser.add_argument("--work-dir", help="existing folder for the stores, removed afterwards [the system's]")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.work_dir) as folder:
        print_report(measure(options, Path(folder)), as_json=options.json)


if __name__ == "__main__":
    main()
