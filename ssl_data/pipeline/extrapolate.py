"""From a sample to a dataset: totals, bytes and processor time of the stages of a build."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from ssl_data.pipeline.sampling import Cluster, Figure, estimate_ratio, estimate_total
from ssl_data.pipeline.workload import workload
from ssl_data.store.layout import SSG, array_layouts
from ssl_data.store.shard import index_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ssl_data.config import Compression
    from ssl_data.pipeline.codec_trial import EncodedArray
    from ssl_data.pipeline.measure import MeasuredImage, MeasuredPatch, PatchCount
    from ssl_data.pipeline.plan import BuildPlan
    from ssl_data.pipeline.rates import MachineRates

__all__ = ["SHARD_SECONDS", "Sums"]

SHARD_SECONDS = 0.02
"""To open, flush to the disk, rename and record the files of a shard: what a local SSD takes, assumed and not measured,
because an estimate writes nothing."""


class Sums:
    """What was measured, added up and extrapolated."""

    def __init__(self, plan: BuildPlan, measured: Sequence[MeasuredImage]) -> None:
        self.work = workload(plan)
        self.patches = [patch for image in measured for patch in image.patches]
        self.plan = plan
        self._measured = measured
        self.kept = self._total(lambda count: count.kept)
        self.edge_pixels = self._total(lambda count: count.num_edge_pixels)
        self.graphs = self._total(lambda count: count.num_graphs)
        chunk_rows = plan.store.spec.store.chunk_rows
        self.chunks = self._total(lambda count: -(-count.num_graphs // chunk_rows))

    def _total(self, value: Callable[[PatchCount], int]) -> Figure:
        clusters = [
            Cluster(
                size=image.num_patches,
                values=[value(count) if count.kept else 0 for count in image.counts] or [0],  # broken: nothing in it
            )
            for image in self._measured
        ]
        return estimate_total(clusters, num_clusters=self.work.num_images, total_size=self.work.num_patches)

    def _per_chunk(self, compression: Compression, value: Callable[[EncodedArray], float]) -> Figure:
        """A value of the measured patches' graphs, by the chunk."""
        encoded = sum(patch.num_chunks_encoded for patch in self.patches)
        share = encoded / self.chunks.value if self.chunks.value else 1.0
        values = [value(patch.arrays[SSG][compression]) for patch in self.patches]
        return estimate_ratio(values, [patch.num_chunks for patch in self.patches], drawn_share=share)

    def _per_patch(self, value: Callable[[MeasuredPatch], float]) -> Figure:
        share = len(self.patches) / self.kept.value if self.kept.value else 1.0
        return estimate_ratio([value(patch) for patch in self.patches], [1] * len(self.patches), drawn_share=share)

    def array_bytes(self, compression: Compression) -> dict[str, Figure]:
        """Size of every array, indices included."""
        sizes = {}
        for layout in array_layouts(self.plan.store.spec, self.work.num_patches):
            per_axis = (shard // chunk for shard, chunk in zip(layout.shard_shape, layout.chunk_shape, strict=True))
            index = Figure(value=float(self.work.num_shards * index_bytes(math.prod(per_axis))))
            if layout.name == SSG:
                per_chunk = self._per_chunk(compression, lambda array: array.num_bytes)
                sizes[layout.name] = per_chunk.times(self.chunks) + index
            else:
                per_patch = self._per_patch(partial(_num_bytes, name=layout.name, compression=compression))
                sizes[layout.name] = per_patch.times(self.kept) + index
        return sizes

    def encode_seconds(self, compression: Compression) -> float:
        """Processor time to compress everything."""
        graphs = self._per_chunk(compression, lambda array: array.encode_seconds).value
        images = self._per_patch(
            lambda patch: sum(array[compression].encode_seconds for name, array in patch.arrays.items() if name != SSG),
        ).value
        return graphs * self.chunks.value + images * self.kept.value

    def _per_graph(self, seconds: Sequence[float]) -> float:
        return estimate_ratio(seconds, [patch.num_graphs for patch in self.patches], drawn_share=1.0).value

    @property
    def kernel_seconds_per_graph(self) -> float:
        """To compute one."""
        return self._per_graph([patch.seconds["kernel"] for patch in self.patches])

    def decode_seconds_per_graph(self, compression: Compression) -> float:
        """To decode one, with its share of the chunk that is filled up."""
        return self._per_graph([patch.arrays[SSG][compression].decode_seconds for patch in self.patches])

    def decode_seconds_per_chunk(self, compression: Compression) -> float:
        """To decode one chunk of graphs."""
        return self._per_chunk(compression, lambda array: array.decode_seconds).value

    def _image_seconds(self, stage: str, unit: Callable[[MeasuredImage], int]) -> float:
        """Seconds of a stage for each unit, such as a pixel."""
        seconds = [image.seconds.get(stage, 0.0) for image in self._measured]
        return estimate_ratio(seconds, [unit(image) for image in self._measured], drawn_share=1.0).value

    @property
    def mask_seconds_per_patch(self) -> float:
        """To cut a patch and find its edge pixels."""
        return self._image_seconds("mask", lambda image: len(image.counts))

    def stages(self, rates: MachineRates, stored_bytes: float) -> dict[str, float]:
        """Processor seconds of the whole build by one worker by stage, except encoding."""
        work, side = self.work, self.plan.store.spec.patch.patch_size
        read = self._image_seconds("read", lambda image: image.num_bytes)
        hashed = work.read_bytes + work.num_patches * 3 * side**2 + stored_bytes
        return {
            "list": (read + rates.hash_seconds_per_byte) * work.num_bytes,
            "read": read * work.read_bytes,
            "decode": self._image_seconds("decode", lambda image: image.num_pixels) * work.decoded_pixels(1),
            "resize": self._image_seconds("resize", lambda image: image.num_resized_pixels) * work.resized_pixels,
            "mask": self.mask_seconds_per_patch * work.num_patches,
            "lq": self._per_patch(lambda patch: patch.seconds.get("lq", 0.0)).value * self.kept.value,
            "kernel": self.kernel_seconds_per_graph * self.graphs.value,
            "hash": rates.hash_seconds_per_byte * hashed,
            "write": rates.write_seconds_per_byte * stored_bytes,
            "commit": SHARD_SECONDS * work.num_shards,
        }


def _num_bytes(patch: MeasuredPatch, *, name: str, compression: Compression) -> float:
    return patch.arrays[name][compression].num_bytes
