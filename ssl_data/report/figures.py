"""What a report shows in pictures, as arrays: from the manifest of a store, and from the log of its build."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_data.errors import StoreError
from ssl_data.store.layout import FILES_PATH, SSG, shard_of
from ssl_data.store.manifest import FILE_SCHEMA, read_stored_patches, read_table

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ssl_data.store.reader import Store

__all__ = ["Group", "ShardRates", "StoreFigures", "collect_figures", "read_rates"]


@dataclass(frozen=True)
class Group:
    """Patches that belong together: those of one folder, or of one image."""

    name: str
    densities: NDArray[np.float64]
    """Share of edge pixels of each patch, ascending; at least one."""

    @property
    def mean(self) -> float:
        """Mean edge density."""
        return float(self.densities.mean())

    def quantile(self, share: float) -> float:
        """The density below which this share of the patches lies."""
        return float(np.quantile(self.densities, share))


@dataclass(frozen=True, kw_only=True)
class StoreFigures:
    """Everything that is drawn from the manifest."""

    densities: NDArray[np.float64]
    """Share of edge pixels of each patch, in the order of the store."""
    num_edge_pixels: NDArray[np.int32]
    """Of each patch, in the order of the store."""
    folders: tuple[Group, ...]
    """By folder of the source, i.e. by the dataset it came from; "" for sources in none."""
    images: tuple[Group, ...]
    """By image, ascending by mean density."""
    bytes_per_entry: NDArray[np.float64]
    """Of each shard: bytes on disk for one value of one graph; NaN for a shard without graphs."""


def collect_figures(store: Store) -> StoreFigures:
    """Read the tables of a store's manifest; no array is read."""
    sources = read_stored_patches(store.source)["source"].combine_chunks().dictionary_encode()
    densities = store.num_edge_pixels / store.patch_size**2
    names = sources.dictionary.to_pylist()
    folder_names, folder_of_source = np.unique([_folder(name) for name in names], return_inverse=True)
    source_of_patch = sources.indices.to_numpy(zero_copy_only=False)
    images = _groups(names, source_of_patch, densities)
    return StoreFigures(
        densities=densities,
        num_edge_pixels=store.num_edge_pixels,
        folders=_groups(folder_names.tolist(), folder_of_source[source_of_patch], densities) if names else (),
        images=tuple(sorted(images, key=lambda image: (image.mean, image.name))),
        bytes_per_entry=_bytes_per_entry(store),
    )


def _folder(source: str) -> str:
    folder, slash, _ = source.partition("/")
    return folder if slash else ""


def _groups(
    names: list[str], group_of_patch: NDArray[np.integer[Any]], densities: NDArray[np.float64]
) -> tuple[Group, ...]:
    order = np.lexsort((densities, group_of_patch))
    ends = np.cumsum(np.bincount(group_of_patch, minlength=len(names)))
    parts = np.split(densities[order], ends[:-1]) if names else []
    return tuple(Group(name, part) for name, part in zip(names, parts, strict=True) if len(part))


def _bytes_per_entry(store: Store) -> NDArray[np.float64]:
    files = read_table(store.source, FILES_PATH, FILE_SCHEMA)
    num_bytes = np.zeros(store.attributes["num_shards"])
    for path, size in zip(files["path"].to_pylist(), files["num_bytes"].to_pylist(), strict=True):
        shard = shard_of(path) if path.startswith(f"{SSG}/") else None
        if shard is not None:
            num_bytes[shard] = size
    graphs = np.bincount(store.shard_indices, weights=store.counts, minlength=len(num_bytes)).astype(np.float64)
    graphs[graphs == 0] = np.nan
    per_entry: NDArray[np.float64] = num_bytes / (graphs * store.spec.num_positions)
    return per_entry


@dataclass(frozen=True, kw_only=True)
class ShardRates:
    """How fast the shards of a store were made, in the order in which they were finished."""

    seconds: NDArray[np.float64]
    """For each shard, by the worker that made it."""
    graphs_per_second: NDArray[np.float64]
    patches_per_second: NDArray[np.float64]


def read_rates(log: Path) -> ShardRates:
    """Take the rates from what ``ssl-data build --log`` has written.

    Raises
    ------
    StoreError
        If the file is no such log, or tells of no shard.
    """
    made: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(log.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            event = json.loads(line)
            if event["event"] == "shard-made":
                made.pop(event["shard"], None)  # made again, by a later build: the order is that of the last one
                made[event["shard"]] = event
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{log}, line {number} is no event of a build; give what `build --log` wrote") from error
    if not made:
        raise StoreError(f"{log} tells of no shard that was made; give what `build --log` wrote")
    seconds, graphs, patches = (
        np.array([event[name] for event in made.values()], dtype=np.float64)
        for name in ("seconds", "num_graphs", "num_patches")
    )
    positive = np.maximum(seconds, 1e-3)  # the resolution of the log
    return ShardRates(seconds=seconds, graphs_per_second=graphs / positive, patches_per_second=patches / positive)
