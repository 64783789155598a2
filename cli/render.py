"""How numbers, progress and JSON look on a terminal."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from typing import TYPE_CHECKING, Any

import typer

from ssl_data.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ssl_data.pipeline.run import Progress
    from ssl_data.store.manifest import RejectedRecord

__all__ = [
    "bar",
    "counted",
    "counted_reasons",
    "duration",
    "print_json",
    "print_rejected",
    "print_table",
    "show_progress",
    "size",
    "spark",
]

_PLAIN_INTERVAL_SECONDS = 5.0
_WORDS = {
    "scan": "reading headers",
    "sample": "measuring images",
    "verify": "comparing files",
    "recompute": "computing patches anew",
}


_EIGHTHS = " ▏▎▍▌▋▊▉█"
_HEIGHTS = " ▁▂▃▄▅▆▇█"
_PLAIN = " .:-=+*#@"  # for terminals that know ASCII only


def _shows(text: str) -> bool:
    """Whether standard output can show these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def bar(share: float, width: int = 20) -> str:
    """A bar that fills this share of a width, to an eighth of a character; what is not nothing is always to be seen."""
    if not _shows(_EIGHTHS):
        return "#" * max(round(share * width), int(share > 0))
    whole, rest = divmod(max(round(8 * width * share), int(share > 0)), 8)
    return "█" * whole + _EIGHTHS[rest].strip()


def spark(counts: Sequence[int]) -> str:
    """Numbers as columns side by side, one character each; only a zero is blank."""
    levels = _HEIGHTS if _shows(_HEIGHTS) else _PLAIN
    largest = max(counts, default=0) or 1
    return "".join(levels[math.ceil(count / largest * (len(levels) - 1))] for count in counts)


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 image", "1,234 patches"."""
    plural = "es" if noun.endswith(("ch", "s", "x")) else "s"
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def counted_reasons(numbers: dict[str, int]) -> str:
    """Numbers by reason, those that are not zero: "3 by duplicate, 1 by rejected-image"."""
    return ", ".join(f"{number:,} by {reason}" for reason, number in numbers.items() if number)


def size(num_bytes: float) -> str:
    """A size in powers of 1000: "12.3 MB"."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if num_bytes < 1000 or unit == "TB":
            break
        num_bytes /= 1000
    return f"{num_bytes:.0f} {unit}" if unit == "bytes" else f"{num_bytes:.1f} {unit}"


def duration(seconds: float) -> str:
    """A time in a unit that suits it: "12.3 s", "4.5 min", "6.7 h"."""
    for unit, length in (("s", 1), ("min", 60)):
        if seconds < 60 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds / 3600:,.1f} h"


def print_json(document: dict[str, Any]) -> None:
    """The one document of ``--json``."""
    typer.echo(json.dumps(document, indent=2))


def print_rejected(images: Iterable[RejectedRecord], *, err: bool = False) -> None:
    """One line for each, whatever its name holds."""
    for image in images:
        typer.echo(f"rejected {one_line(image.source)}: {image.reason}", err=err)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """An empty line, then the rows: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    typer.echo()
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        typer.echo("   ".join([first.ljust(widths[0]), *cells]))


@contextlib.contextmanager
def show_progress() -> Iterator[Callable[[Progress], None]]:
    """Progress on standard error: a bar with the time left on a terminal, a line now and then elsewhere."""
    if sys.stderr.isatty():
        with _bar() as update:
            yield update
    else:
        yield _PlainLines()


def _label(progress: Progress) -> str:
    if progress.phase in _WORDS:
        return _WORDS[progress.phase]
    return f"{counted(progress.num_patches, 'patch')}, {progress.num_graphs:,} graphs, {size(progress.num_bytes)}"


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.fields[phase]:9}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, TextColumn("{task.description}"), console=Console(stderr=True), transient=True) as bars:
        tasks = {}

        def update(progress: Progress) -> None:
            if progress.phase not in tasks:
                tasks[progress.phase] = bars.add_task("", total=progress.total, phase=progress.phase)
            task = tasks[progress.phase]
            bars.update(task, completed=progress.done, total=progress.total, description=_label(progress))

        yield update


class _PlainLines:
    """At most one line every few seconds, and one at the end of each phase."""

    def __init__(self) -> None:
        self._phase = ""
        self._began = 0.0
        self._done_at_beginning = 0
        self._last = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.phase != self._phase:
            self._phase, self._began, self._done_at_beginning, self._last = progress.phase, now, progress.done, now
        if now - self._last < _PLAIN_INTERVAL_SECONDS and progress.done < progress.total:
            return
        self._last = now
        made = progress.done - self._done_at_beginning
        left = (progress.total - progress.done) * (now - self._began) / made if made else 0.0
        eta = f", about {left:.0f} s left" if left else ""
        typer.echo(f"{progress.phase} {progress.done}/{progress.total}: {_label(progress)}{eta}", err=True)
