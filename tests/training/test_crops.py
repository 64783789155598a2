"""Crops of real photographs: every field of a sample against computing it from the crop, without the cache.

What is expected here is independent of what is tested. Of the store only the ground-truth and low-quality patches are
used: edge pixels come from the pixels of the patch, graphs from those of the turned crop. Crops and turns are slices
and NumPy's own flips, so that neither stored graphs and masks, nor reading parts of them, nor moving the rows and
columns of graphs has a part in it. Where a crop lies and how it is turned is known from `Augmentation.draw`; were that
wrong, the ground truth would differ. The kernel computes graphs on both sides; a few of each sample's are therefore
computed once more from the formula, in float64, on the crop continued by reflection, as the authors do in training.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from ssl_data import EdgeSpec, SSGSpec, SSLCachedDataset, StoreSpec, edge_mask, self_similarity_graph
from ssl_data.training.augment import Augmentation

if TYPE_CHECKING:
    from ssl_data.geometry.positions import Dihedral, Window

FORMULA_PIXELS = 4
"""Graphs of each sample that are computed from the formula, too."""


@pytest.fixture(scope="module")
def photos(photograph_store, tmp_path_factory):
    """A function that gives the store of photographs with some boundary and edge stride, built once."""

    @cache
    def photos(boundary, edge_stride, lq_scale=None):
        return photograph_store(
            tmp_path_factory.mktemp("photos"),
            ssg=SSGSpec(boundary=boundary),
            edge=EdgeSpec(edge_stride=edge_stride),
            store=StoreSpec(lq_scale=lq_scale, patches_per_shard=8),
        )

    return photos


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One sample, and where it comes from."""

    sample: dict
    index: int
    window: Window
    turn: Dihedral
    load_stride: int | None

    def move(self, patch, *, scale=1):
        """A whole patch, cut and turned as the sample is."""
        rows = slice(self.window.top // scale, self.window.bottom // scale)
        cols = slice(self.window.left // scale, self.window.right // scale)
        return self.turned(patch[rows, cols])

    def turned(self, image):
        image = np.fliplr(image) if self.turn.hflip else image
        image = np.flipud(image) if self.turn.vflip else image
        return np.swapaxes(image, 0, 1) if self.turn.transpose else image

    def mask(self, store):
        """Edge pixels of the whole patch that have a graph in the sample, unless the border mode leaves them out."""
        moved = self.move(thinned(edge_mask(store.read_gt(self.index)), store.edge_stride))
        return thinned(moved, self.load_stride or 1)


def draw(store, *, index, epoch=0, crop_size, seed=0, edge_stride=None, border="exact"):
    flips = {"hflip": 0.5, "vflip": 0.5, "transpose": 0.5}
    options = {"crop_size": crop_size, "seed": seed, **flips}
    dataset = SSLCachedDataset(store, border=border, edge_stride=edge_stride, **options)
    dataset.set_epoch(epoch)
    place = Augmentation(patch_size=store.patch_size, grid=store.lq_scale or 1, **options)
    window, turn = place.draw(epoch=epoch, index=index)
    return Draw(sample=dataset[index], index=index, window=window, turn=turn, load_stride=edge_stride)


def thinned(mask, edge_stride):
    row, col = np.indices(mask.shape)
    return mask & (row % edge_stride == col % edge_stride)


def pixels_of(mask):
    return np.argwhere(mask).astype(np.int32)


def as_bytes(image):
    """float32 (3, H, W) in [0, 1] as uint8 (H, W, 3)."""
    return (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


def assert_rows(sample, mask, codes):
    """The sample has these edge pixels, in row-major order, in its mask and in its graphs, with these codes."""
    ssg = sample["ssg"]
    np.testing.assert_array_equal(sample["gt_mask"][0].numpy(), mask)
    np.testing.assert_array_equal(torch.stack([ssg.row, ssg.col], dim=1).numpy(), np.argwhere(mask))
    np.testing.assert_array_equal(ssg.codes.numpy(), codes)
    assert not ssg.image.any()


def formula(crop, row, col, spec):
    """S(p, d) of one pixel (paper Eq. 1; with the boundary "zero" the authors' code), float64 (K,)."""
    outer, radius = spec.search_radius, spec.window_radius
    padded = np.pad(crop / 255, [(outer + radius,) * 2] * 2 + [(0, 0)], mode="reflect")
    area = padded[row : row + 2 * (outer + radius) + 1, col : col + 2 * (outer + radius) + 1].copy()
    own = area[outer : outer + 2 * radius + 1, outer : outer + 2 * radius + 1].copy()
    if spec.boundary == "zero":
        area[:radius] = area[-radius:] = area[:, :radius] = area[:, -radius:] = 0
    windows = sliding_window_view(area, own.shape[:2], axis=(0, 1))
    ssd = ((windows - own.transpose(2, 0, 1)) ** 2).sum(axis=(2, 3, 4))
    return np.exp(-ssd / (3 * spec.window_size**2) / spec.bandwidth).ravel()


def assert_formula(crop, pixels, codes, spec, random):
    for number in random.choice(len(pixels), min(FORMULA_PIXELS, len(pixels)), replace=False):
        exact = 255 * np.sqrt(formula(crop, *pixels[number], spec))
        assert np.abs(exact - codes[number]).max() <= 0.5 + 1e-9


def inner(draw, store):
    """Pixels (H, W) of the turned crop that see the same in the whole patch: no side but the patch's own is near."""
    pad, size, window = store.spec.pad, store.patch_size, draw.window
    top, left = (first + pad * (first > 0) for first in (window.top, window.left))
    bottom, right = (last - pad * (last < size) for last in (window.bottom, window.right))
    area = np.zeros((size, size), dtype=bool)
    area[top:bottom, left:right] = True
    return draw.move(area)


def corner(draw, store):
    """Row and column of the turned crop's corner in the turned patch."""
    area = np.zeros((store.patch_size, store.patch_size), dtype=np.int32)
    area[draw.window.top : draw.window.bottom, draw.window.left : draw.window.right] = 1
    return np.argwhere(draw.turned(area))[0].astype(np.int32)


# The border mode "exact"

CASES = [(boundary, *strides) for boundary in ("zero", "image") for strides in ((1, None), (1, 3), (3, None))]


@pytest.mark.parametrize(("boundary", "edge_stride", "load_stride"), CASES)
@pytest.mark.parametrize("num_draws", [17, pytest.param(167, marks=pytest.mark.slow)])
def test_exact_crops_equal_computing_everything_on_the_crop(photos, num_draws, boundary, edge_stride, load_stride):
    """Random patch, size and place of the crop, and turn: six cases, 102 draws in all, or 1002."""
    store = photos(boundary, edge_stride)
    spec, random = store.spec, np.random.default_rng([num_draws, *boundary.encode(), edge_stride, load_stride or 0])
    turns, num_recomputed, num_graphs = set(), 0, 0
    for _ in range(num_draws):
        one = draw(
            store,
            index=int(random.integers(store.num_patches)),
            epoch=int(random.integers(1000)),
            seed=int(random.integers(1000)),
            crop_size=int(random.integers(spec.min_side, store.patch_size + 1)),
            edge_stride=load_stride,
        )
        crop, mask = one.move(store.read_gt(one.index)), one.mask(store)
        pixels = pixels_of(mask)
        codes = self_similarity_graph(crop, pixels, spec, output="codes")
        np.testing.assert_array_equal(as_bytes(one.sample["gt"]), crop)
        assert_rows(one.sample, mask, codes)
        assert_formula(crop, pixels, one.sample["ssg"].codes.numpy(), spec, random)
        turns.add(one.turn)
        num_recomputed += np.count_nonzero(mask & ~inner(one, store))
        num_graphs += len(pixels)
    assert len(turns) > (5 if num_draws < 100 else 7)  # all eight
    assert 0.1 * num_graphs < num_recomputed < 0.9 * num_graphs  # both kinds of graphs were there in numbers


# All fields, all border modes


@pytest.mark.parametrize("border", ["exact", "interior", "cached"])
@pytest.mark.parametrize(("boundary", "edge_stride", "load_stride"), CASES)
@given(data=st.data())
@settings(max_examples=10)
def test_all_fields_belong_to_the_same_crop(photos, boundary, edge_stride, load_stride, border, data):
    store = photos(boundary, edge_stride, lq_scale=4)
    one = draw(
        store,
        index=data.draw(st.integers(0, store.num_patches - 1)),
        epoch=data.draw(st.integers(0, 1000)),
        seed=data.draw(st.integers(0, 1000)),
        crop_size=4 * data.draw(st.integers(-(-store.spec.min_side // 4), store.patch_size // 4)),
        edge_stride=load_stride,
        border=border,
    )
    assert one.window.top % 4 == one.window.left % 4 == 0
    crop, mask = one.move(store.read_gt(one.index)), one.mask(store)
    np.testing.assert_array_equal(as_bytes(one.sample["gt"]), crop)
    np.testing.assert_array_equal(as_bytes(one.sample["lq"]), one.move(store.read_lq(one.index), scale=4))
    mask = mask & inner(one, store) if border == "interior" else mask
    seen, offset = crop, 0
    if border == "cached":  # what the edge pixels saw when they were stored: all of the patch
        seen, offset = one.turned(store.read_gt(one.index)), corner(one, store)
    codes = self_similarity_graph(seen, pixels_of(mask) + offset, store.spec, output="codes")
    assert_rows(one.sample, mask, codes)
