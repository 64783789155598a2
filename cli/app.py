"""The command ``ssl-data``: the commands, and what becomes of errors, warnings and signals.

Exit codes: 0 done; 1 failed; 2 wrong usage; 3 done except for rejected images; 4 interrupted, resumable.
"""

from __future__ import annotations

import signal
import sys
import warnings
from importlib import metadata
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from ssl_data.cli import (
    bench,
    build,
    datasets,
    export_masks,
    finalize,
    inspect_store,
    plan,
    repair,
    report,
    status,
    verify,
    view,
)
from ssl_data.errors import BuildInterruptedError, ConfigError, SSLDataError, explain_os_error

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["app", "main"]

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 4

app = typer.Typer(
    name="ssl-data",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("build")(build.build)
app.command("plan")(plan.plan)
app.command("finalize")(finalize.finalize)
app.command("inspect")(inspect_store.inspect)
app.command("report")(report.report)
app.command("view")(view.view)
app.command("verify")(verify.verify)
app.command("repair")(repair.repair)
app.command("status")(status.status)
app.command("datasets")(datasets.datasets)
app.add_typer(bench.bench, name="bench", no_args_is_help=True)
app.command("export-masks")(export_masks.export_masks)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    typer.echo(f"ssl-data: warning: {message}", err=True)


_EXIT_OF_AN_INTERRUPT = 130
"""What Typer makes of an interrupt that reaches it, as one outside of the work itself does."""


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"ssl-data {metadata.version('ssl_data')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Precompute self-similarity graphs of photographs and train with them."""


def main() -> None:
    """Run the command line."""
    warnings.showwarning = _show_warning
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except BuildInterruptedError as error:
        typer.echo(f"ssl-data: {error}", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except SSLDataError as error:
        typer.echo(f"ssl-data: error: {error}", err=True)
        sys.exit(EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED)
    except OSError as error:  # disk full, permissions, ...
        typer.echo(f"ssl-data: error: {explain_os_error(error)}", err=True)
        sys.exit(EXIT_FAILED)
    except SystemExit as end:
        if end.code != _EXIT_OF_AN_INTERRUPT:
            raise
        typer.echo("ssl-data: interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    finally:
        # All is done or dropped. While Python ends it takes handlers away, and a signal would replace the exit code.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
