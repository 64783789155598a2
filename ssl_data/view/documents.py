"""What the page asks the server for besides the bytes of the store, as plain JSON values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_data.config import LARGEST_CODES
from ssl_data.errors import InputError
from ssl_data.geometry.positions import search_offsets
from ssl_data.kernels.quantize import codes_from_ssd
from ssl_data.kernels.ssg import self_similarity_graph
from ssl_data.store.layout import EDGE_MASK, GT, SSG, lq_name

if TYPE_CHECKING:
    import pyarrow as pa

    from ssl_data.store.reader import Store

__all__ = ["describe_graph", "describe_patch", "describe_patches", "describe_store"]

_PLAIN = ("slot", "row", "col", "num_edge_pixels", "start", "count")
_NAMED = ("source", "scale")


def describe_store(store: Store) -> dict[str, Any]:
    """Names, sizes and specs: what a reader has to know before it reads a patch."""
    scale = store.lq_scale
    return {
        "url": store.url,
        "dataset": store.attributes["dataset"],
        "fingerprint": store.attributes["fingerprint"],
        "num_patches": store.num_patches,
        "patch_size": store.patch_size,
        "arrays": {"gt": GT, "edge_mask": EDGE_MASK, "ssg": SSG, "lq": None if scale is None else lq_name(scale)},
        "lq_scale": scale,
        "edge_stride": store.edge_stride,
        "quantization": store.quantization,
        "largest_code": LARGEST_CODES[store.quantization],
        "offsets": search_offsets(store.spec).tolist(),
        "spec": store.build_spec.to_dict(),
    }


def describe_patches(patches: pa.Table) -> dict[str, Any]:
    """The table of patches, column by column; names that repeat are listed once and then numbered."""
    columns: dict[str, Any] = {name: patches[name].to_pylist() for name in _PLAIN}
    for name in _NAMED:
        numbered = patches[name].combine_chunks().dictionary_encode()
        columns[name] = numbered.indices.to_pylist()
        columns[f"{name}s"] = numbered.dictionary.to_pylist()
    return columns


def describe_patch(patches: pa.Table, index: int) -> dict[str, Any]:
    """All that the manifest says about one patch."""
    row: dict[str, Any] = patches.slice(index, 1).to_pylist()[0]
    return row


def describe_graph(store: Store, index: int, row: int, col: int) -> dict[str, Any]:
    """The graph of one pixel of a patch, computed now from the patch's pixels.

    Returns
    -------
    dict
        "ssd" integers, "codes" as the store would hold them, and "normalized", which no quantization has touched.

    Raises
    ------
    InputError
        If the pixel lies outside the patch.
    StoreCorruptError
        If the patch's pixels cannot be read.
    """
    if not (0 <= row < store.patch_size and 0 <= col < store.patch_size):
        raise InputError(f"pixel (row {row}, col {col}) lies outside the patch of {store.patch_size} pixels")
    gt, pixel = store.read_gt(index), np.array([[row, col]])
    ssd = self_similarity_graph(gt, pixel, store.spec, output="ssd")
    return {
        "ssd": ssd[0].tolist(),
        "codes": codes_from_ssd(ssd, store.spec, store.quantization)[0].tolist(),
        "normalized": self_similarity_graph(gt, pixel, store.spec)[0].tolist(),
    }
