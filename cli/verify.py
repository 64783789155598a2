"""``ssl-data verify``: whether a store is still what was written."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ssl_data.cli.render import counted, print_json

EXIT_PROBLEMS = 1


def verify(
    store: Annotated[str, typer.Argument(help="A complete store: a folder or a URL.")],
    deep: Annotated[bool, typer.Option("--deep", help="Also decode every chunk and check its contents.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Compare every file of a store with the size and hash in its manifest. Exit code 1 if anything differs."""
    from ssl_data.store.verify import verify_store

    problems = verify_store(store, deep=deep)
    if as_json:
        print_json({"store": store, "deep": deep, "problems": [asdict(problem) for problem in problems]})
    else:
        for problem in problems:
            typer.echo(str(problem), err=True)
        typer.echo(f"{store}: {counted(len(problems), 'problem')}" if problems else f"{store}: all is well")
        if problems:
            typer.echo("Remove the damaged files and run the same build again: it makes exactly those anew", err=True)
    if problems:
        raise typer.Exit(EXIT_PROBLEMS)
