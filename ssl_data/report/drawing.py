"""Plots as SVG, written by hand: marks with a tip each, axes with round numbers, colours from the page's styles."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_data.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ssl_data.report.figures import Group

    _Format = Callable[[float], str]

__all__ = ["bars", "histogram", "ranges", "round_ticks", "series"]

_WIDTH = 960
_LABEL_WIDTH = 220
_ROW = 24
_PLOT_HEIGHT = 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 22, 40
_LABEL_LENGTH = 32


def round_ticks(low: float, high: float, num_ticks: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, about so many.

    Examples
    --------
    >>> round_ticks(0, 0.187)
    [0.0, 0.05, 0.1, 0.15]
    """
    if not high > low:
        return [low]
    rough = (high - low) / num_ticks
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _mark(name: str, tip: str = "", text: str | None = None, **attributes: float | str) -> str:
    """One element; numbers are rounded to what can be seen."""
    shown = {
        key.rstrip("_").replace("_", "-"): f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
        for key, value in attributes.items()
    }
    inside = f"<title>{escape(one_line(tip))}</title>" if tip else ""
    inside += "" if text is None else escape(one_line(text))
    joined = " ".join(f'{key}="{escape(str(value))}"' for key, value in shown.items())
    return f"<{name} {joined}>{inside}</{name}>"


def _box(tip: str, x: float, y: float, width: float, height: float) -> str:
    return _mark("rect", tip, class_="bar", x=x, y=y, width=width, height=height, rx=1.5)


def _svg(height: float, marks: list[str], label: str) -> str:
    head = f'<svg class="plot" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">'
    return head + "".join(marks) + "</svg>"


def _shorten(text: str) -> str:
    """The end of a long name, which tells more than its beginning."""
    return text if len(text) <= _LABEL_LENGTH else f"…{text[1 - _LABEL_LENGTH :]}"


def _axis_below(ticks: Sequence[float], x: Callable[[float], float], y: float, text: _Format) -> list[str]:
    return [_mark("text", text=text(tick), class_="tick middle", x=x(tick), y=y + 16) for tick in ticks]


def bars(rows: Sequence[tuple[str, float]], text: _Format, label: str) -> str:
    """One horizontal bar for each name and value, the value beside it."""
    largest = max((value for _, value in rows), default=0) or 1
    room = _WIDTH - _LABEL_WIDTH - 110
    marks = []
    for number, (name, value) in enumerate(rows):
        y = float(number * _ROW)
        width = max(room * value / largest, 1.5 if value else 0.0)
        marks += [
            _mark("text", name, _shorten(name), class_="label", x=_LABEL_WIDTH - 10, y=y + 16),
            _box(f"{name}: {text(value)}", _LABEL_WIDTH, y + 4, width, 15),
            _mark("text", text=text(value), class_="tick", x=_LABEL_WIDTH + width + 6, y=y + 16),
        ]
    return _svg(len(rows) * _ROW + 4, marks, label)


def ranges(groups: Sequence[Group], text: _Format, label: str) -> str:
    """For each group of patches the range of its densities, the middle half of them, and the median."""
    largest = max((float(group.densities[-1]) for group in groups), default=0) or 1
    room = _WIDTH - _LABEL_WIDTH - _RIGHT - 40
    bottom = len(groups) * _ROW + 6

    def x(value: float) -> float:
        return _LABEL_WIDTH + room * value / largest

    ticks = round_ticks(0, largest, 6)
    marks = [_mark("line", class_="grid", x1=x(tick), x2=x(tick), y1=0, y2=bottom) for tick in ticks]
    for number, group in enumerate(groups):
        y = float(number * _ROW + 14)
        low, first, middle, third, high = (group.quantile(share) for share in (0, 0.25, 0.5, 0.75, 1))
        tip = (
            f"{group.name}: {len(group.densities):,} patches, from {text(low)} to {text(high)}, "
            f"median {text(middle)}, mean {text(group.mean)}"
        )
        marks += [
            _mark("text", tip, _shorten(group.name), class_="label", x=_LABEL_WIDTH - 10, y=y + 4),
            _mark("line", tip, class_="whisker", x1=x(low), x2=x(high), y1=y, y2=y),
            _box(tip, x(first), y - 6, max(x(third) - x(first), 1.5), 12),
            _mark("line", tip, class_="median", x1=x(middle), x2=x(middle), y1=y - 8, y2=y + 8),
        ]
    marks += _axis_below(ticks, x, bottom, text)
    return _svg(bottom + 22, marks, label)


def histogram(values: NDArray[np.number[Any]], text: _Format, label: str, axis: str, num_steps: int = 48) -> str:
    """How often values occur, in equal steps from 0 (or from the smallest, where they lie close) to the largest."""
    low, high = float(values.min()), float(values.max())
    low = 0.0 if low < 0.6 * high else low
    high = high if high > low else low + 1
    counts, edges = np.histogram(values, bins=num_steps, range=(low, high))
    tallest = int(counts.max())

    def x(value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - low) / (high - low)

    def y(count: float) -> float:
        return _TOP + _PLOT_HEIGHT * (1 - count / tallest)

    marks = _frame(round_ticks(0, tallest, 4), y, lambda count: f"{count:,.0f}")
    for count, begin, end in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if count:
            tip = f"{text(begin)} to {text(end)}: {count:,}"
            marks.append(_box(tip, x(begin), y(count), max(x(end) - x(begin) - 1, 1.0), y(0) - y(count)))
    mean = float(values.mean())
    marks += [
        _mark("line", f"mean {text(mean)}", class_="median", x1=x(mean), x2=x(mean), y1=_TOP - 18, y2=y(0)),
        _mark("text", text=f"mean {text(mean)}", class_="tick", x=x(mean) + 5, y=_TOP - 8),
        *_axis_below(round_ticks(low, high, 8), x, y(0), text),
        _mark("text", text=axis, class_="tick middle", x=(_LEFT + _WIDTH - _RIGHT) / 2, y=y(0) + 33),
    ]
    return _svg(_TOP + _PLOT_HEIGHT + _BOTTOM, marks, label)


def series(values: NDArray[np.floating[Any]], text: _Format, label: str, axis: str) -> str:
    """Values in their order, as columns; where there are very many, the means of neighbours."""
    num_columns = min(len(values), 180)
    parts = np.array_split(values, num_columns)
    largest = float(np.nanmax(values)) or 1.0

    def y(value: float) -> float:
        return _TOP + _PLOT_HEIGHT * (1 - value / largest)

    width = (_WIDTH - _LEFT - _RIGHT) / num_columns
    marks = _frame(round_ticks(0, largest, 4), y, text)
    first = 0
    for number, part in enumerate(parts):
        last, known = first + len(part) - 1, part[~np.isnan(part)]
        if len(known):
            name = f"{first:,}" if last == first else f"{first:,} to {last:,}"
            height = y(0) - y(float(known.mean()))
            tip = f"{name}: {text(float(known.mean()))}"
            marks.append(_box(tip, _LEFT + number * width, y(0) - height, max(width - 1, 0.8), height))
        first = last + 1
    marks.append(_mark("text", text=axis, class_="tick middle", x=(_LEFT + _WIDTH - _RIGHT) / 2, y=y(0) + 20))
    return _svg(_TOP + _PLOT_HEIGHT + _BOTTOM - 12, marks, label)


def _frame(ticks: Sequence[float], y: Callable[[float], float], text: _Format) -> list[str]:
    """Lines across the plot, each with its number to the left."""
    marks = []
    for tick in ticks:
        marks += [
            _mark("line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y(tick), y2=y(tick)),
            _mark("text", text=text(tick), class_="label", x=_LEFT - 8, y=y(tick) + 4),
        ]
    return marks
