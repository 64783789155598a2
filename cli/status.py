"""``ssl-data status``: how far a build is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ssl_data.cli.render import counted, print_json
from ssl_data.errors import one_line

if TYPE_CHECKING:
    from ssl_data.pipeline.status import StoreStatus


def status(
    store: Annotated[str, typer.Argument(help="A store, complete or not: a folder or a URL.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show how far a build is, from any machine that sees it: shards done, in hand and failed, time left."""
    from ssl_data.pipeline.status import read_status

    found = read_status(store)
    print_json(found.to_dict()) if as_json else _print(found)


def _print(found: StoreStatus) -> None:
    typer.echo(f"{found.store}: {found.state}, {found.num_done} of {counted(found.num_shards, 'shard')} done")
    for builder in found.builders:
        typer.echo(f"  at work      {builder}")
    if found.running:
        typer.echo(f"  in hand      {', '.join(map(str, found.running))}")
    for failure in found.failed:
        typer.echo(f"  failed       {one_line(str(failure['error']))} (attempt {failure['attempt']})")
    if found.shards_per_second is not None and found.seconds_left is not None:
        typer.echo(f"  rate         {60 * found.shards_per_second:.1f} shards a minute")
        typer.echo(f"  time left    about {found.seconds_left:.0f} s")
