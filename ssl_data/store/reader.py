"""Reading a store: patches, masks and graphs, each chunk checked, nothing assumed to be zero because it is absent."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_data.config import BuildSpec, SSGSpec
from ssl_data.errors import StoreCorruptError, StoreError, StoreIncompleteError, StoreNotFoundError
from ssl_data.geometry.positions import Window, mask_pixels
from ssl_data.store.codec import codec_from_metadata
from ssl_data.store.layout import (
    ATTRIBUTE,
    EDGE_MASK,
    GT,
    PATCHES_PATH,
    PLAN_PATH,
    ROOT_METADATA,
    SSG,
    ArrayLayout,
    array_layouts,
    array_metadata_path,
    lq_name,
    shard_path,
)
from ssl_data.store.manifest import PATCH_SCHEMA, read_table
from ssl_data.store.plan import require_format
from ssl_data.store.shard import ShardReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["Store", "open_store"]

_OPEN_SHARDS = 32
"""Shard files an array keeps open: four arrays stay far below the usual limit of 1024 open files."""


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise StoreCorruptError(f"{path} is not JSON ({error}); run `ssl-data verify`") from error
    if not isinstance(values, dict):
        raise StoreCorruptError(f"{path} is not a JSON object; run `ssl-data verify`")
    return values


class _ShardedArray:
    """One array of the store; keeps the most recently used shard files open, with their indices."""

    def __init__(self, root: Path, layout: ArrayLayout) -> None:
        self.layout = layout
        self._root = root
        self._per_axis = tuple(s // c for s, c in zip(layout.shard_shape, layout.chunk_shape, strict=True))
        self.chunks_per_item = math.prod(self._per_axis[1:])
        self._codec = codec_from_metadata(self._inner_codecs())
        self._open: OrderedDict[int, ShardReader] = OrderedDict()

    def _inner_codecs(self) -> list[dict[str, Any]]:
        path = self._root / array_metadata_path(self.layout.name)
        if not path.exists():
            raise StoreCorruptError(f"{path} is missing; run `ssl-data verify` on the store")
        metadata = _read_json(path)
        try:
            sharding = metadata["codecs"][0]["configuration"]
            found = (metadata["shape"], metadata["chunk_grid"]["configuration"]["chunk_shape"], sharding["chunk_shape"])
            codecs: list[dict[str, Any]] = sharding["codecs"]
        except (KeyError, IndexError, TypeError) as error:
            raise StoreCorruptError(f"{path} does not describe a sharded array ({error!r})") from error
        expected = [list(shape) for shape in (self.layout.shape, self.layout.shard_shape, self.layout.chunk_shape)]
        if list(found) != expected:
            raise StoreCorruptError(f"{path} has shape, shard and chunk {found}, the store's specs ask for {expected}")
        return codecs

    def shard(self, number: int) -> ShardReader:
        reader = self._open.pop(number, None)
        if reader is None:
            path = self._root / shard_path(self.layout.name, number, len(self.layout.shape))
            reader = ShardReader(path, math.prod(self._per_axis), self._codec)
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


class Store:
    """A complete store, open for reading.

    Cheap to pickle: a copy in another process opens the files anew. Safe to use after a fork.

    Parameters
    ----------
    root : Path
        Folder of the store.

    Raises
    ------
    StoreNotFoundError, StoreIncompleteError, StoreMismatchError, StoreCorruptError
        If there is no store, its build has not finished, another version wrote it, or a file is broken.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.attributes: dict[str, Any] = self._read_attributes()
        require_format(self.attributes, str(root))
        self.build_spec = BuildSpec.from_dict(self.attributes["spec"])
        table = read_table(root / PATCHES_PATH, PATCH_SCHEMA)
        if table.num_rows != self.attributes["num_slots"]:
            raise StoreCorruptError(
                f"{root / PATCHES_PATH} has {table.num_rows} rows, not {self.attributes['num_slots']}"
            )
        filled = table.filter(table["rejected"].is_null())
        self._slots: NDArray[np.int64] = filled["slot"].to_numpy()
        self._starts: NDArray[np.int64] = filled["start"].to_numpy()
        self._counts: NDArray[np.int32] = filled["count"].to_numpy()
        self._num_edge_pixels: NDArray[np.int32] = filled["num_edge_pixels"].to_numpy()
        self._patch_ids = filled["patch_id"].combine_chunks()
        self._sources = filled["source"].combine_chunks().dictionary_encode()
        layouts = array_layouts(self.build_spec, self.attributes["num_slots"])
        self._arrays = {layout.name: _ShardedArray(root, layout) for layout in layouts}

    def _read_attributes(self) -> dict[str, Any]:
        path = self.root / ROOT_METADATA
        if not path.is_file():
            if (self.root / PLAN_PATH).exists():
                raise StoreIncompleteError(f"the build of {self.root} has not finished; run the same build again")
            raise StoreNotFoundError(f"{self.root} is not a store: {path} does not exist")
        attributes = _read_json(path).get("attributes", {}).get(ATTRIBUTE)
        if not isinstance(attributes, dict):
            raise StoreNotFoundError(f"{self.root} is a Zarr group, but not one written by ssl_data")
        return attributes

    def __reduce__(self) -> tuple[Callable[[Path], Store], tuple[Path]]:
        """Pickle as the path alone."""
        return type(self), (self.root,)

    def __repr__(self) -> str:
        return f"<Store {self.root}: {self.num_patches} patches of {self.patch_size} pixels>"

    @property
    def spec(self) -> SSGSpec:
        """How the graphs were computed."""
        return self.build_spec.ssg

    @property
    def patch_size(self) -> int:
        """Height and width of every patch, in pixels."""
        return self.build_spec.patch.patch_size

    @property
    def edge_stride(self) -> int:
        """Which edge pixels have a graph, see `EdgeSpec.edge_stride`."""
        return self.build_spec.edge.edge_stride

    @property
    def lq_scale(self) -> int | None:
        """GT : LQ ratio of the low-quality patches, or None where none are stored."""
        return self.build_spec.store.lq_scale

    @property
    def num_patches(self) -> int:
        """Patches in the store; images that could not be read do not count."""
        return len(self._slots)

    def __len__(self) -> int:
        return self.num_patches

    @property
    def counts(self) -> NDArray[np.int32]:
        """Graphs of each patch: int32 (num_patches,)."""
        return self._counts

    @property
    def num_edge_pixels(self) -> NDArray[np.int32]:
        """Edge pixels of each patch's full mask: int32 (num_patches,)."""
        return self._num_edge_pixels

    @property
    def source_indices(self) -> NDArray[np.int32]:
        """For each patch, a number that is equal exactly for patches of the same image: int32 (num_patches,)."""
        indices: NDArray[np.int32] = self._sources.indices.to_numpy()
        return indices

    @property
    def shard_indices(self) -> NDArray[np.int64]:
        """The shard of each patch: int64 (num_patches,)."""
        return self._slots // self.build_spec.store.patches_per_shard

    def patch_id(self, index: int) -> str:
        """The patch's name, unique in the store: image, scale and position."""
        patch_id: str = self._patch_ids[self._check(index)].as_py()
        return patch_id

    def _check(self, index: int) -> int:
        if not 0 <= index < self.num_patches:
            raise IndexError(f"patch index must be in 0 .. {self.num_patches - 1}, got {index}")
        return index

    @property
    def whole(self) -> Window:
        """The window that covers a patch."""
        return Window(top=0, left=0, bottom=self.patch_size, right=self.patch_size)

    def read_gt(self, index: int, window: Window | None = None) -> NDArray[np.uint8]:
        """The ground-truth patch, or a rectangle of it: uint8 (H, W, 3)."""
        return self._arrays[GT].read_window(int(self._slots[self._check(index)]), window or self.whole)

    def read_edge_mask(self, index: int) -> NDArray[np.bool_]:
        """The full edge mask, before edge_stride: bool (H, W)."""
        return self._arrays[EDGE_MASK].read_window(int(self._slots[self._check(index)]), self.whole)

    def read_lq(self, index: int, window: Window | None = None) -> NDArray[np.uint8]:
        """The low-quality patch, or the part of it under a rectangle of the ground truth.

        Parameters
        ----------
        window : Window
            In ground-truth pixels; its sides are multiples of `lq_scale`.

        Returns
        -------
        uint8 (H / lq_scale, W / lq_scale, 3)
        """
        scale = self.lq_scale
        if scale is None:
            raise StoreError(f"{self.root} holds no low-quality patches; build it with --lq-scale")
        sides = window or self.whole
        reduced = Window(
            top=sides.top // scale, left=sides.left // scale, bottom=sides.bottom // scale, right=sides.right // scale
        )
        return self._arrays[lq_name(scale)].read_window(int(self._slots[self._check(index)]), reduced)

    def read_codes(self, index: int, first: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Graph codes of the patch's edge pixels number `first` to `stop`: uint8 (n, K)."""
        count = int(self._counts[self._check(index)])
        stop = count if stop is None else stop
        if not 0 <= first <= stop <= count:
            raise IndexError(f"rows must lie in 0 .. {count}, got {first} .. {stop}")
        if first == stop:
            return np.empty((0, self.spec.num_positions), dtype=np.uint8)
        return self._arrays[SSG].read_rows(int(self._starts[index]) + first, stop - first)

    def read_pixels(self, index: int) -> NDArray[np.int32]:
        """Row and column of the edge pixels that have a graph: int32 (count, 2), in the order of the graphs.

        Raises
        ------
        StoreCorruptError
            If mask and index disagree about their number.
        """
        pixels = mask_pixels(self.read_edge_mask(index), self.edge_stride)
        if len(pixels) != self._counts[index]:
            raise StoreCorruptError(
                f"patch {self.patch_id(index)} of {self.root} has {len(pixels)} edge pixels in its mask "
                f"but {self._counts[index]} graphs; run `ssl-data verify`"
            )
        return pixels

    def read(self, index: int) -> dict[str, Any]:
        """All of one patch.

        Parameters
        ----------
        index : int
            0 .. num_patches - 1.

        Returns
        -------
        dict
            "gt" uint8 (H, W, 3) RGB, "edge_mask" bool (H, W) before edge_stride, "pixels" int32 (N, 2) row and column
            of the edge pixels with a graph, "ssg" uint8 (N, K) their codes, "lq" uint8 (H/s, W/s, 3) where stored, and
            "patch_id" str.

        Raises
        ------
        IndexError
            For an index outside the store.
        StoreCorruptError
            If a chunk is missing, truncated or altered.
        """
        patch = {
            "patch_id": self.patch_id(index),
            "gt": self.read_gt(index),
            "edge_mask": self.read_edge_mask(index),
            "pixels": self.read_pixels(index),
            "ssg": self.read_codes(index),
        }
        if self.lq_scale is not None:
            patch["lq"] = self.read_lq(index)
        return patch


def open_store(url: str | Path) -> Store:
    """Open a complete store for reading.

    Parameters
    ----------
    url : str or Path
        Folder of the store.

    Raises
    ------
    StoreNotFoundError, StoreIncompleteError, StoreMismatchError, StoreCorruptError
        See `Store`.
    """
    return Store(Path(url))
