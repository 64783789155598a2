"""Patches that a finished store of the same specs holds already: copied, not computed again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ssl_data.errors import BuildError, one_line
from ssl_data.store.layout import EDGE_MASK, GT, lq_name
from ssl_data.store.reader import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ssl_data.store.reader import Store
    from ssl_data.store.writer import ShardSink

__all__ = ["Donor", "close_donor", "copy_patch", "rows_per_block"]

_ROWS_PER_BLOCK = 2048


@dataclass(frozen=True, kw_only=True)
class Donor:
    """A store to copy from. Small and picklable: workers open it themselves."""

    root: Path
    fingerprint: str
    first_index: Mapping[str, int]
    """By name of an image all of whose patches are there, unchanged: the index of the first of them."""

    def of(self, names: set[str]) -> Donor:
        """The part that concerns some images."""
        chosen = {name: index for name, index in self.first_index.items() if name in names}
        return replace(self, first_index=chosen)


def rows_per_block(chunk_rows: int) -> int:
    """Graphs handled at once, whole chunks: bounds a worker's memory for them, whatever the density of edges.

    Small, so that the first is soon there to be compressed, while the next is computed.
    """
    return -(-_ROWS_PER_BLOCK // chunk_rows) * chunk_rows


def copy_patch(sink: ShardSink, slot: int, donor: Donor, index: int, patch_id: str) -> dict[str, Any]:
    """Write one patch of the donor; return what its record says of the pixels, and of its rows in ``ssg``.

    Equal values are encoded to equal bytes, so that a copy cannot be told from a patch that was computed.
    """
    store = _opened(donor.root, donor.fingerprint)
    if store.patch_id(index) != patch_id:
        raise BuildError(f"{donor.root} has {one_line(store.patch_id(index))} where {one_line(patch_id)} should be")
    gt = store.read_gt(index)
    sink.write_image(GT, slot, gt)
    sink.write_image(EDGE_MASK, slot, store.read_edge_mask(index))
    if store.lq_scale is not None:
        sink.write_image(lq_name(store.lq_scale), slot, store.read_lq(index))
    start, count = sink.write_graphs(_graph_blocks(store, index))
    return {
        "num_edge_pixels": int(store.num_edge_pixels[index]),
        "gt_sha256": hashlib.sha256(gt.data).hexdigest(),
        "start": start,
        "count": count,
    }


@lru_cache(maxsize=1)
def _opened(root: Path, fingerprint: str) -> Store:
    """The store, opened once in each process; another one may come to lie at the same place later."""
    store = open_store(root)
    if store.attributes["fingerprint"] != fingerprint:
        raise BuildError(f"{root} was replaced while patches were copied from it; run the command again")
    return store


def close_donor() -> None:
    """Let go of the files of the store that was copied from."""
    _opened.cache_clear()


def _graph_blocks(store: Store, index: int) -> Iterator[NDArray[np.unsignedinteger[Any]]]:
    block_rows = rows_per_block(store.build_spec.store.chunk_rows)
    count = int(store.counts[index])
    for first in range(0, count, block_rows):
        yield store.read_codes(index, first, min(first + block_rows, count))
