"""The options of a build, declared once for all commands that take them."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

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

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AsJson", "BuildOptions", "ExecutorName", "MaxBad", "take_build_options"]

ExecutorName = Literal["serial", "ray"]
MaxBad = Annotated[int, typer.Option(help="Rejected images that are still a success.", min=0)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What to build and where to run it."""

    config: BuildConfig
    executor: ExecutorName
    ray_address: str | None


def take_build_options(**defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:  # noqa: ANN401
    """Let a command with a parameter ``build: BuildOptions`` take the options of a build in its place.

    Parameters
    ----------
    **defaults
        Of options that this command does not insist on, or sets otherwise.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        shared = dict(inspect.signature(_build_options, eval_str=True).parameters)
        shared |= {name: shared[name].replace(default=value) for name, value in defaults.items()}
        own = dict(inspect.signature(command, eval_str=True).parameters)
        del own["build"]

        @functools.wraps(command)
        def with_options(**values: Any) -> None:  # noqa: ANN401 - what typer has read
            build = _build_options(**{name: values.pop(name) for name in shared})
            command(build=build, **values)

        parameters = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in (shared | own).values()]
        with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
        with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return with_options

    return decorate


def _build_options(
    dataset: Annotated[
        str,
        typer.Option(help="A known dataset, a folder or URL of images, or a dataset file (.yaml)."),
    ],
    out: Annotated[str, typer.Option(help="Where the store goes: a folder, or s3://, gs://, az://.")],
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
    executor: Annotated[ExecutorName, typer.Option(help="This process, or Ray workers.")] = "serial",
    workers: Annotated[int | None, typer.Option(help="Threads or Ray workers. [all cores]", min=1)] = None,
    ray_address: Annotated[str | None, typer.Option(help="A running Ray cluster.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Insist on the number of images that is expected.")] = False,
) -> BuildOptions:
    """The options as they are typed, and what they mean."""
    from ssl_data.pipeline.datasets import describe_dataset

    if ray_address is not None and executor != "ray":
        raise typer.BadParameter("--ray-address needs --executor ray")
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
    return BuildOptions(config=config, executor=executor, ray_address=ray_address)


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
