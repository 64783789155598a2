"""``ssl-data datasets``: the datasets that ship with the package."""

from __future__ import annotations

from typing import Annotated

import typer


def datasets(
    name: Annotated[str | None, typer.Argument(help="One of them, to be explained.")] = None,
    root: Annotated[str | None, typer.Option(help="Folder that holds the datasets. [SSL_DATA_ROOT]")] = None,
) -> None:
    """List the known datasets, or explain one."""
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
