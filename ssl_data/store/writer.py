"""Writing a store: the frame first, then the shards in any order; `finalize` does the rest.

Nothing is ever changed in place. A shard becomes part of the store when its record appears, the store becomes readable
when its root metadata appears; whatever a crash leaves behind is either one of those or is not looked at.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import zarr
from zarr.storage import MemoryStore

from ssl_data.errors import BuildError, StoreMismatchError
from ssl_data.geometry.shards import shard_slots
from ssl_data.store.codec import chunk_codec
from ssl_data.store.layout import (
    PLAN_PATH,
    ROOT_METADATA,
    SOURCES_PATH,
    SSG,
    WORK_DIR,
    ArrayLayout,
    array_layouts,
    record_path,
    shard_path,
    ssg_rows_per_shard,
    unfinished_label,
)
from ssl_data.store.manifest import (
    SOURCE_SCHEMA,
    FileRecord,
    PatchRecord,
    ShardRecord,
    encode_table,
)
from ssl_data.store.shard import ShardWriter
from ssl_data.store.source import ObjectMissingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from zarr.core.buffer import Buffer

    from ssl_data.store.codec import ChunkCodec
    from ssl_data.store.plan import StorePlan
    from ssl_data.store.target import Draft, Target

__all__ = ["ShardSink", "frame_files", "image_chunks", "prepare_store", "row_chunks"]


def prepare_store(target: Target, plan: StorePlan, sources: Sequence[Mapping[str, Any]]) -> None:
    """Write what is known before the first shard: sources, metadata of the sharded arrays, and last the plan.

    What is there already is left alone: other parts of the same build may be reading it.

    Parameters
    ----------
    target : Target
        The store; its claim is held.
    sources : sequence of mappings
        Rows of ``manifest/sources.parquet``.

    Raises
    ------
    StoreMismatchError
        If another plan was saved there since we looked.
    """
    frame = {SOURCES_PATH: encode_table(SOURCE_SCHEMA, list(sources)), **frame_files(plan)}
    saved = frame.pop(PLAN_PATH)
    for path, content in frame.items():
        if not _holds(target, path, content):
            target.put(path, content)
    if not target.create(PLAN_PATH, saved):
        raise StoreMismatchError(f"{target.url} was begun by another build just now; run the command again")


def frame_files(plan: StorePlan) -> dict[str, bytes]:
    """The files, by path, that follow from the plan: metadata of the sharded arrays, and last the plan itself."""
    return {**_zarr_files(array_layouts(plan.spec, plan.num_slots), plan), PLAN_PATH: plan.encode()}


def _holds(target: Target, path: str, content: bytes) -> bool:
    try:
        return target.read_all(path) == content
    except ObjectMissingError:
        return False


def _zarr_files(layouts: Iterable[ArrayLayout], plan: StorePlan) -> dict[str, bytes]:
    """Metadata of the sharded arrays, made by zarr-python in memory."""
    files: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(files))
    for layout in layouts:
        group.create_array(
            layout.name,
            shape=layout.shape,
            dtype=layout.dtype,
            chunks=layout.chunk_shape,
            shards=layout.shard_shape,
            compressors=_codec(layout, plan).metadata,
            fill_value=0,
            dimension_names=layout.dimension_names,
            attributes=layout.attributes,
        )
    return {path: content.to_bytes() for path, content in files.items() if path != ROOT_METADATA}


def _codec(layout: ArrayLayout, plan: StorePlan) -> ChunkCodec:
    item_bytes = np.dtype(layout.dtype).itemsize
    return chunk_codec(plan.spec.store.compression, item_bytes, array=layout.name)


def image_chunks(image: NDArray[Any], tile: int) -> Iterator[NDArray[Any]]:
    """The square tiles of an image (H, W) or (H, W, C), row by row, as views."""
    for row in range(0, image.shape[0], tile):
        for col in range(0, image.shape[1], tile):
            yield image[row : row + tile, col : col + tile]


def row_chunks(block: NDArray[Any], chunk_rows: int) -> Iterator[NDArray[Any]]:
    """So many rows of a block at a time, the last of them filled up with zeros."""
    for first in range(0, len(block), chunk_rows):
        chunk = block[first : first + chunk_rows]
        yield chunk if len(chunk) == chunk_rows else np.pad(chunk, ((0, chunk_rows - len(chunk)), (0, 0)))


class ShardSink:
    """Takes the patches of one shard in slot order and commits them all at once.

    Use as a context manager; leaving it without `commit` leaves no trace.

    Parameters
    ----------
    target : Target
        The store.
    plan : StorePlan
    shard : int
    work : str
        The work folder of whoever makes the shard.
    """

    def __init__(self, target: Target, plan: StorePlan, shard: int, work: str = WORK_DIR) -> None:
        self._target = target
        self._plan = plan
        self._shard, self._work = shard, work
        self._slots = shard_slots(shard, num_slots=plan.num_slots, patches_per_shard=plan.spec.store.patches_per_shard)
        self._layouts = {layout.name: layout for layout in array_layouts(plan.spec, plan.num_slots)}
        self._writers: dict[str, ShardWriter] = {}
        self._draft: Draft = target.draft(unfinished_label(shard), work)
        self._next_row = 0

    def __enter__(self) -> Self:
        """Open the shard's unfinished files; where one cannot be opened, none stays."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._draft)
            for layout in self._layouts.values():
                file = self._draft.open(self._path(layout))
                per_axis = (shard // chunk for shard, chunk in zip(layout.shard_shape, layout.chunk_shape, strict=True))
                self._writers[layout.name] = ShardWriter(file, math.prod(per_axis), _codec(layout, self._plan))
            stack.pop_all()  # from here on, it is for `__exit__`
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Drop what was not committed."""
        self._draft.__exit__(kind, *rest)

    def _path(self, layout: ArrayLayout) -> str:
        return shard_path(layout.name, self._shard, len(layout.shape))

    def write_image(self, name: str, slot: int, image: NDArray[Any]) -> None:
        """Write a patch (H, W) or (H, W, C) of one of the image arrays, tile by tile."""
        layout = self._layouts[name]
        chunks = list(image_chunks(image, layout.chunk_shape[1]))
        first = (slot - self._slots.start) * len(chunks)
        for index, chunk in enumerate(chunks, first):
            self._writers[name].write(index, np.ascontiguousarray(chunk))

    def write_graphs(self, blocks: Iterable[NDArray[np.unsignedinteger[Any]]]) -> tuple[int, int]:
        """Write the graph codes of the next patch.

        Parameters
        ----------
        blocks : iterable of uint8 or uint16 (n, K)
            The patch's rows in order; all blocks but the last have a multiple of ``chunk_rows`` rows.

        Returns
        -------
        start, count : int
            Where the rows lie in the array ``ssg``.
        """
        chunk_rows = self._layouts[SSG].chunk_shape[0]
        start, count = self._next_row, 0
        for block in blocks:
            for chunk in row_chunks(block, chunk_rows):
                self._writers[SSG].write(self._next_row // chunk_rows, np.ascontiguousarray(chunk))
                self._next_row += chunk_rows
            count += len(block)
        return self._shard * ssg_rows_per_shard(self._plan.spec) + start, count

    def commit(self, patches: Sequence[PatchRecord]) -> ShardRecord:
        """Move all files into place, then write the record.

        Raises
        ------
        BuildError
            If the shard has a record with other content: whoever begins a shard has removed what was left of it.
        """
        hashes = {name: writer.finish() for name, writer in self._writers.items()}
        self._draft.commit()
        record = ShardRecord(
            shard=self._shard,
            fingerprint=self._plan.fingerprint,
            files=tuple(
                FileRecord(path=self._path(layout), num_bytes=self._writers[name].num_bytes, sha256=hashes[name])
                for name, layout in self._layouts.items()
            ),
            patches=tuple(patches),
        )
        path = record_path(self._shard)
        if not self._target.create(path, record.encode(), self._work):
            raise BuildError(f"{self._target.name(path)} was written by another builder, with other content")
        return record
