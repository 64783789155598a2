"""``ssl-data build``: from images to a store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from ssl_data.cli.log import logged, measured
from ssl_data.cli.options import AsJson, BuildOptions, MaxBad, take_build_options
from ssl_data.cli.render import counted, counted_reasons, print_json, print_rejected, show_progress, size
from ssl_data.errors import SSLDataError, explain_os_error, first_of

if TYPE_CHECKING:
    from ssl_data.pipeline.report import BuildReport, PartReport

EXIT_REJECTED = 3


@take_build_options()
def build(
    *,
    build: BuildOptions,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try rejected images again that were repaired, replaced or removed.")
    ] = False,
    part: Annotated[
        str | None,
        typer.Option(help="Make only this part, 0/N to N-1/N, beside others; then `finalize`.", metavar="I/N"),
    ] = None,
    retries: Annotated[int, typer.Option(help="Further attempts to make a shard that fails.", min=0)] = 2,
    log: Annotated[str | None, typer.Option(help="Append what happens to this file, as JSON lines.")] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Keep numbers about the build in this file, for Prometheus (FILE.prom).")
    ] = None,
    max_bad: MaxBad = 0,
    as_json: AsJson = False,
) -> None:
    """Crop the images of a dataset into patches and store their masks and self-similarity graphs.

    Run again after an interruption, the same command goes on where it stopped. Exit code 3: done, but more images than
    --max-bad were rejected; they are listed. With --part, rejected images are listed, but judged by `finalize` only.
    """
    from ssl_data.pipeline.executors import make_executor
    from ssl_data.pipeline.parts import Part, build_part
    from ssl_data.pipeline.run import build as run_build

    if part is not None and retry_failed:
        raise typer.BadParameter("--retry-failed makes a whole store, and cannot be divided with --part")
    config = build.config
    where = make_executor(build.executor, workers=config.workers, ray_address=build.ray_address)
    if part is not None:
        chosen = Part.parse(os.path.expandvars(part))  # batch systems name the part in a variable, and start no shell
        with logged(log), measured(metrics, {"store": config.out, "part": str(chosen)}), show_progress() as progress:
            made = build_part(config, chosen, executor=where, progress=progress, retries=retries)
        print_json(made.to_dict()) if as_json else _print_part(made)
        return
    with logged(log), measured(metrics, {"store": config.out, "part": ""}), show_progress() as progress:
        report = run_build(config, executor=where, progress=progress, retry_failed=retry_failed, retries=retries)
    show_report(report, as_json=as_json)
    if len(report.rejected) > max_bad:
        raise typer.Exit(EXIT_REJECTED)


def show_report(report: BuildReport, *, as_json: bool) -> None:
    """Print the report about a store that is now complete, and keep it beside the store if that was made now."""
    print_json(report.to_dict()) if as_json else _print_report(report)
    if report.nothing_to_do:
        return
    from ssl_data.pipeline.report_file import write_report

    try:
        place = write_report(report)
    except (OSError, SSLDataError) as error:  # the store is there all the same
        reason = explain_os_error(error) if isinstance(error, OSError) else str(error)
        typer.echo(f"ssl-data: warning: no report beside the store: {reason}", err=True)
    else:
        typer.echo(f"report: {place}", err=True)


def _print_report(report: BuildReport) -> None:
    """What is in the store, and what to do next."""
    print_rejected(report.rejected, err=True)
    images = counted(report.num_sources_used, "image")
    if report.nothing_to_do:
        typer.echo(f"{report.out} is complete already: {counted(report.num_patches, 'patch')} from {images}")
    else:
        typer.echo(f"Built {report.out}: {counted(report.num_patches, 'patch')} from {images}")
    _print_summary(report)
    if report.num_patches != report.num_patches_planned:
        planned = counted(report.num_patches_planned, "patch")
        typer.echo(f"  planned      {planned}, left out {counted_reasons(report.num_filtered)}")
    typer.echo(f"  edge pixels  {report.num_edge_pixels:,}; graphs {report.num_graphs:,}")
    typer.echo(f"  size         {size(report.num_bytes)}")
    typer.echo(f"  time         {report.seconds:.1f} s")
    typer.echo("Next:")
    typer.echo(f"  ssl-data inspect {report.out}")
    sample = f'SSLCachedDataset("{report.out}")[0]'
    typer.echo(f"  python -c 'from ssl_data import SSLCachedDataset; print({sample}.keys())'")


def _print_part(report: PartReport) -> None:
    print_rejected(report.rejected, err=True)
    shards, patches = counted(report.num_shards, "shard"), counted(report.num_patches, "patch")
    typer.echo(f"Part {report.part}/{report.num_parts} of {report.out} is made: {patches} in {shards}")
    typer.echo(f"  graphs       {report.num_graphs:,}")
    typer.echo(f"  size         {size(report.num_bytes)}")
    typer.echo(f"  time         {report.seconds:.1f} s")
    if report.num_shards_missing:
        typer.echo(f"  missing      {counted(report.num_shards_missing, 'shard')} of other parts")
    else:
        typer.echo(f"All shards are there. Next:\n  ssl-data finalize {report.out}")


def _print_summary(report: BuildReport) -> None:
    """How many images were rejected for which reasons."""
    from ssl_data.store.layout import REJECTED_PATH

    if not report.rejected:
        return
    images = f"{counted(len(report.rejected), 'image')} of {report.num_sources} found"
    typer.echo(f"  rejected     {images}; listed above and in {report.out}/{REJECTED_PATH}")
    for code, group in report.rejected_by_reason().items():
        typer.echo(f"    {code:17}{len(group):6,}  {first_of([image.source for image in group])}")
