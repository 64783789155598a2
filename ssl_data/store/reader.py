"""Reading a store: patches, masks and graphs, each chunk checked, nothing assumed to be zero because it is absent."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_data.config import CODE_TYPES, BuildSpec, SSGSpec
from ssl_data.errors import StoreCorruptError, StoreError, StoreIncompleteError, StoreNotFoundError, one_line
from ssl_data.geometry.positions import Window, mask_bits, mask_pixels
from ssl_data.store.array import ShardedArray, read_json
from ssl_data.store.cache import PieceCache
from ssl_data.store.cached import CachedSource
from ssl_data.store.layout import (
    ATTRIBUTE,
    EDGE_MASK,
    GT,
    PATCHES_PATH,
    PLAN_PATH,
    ROOT_METADATA,
    SSG,
    array_layouts,
    lq_name,
)
from ssl_data.store.local import LocalSource
from ssl_data.store.locate import CacheSettings, open_source
from ssl_data.store.manifest import FILTERS, PATCH_SCHEMA, read_table
from ssl_data.store.plan import StorePlan, require_format
from ssl_data.store.remote import RemoteSource
from ssl_data.store.scratch import borrow
from ssl_data.store.shard import Gather
from ssl_data.store.source import ObjectMissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from ssl_data.config import Quantization
    from ssl_data.store.source import ByteSource

__all__ = ["Store", "open_store"]


class Store:
    """A complete store, open for reading.

    Cheap to pickle: a copy in another process opens the store anew. Safe to use after a fork.

    Parameters
    ----------
    url : str or Path
        Folder or URL of the store.
    cache : CacheSettings
        For pieces of a remote store.

    Raises
    ------
    StoreNotFoundError, StoreIncompleteError, StoreMismatchError, StoreCorruptError
        If there is no store, its build has not finished, another version wrote it, or a file is broken.
    StoreUnreachableError
        If it cannot be read for now.
    """

    def __init__(self, url: str | Path, cache: CacheSettings) -> None:
        source = open_source(url)
        self._settings = source.url, cache
        self.attributes = _read_attributes(source)
        require_format(self.attributes, source.url)
        self.build_spec = BuildSpec.from_dict(self.attributes["spec"])
        self.source: ByteSource = source
        """Where the store's bytes come from."""
        if isinstance(source, RemoteSource) and cache.resolved_bytes() > 0:
            pieces = PieceCache(cache.resolved_folder(), cache.resolved_bytes())
            self.source = CachedSource(source, pieces, self.attributes)
        table = read_table(self.source, PATCHES_PATH, PATCH_SCHEMA)
        if table.num_rows != self.attributes["num_slots"]:
            name = source.name(PATCHES_PATH)
            raise StoreCorruptError(f"{name} has {table.num_rows} rows, not {self.attributes['num_slots']}")
        filled = table.filter(table["filtered"].is_null())
        self._slots: NDArray[np.int64] = filled["slot"].to_numpy()
        self._starts: NDArray[np.int64] = filled["start"].to_numpy()
        self._counts: NDArray[np.int32] = filled["count"].to_numpy()
        self._num_edge_pixels: NDArray[np.int32] = filled["num_edge_pixels"].to_numpy()
        self._patch_ids = filled["patch_id"].combine_chunks()
        self._sources = filled["source"].combine_chunks().dictionary_encode()
        self._check_attributes(Counter(table["filtered"].drop_null().to_pylist()))
        layouts = array_layouts(self.build_spec, self.attributes["num_slots"])
        self._arrays = {layout.name: ShardedArray(self.source, layout) for layout in layouts}

    def _check_attributes(self, filtered: Mapping[str, int]) -> None:
        """The root attributes, which no hash covers, against their own fingerprint and the table of patches."""
        where = self.source.name(ROOT_METADATA)
        if StorePlan.from_dict(self.attributes).fingerprint != self.attributes["fingerprint"]:
            raise StoreCorruptError(f"{where} was altered: its specs do not match its fingerprint")
        totals = {
            "num_patches": len(self._slots),
            "num_graphs": int(self._counts.sum()),
            "num_edge_pixels": int(self._num_edge_pixels.sum()),
            "num_filtered": {reason: filtered.get(reason, 0) for reason in FILTERS},
        }
        for name, total in totals.items():
            if self.attributes.get(name) != total:
                found = self.attributes.get(name)
                raise StoreCorruptError(f"{where} was altered: it has {name} {found!r}, the manifest says {total}")

    def __reduce__(self) -> tuple[Callable[[str | Path, CacheSettings], Store], tuple[str | Path, CacheSettings]]:
        """Pickle as place and cache settings alone."""
        return type(self), self._settings

    def __repr__(self) -> str:
        return f"<Store {self.url}: {self.num_patches} patches of {self.patch_size} pixels>"

    @property
    def url(self) -> str:
        """Folder or URL of the store."""
        return self.source.url

    @property
    def root(self) -> Path:
        """Folder of the store.

        Raises
        ------
        StoreError
            If it is a remote one.
        """
        if not isinstance(self.source, LocalSource):
            raise StoreError(f"{self.url} is not a folder; this needs a local copy of the store")
        return self.source.root

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
    def quantization(self) -> Quantization:
        """How the graphs' codes are made, see `StoreSpec.quantization`."""
        return self.build_spec.store.quantization

    @property
    def code_type(self) -> np.dtype[Any]:
        """Type of the graphs' codes: uint8 or uint16."""
        return np.dtype(CODE_TYPES[self.quantization])

    @property
    def num_patches(self) -> int:
        """Patches in the store; those that were filtered, or whose image is broken, do not count."""
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

    def read_edge_mask(self, index: int, *, out: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """The full edge mask, before edge_stride: bool (H, W), in `out` (C-contiguous) where given."""
        return self._arrays[EDGE_MASK].read_window(int(self._slots[self._check(index)]), self.whole, out)

    def read_edge_bits(self, index: int) -> NDArray[np.uint8]:
        """The same as `mask_bits` packs it: uint8 (H, ceil(W / 8))."""
        bits = self._arrays[EDGE_MASK].read_bits(int(self._slots[self._check(index)]))
        if bits is not None:
            return bits
        side = self.patch_size
        with borrow(side * side) as buffer:
            return mask_bits(self.read_edge_mask(index, out=buffer.view(np.bool_).reshape(side, side)))

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
            raise StoreError(f"{self.url} holds no low-quality patches; build it with --lq-scale")
        sides = window or self.whole
        reduced = Window(
            top=sides.top // scale, left=sides.left // scale, bottom=sides.bottom // scale, right=sides.right // scale
        )
        return self._arrays[lq_name(scale)].read_window(int(self._slots[self._check(index)]), reduced)

    def read_codes(
        self, index: int, first: int = 0, stop: int | None = None, *, out: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """Graph codes of the patch's edge pixels number `first` to `stop`: `code_type` (n, K), in `out` where given."""
        stop = int(self._counts[self._check(index)]) if stop is None else stop
        self._check_rows(index, first, stop)
        shape = (stop - first, self.spec.num_positions)
        codes = np.empty(shape, dtype=self.code_type) if out is None else out
        if codes.shape != shape or codes.dtype != self.code_type:
            raise ValueError(f"out must be {self.code_type} {shape}, got {out!r}")
        if first < stop:
            self._arrays[SSG].read_rows(int(self._starts[index]) + first, codes)
        return codes

    def code_blocks(
        self, index: int, rows: NDArray[np.int32]
    ) -> Iterator[tuple[slice, NDArray[np.int32], NDArray[Any]]]:
        """Graph codes of some edge pixels of a patch, chunk by chunk as they are stored.

        Parameters
        ----------
        index : int
        rows : int32 (n,)
            Numbers of the edge pixels among those that have a graph, ascending.

        Yields
        ------
        span : slice
            Which of `rows` the block holds.
        rows_of_block : int32 (m,)
            Where in the block they lie: the codes of ``rows[span]`` are ``block[rows_of_block]``.
        block : uint8 or uint16 (chunk_rows, K)
            Overwritten by the next. Only these rows of it are sure to be there.
        """
        if len(rows):
            self._check_rows(index, int(rows[0]), int(rows[-1]) + 1)
            yield from self._arrays[SSG].row_blocks(int(self._starts[index]), rows)

    def prepare_gather(
        self,
        index: int,
        rows: NDArray[np.int32],
        out: NDArray[Any],
        places: NDArray[np.int32],
        columns: NDArray[np.uint16] | None = None,
    ) -> Gather:
        """Prepare to put graph codes of some edge pixels where they are wanted, reading as little else as possible.

        Parameters
        ----------
        index : int
            The patch.
        rows : int32 (n,)
            Numbers of the edge pixels among those that have a graph, strictly ascending.
        out : uint8 or uint16 (N, K)
            `code_type`, C-contiguous. ``out[places]`` is filled; other rows stay as they are.
        places : int32 (n,)
        columns : uint16 (K,), optional
            For each column of `out`, the stored column it comes from; as they are where not given.

        Returns
        -------
        Gather
            To be carried out by `gather_all`; where it cannot, use `code_blocks`.

        Raises
        ------
        StoreCorruptError
            Here or later, naming file and chunk, if a chunk was never written or does not decode.
        """
        if not len(rows):
            return Gather(is_done=True)
        self._check_rows(index, int(rows[0]), int(rows[-1]) + 1)
        return self._arrays[SSG].prepare_gather(int(self._starts[index]), rows, out, places, columns)

    def _check_rows(self, index: int, first: int, stop: int) -> None:
        count = int(self._counts[self._check(index)])
        if not 0 <= first <= stop <= count:
            raise IndexError(f"rows must lie in 0 .. {count}, got {first} .. {stop}")

    def read_pixels(self, index: int) -> NDArray[np.int32]:
        """Row and column of the edge pixels that have a graph: int32 (count, 2), in the order of the graphs.

        Raises
        ------
        StoreCorruptError
            If mask and index disagree about their number.
        """
        pixels = mask_pixels(self.read_edge_mask(index), self.edge_stride)
        self.check_count(index, len(pixels))
        return pixels

    def check_count(self, index: int, num_pixels: int) -> None:
        """Compare the number of edge pixels found in a patch's mask, after edge_stride, with that of its graphs.

        Raises
        ------
        StoreCorruptError
            If they differ.
        """
        if num_pixels != self._counts[index]:
            raise StoreCorruptError(
                f"patch {one_line(self.patch_id(index))} of {self.url} has {num_pixels} edge pixels in its mask "
                f"but {self._counts[index]} graphs; run `ssl-data verify`"
            )

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
            of the edge pixels with a graph, "ssg" (N, K) their codes of `code_type`, "lq" uint8 (H/s, W/s, 3) where
            stored, and "patch_id" str.

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


def _read_attributes(source: ByteSource) -> dict[str, Any]:
    """The description in the root metadata, whose absence says that there is no complete store."""
    try:
        metadata = read_json(source, ROOT_METADATA)
    except ObjectMissingError:
        if _exists(source, PLAN_PATH):
            message = (
                f"the build of {source.url} has not finished, or its {ROOT_METADATA} was lost; "
                "run the same build again, or `ssl-data repair`"
            )
            raise StoreIncompleteError(message) from None
        raise StoreNotFoundError(f"{source.url} is not a store: {source.name(ROOT_METADATA)} does not exist") from None
    attributes = metadata.get("attributes", {}).get(ATTRIBUTE)
    if not isinstance(attributes, dict):
        raise StoreNotFoundError(f"{source.url} is a Zarr group, but not one written by ssl_data")
    return attributes


def _exists(source: ByteSource, path: str) -> bool:
    try:
        source.open(path).close()
    except ObjectMissingError:
        return False
    return True


def open_store(url: str | Path, *, cache_dir: str | Path | None = None, cache_bytes: int | None = None) -> Store:
    """Open a complete store for reading.

    Parameters
    ----------
    url : str or Path
        Folder of the store, or its URL (s3://, gs://, az://, abfs://, http://, https://, file://). Credentials and
        endpoint come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL,
        AWS_ALLOW_HTTP, and the like for other clouds.
    cache_dir : str or Path, optional
        Folder for pieces of remote stores, shared by all processes of a machine; where not given, SSL_DATA_CACHE_DIR,
        else ``ssl_data`` in XDG_CACHE_HOME or ``~/.cache``.
    cache_bytes : int, optional
        Limit of that folder, in bytes; 0 for no cache; where not given, SSL_DATA_CACHE_BYTES, else 32 GiB.

    Raises
    ------
    StoreNotFoundError, StoreIncompleteError, StoreMismatchError, StoreCorruptError, StoreUnreachableError
        See `Store`.
    ConfigError
        For cache settings out of their range.
    MissingDependencyError
        If a remote store needs obstore, and it is not installed.
    """
    return Store(url, CacheSettings(folder=cache_dir, num_bytes=cache_bytes))
