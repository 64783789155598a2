"""Measuring on this machine, on a sample of a dataset, what a build will take: edge pixels, bytes and time.

Everything is done by the functions that a build calls, on the patches that it would make, and nothing is written. Times
are processor times of one thread, except for reading files, where the wait counts.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_data.errors import SourceError
from ssl_data.kernels.edges import edge_mask, edge_pixels
from ssl_data.kernels.resize import reduce_bicubic
from ssl_data.pipeline.codec_trial import COMPRESSIONS, CodecTrial
from ssl_data.pipeline.crops import draw_crop_costs
from ssl_data.pipeline.decode import decode_image, read_file
from ssl_data.pipeline.job import graph_blocks, resized_copy
from ssl_data.pipeline.masks import decode_mask
from ssl_data.pipeline.rates import StageTimer
from ssl_data.pipeline.sampling import spread
from ssl_data.store.layout import EDGE_MASK, GT, SSG, array_layouts, lq_name
from ssl_data.store.writer import image_chunks, row_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ssl_data.config import BuildSpec, Compression
    from ssl_data.pipeline.codec_trial import EncodedArray
    from ssl_data.pipeline.crops import Crop, CropCost
    from ssl_data.pipeline.plan import Cut
    from ssl_data.pipeline.sampling import ImageDraw

__all__ = [
    "MeasuredImage",
    "MeasuredPatch",
    "PatchCount",
    "measure_images",
]

_CHUNKS_PER_ARRAY = 4
"""Chunks of an array of a patch that are encoded."""
_CROPS_PER_PATCH = 4
_LEAST_IMAGES = 2


@dataclass(frozen=True, kw_only=True)
class PatchCount:
    """Edge pixels of one patch."""

    num_edge_pixels: int
    num_graphs: int
    kept: bool
    """Whether the filter of the edge density lets it pass."""


@dataclass(frozen=True, kw_only=True)
class MeasuredPatch:
    """One patch that was made."""

    num_graphs: int
    num_chunks: int
    """Of ``ssg``."""
    num_chunks_encoded: int
    seconds: Mapping[str, float]
    """By stage: "lq", "kernel"."""
    arrays: Mapping[str, Mapping[Compression, EncodedArray]]
    """By name of the array."""
    crops: tuple[CropCost, ...]


@dataclass(frozen=True, kw_only=True)
class MeasuredImage:
    """One image that was looked at."""

    index: int
    """See `ImageDraw.index`."""
    num_patches: int
    """All that the plan has of it."""
    num_bytes: int
    num_pixels: int
    num_resized_pixels: int
    """Of the image and the copy together, for each copy made."""
    seconds: Mapping[str, float]
    """By stage: "read", "decode", "resize", "mask"."""
    counts: tuple[PatchCount, ...]
    """Empty where the image turned out to be broken."""
    patches: tuple[MeasuredPatch, ...]


def measure_images(
    images: Sequence[Sequence[Cut]],
    draws: Sequence[ImageDraw],
    spec: BuildSpec,
    *,
    crop: Crop,
    seed: int,
    seconds: float,
    on_image: Callable[[int], None] | None = None,
) -> list[MeasuredImage]:
    """Look at images until all drawn are done or the time is over; at least at two.

    Parameters
    ----------
    images : sequence of sequences of Cut
        The cuts of each image.
    draws : sequence of ImageDraw
        In the order in which they are looked at.
    spec : BuildSpec
    crop : Crop
    seed : int
        Decides about chunks and crops.
    seconds : float
        After which no further image is begun.
    on_image : callable, optional
        Called with the number of images done so far.

    Returns
    -------
    list of MeasuredImage
        In the order of the images.
    """
    began, done = time.monotonic(), []
    _warm_up(spec)
    for draw in draws:
        rng = np.random.default_rng((seed, draw.index))
        done.append(_Measurement(images[draw.index], draw, spec, crop, rng).run())
        if on_image is not None:
            on_image(len(done))
        if len(done) >= _LEAST_IMAGES and time.monotonic() - began > seconds:
            break
    return sorted(done, key=lambda image: image.index)


def _warm_up(spec: BuildSpec) -> None:
    """Do once what only the first call of a process has to do."""
    side = spec.patch.patch_size
    gt = np.zeros((side, side, 3), dtype=np.uint8)
    pixels = edge_pixels(edge_mask(gt) | True, edge_stride=spec.edge.edge_stride)[:1]
    for block in graph_blocks(gt, pixels, spec, 1):
        for compression in COMPRESSIONS:
            CodecTrial(compression, array=SSG).run(np.ascontiguousarray(block))


@dataclass
class _Measurement:
    """The work on one image."""

    cuts: Sequence[Cut]
    draw: ImageDraw
    spec: BuildSpec
    crop: Crop
    rng: np.random.Generator
    timer: StageTimer = field(default_factory=StageTimer)
    num_resized_pixels: int = 0

    def run(self) -> MeasuredImage:
        source = self.cuts[0].source
        with self.timer.stage("read", time.perf_counter):
            content = read_file(source.path, source.name)
        counts: list[PatchCount] = []
        patches: list[MeasuredPatch] = []
        with contextlib.suppress(SourceError):  # a build would reject the image, and find no patches in it
            with self.timer.stage("decode"):
                image = decode_image(content, source.name, max_pixels=self.spec.image.max_pixels)
                given = None
                if source.mask_path is not None:
                    mask_content = read_file(source.mask_path, source.name)
                    given = decode_mask(mask_content, source.name, image.shape[:2])
            for number, gt, mask in self._drawn_patches(image, given):
                with self.timer.stage("mask"):
                    pixels = edge_pixels(mask, edge_stride=self.spec.edge.edge_stride)
                num_edge_pixels = int(mask.sum())
                kept = num_edge_pixels >= self.spec.filter.min_edge_density * mask.size
                counts.append(PatchCount(num_edge_pixels=num_edge_pixels, num_graphs=len(pixels), kept=kept))
                if kept and number in self.draw.measured:
                    patches.append(self._measure_patch(gt, mask, pixels))
        return MeasuredImage(
            index=self.draw.index,
            num_patches=sum(len(cut.corners) for cut in self.cuts),
            num_bytes=len(content),
            num_pixels=(source.height or 0) * (source.width or 0),
            num_resized_pixels=self.num_resized_pixels,
            seconds=dict(self.timer.seconds),
            counts=tuple(counts),
            patches=tuple(patches),
        )

    def _drawn_patches(
        self, image: NDArray[np.uint8], given: NDArray[np.bool_] | None
    ) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.bool_]]]:
        """Number, pixels and mask of each patch that is to be counted."""
        side = self.spec.patch.patch_size
        places = [(cut, place) for cut in self.cuts for place in range(len(cut.corners))]
        drawn = [(*places[number], number) for number in self.draw.counted]
        for cut, members in groupby(drawn, key=lambda member: member[0]):
            with self.timer.stage("resize"):
                copy = resized_copy(image, cut.size)
            if copy is not image:
                self.num_resized_pixels += image.shape[0] * image.shape[1] + cut.size.height * cut.size.width
            for _, place, number in members:
                row, col = cut.corners[place].tolist()
                window = np.s_[row : row + side, col : col + side]
                with self.timer.stage("mask"):
                    gt = np.ascontiguousarray(copy[window])
                    mask = (
                        edge_mask(gt, threshold=self.spec.edge.threshold)
                        if given is None
                        else np.ascontiguousarray(given[window])
                    )
                yield number, gt, mask

    def _measure_patch(
        self, gt: NDArray[np.uint8], mask: NDArray[np.bool_], pixels: NDArray[np.int32]
    ) -> MeasuredPatch:
        timer = StageTimer()
        layouts = {layout.name: layout for layout in array_layouts(self.spec, 1)}
        chunk_rows, scale = layouts[SSG].chunk_shape[0], self.spec.store.lq_scale
        arrays = {GT: gt, EDGE_MASK: mask}
        if scale is not None:
            with timer.stage("lq"):
                arrays[lq_name(scale)] = reduce_bicubic(gt, scale)
        encoded = {}
        for name, array in arrays.items():
            tiles = list(image_chunks(array, layouts[name].chunk_shape[1]))
            encoded[name] = self._encode(name, tiles, len(tiles))
        blocks = _timed(graph_blocks(gt, pixels, self.spec, 1), timer, "kernel")
        num_chunks = -(-len(pixels) // chunk_rows)
        chunks = (chunk for block in blocks for chunk in row_chunks(block, chunk_rows))
        encoded[SSG] = self._encode(SSG, chunks, num_chunks)
        return MeasuredPatch(
            num_graphs=len(pixels),
            num_chunks=num_chunks,
            num_chunks_encoded=min(num_chunks, _CHUNKS_PER_ARRAY),
            seconds=dict(timer.seconds),
            arrays=encoded,
            crops=tuple(draw_crop_costs(mask, self.crop, self.spec, _CROPS_PER_PATCH, self.rng)),
        )

    def _encode(self, array: str, chunks: Iterable[NDArray[Any]], num_chunks: int) -> dict[Compression, EncodedArray]:
        """Encode some chunks of an array, and decode them; figures are for all of its chunks.

        Each as soon as it is there, while it is in the processor's cache, and with the preset asked for first: as in a
        build.
        """
        asked = self.spec.store.compression
        chosen = set(spread(num_chunks, _CHUNKS_PER_ARRAY, self.rng))
        presets = sorted(COMPRESSIONS, key=lambda preset: preset != asked)
        trials = [CodecTrial(preset, array=array) for preset in presets]
        for place, chunk in enumerate(chunks):
            if place in chosen:
                for trial in trials:
                    trial.run(np.ascontiguousarray(chunk))
        times = num_chunks / max(len(chosen), 1)
        return {trial.compression: trial.result(times) for trial in trials}


def _timed(blocks: Iterator[NDArray[Any]], timer: StageTimer, stage: str) -> Iterator[NDArray[Any]]:
    """The same blocks; the time until each is there counts."""
    while True:
        with timer.stage(stage):
            block = next(blocks, None)
        if block is None:
            return
        yield block
