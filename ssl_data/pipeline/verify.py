"""Checking a store without the images it was made from: its files, and with `deep` what they say."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from ssl_data.errors import ConfigError, Problem, StoreCorruptError
from ssl_data.kernels.codes import graph_codes
from ssl_data.kernels.edges import edge_mask, edge_pixels
from ssl_data.kernels.resize import reduce_bicubic
from ssl_data.pipeline.cores import usable_cores
from ssl_data.pipeline.donor import rows_per_block
from ssl_data.pipeline.report import Progress
from ssl_data.store.layout import PATCHES_PATH
from ssl_data.store.manifest import PATCH_SCHEMA, read_table
from ssl_data.store.reader import open_store
from ssl_data.store.verify import verify_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from ssl_data.pipeline.report import ProgressFunction
    from ssl_data.store.reader import Store

__all__ = ["verify_store"]


def verify_store(
    url: str | Path,
    *,
    deep: bool = False,
    share: float = 1.0,
    seed: int = 0,
    progress: ProgressFunction | None = None,
) -> list[Problem]:
    """Compare a store with its manifest, and on request with what its patches ought to give.

    Parameters
    ----------
    url : str or Path
        Folder or URL of the store; a remote one is read past the cache.
    deep : bool
        Besides sizes and SHA-256 of all files, compute the masks, the graphs and the reduced patches anew from the
        stored patches, and compare every value.
    share : float
        The share of the patches that `deep` looks at, drawn at random; at least one patch.
    seed : int
        Of that draw: the same seed draws the same patches.
    progress : callable, optional
        Called with a `Progress` after every file and every patch.

    Returns
    -------
    list of Problem
        Empty where all is well. Patches are looked at only where all files are as they were written.

    Raises
    ------
    ConfigError
        If `share` is not above 0 and at most 1.
    StoreNotFoundError, StoreIncompleteError, StoreMismatchError
        If there is no complete store of this version to verify.
    StoreUnreachableError
        If the store, or one of its objects, cannot be read for now.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"the share of patches to be verified must be above 0 and at most 1, got {share}")

    def on_file(done: int, total: int) -> None:
        if progress is not None:
            progress(Progress(phase="verify", done=done, total=total))

    problems = verify_files(url, on_file)
    if deep and not problems:
        problems += _problems_of_patches(open_store(url, cache_bytes=0), share, seed, progress)
    return problems


def _problems_of_patches(store: Store, share: float, seed: int, progress: ProgressFunction | None) -> Iterator[Problem]:
    table = read_table(store.source, PATCHES_PATH, PATCH_SCHEMA)
    filled = table.filter(table["filtered"].is_null())
    hashes, slots = filled["gt_sha256"].to_pylist(), filled["slot"].to_pylist()
    chosen = _draw(store.num_patches, share, seed)
    for done, index in enumerate(chosen, 1):
        shard = slots[index] // store.build_spec.store.patches_per_shard
        try:
            findings = list(_findings(store, index, hashes[index]))
        except StoreCorruptError as error:
            findings = [("corrupt", str(error))]
        for kind, message in findings:
            yield Problem(where=store.patch_id(index), kind=kind, message=message, shard=shard)
        if progress is not None:
            progress(Progress(phase="recompute", done=done, total=len(chosen), num_patches=done))


def _draw(num_patches: int, share: float, seed: int) -> list[int]:
    size = min(num_patches, max(1, round(share * num_patches)))
    chosen: list[int] = np.random.default_rng(seed).choice(num_patches, size=size, replace=False).tolist()
    return sorted(chosen)


def _findings(store: Store, index: int, gt_sha256: str) -> Iterator[tuple[str, str]]:
    """What is wrong with one patch: kind and message."""
    gt, mask = store.read_gt(index), store.read_edge_mask(index)
    edge, scale = store.build_spec.edge, store.lq_scale
    if hashlib.sha256(gt.data).hexdigest() != gt_sha256:
        yield "wrong-pixels", "its pixels have another SHA-256 than the manifest says"
    if edge.masks == "computed":
        differing = int((edge_mask(gt, threshold=edge.threshold) != mask).sum())
        if differing:
            yield "wrong-mask", f"{differing} pixels of its edge mask differ from the mask of its pixels"
    if int(mask.sum()) != store.num_edge_pixels[index]:
        yield "wrong-count", "the number of edge pixels differs from the manifest"
    pixels = edge_pixels(mask, edge_stride=edge.edge_stride)
    store.check_count(index, len(pixels))
    differing = _count_differing_graphs(store, index, gt, pixels)
    if differing:
        yield "wrong-codes", f"{differing} of {len(pixels)} graphs differ from those of its pixels"
    if scale is not None and not np.array_equal(reduce_bicubic(gt, scale), store.read_lq(index)):
        yield "wrong-lq", "its low-quality patch is not the reduction of its pixels"


def _count_differing_graphs(store: Store, index: int, gt: NDArray[np.uint8], pixels: NDArray[np.int32]) -> int:
    chunk_rows = store.build_spec.store.chunk_rows
    block_rows = rows_per_block(chunk_rows)
    differing = 0
    for first in range(0, len(pixels), block_rows):
        block = pixels[first : first + block_rows]
        codes = graph_codes(gt, block, store.spec, store.quantization, num_threads=usable_cores())
        read = store.read_codes(index, first, first + len(block))
        is_wrong = (codes != read).any(axis=1)
        for begin in range(0, len(block), chunk_rows):  # as a crop reads them: with other checksums
            places = np.arange(begin, min(begin + chunk_rows, len(block)), dtype=np.int32)
            if store.prepare_gather(index, places + np.int32(first), read, places)():
                is_wrong[places] |= (codes[places] != read[places]).any(axis=1)
        differing += int(is_wrong.sum())
    return differing
