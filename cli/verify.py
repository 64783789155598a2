"""``ssl-data verify``: whether a store is still what was written."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ssl_data.cli.render import counted, print_json, show_progress

EXIT_PROBLEMS = 1


def verify(
    store: Annotated[str, typer.Argument(help="A complete store: a folder or a URL.")],
    deep: Annotated[bool, typer.Option("--deep", help="Also compute masks and graphs anew, and compare.")] = False,
    share: Annotated[float, typer.Option(help="With --deep: the share of the patches to look at.", max=1)] = 1.0,
    seed: Annotated[int, typer.Option(help="With --share: which patches are drawn.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Compare every file of a store with the size and hash in its manifest. Exit code 1 if anything differs."""
    from ssl_data.pipeline.verify import verify_store

    if share != 1 and not deep:
        raise typer.BadParameter("--share needs --deep")
    with show_progress() as progress:
        problems = verify_store(store, deep=deep, share=share, seed=seed, progress=progress)
    if as_json:
        print_json(
            {
                "store": store,
                "deep": deep,
                "share": share,
                "seed": seed,
                "problems": [asdict(problem) for problem in problems],
            }
        )
    else:
        for problem in problems:
            typer.echo(str(problem), err=True)
        typer.echo(f"{store}: {counted(len(problems), 'problem')}" if problems else f"{store}: all is well")
        if problems:
            typer.echo(f"`ssl-data repair {store} --dataset ...` makes exactly the damaged parts anew", err=True)
    if problems:
        raise typer.Exit(EXIT_PROBLEMS)
