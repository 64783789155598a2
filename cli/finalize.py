"""``ssl-data finalize``: complete a store whose parts have been made."""

from __future__ import annotations

from typing import Annotated

import typer

from ssl_data.cli.build import EXIT_REJECTED, show_report


def finalize(
    store: Annotated[str, typer.Argument(help="What was --out of all parts.")],
    max_bad: Annotated[int, typer.Option(help="Rejected images that are still a success.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Complete a store after all parts of it were made with `build --part`.

    Exit code 1: shards are missing; they are listed. Exit code 3: done, but more images than --max-bad were rejected.
    """
    from ssl_data.pipeline.parts import finalize as complete

    report = complete(store)
    show_report(report, as_json=as_json)
    if len(report.rejected) > max_bad:
        raise typer.Exit(EXIT_REJECTED)
