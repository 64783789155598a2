"""The graphs of a sample: which stored ones it takes, where they go, and which are computed anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ssl_data.geometry.positions import Dihedral, Window, interior_window
from ssl_data.kernels.codes import graph_codes
from ssl_data.kernels.extension import is_portable, use_native
from ssl_data.kernels.sample import SamplePixels, sample_pixels
from ssl_data.kernels.turn import turn_graphs, turned_columns
from ssl_data.store.shard import Gather, gather_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ssl_data.store.reader import Store

__all__ = ["Border", "GraphPlan", "compute_graphs", "plan_graphs", "read_graphs"]

_PREPARED = 32
"""Samples whose reading is prepared before the first is read: each may keep a file open."""

Border = Literal["exact", "interior", "cached"]


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphPlan:
    """Where the graphs of one sample come from."""

    index: int
    """The patch."""
    window: Window
    """What is cut from it."""
    turn: Dihedral
    """What is done to the crop afterwards."""
    pixels: SamplePixels
    """The edge pixels, and which of the stored graphs they take."""

    def __len__(self) -> int:
        return len(self.pixels.row)

    @property
    def extent(self) -> tuple[int, int]:
        """Largest row and col, -1 where there are no edge pixels."""
        return (int(self.pixels.row[-1]), int(self.pixels.col.max())) if len(self) else (-1, -1)  # rows ascend

    @property
    def is_a_run(self) -> bool:
        """Whether the graphs are neighbours in the store and come out as they lie there."""
        rows, count = self.pixels.rows, len(self.pixels.rows)
        together = count == len(self) and count > 0 and int(rows[-1]) - int(rows[0]) == count - 1
        return together and self.turn.is_identity


def plan_graphs(
    store: Store, index: int, window: Window, turn: Dihedral, *, border: Border, edge_stride: int = 1
) -> GraphPlan:
    """Find the edge pixels of a sample and where their graphs come from.

    Parameters
    ----------
    store : Store
    index : int
        The patch.
    window, turn
        A square, and one of its symmetries; see `GraphPlan`.
    border : {"exact", "interior", "cached"}
        See `ssl_data.SSLCachedDataset`.
    edge_stride : int
        Keep only edge pixels with ``row % edge_stride == col % edge_stride`` in the sample.

    Raises
    ------
    StoreCorruptError
        If mask and graphs of the patch do not match.
    """
    interior = interior_window(window, patch_size=store.patch_size, pad=store.spec.pad)
    pixels = sample_pixels(
        store.read_edge_bits(index),
        stored_stride=store.edge_stride,
        crop=window,
        taken=interior if border == "interior" else window,
        stored=interior if border == "exact" else window,
        turn=turn,
        edge_stride=edge_stride,
    )
    store.check_count(index, pixels.num_stored)
    return GraphPlan(index=index, window=window, turn=turn, pixels=pixels)


def read_graphs(store: Store, plans: Sequence[GraphPlan], outs: Sequence[NDArray[Any]]) -> None:
    """Read the codes of some samples' stored graphs.

    Parameters
    ----------
    store, plans
        See `plan_graphs`.
    outs : uint8 or uint16 (N, K), for each sample
        `Store.code_type`. The rows ``plan.pixels.places`` are filled; C-contiguous.
    """
    samples = list(zip(plans, outs, strict=True))
    for first in range(0, len(samples), _PREPARED):
        some = samples[first : first + _PREPARED]
        # Reading leaves nothing in the core's cache of what Python works with.
        done = gather_all([_prepare(store, plan, out) for plan, out in some])
        for (plan, out), is_done in zip(some, done, strict=True):
            if not is_done:
                _read_chunk_by_chunk(store, plan, out)


def _prepare(store: Store, plan: GraphPlan, out: NDArray[Any]) -> Gather:
    # The store's compiled code knows nothing of the environment's choice of a backend.
    if not use_native() or is_portable():
        return Gather()
    columns = turned_columns(plan.turn, out.shape[1])
    return store.prepare_gather(plan.index, plan.pixels.rows, out, plan.pixels.places, columns)


def _read_chunk_by_chunk(store: Store, plan: GraphPlan, out: NDArray[Any]) -> None:
    rows, places = plan.pixels.rows, plan.pixels.places
    if plan.is_a_run:
        store.read_codes(plan.index, int(rows[0]), int(rows[-1]) + 1, out=out)
        return
    for span, rows_of_block, block in store.code_blocks(plan.index, rows):
        turn_graphs(block, rows_of_block, out, places[span], plan.turn)


def compute_graphs(store: Store, plan: GraphPlan, image: NDArray[np.uint8], out: NDArray[Any]) -> None:
    """Compute the codes of the graphs of a sample that are not those stored.

    Parameters
    ----------
    store, plan
        See `plan_graphs`.
    image : uint8 (H, W, 3)
        The crop, not turned.
    out : uint8 or uint16 (N, K)
        `Store.code_type`. The rows ``plan.pixels.computed`` are filled; C-contiguous.
    """
    computed = plan.pixels.computed
    if len(computed):
        turned = np.ascontiguousarray(plan.turn.image(image))
        pixels = np.stack([plan.pixels.row[computed], plan.pixels.col[computed]], axis=1)
        graph_codes(turned, pixels, store.spec, store.quantization, out=out, rows=computed)
