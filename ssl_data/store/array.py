"""Reading one array of a store, shard by shard, each chunk checked."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_data.errors import StoreCorruptError
from ssl_data.store.codec import codec_from_metadata
from ssl_data.store.layout import array_metadata_path, shard_path
from ssl_data.store.shard import ShardReader

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ssl_data.geometry.positions import Window
    from ssl_data.store.layout import ArrayLayout
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
        self._codec = codec_from_metadata(self._inner_codecs())
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
            reader = ShardReader(file, math.prod(self._per_axis), self._codec)
        self._open[number] = reader
        if len(self._open) > _OPEN_SHARDS:
            self._open.popitem(last=False)  # closed when the last user lets go of it
        return reader

    def read_rows(self, first: int, count: int) -> NDArray[Any]:
        """Rows of a two-dimensional array that start at a chunk boundary's chunk; they lie in one shard."""
        chunk_rows, num_columns = self.layout.chunk_shape
        shard, local = divmod(first, self.layout.shard_shape[0])
        chunks = range(local // chunk_rows, -(-(local + count) // chunk_rows))
        rows = np.empty((len(chunks), chunk_rows, num_columns), dtype=self.layout.dtype)
        self.shard(shard).read(chunks, list(rows))
        skip = local - chunks.start * chunk_rows
        return rows.reshape(-1, num_columns)[skip : skip + count]

    def read_window(self, slot: int, window: Window) -> NDArray[Any]:
        """A rectangle of the image in a slot; only the tiles it touches are read."""
        tile = self.layout.chunk_shape[1]
        tiles_per_row = self._per_axis[2]
        shard, local = divmod(slot, self.layout.shard_shape[0])
        tile_rows = range(window.top // tile, -(-window.bottom // tile))
        tile_cols = range(window.left // tile, -(-window.right // tile))
        pixel_shape = (tile, *self.layout.chunk_shape[2:])
        tiles = np.empty((len(tile_rows), len(tile_cols), *pixel_shape), dtype=self.layout.dtype)
        for index, tile_row in enumerate(tile_rows):
            first = local * self.chunks_per_item + tile_row * tiles_per_row + tile_cols.start
            self.shard(shard).read(range(first, first + len(tile_cols)), list(tiles[index]))
        image = tiles.swapaxes(1, 2).reshape(len(tile_rows) * tile, len(tile_cols) * tile, *pixel_shape[2:])
        top, left = window.top - tile_rows.start * tile, window.left - tile_cols.start * tile
        return image[top : top + window.bottom - window.top, left : left + window.right - window.left]
