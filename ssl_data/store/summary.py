"""What is in a store, in numbers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_data.store.layout import FILES_PATH, REJECTED_PATH, SSG, array_layouts
from ssl_data.store.manifest import FILE_SCHEMA, REJECTED_SCHEMA, RejectedRecord, read_table

if TYPE_CHECKING:
    from ssl_data.store.reader import Store

__all__ = ["ArraySummary", "StoreSummary", "summarize_store"]

_DENSITY_STEPS = 32


@dataclass(frozen=True, kw_only=True)
class ArraySummary:
    """Size of one array."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    num_values: int
    """Values that are really there: without empty slots and unused rows."""
    num_bytes: int
    """On disk."""

    @property
    def bytes_per_value(self) -> float:
        """0 for an array without values."""
        return self.num_bytes / self.num_values if self.num_values else 0.0


@dataclass(frozen=True, kw_only=True)
class StoreSummary:
    """Numbers a user asks for first."""

    path: str
    dataset: str
    fingerprint: str
    spec: dict[str, Any]
    num_patches_planned: int
    """Patches planned: those in the store and those filtered."""
    num_patches: int
    num_filtered: dict[str, int]
    """Patches left out, by reason."""
    patch_size: int
    num_sources: int
    num_rejected: int
    num_shards: int
    num_graphs: int
    edge_density: dict[str, float]
    """Smallest, mean and largest share of edge pixels (before edge_stride) in a patch."""
    edge_density_histogram: tuple[int, ...]
    """Patches by edge density, in equal steps from 0 to the largest."""
    arrays: tuple[ArraySummary, ...]
    num_bytes: int
    """All files of the store."""
    rejected: tuple[RejectedRecord, ...]
    """The images that are not in the store."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        arrays = [{**asdict(array), "bytes_per_value": array.bytes_per_value} for array in self.arrays]
        return {**asdict(self), "arrays": arrays, "rejected": [asdict(image) for image in self.rejected]}


def summarize_store(store: Store) -> StoreSummary:
    """Count a store's contents from its manifest; no array is read."""
    files = read_table(store.source, FILES_PATH, FILE_SCHEMA)
    sizes: dict[str, int] = {}
    for path, num_bytes in zip(files["path"].to_pylist(), files["num_bytes"].to_pylist(), strict=True):
        array = path.split("/", 1)[0]
        sizes[array] = sizes.get(array, 0) + num_bytes
    num_graphs = int(store.counts.sum())
    arrays = tuple(
        ArraySummary(
            name=layout.name,
            dtype=layout.dtype,
            shape=layout.shape,
            num_values=(num_graphs if layout.name == SSG else store.num_patches) * math.prod(layout.shape[1:]),
            num_bytes=sizes.get(layout.name, 0),
        )
        for layout in array_layouts(store.build_spec, store.attributes["num_slots"])
    )
    density = store.num_edge_pixels / store.patch_size**2 if store.num_patches else np.zeros(1)
    rejected = read_table(store.source, REJECTED_PATH, REJECTED_SCHEMA)
    return StoreSummary(
        path=store.url,
        dataset=store.attributes["dataset"],
        fingerprint=store.attributes["fingerprint"],
        spec=store.build_spec.to_dict(),
        num_patches_planned=store.attributes["num_slots"],
        num_patches=store.num_patches,
        num_filtered=store.attributes["num_filtered"],
        patch_size=store.patch_size,
        num_sources=store.attributes["num_sources"],
        num_rejected=store.attributes["num_rejected"],
        num_shards=store.attributes["num_shards"],
        num_graphs=num_graphs,
        edge_density_histogram=tuple(np.histogram(density, _DENSITY_STEPS, (0, density.max() or 1))[0].tolist()),
        edge_density={"min": float(density.min()), "mean": float(density.mean()), "max": float(density.max())},
        arrays=arrays,
        num_bytes=sum(sizes.values()),
        rejected=tuple(RejectedRecord(**row) for row in rejected.to_pylist()),
    )
