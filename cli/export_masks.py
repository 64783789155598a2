"""``ssl-data export-masks``: the masks of a store as files."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from ssl_data.cli.render import counted


def export_masks(
    store: Annotated[str, typer.Argument(help="A complete store: a folder or a URL.")],
    folder: Annotated[str, typer.Argument(help="Where the masks go: a new or empty folder.", metavar="DIR")],
    form: Annotated[
        Literal["png", "mat"],
        typer.Option("--format", help="PNG of 0 and 255, or what the authors' training code reads."),
    ] = "png",
    by_folder: Annotated[bool, typer.Option("--by-folder", help="Keep the folders of the images.")] = False,
) -> None:
    """Write the edge masks of a store as one file per patch, named as the authors' scripts name them."""
    from ssl_data.pipeline.export import export_masks as run_export
    from ssl_data.store.reader import open_store

    num_masks = run_export(open_store(store), folder, form=form, by_folder=by_folder)
    typer.echo(f"Wrote {counted(num_masks, 'mask')} to {folder}")
