"""The report as one HTML page: no script, nothing from elsewhere, every name escaped."""

from __future__ import annotations

from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_data.errors import one_line
from ssl_data.report.drawing import bars, histogram, ranges, series
from ssl_data.report.figures import Group, collect_figures, read_rates
from ssl_data.report.samples import choose_samples, draw_sample
from ssl_data.store.summary import summarize_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ssl_data.report.figures import ShardRates, StoreFigures
    from ssl_data.report.samples import Sample
    from ssl_data.store.manifest import RejectedRecord
    from ssl_data.store.reader import Store
    from ssl_data.store.summary import StoreSummary

__all__ = ["render_report"]

_READ_RANGES = (
    "The line goes from the smallest patch to the largest, the bar holds half of the patches, the notch is the median"
)
_MOST_IMAGES = 24
_FEW_SHARDS = 400
_MOST_REJECTED = 500


def render_report(store: Store, *, log: Path | None = None, num_samples: int = 24) -> str:
    """All about a store, as the text of an HTML file. The same store gives the same text.

    Parameters
    ----------
    store : Store
    log : Path, optional
        What ``ssl-data build --log`` wrote: the rates are in there, as a store holds no times.
    num_samples : int
        Patches to show.

    Raises
    ------
    StoreError
        If a patch or a table cannot be read, or the log is none.
    """
    summary, figures = summarize_store(store), collect_figures(store)
    rates = None if log is None else read_rates(log)
    samples = [draw_sample(store, index) for index in choose_samples(figures.densities, num_samples)]
    sections = [
        _head(summary),
        *(_densities(figures, summary.dataset) if summary.num_patches else ()),
        _sizes(summary, figures),
        _rates(rates),
        _rejects(summary),
        _mosaic(samples),
        _specs(summary.spec),
        _provenance(store, summary),
    ]
    style = (resources.files("ssl_data.report") / "report.css").read_text(encoding="utf-8")
    return _PAGE.format(title=_text(summary.dataset), style=style, body="\n".join(sections))


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}: store report</title>
<style>
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _text(value: object) -> str:
    """Text from outside, as part of a page."""
    return escape(one_line(str(value)))


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _size(num_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if num_bytes < 1000 or unit == "TB":
            break
        num_bytes /= 1000
    return f"{num_bytes:.3g} {unit}"


def _section(title: str, *parts: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n" + "\n".join(parts) + "\n</section>"


def _figure(drawing: str, caption: str) -> str:
    return f"<figure>{drawing}<figcaption>{caption}</figcaption></figure>"


def _table(rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> str:
    top = "<thead><tr>" + "".join(f"<th>{_text(name)}</th>" for name in head) + "</tr></thead>" if head else ""
    lines = (
        f"<tr><th>{_text(first)}</th>" + "".join(f"<td>{_text(value)}</td>" for value in others) + "</tr>"
        for first, *others in rows
    )
    return f'<div class="wide"><table>{top}<tbody>{"".join(lines)}</tbody></table></div>'


def _head(summary: StoreSummary) -> str:
    tiles = {
        "patches": f"{summary.num_patches:,}",
        "images": f"{summary.num_sources:,}",
        "graphs": f"{summary.num_graphs:,}",
        "mean edge density": _percent(summary.edge_density["mean"]),
        "on disk": _size(summary.num_bytes),
        "images rejected": f"{summary.num_rejected:,}",
    }
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in tiles.items())
    side = summary.patch_size
    place = f'<p class="quiet">{_text(summary.path)} · patches of {side}x{side} pixels</p>'
    return f'<header><h1>{_text(summary.dataset)}</h1>{place}</header>\n<dl class="tiles">{cells}</dl>'


def _densities(figures: StoreFigures, dataset: str) -> Iterable[str]:
    folders = [Group(group.name or dataset, group.densities) for group in figures.folders]
    parts = []
    if len(folders) > 1:
        parts.append(_figure(ranges(folders, _percent, "Edge density by dataset"), f"By dataset. {_READ_RANGES}."))
    images, note = figures.images, f"By image, from the smoothest to the busiest. {_READ_RANGES}."
    if len(images) > _MOST_IMAGES:
        half = _MOST_IMAGES // 2
        note = f"The {half} smoothest and the {half} busiest of {len(images):,} images. {_READ_RANGES}."
        images = (*images[:half], *images[-half:])
    parts.append(_figure(ranges(images, _percent, "Edge density by image"), note))
    yield _section("Edge density by source", *parts)
    counts = histogram(figures.num_edge_pixels, _count, "Patches by their edge pixels", "edge pixels of a patch")
    yield _section("Edge pixels per patch", _figure(counts, "Number of patches by their number of edge pixels."))


def _sizes(summary: StoreSummary, figures: StoreFigures) -> str:
    rows = [
        (array.name, array.dtype, f"{array.num_values:,}", _size(array.num_bytes), f"{array.bytes_per_value:.3f}")
        for array in summary.arrays
    ]
    parts = [
        _figure(
            bars([(array.name, array.num_bytes) for array in summary.arrays], _size, "Bytes by array"),
            "Room on disk by array.",
        ),
        _table(rows, ("array", "type", "values", "on disk", "bytes per value")),
    ]
    known = figures.bytes_per_entry[~np.isnan(figures.bytes_per_entry)]
    if len(known):
        label, axis = "Bytes per entry by shard", "shard"
        drawing = (
            series(figures.bytes_per_entry, _short, label, axis)
            if len(figures.bytes_per_entry) <= _FEW_SHARDS
            else histogram(known, _short, label, "bytes per entry of a shard")
        )
        what = "Bytes per entry, i.e. for one value of one graph, shard by shard"
        parts.append(_figure(drawing, f"{what}: from {known.min():.3f} to {known.max():.3f}."))
    return _section("Bytes per entry", *parts)


def _short(value: float) -> str:
    return f"{value:.3g}"


def _rates(rates: ShardRates | None) -> str:
    if rates is None:
        text = "A store holds no times. <code>ssl-data build --log FILE</code> and then "
        text += "<code>ssl-data report --log FILE</code> show here how fast the shards were made."
        return _section("Rates", f'<p class="quiet">{text}</p>')
    graphs, patches = rates.graphs_per_second, rates.patches_per_second
    drawing = series(
        graphs, _thousands, "Graphs per second by shard", "shard, in the order in which they were finished"
    )
    note = (
        f"Graphs per second of the worker that made the shard. Over all {len(graphs):,} shards in the log: "
        f"{_thousands(float(np.average(graphs, weights=rates.seconds + 1e-3)))} graphs and "
        f"{float(np.average(patches, weights=rates.seconds + 1e-3)):.3g} patches per second of a worker, "
        f"{rates.seconds.sum():,.0f} s of work."
    )
    return _section("Rates", _figure(drawing, note))


def _thousands(value: float) -> str:
    return f"{value / 1000:.3g} k" if value >= 1000 else f"{value:.3g}"


def _rejects(summary: StoreSummary) -> str:
    by_reason: dict[str, int] = {}
    for image in summary.rejected:
        by_reason[image.reason_code] = by_reason.get(image.reason_code, 0) + 1
    parts = [_counts(by_reason, "Images that could not be used, by reason.", "No image was rejected.")]
    if summary.rejected:
        parts.append(_rejected_list(summary.rejected))
    filtered = {reason: count for reason, count in summary.num_filtered.items() if count}
    parts.append(_counts(filtered, "Planned patches that are not in the store, by reason.", "No patch was left out."))
    return _section("Rejects by reason", *parts)


def _counts(counts: dict[str, int], caption: str, nothing: str) -> str:
    if not counts:
        return f'<p class="quiet">{nothing}</p>'
    rows = sorted(counts.items(), key=lambda row: (-row[1], row[0]))
    return _figure(bars(rows, _count, caption), caption)


def _rejected_list(rejected: Sequence[RejectedRecord]) -> str:
    shown = [(image.source, image.reason_code, image.reason) for image in rejected[:_MOST_REJECTED]]
    more = len(rejected) - len(shown)
    rest = f'<p class="quiet">and {more:,} more</p>' if more else ""
    table = _table(shown, ("image", "reason", "what is wrong"))
    return f"<details><summary>All {len(rejected):,} rejected images</summary>{table}{rest}</details>"


def _mosaic(samples: Sequence[Sample]) -> str:
    if not samples:
        return _section("Sample patches", '<p class="quiet">The store holds no patches.</p>')
    cells = "".join(
        f'<figure><span><img src="{sample.image}" alt="">'
        f'<img class="mask" src="{sample.mask}" alt=""></span>'
        f'<figcaption title="{_text(sample.patch_id)}">{_text(sample.patch_id.rpartition("/")[2])}'
        f"<br>{_percent(sample.density)}</figcaption></figure>"
        for sample in samples
    )
    switch = '<input type="checkbox" id="masks" checked><label for="masks">Edge masks</label>'
    return _section("Sample patches", f'{switch}<div class="mosaic">{cells}</div>')


def _specs(spec: dict[str, Any]) -> str:
    lines = (
        f"<tr><th>{_text(group)}</th><td>"
        + " ".join(f"<span>{_text(name)} <b>{_text(value)}</b></span>" for name, value in fields.items())
        + "</td></tr>"
        for group, fields in spec.items()
    )
    return _section("Specs", f'<table class="specs"><tbody>{"".join(lines)}</tbody></table>')


def _provenance(store: Store, summary: StoreSummary) -> str:
    attributes = store.attributes
    rows = [
        ("dataset", summary.dataset),
        ("fingerprint of specs and sources", summary.fingerprint),
        ("SHA-256 of the list of sources", attributes["sources"]),
        ("SHA-256 of the list of files", attributes["files_sha256"]),
        ("format version", attributes["format_version"]),
        ("algorithm version", attributes["algorithm_version"]),
        ("images", f"{summary.num_sources:,} used, {summary.num_rejected:,} rejected"),
        ("patches", f"{summary.num_patches:,} of {summary.num_patches_planned:,} planned"),
        ("shards", f"{summary.num_shards:,}"),
    ]
    note = "The same sources and specs give the same store, byte for byte: it holds no times and no names of machines."
    return _section("Provenance", _table(rows), f'<p class="quiet">{note}</p>')
