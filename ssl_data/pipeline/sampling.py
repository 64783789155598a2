"""A sample of a dataset's images and patches, and what may be concluded from it: plain arithmetic, no files.

Images are drawn in the order of their names, one from each of as many equal runs as images are wanted, so that every
folder has its share. In each of them, patches are drawn alike. See Cochran, Sampling Techniques, chapters 5, 6 and 11.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Cluster", "Figure", "ImageDraw", "draw_sample", "estimate_ratio", "estimate_total", "spread"]

_LEAST = 2
"""Fewer draws than this say nothing about the error."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """An estimate."""

    value: float
    error: float = 0.0
    """Standard error, from the differences between what was drawn; 0 where everything was looked at."""

    def __mul__(self, factor: float) -> Figure:
        """Of so many times as much."""
        return Figure(value=self.value * factor, error=self.error * abs(factor))

    def __add__(self, other: Figure) -> Figure:
        """Errors are added up, too: what is rich in edges is so in all respects."""
        return Figure(value=self.value + other.value, error=self.error + other.error)

    def times(self, other: Figure) -> Figure:
        """Product with an independent estimate."""
        error = math.hypot(self.value * other.error, other.value * self.error)
        return Figure(value=self.value * other.value, error=error)


@dataclass(frozen=True, kw_only=True)
class ImageDraw:
    """What is looked at of one image. Patches are numbered as they lie in the plan, from 0 for each image."""

    index: int
    """Which of the images."""
    counted: tuple[int, ...]
    """Patches whose edge pixels are counted; ascending."""
    measured: tuple[int, ...]
    """Those of them that are measured; ascending."""


def spread(total: int, wanted: int, rng: np.random.Generator) -> list[int]:
    """Numbers below `total`, ascending, one at random from each of `wanted` equal runs; all if there are not more."""
    if wanted >= total:
        return list(range(total))
    bounds = [index * total // max(wanted, 1) for index in range(wanted + 1)]
    draws = rng.random(wanted).tolist()
    return [low + int(draw * (high - low)) for (low, high), draw in zip(pairwise(bounds), draws, strict=True)]


def draw_sample(
    num_patches: Sequence[int], *, num_images: int, num_counted: int, num_measured: int, seed: int
) -> list[ImageDraw]:
    """Draw images and patches of them; the same for the same arguments.

    Parameters
    ----------
    num_patches : sequence of int
        Patches of each image, at least one, in the order of the images' names.
    num_images : int
        Images to be drawn, at least 2.
    num_counted : int
        Patches looked at in each image, at least 2; fewer where there are fewer.
    num_measured : int
        Patches measured, of all images together; an image has its share by its number of patches.
    seed : int

    Returns
    -------
    list of ImageDraw
        In an order in which the first few, however many, are spread over all of them.
    """
    rng = np.random.default_rng(seed)
    images = spread(len(num_patches), max(num_images, _LEAST), rng)
    ends = np.cumsum([num_patches[image] for image in images])
    points = (np.arange(num_measured) + rng.random()) * (ends[-1] / num_measured)
    shares = np.bincount(np.searchsorted(ends, points, side="right"), minlength=len(images)).tolist()
    draws = []
    for image, share in zip(images, shares, strict=True):
        counted = spread(num_patches[image], max(num_counted, _LEAST), rng)
        measured = [counted[place] for place in spread(len(counted), share, rng)]
        draws.append(ImageDraw(index=image, counted=tuple(counted), measured=tuple(measured)))
    return [draws[index] for index in _scattered(len(draws))]


def _scattered(count: int) -> list[int]:
    """The numbers below `count` in bit-reversed order: 0, 4, 2, 6, 1, ... of 8."""
    num_bits = max(count - 1, 1).bit_length()
    reversed_bits = (int(f"{number:0{num_bits}b}"[::-1], 2) for number in range(2**num_bits))
    return [number for number in reversed_bits if number < count]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Values of some patches of one image."""

    size: int
    """Patches of the image."""
    values: Sequence[float]
    """Of those that were looked at, at least one."""

    @property
    def total(self) -> float:
        """Estimate for the image."""
        return self.size * float(np.mean(self.values))

    @property
    def variance(self) -> float:
        """Of `total`."""
        drawn = len(self.values)
        if drawn == self.size or drawn < _LEAST:
            return 0.0
        return float(self.size**2 * (1 - drawn / self.size) * np.var(self.values, ddof=1) / drawn)


def estimate_total(clusters: Sequence[Cluster], *, num_clusters: int, total_size: int) -> Figure:
    """Sum of a value over all patches of a dataset, from some of the patches of some of the images.

    Parameters
    ----------
    clusters : sequence of Cluster
        In the order of the images' names; at least 2 if there are as many.
    num_clusters : int
        Images of the dataset.
    total_size : int
        Patches of the dataset.

    Notes
    -----
    A ratio estimate in two stages. The variance between images is taken from neighbours in the order of names, which
    makes it that of the stratified sample; within images, from the patches drawn.
    """
    drawn = len(clusters)
    totals = np.array([cluster.total for cluster in clusters])
    sizes = np.array([cluster.size for cluster in clusters], dtype=np.float64)
    scale = total_size / sizes.sum()
    variance = scale * sum(cluster.variance for cluster in clusters)
    if drawn < num_clusters:
        rests = totals - sizes * (totals.sum() / sizes.sum())
        between = float((np.diff(rests) ** 2).sum()) / (2 * (drawn - 1))
        variance += scale**2 * drawn * (1 - drawn / num_clusters) * between
    return Figure(value=float(totals.sum() * scale), error=math.sqrt(variance))


def estimate_ratio(numerators: Sequence[float], denominators: Sequence[float], *, drawn_share: float) -> Figure:
    """Ratio of two sums over a dataset, such as bytes per graph, from some of its patches.

    Parameters
    ----------
    numerators, denominators : sequences of float
        Of each patch; denominators not below 0.
    drawn_share : float
        Which share of the dataset they are, 0 to 1.
    """
    upper, lower = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if not lower.sum() > 0:
        return Figure(value=0.0)
    ratio = upper.sum() / lower.sum()
    count = len(upper)
    spread_of_rests = float(((upper - ratio * lower) ** 2).sum()) * count / max(count - 1, 1)
    error = math.sqrt(max(1 - drawn_share, 0.0) * spread_of_rests) / lower.sum()
    return Figure(value=float(ratio), error=float(error))
