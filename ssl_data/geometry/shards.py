"""Which patches share a work unit, and where each patch's rows lie in the ragged ``ssg`` array.

A work unit owns a fixed range of rows that has room for the worst case, every pixel an edge pixel. Workers therefore
never need to know of each other; rows that are not used cost nothing, because their chunks are never written.
"""

from __future__ import annotations

__all__ = ["max_edge_pixels", "num_shards", "part_shards", "rows_per_shard", "shard_slots"]


def max_edge_pixels(patch_size: int, edge_stride: int) -> int:
    """Pixels of a patch with ``row % edge_stride == col % edge_stride``.

    Examples
    --------
    >>> max_edge_pixels(4, 1), max_edge_pixels(4, 3)
    (16, 6)
    """
    per_residue = [len(range(residue, patch_size, edge_stride)) for residue in range(edge_stride)]
    return sum(n * n for n in per_residue)


def _chunks(rows: int, chunk_rows: int) -> int:
    return -(-rows // chunk_rows)


def rows_per_shard(*, patch_size: int, edge_stride: int, chunk_rows: int, patches_per_shard: int) -> int:
    """Rows reserved for one work unit: a multiple of `chunk_rows` that holds its patches at their fullest."""
    return patches_per_shard * _chunks(max_edge_pixels(patch_size, edge_stride), chunk_rows) * chunk_rows


def num_shards(num_slots: int, patches_per_shard: int) -> int:
    """Work units needed for that many patch slots."""
    return _chunks(num_slots, patches_per_shard)


def shard_slots(shard: int, *, num_slots: int, patches_per_shard: int) -> range:
    """The patch slots of a work unit."""
    return range(shard * patches_per_shard, min((shard + 1) * patches_per_shard, num_slots))


def part_shards(index: int, num_parts: int, *, num_shards: int) -> range:
    """The work units of one of several parts, 0 <= index < num_parts, of a build.

    Every `num_parts`-th: neighbouring units come from images of one kind, and take about the same time.

    Examples
    --------
    >>> [list(part_shards(index, 3, num_shards=8)) for index in range(3)]
    [[0, 3, 6], [1, 4, 7], [2, 5]]
    """
    return range(index, num_shards, num_parts)
