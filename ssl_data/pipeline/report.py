"""How far a build is, and what it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal

from ssl_data.store.layout import REJECTED_PATH, SOURCES_PATH
from ssl_data.store.manifest import REJECTED_SCHEMA, SOURCE_SCHEMA, RejectedRecord, read_table
from ssl_data.store.reader import open_store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ssl_data.pipeline.job import ShardResult

__all__ = ["BuildReport", "PartReport", "Progress", "ProgressFunction", "add_result", "report_build", "sum_up"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a build, or a verification, is."""

    phase: Literal["scan", "sample", "build", "verify", "recompute"]
    done: int
    total: int
    num_patches: int = 0
    num_graphs: int = 0
    num_bytes: int = 0


ProgressFunction = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a build did."""

    out: str
    dataset: str
    fingerprint: str
    num_sources: int
    """Image files found."""
    num_sources_used: int
    """Those that are not rejected."""
    num_patches_planned: int
    """Patches in the store and patches left out."""
    num_patches: int
    """Patches in the store."""
    num_filtered: dict[str, int]
    """Patches left out, by reason: "rejected-image" (broken pixels), "edge-density", "duplicate"."""
    num_shards: int
    num_shards_reused: int
    """Shards that an earlier run had committed."""
    num_edge_pixels: int
    num_graphs: int
    num_bytes: int
    """Size of the store's arrays on disk."""
    seconds: float
    rejected: tuple[RejectedRecord, ...]
    """Every image that is not in the store."""
    nothing_to_do: bool
    """Whether the store was there already, complete and made from the same."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        rejected = [asdict(image) for image in self.rejected]
        return {
            **asdict(self),
            "rejected": rejected,
            "num_rejected_by_reason": {code: len(images) for code, images in self.rejected_by_reason().items()},
        }

    def rejected_by_reason(self) -> dict[str, list[RejectedRecord]]:
        """The rejected images by reason code, the most frequent first."""
        groups: dict[str, list[RejectedRecord]] = {}
        for image in self.rejected:
            groups.setdefault(image.reason_code, []).append(image)
        return dict(sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])))


@dataclass(frozen=True, kw_only=True)
class PartReport:
    """What was done for one part of a divided build."""

    out: str
    dataset: str
    fingerprint: str
    part: int
    num_parts: int
    num_shards: int
    """Shards of this part."""
    num_shards_reused: int
    """Those that an earlier run had committed."""
    num_shards_missing: int
    """Shards of the whole store, i.e. of other parts, that are not there yet."""
    num_patches: int
    """Patches in the shards of this part."""
    num_graphs: int
    num_bytes: int
    seconds: float
    rejected: tuple[RejectedRecord, ...]
    """Images found broken while making this part; `finalize` reports those of all parts."""
    nothing_to_do: bool
    """Whether all shards of the part were there already."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "rejected": [asdict(image) for image in self.rejected]}


def sum_up(results: Iterable[ShardResult], num_shards: int) -> Progress:
    """How far a build of that many shards is with these results."""
    return reduce(add_result, results, Progress(phase="build", done=0, total=num_shards))


def add_result(so_far: Progress, result: ShardResult) -> Progress:
    """The same with one more result."""
    return replace(
        so_far,
        done=so_far.done + 1,
        num_patches=so_far.num_patches + result.num_patches,
        num_graphs=so_far.num_graphs + result.num_graphs,
        num_bytes=so_far.num_bytes + result.num_bytes,
    )


def report_build(
    out: str, results: Iterable[ShardResult], *, num_reused: int, seconds: float, nothing_to_do: bool
) -> BuildReport:
    """The report about a store that has just been completed from these results, or was complete already."""
    store = open_store(out, cache_bytes=0)  # what is there now
    stored = store.attributes
    rejected = read_table(store.source, REJECTED_PATH, REJECTED_SCHEMA).to_pylist()
    return BuildReport(
        out=out,
        dataset=stored["dataset"],
        fingerprint=stored["fingerprint"],
        num_sources=read_table(store.source, SOURCES_PATH, SOURCE_SCHEMA).num_rows,
        num_sources_used=stored["num_sources"],
        num_patches_planned=stored["num_slots"],
        num_patches=stored["num_patches"],
        num_filtered=stored["num_filtered"],
        num_shards=stored["num_shards"],
        num_shards_reused=num_reused,
        num_edge_pixels=stored["num_edge_pixels"],
        num_graphs=stored["num_graphs"],
        num_bytes=sum(result.num_bytes for result in results),
        seconds=seconds,
        nothing_to_do=nothing_to_do,
        rejected=tuple(sorted(RejectedRecord(**row) for row in rejected)),
    )
