"""``ssl-data datasets``: the datasets and the recipes that ship with the package."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ssl_data.training.recipes import Recipe


def datasets(
    name: Annotated[str | None, typer.Argument(help="One of them, to be explained.")] = None,
    root: Annotated[str | None, typer.Option(help="Folder that holds the datasets. [SSL_DATA_ROOT]")] = None,
    recipes: Annotated[bool, typer.Option("--recipes", help="Show recipes of published models instead.")] = False,
) -> None:
    """List the known datasets, or explain one."""
    if recipes:
        _recipes(name)
    else:
        _datasets(name, root)


def _datasets(name: str | None, root: str | None) -> None:
    from ssl_data.pipeline.datasets import list_datasets, load_dataset
    from ssl_data.pipeline.sources import find_files

    if name is None:
        for known in list_datasets():
            typer.echo(known)
        return
    dataset = load_dataset(name, root)
    files = find_files(dataset)
    typer.echo(f"{dataset.name}: {dataset.title}\n  home     {dataset.home}\n  licence  {dataset.licence}")
    typer.echo(f"  patches  {dataset.patch.patch_size}x{dataset.patch.patch_size} every {dataset.patch.step} pixels")
    typer.echo(f"  images   {len(files)}")
    for folder in dataset.folders:
        typer.echo(f"  folder   {folder.path}")


def _recipes(name: str | None) -> None:
    from ssl_data.training.recipes import list_recipes, load_recipe

    if name is not None:
        _explain(load_recipe(name))
        return
    typer.echo(f"{'recipe':22}{'crop':>6}{'batch':>7}{'beta':>7}  {'edge stride':13}{'degradation':17}dataset")
    for recipe in map(load_recipe, list_recipes()):
        batch = _or_unknown(recipe.batch_size and recipe.batch_size // recipe.batch_gpus)
        typer.echo(
            f"{recipe.name:22}{recipe.crop_size:6}{batch:>7}{_or_unknown(recipe.beta):>7}  "
            f"{recipe.edge.edge_stride:<13}{recipe.degradation:17}{recipe.dataset}"
        )


def _explain(recipe: Recipe) -> None:
    flips = [flip for flip in ("hflip", "vflip", "transpose") if getattr(recipe, flip)]
    gpus = "each GPU" if recipe.batch_gpus == 1 else f"{recipe.batch_gpus} GPUs together"
    ssg = ", ".join(f"{name} {value}" for name, value in recipe.ssg.to_dict().items())
    lq_scale = f" --lq-scale {recipe.scale}" if recipe.degradation == "bicubic" else ""
    paragraph = textwrap.TextWrapper(
        118, initial_indent="  ", subsequent_indent=" " * 12, break_long_words=False, break_on_hyphens=False
    )
    typer.echo(f"{recipe.name}: {recipe.title}")
    rows = (
        ("source", recipe.source),
        ("dataset", recipe.dataset),
        ("build", f"ssl-data build --edge-stride {recipe.edge.edge_stride}{lq_scale} --dataset ... --out STORE"),
        ("load", f'SSLCachedDataset.from_recipe("{recipe.name}", STORE)'),
        ("crop", f"{recipe.crop_size}x{recipe.crop_size} pixels; {', '.join(flips)}; scale {recipe.scale}"),
        ("batch", f"{_or_unknown(recipe.batch_size)} on {gpus}"),
        ("loss", f"beta {_or_unknown(recipe.beta)}, alpha {recipe.alpha:g}, gamma {_or_unknown(recipe.gamma)}"),
        ("edges", f"threshold {recipe.edge.threshold:g}, edge_stride {recipe.edge.edge_stride}"),
        ("graphs", ssg),
        ("degraded", recipe.degradation),
        *(("note", note) for note in recipe.notes),
    )
    for label, value in rows:
        typer.echo(paragraph.fill(f"{label:10}{value}"))


def _or_unknown(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
