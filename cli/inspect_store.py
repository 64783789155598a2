"""``ssl-data inspect``: what is in a store."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from ssl_data.cli.render import bar, counted, counted_reasons, print_json, print_rejected, size, spark

if TYPE_CHECKING:
    from ssl_data.store.summary import StoreSummary


def inspect(
    store: Annotated[str, typer.Argument(help="A complete store: a folder or a URL.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show patches, sources, edge density, sizes and specs of a store."""
    from ssl_data.store.reader import open_store
    from ssl_data.store.summary import summarize_store

    summary = summarize_store(open_store(store))
    print_json(summary.to_dict()) if as_json else _print(summary)


def _print(summary: StoreSummary) -> None:
    rejected = f", {counted(summary.num_rejected, 'image')} rejected" if summary.num_rejected else ""
    density = summary.edge_density
    typer.echo(f"{summary.path}  ({size(summary.num_bytes)}, fingerprint {summary.fingerprint[:12]})")
    typer.echo(f"dataset       {summary.dataset}: {counted(summary.num_sources, 'image')}{rejected}")
    typer.echo(
        f"patches       {summary.num_patches:,} of {summary.patch_size}x{summary.patch_size} pixels "
        f"in {counted(summary.num_shards, 'shard')}"
    )
    if summary.num_patches != summary.num_patches_planned:
        typer.echo(
            f"left out      {counted_reasons(summary.num_filtered)} of {summary.num_patches_planned:,} planned patches"
        )
    typer.echo(
        f"edge density  min {density['min']:.2%}, mean {density['mean']:.2%}, max {density['max']:.2%} of the pixels"
    )
    typer.echo(f"              0 {spark(summary.edge_density_histogram)} {density['max']:.2%}, number of patches")
    typer.echo(f"graphs        {summary.num_graphs:,}")
    typer.echo(f"\n{'array':12}{'type':8}{'values':>18}{'on disk':>12}{'bytes/value':>13}")
    largest = max(array.num_bytes for array in summary.arrays) or 1
    for array in summary.arrays:
        typer.echo(
            f"{array.name:12}{array.dtype:8}{array.num_values:>18,}"
            f"{size(array.num_bytes):>12}{array.bytes_per_value:>13.3f}  {bar(array.num_bytes / largest)}"
        )
    typer.echo("\nspecs")
    for group, fields in summary.spec.items():
        typer.echo(f"  {group:11}" + ", ".join(f"{name}={value}" for name, value in fields.items()))
    _print_reasons(Counter(image.reason_code for image in summary.rejected))
    print_rejected(summary.rejected)


def _print_reasons(counts: Counter[str]) -> None:
    """How many images were rejected for each reason, the most frequent first."""
    if counts:
        typer.echo("\nrejected images by reason")
        most, width = max(counts.values()), max(map(len, counts))
        for reason, count in sorted(counts.items(), key=lambda row: (-row[1], row[0])):
            typer.echo(f"  {reason:{width}}{count:>9,}  {bar(count / most)}")
