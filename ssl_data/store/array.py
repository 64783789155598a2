"""Reading one array of a store, shard by shard, each chunk checked."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_data.errors import StoreCorruptError
from ssl_data.store.codec import codec_from_metadata
from ssl_data.store.layout import array_metadata_path, shard_path
from ssl_data.store.scratch import borrow
from ssl_data.store.shard import ShardReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ssl_data.geometry.positions import Window
    from ssl_data.store.layout import ArrayLayout
    from ssl_data.store.shard import Gather
    from ssl_data.store.source import ByteSource

__all__ = ["ShardedArray", "read_json"]

_OPEN_SHARDS = 32
"""Shard files an array keeps open: four arrays stay far below the usual limit of 1024 open files."""


def read_json(source: ByteSource, path: str) -> dict[str, Any]:
    """A JSON object of the store.

    Raises
    ------
    StoreCorruptError
        If it is missing or none.
    StoreError
        If it cannot be reached.
    """
    try:
        values = json.loads(source.read_all(path))
    except ValueError as error:
        raise StoreCorruptError(f"{source.name(path)} is not JSON ({error}); run `ssl-data verify`") from error
    if not isinstance(values, dict):
        raise StoreCorruptError(f"{source.name(path)} is not a JSON object; run `ssl-data verify`")
    return values


class ShardedArray:
    """One array of the store; keeps the most recently used shard files open, with their indices."""

    def __init__(self, source: ByteSource, layout: ArrayLayout) -> None:
        self.layout = layout
        self._source = source
        self._per_axis = tuple(s // c for s, c in zip(layout.shard_shape, layout.chunk_shape, strict=True))
        self.chunks_per_item = math.prod(self._per_axis[1:])
        item_bytes = np.dtype(layout.dtype).itemsize
        self._chunk_bytes = math.prod(layout.chunk_shape) * item_bytes
        self._codec = codec_from_metadata(self._inner_codecs(), item_bytes, array=layout.name)
        self._open: OrderedDict[int, ShardReader] = OrderedDict()

    def _inner_codecs(self) -> list[dict[str, Any]]:
        path = array_metadata_path(self.layout.name)
        metadata = read_json(self._source, path)
        name = self._source.name(path)
        try:
            sharding = metadata["codecs"][0]["configuration"]
            found = (metadata["shape"], metadata["chunk_grid"]["configuration"]["chunk_shape"], sharding["chunk_shape"])
            codecs: list[dict[str, Any]] = sharding["codecs"]
        except (KeyError, IndexError, TypeError) as error:
            raise StoreCorruptError(f"{name} does not describe a sharded array ({error!r})") from error
        expected = [list(shape) for shape in (self.layout.shape, self.layout.shard_shape, self.layout.chunk_shape)]
        if list(found) != expected:
            raise StoreCorruptError(f"{name} has shape, shard and chunk {found}, the store's specs ask for {expected}")
        return codecs

    def shard(self, number: int) -> ShardReader:
        """One of the array's shard files, opened when it is not yet."""
        reader = self._open.pop(number, None)
        if reader is None:
            file = self._source.open(shard_path(self.layout.name, number, len(self.layout.shape)))
            reader = ShardReader(file, math.prod(self._per_axis), self._codec, self._chunk_bytes)
        self._open[number] = reader
        if len(self._open) > _OPEN_SHARDS:
            self._open.popitem(last=False)  # closed when the last user lets go of it
        return reader

    def read_rows(self, first: int, out: NDArray[Any]) -> None:
        """Fill `out` (n, columns), C-contiguous, with the rows of a two-dimensional array from row `first` on.

        They lie in one shard. Chunks that `out` wants whole are decoded in their place, the others beside it.
        """
        chunk_rows = self.layout.chunk_shape[0]
        shard, local = divmod(first, self.layout.shard_shape[0])
        chunks = range(local // chunk_rows, -(-(local + len(out)) // chunk_rows))
        begins = [chunk * chunk_rows - local for chunk in chunks]  # in `out`
        with borrow(self._chunk_bytes) as buffer:
            spare = self._as_chunk(buffer)
            outs = [out[row : row + chunk_rows] if 0 <= row <= len(out) - chunk_rows else spare for row in begins]
            spans = [(max(-row, 0), min(len(out) - row, chunk_rows)) for row in begins]
            wanted = [
                np.arange(*span, dtype=np.int32) if array is spare else None
                for array, span in zip(outs, spans, strict=True)
            ]
            for place in self.shard(shard).decode(chunks, outs, wanted):
                if outs[place] is spare:
                    begin, end = spans[place]
                    out[begins[place] + begin : begins[place] + end] = spare[begin:end]

    def row_blocks(
        self, first: int, rows: NDArray[np.int32]
    ) -> Iterator[tuple[slice, NDArray[np.int32], NDArray[Any]]]:
        """The chunks that hold the rows ``first + rows`` of a two-dimensional array, one at a time.

        Parameters
        ----------
        first : int
        rows : int32 (n,)
            Ascending, at least one; all in one shard. What lies between the first and the last is read with them,
            but only chunks in which one of them lies are decoded.

        Yields
        ------
        span : slice
            Of `rows`: those in this chunk.
        rows_of_block : int32 (m,)
            Where in the chunk they lie.
        block : (chunk_rows, columns)
            The chunk; overwritten by the next. Only these rows of it are sure to be there.
        """
        chunk_rows = self.layout.chunk_shape[0]
        shard, local = divmod(first, self.layout.shard_shape[0])
        chunks = range((local + int(rows[0])) // chunk_rows, (local + int(rows[-1])) // chunk_rows + 1)
        offsets = [chunk * chunk_rows - local for chunk in chunks]
        bounds = np.searchsorted(rows, [*offsets, offsets[-1] + chunk_rows]).tolist()
        with borrow(self._chunk_bytes) as buffer:
            block = self._as_chunk(buffer)
            outs = [block if begin < end else None for begin, end in pairwise(bounds)]
            wanted = [
                rows[begin:end] - np.int32(offset)
                for (begin, end), offset in zip(pairwise(bounds), offsets, strict=True)
            ]
            for place in self.shard(shard).decode(chunks, outs, wanted):
                yield slice(bounds[place], bounds[place + 1]), wanted[place], block

    def prepare_gather(
        self,
        first: int,
        rows: NDArray[np.int32],
        out: NDArray[Any],
        places: NDArray[np.int32],
        columns: NDArray[np.uint16] | None,
    ) -> Gather:
        """Prepare to fill ``out[places]`` with the rows ``first + rows`` of a two-dimensional array, columns reordered.

        The rows ascend, at least one, and lie in one shard; see `ShardReader.prepare_gather` for the rest.
        """
        chunk_rows = self.layout.chunk_shape[0]
        shard, local = divmod(first, self.layout.shard_shape[0])
        chunks = range((local + int(rows[0])) // chunk_rows, (local + int(rows[-1])) // chunk_rows + 1)
        shift = local - chunks.start * chunk_rows
        return self.shard(shard).prepare_gather(chunks, rows, out, places, columns, shift=shift)

    def _as_chunk(self, buffer: NDArray[np.uint8]) -> NDArray[Any]:
        return buffer.view(self.layout.dtype).reshape(self.layout.chunk_shape)

    def _image(self, window: Window, out: NDArray[Any] | None) -> NDArray[Any]:
        """`out`, or a new array, for a rectangle of an image; both are checked."""
        height, width = self.layout.shape[1:3]
        if not (0 <= window.top <= window.bottom <= height and 0 <= window.left <= window.right <= width):
            raise IndexError(f"a window must lie in the image of {height} x {width}, got {window}")
        shape = (window.bottom - window.top, window.right - window.left, *self.layout.shape[3:])
        image = np.empty(shape, dtype=self.layout.dtype) if out is None else out
        if image.shape != shape or image.dtype != self.layout.dtype or not image.flags.c_contiguous:
            raise ValueError(f"out must be C-contiguous {self.layout.dtype} {shape}, got {image.dtype} {image.shape}")
        return image

    def read_window(self, slot: int, window: Window, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """A rectangle of the image in a slot, in `out` (C-contiguous) where given; only tiles it touches are read."""
        tile = self.layout.chunk_shape[1]
        tiles_per_row = self._per_axis[2]
        shard, local = divmod(slot, self.layout.shard_shape[0])
        image = self._image(window, out)
        shape = image.shape
        if not image.size:
            return image
        pixels, corner = image.view(np.uint8).reshape(*shape[:2], -1), (window.top, window.left)
        if self.shard(shard).read_tiles(local * self.chunks_per_item, tiles_per_row, corner, tile, pixels):
            return image
        tile_rows = range(window.top // tile, -(-window.bottom // tile))
        tile_cols = range(window.left // tile, -(-window.right // tile))
        if image.shape == self.layout.chunk_shape[1:] and not (window.top % tile or window.left % tile):
            first = local * self.chunks_per_item + tile_rows.start * tiles_per_row + tile_cols.start
            self.shard(shard).read(range(first, first + 1), [image])
            return image
        with borrow(self._chunk_bytes) as buffer:
            chunk = self._as_chunk(buffer)[0]
            for tile_row in tile_rows:
                first = local * self.chunks_per_item + tile_row * tiles_per_row + tile_cols.start
                run, top = range(first, first + len(tile_cols)), tile_row * tile - window.top
                wanted = np.arange(max(-top, 0), min(shape[0] - top, tile), dtype=np.int32)
                for place in self.shard(shard).decode(run, [chunk] * len(run), [wanted] * len(run)):
                    _paste(chunk, (top, tile_cols[place] * tile - window.left), image)
        return image

    def read_bits(self, slot: int) -> NDArray[np.uint8] | None:
        """The image of bool (H, W) in a slot as `mask_bits` packs it; None where it is not stored, or not read, so."""
        height, width = self.layout.shape[1:]
        if self.layout.chunk_shape[1:] != (height, width) or width % 8 != 0:
            return None
        shard, local = divmod(slot, self.layout.shard_shape[0])
        bits = np.empty((height, width // 8), dtype=np.uint8)
        return bits if self.shard(shard).read_bits(local, bits) else None


def _paste(tile: NDArray[Any], corner: tuple[int, int], image: NDArray[Any]) -> None:
    """Copy that part of a tile which lies on the image, when the tile's corner (row, col) lies at `corner` of it."""
    row, col = corner
    top, bottom = max(row, 0), min(row + tile.shape[0], image.shape[0])
    left, right = max(col, 0), min(col + tile.shape[1], image.shape[1])
    image[top:bottom, left:right] = tile[top - row : bottom - row, left - col : right - col]
