"""``ssl-data repair``: make anew what is broken in a store."""

from __future__ import annotations

from typing import Annotated

import typer

from ssl_data.cli.options import ExecutorName  # noqa: TC001 - read by typer
from ssl_data.cli.render import counted, print_json, show_progress
from ssl_data.errors import one_line


def repair(
    store: Annotated[str, typer.Argument(help="A store: a folder, or a URL of an object store.")],
    dataset: Annotated[str | None, typer.Option(help="Its images, as when it was built.")] = None,
    root: Annotated[str | None, typer.Option(help="Folder that holds the datasets. [SSL_DATA_ROOT]")] = None,
    masks: Annotated[str | None, typer.Option(help="Its edge masks, where it was built with given ones.")] = None,
    executor: Annotated[ExecutorName, typer.Option(help="This process, or Ray workers.")] = "serial",
    workers: Annotated[int | None, typer.Option(help="Threads or Ray workers. [all cores]", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Restore a damaged store, byte for byte; what is whole is not touched.

    Damaged shards are made anew from their images, which must not have changed; damage to tables and metadata is mended
    without them. Files that do not belong to the store are removed.
    """
    from ssl_data.pipeline.executors import make_executor
    from ssl_data.pipeline.repair import RepairSources, repair_store

    if dataset is None and (root is not None or masks is not None):
        raise typer.BadParameter("--root and --masks need --dataset")
    sources = None if dataset is None else RepairSources(dataset=dataset, root=root, masks=masks)
    with show_progress() as progress:
        report = repair_store(store, sources, executor=make_executor(executor, workers=workers), progress=progress)
    if as_json:
        print_json(report.to_dict())
        return
    for problem in report.problems:
        typer.echo(f"repaired {problem}", err=True)
    for path in report.removed:
        typer.echo(f"removed {one_line(path)}", err=True)
    if report.nothing_to_do:
        typer.echo(f"{store}: all is well, nothing to repair")
    else:
        typer.echo(f"{store}: repaired, {counted(len(report.shards), 'shard')} made anew, {report.seconds:.1f} s")
