"""What a build will take, before it is begun: patches, edge pixels, bytes, time, and what training gains by it.

Arithmetic only, on a plan and on what was measured on a sample of its images; `ssl_data.pipeline.preview` brings them
together.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ssl_data.pipeline.codec_trial import COMPRESSIONS
from ssl_data.pipeline.extrapolate import Sums
from ssl_data.pipeline.sampling import Figure
from ssl_data.pipeline.workload import overlap
from ssl_data.store.layout import SSG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ssl_data.config import BuildSpec, Compression
    from ssl_data.pipeline.crops import Crop, CropCost
    from ssl_data.pipeline.executors import ExecutorName
    from ssl_data.pipeline.measure import MeasuredImage, MeasuredPatch
    from ssl_data.pipeline.plan import BuildPlan
    from ssl_data.pipeline.rates import MachineRates
    from ssl_data.pipeline.workload import Overlap, Workload
    from ssl_data.store.manifest import RejectedRecord

__all__ = ["BuildEstimate", "Loading", "make_estimate"]


@dataclass(frozen=True, kw_only=True)
class Loading:
    """What one random crop takes a trainer. Reading: with one compression, border mode "exact", files at hand."""

    crop_size: int
    num_graphs: float
    num_computed: float
    """Graphs near the crop's border, computed anew although a store is there."""
    num_bytes: Mapping[Compression, float]
    """Read from an object store, in whole chunks; of a local store with "fast", crops read some blocks of them."""
    read_seconds: Mapping[Compression, float]
    """To decode the graphs, and compute those near the border, one core."""
    compute_seconds: float
    """To find the edge pixels and compute all graphs without a store, one core."""

    def break_even_epochs(self, compression: Compression, *, build_seconds: float, num_patches: float) -> float | None:
        """Epochs after which the build has paid for itself, one crop of each patch in each; None if it never does."""
        gain = (self.compute_seconds - self.read_seconds[compression]) * num_patches
        return build_seconds / gain if gain > 0 else None


@dataclass(frozen=True, kw_only=True)
class BuildEstimate:
    """What a build will take."""

    dataset: str
    spec: BuildSpec
    num_sources: int
    """Image files found."""
    rejected: tuple[RejectedRecord, ...]
    """Those that cannot be used, by their headers. Broken pixels show only when an image is decoded."""
    work: Workload
    num_images_sampled: int
    num_patches_counted: int
    """Patches whose edge pixels were counted."""
    num_patches_measured: int
    """Those of them that were made and encoded."""
    num_patches: Figure
    """Patches stored: those planned, less those that the edge density filters. Duplicates are not foreseen."""
    num_edge_pixels: Figure
    num_graphs: Figure
    num_bytes: Mapping[Compression, Mapping[str, Figure]]
    """By compression and name of the array."""
    stages: Mapping[str, float]
    """Processor seconds by stage, of one worker with one core and the compression asked for."""
    encode_seconds: Mapping[Compression, float]
    """Processor seconds of the stage "encode" with each compression."""
    kernel_ns: float
    """To compute one entry of a graph, i.e. one of its values."""
    decode_ns: Mapping[Compression, float]
    """To decode one from a store."""
    overlap: Overlap
    loading: Loading

    def total_bytes(self, compression: Compression) -> Figure:
        """Size of all arrays."""
        return sum(self.num_bytes[compression].values(), start=Figure(value=0.0))

    def core_seconds(self, compression: Compression) -> float:
        """Processor time of the whole build."""
        return sum(self.stages.values()) - self.stages["encode"] + self.encode_seconds[compression]

    def seconds(self, executor: ExecutorName, workers: int, compression: Compression) -> Figure:
        """Time of a build on so many equal cores.

        In this process only the listing of the files and the graphs use several threads; of Ray's workers, each makes
        whole shards, and so may have to decode an image that another one decodes, too. Their start, and waiting for
        disks, is not counted.
        """
        listing, kernel = self.stages["list"] / workers, self.stages["kernel"]
        rest = self.core_seconds(compression) - self.stages["list"] - kernel
        if executor == "serial":
            value = listing + rest + kernel / workers
        else:
            again = self.work.decoded_pixels(workers) / max(self.work.decoded_pixels(1), 1) - 1
            rounds = math.ceil(self.work.num_shards / workers) / self.work.num_shards
            value = listing + (rest + self.stages["decode"] * again + kernel) * rounds
        relative = self.num_graphs.error / self.num_graphs.value if self.num_graphs.value else 0.0
        return Figure(value=value, error=relative * value)  # most of it goes with the graphs

    def break_even_epochs(self, compression: Compression) -> float | None:
        """See `Loading.break_even_epochs`."""
        seconds = self.core_seconds(compression)
        return self.loading.break_even_epochs(compression, build_seconds=seconds, num_patches=self.num_patches.value)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = {name: value for name, value in vars(self).items() if name not in {"spec", "rejected"}}
        plain = {
            name: asdict(value) if hasattr(value, "__dataclass_fields__") else value for name, value in values.items()
        }
        return {
            **plain,
            "spec": self.spec.to_dict(),
            "rejected": [asdict(image) for image in self.rejected],
            "num_bytes": {
                compression: {name: asdict(figure) for name, figure in arrays.items()}
                for compression, arrays in self.num_bytes.items()
            },
            "total_bytes": {compression: asdict(self.total_bytes(compression)) for compression in self.num_bytes},
            "core_seconds": {compression: self.core_seconds(compression) for compression in self.num_bytes},
            "break_even_epochs": {compression: self.break_even_epochs(compression) for compression in self.num_bytes},
        }


def make_estimate(plan: BuildPlan, measured: Sequence[MeasuredImage], rates: MachineRates, crop: Crop) -> BuildEstimate:
    """Extrapolate.

    Parameters
    ----------
    plan : BuildPlan
    measured : sequence of MeasuredImage
        Some of its images, in their order.
    rates : MachineRates
    crop : Crop
        Of which the measured patches hold the costs.
    """
    sums = Sums(plan, measured)
    spec = plan.store.spec
    num_bytes = {compression: sums.array_bytes(compression) for compression in COMPRESSIONS}
    stored_bytes = {name: sum(figure.value for figure in arrays.values()) for name, arrays in num_bytes.items()}
    stages = sums.stages(rates, stored_bytes[spec.store.compression])
    encode = {compression: sums.encode_seconds(compression) for compression in COMPRESSIONS}
    return BuildEstimate(
        dataset=plan.store.dataset,
        spec=spec,
        num_sources=len(plan.sources),
        rejected=tuple(plan.rejected),
        work=sums.work,
        num_images_sampled=len(measured),
        num_patches_counted=sum(len(image.counts) for image in measured),
        num_patches_measured=len(sums.patches),
        num_patches=sums.kept,
        num_edge_pixels=sums.edge_pixels,
        num_graphs=sums.graphs,
        num_bytes=num_bytes,
        stages={**stages, "encode": encode[spec.store.compression]},
        encode_seconds=encode,
        kernel_ns=sums.kernel_seconds_per_graph / spec.ssg.num_positions * 1e9,
        decode_ns={name: sums.decode_seconds_per_graph(name) / spec.ssg.num_positions * 1e9 for name in COMPRESSIONS},
        overlap=overlap(plan),
        loading=_loading(sums, crop),
    )


def _loading(sums: Sums, crop: Crop) -> Loading:
    """What one random crop costs, on average over the crops drawn."""
    side = sums.plan.store.spec.patch.patch_size
    crops = [(patch, cost) for patch in sums.patches for cost in patch.crops]
    count = max(len(crops), 1)
    num_graphs = sum(cost.num_graphs for _, cost in crops) / count
    num_computed = sum(cost.num_computed for _, cost in crops) / count
    decoded = {name: sum(cost.chunks_decoded[name] for _, cost in crops) / count for name in COMPRESSIONS}
    kernel = sums.kernel_seconds_per_graph
    return Loading(
        crop_size=crop.size,
        num_graphs=num_graphs,
        num_computed=num_computed,
        num_bytes={
            compression: sum(_crop_bytes(patch, cost, compression) for patch, cost in crops) / count
            for compression in COMPRESSIONS
        },
        read_seconds={
            compression: decoded[compression] * sums.decode_seconds_per_chunk(compression) + num_computed * kernel
            for compression in COMPRESSIONS
        },
        compute_seconds=num_graphs * kernel + sums.mask_seconds_per_patch * (crop.size / side) ** 2,
    )


def _crop_bytes(patch: MeasuredPatch, cost: CropCost, compression: Compression) -> float:
    """Bytes read from a store for one crop of a patch."""
    images = sum(patch.arrays[name][compression].num_bytes * share for name, share in cost.shares.items())
    return images + patch.arrays[SSG][compression].num_bytes * cost.num_chunks_read / max(patch.num_chunks, 1)
