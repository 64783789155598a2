"""Making one shard: decode, cut, mask, graphs, write, commit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ssl_data.errors import BuildError, SourceError, one_line
from ssl_data.kernels.edges import edge_mask, edge_pixels
from ssl_data.kernels.resize import reduce_bicubic
from ssl_data.kernels.ssg import self_similarity_graph
from ssl_data.pipeline.decode import decode_image, read_file
from ssl_data.pipeline.donor import CHUNKS_PER_BLOCK, copy_patch
from ssl_data.store.layout import EDGE_MASK, GT, lq_name
from ssl_data.store.manifest import PatchRecord, RejectedRecord
from ssl_data.store.writer import ShardSink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ssl_data.config import BuildSpec
    from ssl_data.pipeline.donor import Donor
    from ssl_data.pipeline.plan import ImageTask, ShardJob
    from ssl_data.store.manifest import ShardRecord

__all__ = ["ShardResult", "run_shard", "summarize"]


@dataclass(frozen=True, kw_only=True)
class ShardResult:
    """What a worker reports about a shard: numbers and reasons, no arrays."""

    shard: int
    num_patches: int
    num_patches_rejected: int
    """Patches of images whose pixels could not be decoded."""
    num_graphs: int
    num_bytes: int
    rejected: tuple[RejectedRecord, ...]
    """Those images."""


def summarize(record: ShardRecord) -> ShardResult:
    """The result of a shard, from its commit record."""
    rejected = {
        RejectedRecord(source=patch.source, reason_code=str(patch.reason_code), reason=patch.rejected)
        for patch in record.patches
        if patch.rejected is not None
    }
    return ShardResult(
        shard=record.shard,
        num_patches=sum(patch.rejected is None for patch in record.patches),
        num_patches_rejected=sum(patch.rejected is not None for patch in record.patches),
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
    with ShardSink(job.root, job.plan, job.shard) as sink:
        patches = [record for task in job.tasks for record in _run_image(sink, task, job)]
        return summarize(sink.commit(patches))


def _run_image(sink: ShardSink, task: ImageTask, job: ShardJob) -> Iterator[PatchRecord]:
    if job.donor is not None and task.name in job.donor.first_index:
        yield from _copy_image(sink, task, job.donor)
        return
    content = _read(task)
    try:
        image = _decode(content, task, job.plan.spec.image.max_pixels)
    except SourceError as error:
        for slot, corner in zip(task.slots, task.corners, strict=True):
            yield _record(task, slot, corner, rejected=error)
        return
    size = job.plan.spec.patch.patch_size
    for slot, (row, col) in zip(task.slots, task.corners, strict=True):
        gt = np.ascontiguousarray(image[row : row + size, col : col + size])
        num_edge_pixels, start, count = _write_patch(sink, slot, gt, job)
        yield _record(task, slot, (row, col), num_edge_pixels=num_edge_pixels, start=start, count=count)


def _copy_image(sink: ShardSink, task: ImageTask, donor: Donor) -> Iterator[PatchRecord]:
    first_index = donor.first_index[task.name] + task.first_patch
    for index, (slot, corner) in enumerate(zip(task.slots, task.corners, strict=True), first_index):
        num_edge_pixels, start, count = copy_patch(sink, slot, donor, index, task.patch_id(corner))
        yield _record(task, slot, corner, num_edge_pixels=num_edge_pixels, start=start, count=count)


def _read(task: ImageTask) -> bytes:
    """The content that the plan was made from; anything else is no property of the image, and must not be recorded."""
    where = one_line(str(task.path))
    try:
        content = read_file(task.path, task.name)
    except SourceError as error:
        raise BuildError(f"{where} could be read a moment ago: {error.reason}; run the build again") from error
    if hashlib.sha256(content).hexdigest() != task.sha256:
        raise BuildError(f"{where} changed while the store was being built; run the build again")
    return content


def _decode(content: bytes, task: ImageTask, max_pixels: int) -> NDArray[np.uint8]:
    """The image as it is cut."""
    image = decode_image(content, task.name, max_pixels=max_pixels)
    if image.shape[:2] != (task.height, task.width):
        found = f"{image.shape[0]}x{image.shape[1]}"
        reason = f"corrupt (its header announces {task.height}x{task.width} pixels, it holds {found})"
        raise SourceError(task.name, reason, "corrupt")
    if task.size_in_use == image.shape[:2]:
        return image
    height, width = task.size_in_use
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def _write_patch(sink: ShardSink, slot: int, gt: NDArray[np.uint8], job: ShardJob) -> tuple[int, int, int]:
    """Write one patch; return its number of edge pixels (before edge_stride) and its rows in ``ssg``."""
    spec = job.plan.spec
    mask = edge_mask(gt, threshold=spec.edge.threshold)
    pixels = edge_pixels(mask, edge_stride=spec.edge.edge_stride)
    sink.write_image(GT, slot, gt)
    sink.write_image(EDGE_MASK, slot, mask)
    if spec.store.lq_scale is not None:
        sink.write_image(lq_name(spec.store.lq_scale), slot, reduce_bicubic(gt, spec.store.lq_scale))
    start, count = sink.write_graphs(_graph_blocks(gt, pixels, spec, job.num_threads))
    return int(mask.sum()), start, count


def _graph_blocks(
    gt: NDArray[np.uint8], pixels: NDArray[np.int32], spec: BuildSpec, num_threads: int
) -> Iterator[NDArray[np.uint8]]:
    block_rows = CHUNKS_PER_BLOCK * spec.store.chunk_rows
    for first in range(0, len(pixels), block_rows):
        block = pixels[first : first + block_rows]
        yield self_similarity_graph(gt, block, spec.ssg, output="codes", num_threads=num_threads)


def _record(
    task: ImageTask,
    slot: int,
    corner: tuple[int, int],
    *,
    num_edge_pixels: int = 0,
    start: int = -1,
    count: int = 0,
    rejected: SourceError | None = None,
) -> PatchRecord:
    row, col = corner
    return PatchRecord(
        slot=slot,
        patch_id=task.patch_id(corner),
        source=task.name,
        source_sha256=task.sha256,
        scale=task.scale,
        row=row,
        col=col,
        num_edge_pixels=num_edge_pixels,
        start=start,
        count=count,
        rejected=rejected.reason if rejected else None,
        reason_code=rejected.reason_code if rejected else None,
    )
