"""``ssl-data report``: all about a store in one HTML file."""

from __future__ import annotations

from typing import Annotated

import typer

from ssl_data.cli.render import size


def report(
    store: Annotated[str, typer.Argument(help="A complete store: a folder or a URL.")],
    html: Annotated[str, typer.Option(help="The file to be written.", metavar="FILE")],
    log: Annotated[
        str | None, typer.Option(help="What `build --log` wrote: shows how fast the shards were made.", metavar="FILE")
    ] = None,
    samples: Annotated[int, typer.Option(help="Patches to show.", min=0)] = 24,
) -> None:
    """Write one HTML file about a store: plots, sample patches with their masks, specs and provenance."""
    from pathlib import Path

    from ssl_data.report.page import render_report
    from ssl_data.store.reader import open_store

    text = render_report(open_store(store), log=None if log is None else Path(log), num_samples=samples)
    num_bytes = Path(html).write_bytes(text.encode())
    typer.echo(f"Wrote {html} ({size(num_bytes)})")
