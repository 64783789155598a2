"""``ssl-data datasets``: the datasets and the recipes that ship with the package."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from ssl_data.cli.render import counted

if TYPE_CHECKING:
    from ssl_data.config import MultiscaleSpec
    from ssl_data.pipeline.datasets import Folder
    from ssl_data.pipeline.descriptions import DatasetDescription, FolderDescription
    from ssl_data.pipeline.remote_path import ImagePath
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
    from ssl_data.pipeline.datasets import describe_dataset, list_datasets

    if name is not None:
        _explain_dataset(name, root)
        return
    typer.echo(f"{'dataset':12}{'images':>8}{'copies':>11}  title")
    for description in map(describe_dataset, list_datasets()):
        images = _or_unknown(description.num_images)
        typer.echo(f"{description.name:12}{images:>8}{description.multiscale.variant:>11}  {description.title}")


def _explain_dataset(name: str, root: str | None) -> None:
    from ssl_data.pipeline.datasets import describe_dataset, locate_folders, root_folder

    description = describe_dataset(name)
    base = root_folder(name, root)
    patch, multiscale = description.patch, description.multiscale
    typer.echo(f"{description.name}: {description.title}")
    _print_rows(
        ("home", description.home),
        ("licence", description.licence),
        ("get it", description.obtain),
        ("parts", ", ".join(part.name for part in description.parts)),
        ("images", _or_unknown(description.num_images)),
        ("copies", multiscale.variant + _shortest_edge(multiscale)),
        ("patches", f"{patch.patch_size}x{patch.patch_size} every {patch.step} pixels"),
        ("build", f"ssl-data build --dataset {name} --root {base} --out STORE"),
    )
    _print_places(description, base, locate_folders(description, base))


def _print_places(
    description: DatasetDescription, base: ImagePath, located: dict[FolderDescription, Folder | None]
) -> None:
    """Every folder of a dataset, and the one of all of them where there may be one."""
    for include in description.includes:
        _print_places(include, base, located)
    for part in description.folders:
        typer.echo(f"\n{part.name or 'folder'}: {_or_unknown(part.num_images)} images{_drawn(part)}")
        _print_place(part, base, located.get(part))
    if description.merged is not None:
        typer.echo(f"\nor {description.merged.name} in one folder: {_or_unknown(description.merged.num_images)} images")
        _print_place(description.merged, base, located.get(description.merged))


def _shortest_edge(multiscale: MultiscaleSpec) -> str:
    return "" if multiscale.variant == "none" else f", the smallest with a shorter side of {multiscale.shortest_edge}"


def _drawn(folder: FolderDescription) -> str:
    if folder.subset is None:
        return ""
    return f", drawn from {_or_unknown(folder.expected_images)} by name, seed {folder.subset.seed}"


def _print_place(part: FolderDescription, base: ImagePath, found: Folder | None) -> None:
    """Where a part of a dataset is, or where it was looked for."""
    from ssl_data.pipeline.datasets import candidate_folders
    from ssl_data.pipeline.sources import count_images

    if found is None:
        rows = [("not at", str(path)) for path in candidate_folders(part, base)]
    else:
        rows = [("found", f"{found.path}, {counted(count_images(found), 'image')}")]
    _print_rows(("home", part.home), ("licence", part.licence), ("get it", part.obtain), *rows)


def _print_rows(*rows: tuple[str, str]) -> None:
    """Label and text, wrapped; rows without a text are left out."""
    paragraph = textwrap.TextWrapper(
        118, initial_indent="  ", subsequent_indent=" " * 12, break_long_words=False, break_on_hyphens=False
    )
    for label, text in rows:
        if text:
            typer.echo(paragraph.fill(f"{label:10}{text}"))


def _recipes(name: str | None) -> None:
    from ssl_data.training.recipes import list_recipes, load_recipe

    if name is not None:
        _explain_recipe(load_recipe(name))
        return
    typer.echo(f"{'recipe':22}{'crop':>6}{'batch':>7}{'beta':>7}  {'edge stride':13}{'degradation':17}dataset")
    for recipe in map(load_recipe, list_recipes()):
        batch = _or_unknown(recipe.batch_size and recipe.batch_size // recipe.batch_gpus)
        typer.echo(
            f"{recipe.name:22}{recipe.crop_size:6}{batch:>7}{_or_unknown(recipe.beta):>7}  "
            f"{recipe.edge.edge_stride:<13}{recipe.degradation:17}{recipe.dataset}"
        )


def _explain_recipe(recipe: Recipe) -> None:
    flips = [flip for flip in ("hflip", "vflip", "transpose") if getattr(recipe, flip)]
    gpus = "each GPU" if recipe.batch_gpus == 1 else f"{recipe.batch_gpus} GPUs together"
    ssg = ", ".join(f"{name} {value}" for name, value in recipe.ssg.to_dict().items())
    lq_scale = f" --lq-scale {recipe.scale}" if recipe.degradation == "bicubic" else ""
    typer.echo(f"{recipe.name}: {recipe.title}")
    _print_rows(
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


def _or_unknown(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
