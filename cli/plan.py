"""``ssl-data plan``: what a build will take, before it is begun."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from ssl_data.cli.build import EXIT_REJECTED
from ssl_data.cli.options import AsJson, BuildOptions, MaxBad, take_build_options
from ssl_data.cli.render import counted, duration, print_json, print_rejected, print_table, show_progress, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ssl_data.pipeline.estimate import BuildEstimate
    from ssl_data.pipeline.sampling import Figure
    from ssl_data.training.recipes import Recipe

_WORKERS = (1, 2, 4, 8, 16, 32, 64)


@take_build_options(out="STORE")
def plan(
    *,
    build: BuildOptions,
    sample: Annotated[int, typer.Option(help="Images to measure.", min=2)] = 32,
    budget: Annotated[float, typer.Option(help="Seconds after which no further image is measured.", min=0)] = 20.0,
    seed: Annotated[int, typer.Option(help="Decides which images and patches are measured.", min=0)] = 0,
    recipe: Annotated[
        str | None, typer.Option(help="Name or file: whose crops and batches to expect. [whole patches]")
    ] = None,
    max_bad: MaxBad = 0,
    as_json: AsJson = False,
) -> None:
    """Say how many patches, bytes and hours a build with these options will take, and what training gains by it.

    Reads the headers of all images and measures a sample of them on this machine; nothing is written. Exit code 3: more
    images than --max-bad cannot be used, as far as their headers tell; they are listed.
    """
    from ssl_data.pipeline.cores import usable_cores
    from ssl_data.pipeline.crops import Crop
    from ssl_data.pipeline.preview import estimate_build
    from ssl_data.training.recipes import load_recipe

    used = None if recipe is None else load_recipe(recipe)
    crop = None
    if used is not None:
        stride_left = used.edge.edge_stride if build.config.edge.edge_stride == 1 else 1
        crop = Crop(size=used.crop_size, edge_stride=stride_left)
    with show_progress() as progress:
        estimate = estimate_build(
            build.config, crop=crop, num_images=sample, seconds=budget, seed=seed, progress=progress
        )
    workers = sorted({*_WORKERS, build.config.workers or usable_cores()})
    if as_json:
        print_json({**estimate.to_dict(), "seconds": _times(estimate, workers), "recipe": recipe})
    else:
        _print(estimate, workers, used)
    if len(estimate.rejected) > max_bad:
        raise typer.Exit(EXIT_REJECTED)


def _times(estimate: BuildEstimate, workers: Sequence[int]) -> dict[str, dict[str, float]]:
    preset = estimate.spec.store.compression
    return {
        executor: {str(number): estimate.seconds(executor, number, preset).value for number in workers}
        for executor in ("serial", "ray")
    }


def _about(figure: Figure, text: str) -> str:
    """An estimate with its standard error, unless everything was looked at."""
    return f"{text} +- {figure.error / figure.value:.1%}" if figure.value and figure.error else text


def _print(estimate: BuildEstimate, workers: Sequence[int], recipe: Recipe | None) -> None:
    print_rejected(estimate.rejected, err=True)
    work, side, pixels = estimate.work, estimate.spec.patch.patch_size, estimate.num_edge_pixels
    found = f"{counted(estimate.num_sources, 'image')} found, {work.num_images:,} usable"
    typer.echo(f"{estimate.dataset}: {found}, {len(estimate.rejected):,} rejected by their headers")
    shards = counted(work.num_shards, "shard")
    typer.echo(f"  planned      {counted(work.num_patches, 'patch')} of {side}x{side} in {shards}")
    if estimate.num_patches.value < work.num_patches:
        typer.echo(f"  stored       {_about(estimate.num_patches, f'{estimate.num_patches.value:,.0f} of them')}")
    measured = f"{estimate.num_patches_counted:,} counted, {estimate.num_patches_measured:,} measured"
    typer.echo(f"  sample       {counted(estimate.num_images_sampled, 'image')}; of their patches, {measured}")
    density = pixels.value / max(estimate.num_patches.value * side**2, 1)
    typer.echo(f"  edge pixels  {_about(pixels, f'{pixels.value:,.0f}')}, {density:.1%} of all pixels")
    typer.echo(f"  graphs       {_about(estimate.num_graphs, f'{estimate.num_graphs.value:,.0f}')}")
    _print_sizes(estimate)
    _print_times(estimate, workers)
    _print_training(estimate, recipe)
    gain = estimate.overlap
    if gain.saved_share > 0:
        typer.echo(f"\nOverlap: {gain.repeated_share:.0%} of the stored pixels are stored more than once.")
        typer.echo(f"  --step {side}, with random crops, would need {counted(gain.num_patches_without, 'patch')},")
        typer.echo(f"  and {gain.saved_share:.0%} less space and time")


def _print_sizes(estimate: BuildEstimate) -> None:
    presets = tuple(estimate.num_bytes)
    totals = [estimate.total_bytes(preset) for preset in presets]
    arrays = [
        (f"  {name}", *(size(estimate.num_bytes[preset][name].value) for preset in presets))
        for name in estimate.num_bytes[presets[0]]
    ]
    print_table(
        [
            ("size", *presets),
            *arrays,
            ("  all arrays", *(_about(total, size(total.value)) for total in totals)),
            ("  time of one core", *(duration(estimate.core_seconds(preset)) for preset in presets)),
        ]
    )


def _print_times(estimate: BuildEstimate, workers: Sequence[int]) -> None:
    preset = estimate.spec.store.compression
    rows: list[tuple[str, ...]] = [(f"time, {preset}", "serial", "ray")]
    for number in workers:
        times = (estimate.seconds(executor, number, preset) for executor in ("serial", "ray"))
        rows.append((f"  {counted(number, 'core')}", *(_about(time, duration(time.value)) for time in times)))
    print_table(rows)
    typer.echo("  Equal cores, otherwise idle; the start of Ray is not counted. Of one core:")
    shares = (f"{stage} {duration(seconds)}" for stage, seconds in estimate.stages.items() if seconds)
    typer.echo(f"  {', '.join(shares)}")


def _print_training(estimate: BuildEstimate, recipe: Recipe | None) -> None:
    from ssl_data.training.recipes import store_differences

    loading, presets = estimate.loading, tuple(estimate.num_bytes)
    batch = recipe.batch_size // recipe.batch_gpus if recipe is not None and recipe.batch_size else 1
    epochs = [estimate.break_even_epochs(preset) for preset in presets]
    pays = ["never" if number is None else f"{math.ceil(number):,} epochs" for number in epochs]
    reads = [f"{1000 * batch * loading.read_seconds[preset]:.3g} ms" for preset in presets]
    ns = [f"{estimate.decode_ns[preset]:.2f} ns" for preset in presets]
    side = f"{loading.crop_size}x{loading.crop_size}"
    print_table(
        [
            (f"step of {counted(batch, 'sample')}, {side}", *presets),
            ("  read from the store", *(size(batch * loading.num_bytes[preset]) for preset in presets)),
            ("  graphs: one core", *reads),
            ("  decode an entry", *ns),
            ("  the build pays after", *pays),
        ]
    )
    without = f"{1000 * batch * loading.compute_seconds:.3g} ms; {estimate.kernel_ns:.2f} ns for an entry"
    typer.echo(f"  Without a store, computing them takes one core {without}.")
    share = loading.num_computed / loading.num_graphs if loading.num_graphs else 0
    typer.echo(f"  Of {loading.num_graphs:,.0f} graphs of a sample, {share:.0%} near its border are computed anew.")
    if recipe is None:
        return
    for difference in store_differences(recipe, estimate.spec, recipe.dataset_options()):
        typer.echo(f"  {recipe.name} needs another store: {difference}")
