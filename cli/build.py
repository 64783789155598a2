"""``ssl-data build``: from images to a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ssl_data.cli.log import logged
from ssl_data.cli.render import counted, counted_reasons, print_json, print_rejected, show_progress, size
from ssl_data.config import (
    MAX_PIXELS,
    Boundary,
    BuildConfig,
    Compression,
    EdgePatches,
    EdgeSpec,
    FilterSpec,
    ImageSpec,
    MultiscaleSpec,
    MultiscaleVariant,
    PatchSpec,
    Quantization,
    SmallImages,
    SSGSpec,
    StoreSpec,
)
from ssl_data.errors import one_line

if TYPE_CHECKING:
    from ssl_data.pipeline.report import BuildReport, PartReport

EXIT_REJECTED = 3

ExecutorName = Literal["serial", "ray"]


def build(
    dataset: Annotated[str, typer.Option(help="A known dataset, a folder of images, or a dataset file (.yaml).")],
    out: Annotated[str, typer.Option(help="Where the store goes.")],
    root: Annotated[str | None, typer.Option(help="Folder that holds the datasets. [SSL_DATA_ROOT]")] = None,
    patch_size: Annotated[int | None, typer.Option(help="Side of a patch in pixels. [512]", min=1)] = None,
    step: Annotated[int | None, typer.Option(help="Distance between patches in pixels. [256]", min=1)] = None,
    edge_patches: Annotated[
        EdgePatches | None,
        typer.Option(help="Behind the last full step: a flush patch, none, or spread evenly. [flush]"),
    ] = None,
    multiscale: Annotated[
        MultiscaleVariant | None, typer.Option(help="Cut reduced copies of the images, too. [the dataset's choice]")
    ] = None,
    shortest_edge: Annotated[
        int | None, typer.Option(help="Shorter side of the smallest copy in pixels. [512]", min=1)
    ] = None,
    masks: Annotated[str | None, typer.Option(help="Folder of edge masks to be used as given (.mat or .png).")] = None,
    edge_threshold: Annotated[
        float, typer.Option(help="Laplacian above which a pixel is an edge pixel.", min=0)
    ] = 20.0,
    edge_stride: Annotated[int, typer.Option(help="Keep edge pixels with row % n == col % n.", min=1)] = 1,
    boundary: Annotated[Boundary, typer.Option(help="Outside the search area: zeros, or the image.")] = ("zero"),
    min_edge_density: Annotated[
        float, typer.Option(help="Leave out patches with a smaller share of edge pixels.", min=0, max=1)
    ] = 0.0,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="Leave out patches with the pixels of an earlier one.")
    ] = False,
    lq_scale: Annotated[int | None, typer.Option(help="Also store patches reduced by this factor.", min=2)] = None,
    compression: Annotated[
        Compression, typer.Option(help="Speed or size of the store: fast (LZ4), balanced or small (Zstandard).")
    ] = "fast",
    quantization: Annotated[Quantization, typer.Option(help="Graphs in one byte per value, or two.")] = "sqrt8",
    small_images: Annotated[SmallImages, typer.Option(help="Those smaller than a patch.")] = "reject",
    max_pixels: Annotated[int, typer.Option(help="Reject images of more pixels, by header.", min=1)] = MAX_PIXELS,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try rejected images again that were repaired, replaced or removed.")
    ] = False,
    executor: Annotated[ExecutorName, typer.Option(help="This process, or Ray workers.")] = "serial",
    workers: Annotated[int | None, typer.Option(help="Threads or Ray workers. [all cores]", min=1)] = None,
    ray_address: Annotated[str | None, typer.Option(help="A running Ray cluster.")] = None,
    retries: Annotated[int, typer.Option(help="Further attempts to make a shard that fails.", min=0)] = 2,
    log: Annotated[str | None, typer.Option(help="Append what happens to this file, as JSON lines.")] = None,
    part: Annotated[
        str | None,
        typer.Option(help="Make only this part, 0/N to N-1/N, beside others; then `finalize`.", metavar="I/N"),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Insist on the number of images that is expected.")] = False,
    max_bad: Annotated[int, typer.Option(help="Rejected images that are still a success.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Crop the images of a dataset into patches and store their masks and self-similarity graphs.

    Run again after an interruption, the same command goes on where it stopped. Exit code 3: done, but more images than
    --max-bad were rejected; they are listed. With --part, rejected images are listed, but judged by `finalize` only.
    """
    from ssl_data.pipeline.datasets import describe_dataset
    from ssl_data.pipeline.executors import make_executor
    from ssl_data.pipeline.parts import Part, build_part
    from ssl_data.pipeline.run import build as run_build

    if ray_address is not None and executor != "ray":
        raise typer.BadParameter("--ray-address needs --executor ray")
    if part is not None and retry_failed:
        raise typer.BadParameter("--retry-failed makes a whole store, and cannot be divided with --part")

    usual = describe_dataset(dataset)
    config = BuildConfig(
        dataset=dataset,
        out=out,
        root=root,
        strict=strict,
        masks=masks,
        image=ImageSpec(max_pixels=max_pixels, small_images=small_images),
        multiscale=_multiscale_spec(usual.multiscale, multiscale, shortest_edge),
        patch=_patch_spec(usual.patch, patch_size, step, edge_patches),
        edge=EdgeSpec(threshold=edge_threshold, edge_stride=edge_stride),
        filter=FilterSpec(min_edge_density=min_edge_density, drop_duplicates=drop_duplicates),
        ssg=SSGSpec(boundary=boundary),
        store=StoreSpec(lq_scale=lq_scale, compression=compression, quantization=quantization),
        workers=workers,
    )
    where = make_executor(executor, workers=workers, ray_address=ray_address)
    if part is not None:
        chosen = Part.parse(part)
        with logged(log), show_progress() as progress:
            made = build_part(config, chosen, executor=where, progress=progress, retries=retries)
        print_json(made.to_dict()) if as_json else _print_part(made)
        return
    with logged(log), show_progress() as progress:
        report = run_build(config, executor=where, progress=progress, retry_failed=retry_failed, retries=retries)
    print_json(report.to_dict()) if as_json else print_report(report)
    if len(report.rejected) > max_bad:
        raise typer.Exit(EXIT_REJECTED)


def _patch_spec(
    usual: PatchSpec, patch_size: int | None, step: int | None, edge_patches: EdgePatches | None
) -> PatchSpec:
    """The dataset's own way of cutting, with what the options change; a smaller patch takes its step along."""
    size_in_force = patch_size or usual.patch_size
    rule = edge_patches or usual.edge_patches
    return PatchSpec(
        patch_size=size_in_force,
        step=step or min(usual.step, size_in_force),
        tail_threshold=usual.tail_threshold if rule == "flush" else 0,
        edge_patches=rule,
    )


def _multiscale_spec(
    usual: MultiscaleSpec, variant: MultiscaleVariant | None, shortest_edge: int | None
) -> MultiscaleSpec:
    """The dataset's own copies, with what the options change."""
    variant_in_force = variant or usual.variant
    usual_edge = MultiscaleSpec.shortest_edge if variant_in_force == "none" else usual.shortest_edge
    return MultiscaleSpec(variant=variant_in_force, shortest_edge=shortest_edge or usual_edge)


def print_report(report: BuildReport) -> None:
    """What is in a store that is now complete, and what to do next."""
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
    typer.echo(f"  python -c 'from ssl_data import SSLCachedDataset; print(SSLCachedDataset(\"{report.out}\")[0])'")


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
        examples = ", ".join(one_line(image.source) for image in group[:3]) + (", ..." if len(group) > 3 else "")
        typer.echo(f"    {code:17}{len(group):6,}  {examples}")
