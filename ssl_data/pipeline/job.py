"""Making one shard: decode, reduce, cut, mask, graphs, write, commit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ssl_data.errors import BuildError, SourceError, one_line
from ssl_data.geometry.scales import ORIGINAL
from ssl_data.kernels.codes import graph_codes
from ssl_data.kernels.edges import edge_mask, edge_pixels
from ssl_data.kernels.resize import reduce_bicubic
from ssl_data.pipeline.ahead import ahead
from ssl_data.pipeline.decode import decode_image, read_file
from ssl_data.pipeline.donor import copy_patch, rows_per_block
from ssl_data.pipeline.last_image import decoded_once
from ssl_data.pipeline.masks import decode_mask
from ssl_data.store.layout import EDGE_MASK, GT, lq_name
from ssl_data.store.manifest import PatchRecord, RejectedRecord
from ssl_data.store.writer import ShardSink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ssl_data.config import BuildSpec
    from ssl_data.geometry.scales import ScaledSize
    from ssl_data.pipeline.donor import Donor
    from ssl_data.pipeline.plan import ImageTask, PatchTask, ShardJob
    from ssl_data.pipeline.remote_path import ImagePath
    from ssl_data.pipeline.sources import Source
    from ssl_data.store.manifest import ShardRecord

__all__ = ["IMAGE_NOTE", "ShardResult", "graph_blocks", "resized_copy", "run_shard", "summarize"]


IMAGE_NOTE = "while working on the image "
"""Begins the note that an error carries out of `run_shard`."""


@dataclass(frozen=True, kw_only=True)
class ShardResult:
    """What a worker reports about a shard: numbers and reasons, no arrays."""

    shard: int
    num_patches: int
    num_graphs: int
    num_bytes: int
    rejected: tuple[RejectedRecord, ...]
    """The images whose pixels, or given masks, turned out to be broken."""


def summarize(record: ShardRecord) -> ShardResult:
    """The result of a shard, from its commit record."""
    rejected = {
        RejectedRecord(source=patch.source, reason_code=str(patch.reason_code), reason=patch.rejected)
        for patch in record.patches
        if patch.rejected is not None
    }
    return ShardResult(
        shard=record.shard,
        num_patches=sum(patch.filtered is None for patch in record.patches),
        num_graphs=sum(patch.count for patch in record.patches),
        num_bytes=sum(file.num_bytes for file in record.files),
        rejected=tuple(sorted(rejected)),
    )


def run_shard(job: ShardJob) -> ShardResult:
    """Make and commit one shard. The same job gives the same bytes, wherever it runs.

    Raises
    ------
    BuildError
        If a source is no longer what the plan was made from.
    """
    with ShardSink(job.target, job.plan, job.shard, job.work) as sink:
        patches: list[PatchRecord] = []
        for source, tasks in groupby(job.tasks, key=lambda task: task.source):
            try:
                patches += _run_image(sink, source, list(tasks), job)
            except Exception as error:
                error.add_note(f"{IMAGE_NOTE}{source.name}")
                raise
        return summarize(sink.commit(patches))


def _run_image(sink: ShardSink, source: Source, tasks: list[ImageTask], job: ShardJob) -> Iterator[PatchRecord]:
    """Make the patches of an image that belong to the shard, of whatever size."""
    if job.donor is not None and source.name in job.donor.first_index:
        yield from _copy_image(sink, tasks, job.donor)
        return
    content = _read(source, source.path, source.sha256)
    try:
        key = (source.sha256, source.name, job.plan.spec.image)
        image = decoded_once(key, lambda: _decode(content, source, job.plan.spec.image.max_pixels))
        given = _decode_given_mask(source, image)
    except SourceError as error:
        for task in tasks:
            for patch in task.patches:
                yield _record(
                    task, patch, filtered="rejected-image", rejected=error.reason, reason_code=error.reason_code
                )
        return
    for task in tasks:
        copy = resized_copy(image, task.size)
        for patch in task.patches:
            yield _run_patch(sink, task, patch, copy, given, job)


def _copy_image(sink: ShardSink, tasks: list[ImageTask], donor: Donor) -> Iterator[PatchRecord]:
    for task in tasks:
        first_index = donor.first_index[task.source.name] + task.first_patch
        for index, patch in enumerate(task.patches, first_index):
            yield _record(task, patch, **copy_patch(sink, patch.slot, donor, index, patch.patch_id))


def _read(source: Source, path: ImagePath, sha256: str | None) -> bytes:
    """The content that the plan was made from; anything else is no property of the image, and must not be recorded."""
    where = one_line(str(path))
    try:
        content = read_file(path, source.name)
    except SourceError as error:
        raise BuildError(f"{where} could be read a moment ago: {error.reason}; run the build again") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BuildError(f"{where} changed while the store was being built; run the build again")
    return content


def _decode(content: bytes, source: Source, max_pixels: int) -> NDArray[np.uint8]:
    image = decode_image(content, source.name, max_pixels=max_pixels)
    if image.shape[:2] != (source.height, source.width):
        found = f"{image.shape[0]}x{image.shape[1]}"
        reason = f"corrupt (its header announces {source.height}x{source.width} pixels, it holds {found})"
        raise SourceError(source.name, reason, "corrupt")
    return image


def _decode_given_mask(source: Source, image: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    if source.mask_path is None:
        return None
    content = _read(source, source.mask_path, source.mask_sha256)
    return decode_mask(content, source.name, image.shape[:2])


def resized_copy(image: NDArray[np.uint8], size: ScaledSize) -> NDArray[np.uint8]:
    """An image (H, W, 3) in one of its sizes, by Pillow's Lanczos filter, as the authors make it."""
    if size.label == ORIGINAL:
        return image
    copy = Image.fromarray(image).resize((size.width, size.height), Image.Resampling.LANCZOS)
    return np.asarray(copy)


def _run_patch(
    sink: ShardSink,
    task: ImageTask,
    patch: PatchTask,
    image: NDArray[np.uint8],
    given: NDArray[np.bool_] | None,
    job: ShardJob,
) -> PatchRecord:
    """Cut one patch; write it, unless a filter takes it out."""
    spec = job.plan.spec
    side = spec.patch.patch_size
    window = np.s_[patch.row : patch.row + side, patch.col : patch.col + side]
    gt = np.ascontiguousarray(image[window])
    mask = edge_mask(gt, threshold=spec.edge.threshold) if given is None else np.ascontiguousarray(given[window])
    num_edge_pixels, gt_sha256 = int(mask.sum()), hashlib.sha256(gt.data).hexdigest()
    record = partial(_record, task, patch, num_edge_pixels=num_edge_pixels, gt_sha256=gt_sha256)
    if num_edge_pixels < spec.filter.min_edge_density * side**2:
        return record(filtered="edge-density")
    start, count = _write_patch(sink, patch.slot, gt, mask, job)
    return record(start=start, count=count)


def _write_patch(
    sink: ShardSink, slot: int, gt: NDArray[np.uint8], mask: NDArray[np.bool_], job: ShardJob
) -> tuple[int, int]:
    """Write one patch; return where its rows lie in ``ssg``."""
    spec = job.plan.spec
    pixels = edge_pixels(mask, edge_stride=spec.edge.edge_stride)
    sink.write_image(GT, slot, gt)
    sink.write_image(EDGE_MASK, slot, mask)
    if spec.store.lq_scale is not None:
        sink.write_image(lq_name(spec.store.lq_scale), slot, reduce_bicubic(gt, spec.store.lq_scale))
    blocks = graph_blocks(gt, pixels, spec, job.num_threads)
    return sink.write_graphs(ahead(blocks) if job.num_threads > 1 else blocks)


def graph_blocks(
    gt: NDArray[np.uint8], pixels: NDArray[np.int32], spec: BuildSpec, num_threads: int
) -> Iterator[NDArray[np.unsignedinteger[Any]]]:
    """The graphs of a patch, as many at a time as a worker has memory for."""
    block_rows = rows_per_block(spec.store.chunk_rows)
    for first in range(0, len(pixels), block_rows):
        block = pixels[first : first + block_rows]
        yield graph_codes(gt, block, spec.ssg, spec.store.quantization, num_threads=num_threads)


def _record(task: ImageTask, patch: PatchTask, **outcome: Any) -> PatchRecord:  # noqa: ANN401 - fields of the record
    """The record of a patch; of one that is not stored, unless `outcome` says otherwise."""
    fields = {"num_edge_pixels": 0, "start": -1, "count": 0, "gt_sha256": None, "filtered": None, **outcome}
    return PatchRecord(
        slot=patch.slot,
        patch_id=patch.patch_id,
        author_name=patch.author_name,
        source=task.source.name,
        source_sha256=task.source.sha256,
        scale=task.size.label,
        row=patch.row,
        col=patch.col,
        **fields,
    )
