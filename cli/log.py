"""What a build says while it runs: JSON lines and numbers in files, and warnings on the screen."""

from __future__ import annotations

import contextlib
import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["logged", "measured"]


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {"time": when, "level": record.levelname.lower(), "message": record.getMessage()}
        return json.dumps({**fields, **getattr(record, "event", {})})


class _Screen(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(f"ssl-data: warning: {record.getMessage()}", err=True)


@contextlib.contextmanager
def logged(file: str | None) -> Iterator[None]:
    """Append the events of the library to a file, if one is given, and show warnings; errors are shown by what ends."""
    logger = logging.getLogger("ssl_data")
    screen = _Screen(logging.WARNING)
    screen.addFilter(lambda record: record.levelno < logging.ERROR)
    handlers: list[logging.Handler] = [screen]
    if file is not None:
        handlers.append(logging.FileHandler(file, encoding="utf-8"))
        handlers[-1].setFormatter(_JsonLines())
    before = logger.level
    logger.setLevel(logging.INFO)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(before)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


@contextlib.contextmanager
def measured(file: str | None, labels: Mapping[str, str]) -> Iterator[None]:
    """Keep the numbers of a build in a file for Prometheus, if one is given; inside of `logged`."""
    if file is None:
        yield
        return
    from ssl_data.pipeline.metrics import MetricsFile

    logger, handler, succeeded = logging.getLogger("ssl_data"), MetricsFile(file, labels), False
    logger.addHandler(handler)
    try:
        yield
        succeeded = True
    finally:
        logger.removeHandler(handler)
        handler.end(succeeded=succeeded)
