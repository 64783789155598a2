"""The heat maps show what the loss measures, at the pixels where it measures it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_data import SelfSimilarityLoss, SSGBatch, SSLCachedDataset, collate


@pytest.fixture
def pictures(load_example):
    return load_example("pictures")


@pytest.fixture
def batch(store):
    dataset = SSLCachedDataset(store, hflip=True, transpose=True)
    return collate([dataset[index] for index in range(3)])


def noisy(images):
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    return (images + 0.05 * noise).clamp(0, 1)


def test_the_mean_of_a_heat_map_is_the_l1_of_the_loss(pictures, batch, store):
    sr = noisy(batch["gt"])
    heat = pictures.graph_differences(sr, batch, store.spec)
    expected = SelfSimilarityLoss(store.spec)(sr, batch["ssg"]).l1.item()
    assert heat.sum() / len(batch["ssg"]) / store.spec.num_positions == pytest.approx(expected, rel=1e-4)
    assert (heat[batch["gt_mask"][:, 0].numpy() == 0] == 0).all()
    assert heat.max() <= 2


def test_a_change_is_hot_where_it_was_made_and_nowhere_else(pictures, batch, store):
    sr = batch["gt"].clone()
    sr[1, :, :8, :8] = 1 - sr[1, :, :8, :8]
    heat = pictures.graph_differences(sr, batch, store.spec)
    reach = 8 + store.spec.pad
    assert heat[1, :reach, :reach].max() > 0.2
    heat[1, :reach, :reach] = 0
    assert heat.max() < 0.1  # what is left is due to the codes


def test_colours_grow_lighter_all_along_the_scale(pictures):
    light = pictures._colours(np.linspace(0, 2, 32, dtype=np.float32)) @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(light) > 0).all()
    assert light[-1] > light[0] + 100


def test_a_picture_per_sample_shows_its_images_and_heat(pictures, batch, store, tmp_path):
    sr = noisy(batch["gt"])
    paths = pictures.write_pictures(tmp_path, batch, noisy(sr), sr, store.spec)
    assert [path.name for path in paths] == ["sample_0.png", "sample_1.png", "sample_2.png"]
    heat = pictures.graph_differences(sr, batch, store.spec)
    for index, path in enumerate(paths):
        drawn = np.asarray(Image.open(path))
        row, col = batch["gt_mask"][index, 0].nonzero()[0].tolist()
        hot = pictures._colours(heat[index, [row], [col]])[0]
        bright = (sr[index, :, row, col] * 255).round().byte().numpy()
        for colour in (hot, bright):
            assert (drawn == colour).all(axis=-1).sum() >= 36  # a pixel of the sample is 6 by 6 of the picture


def test_a_sample_without_edge_pixels_is_drawn_too(pictures, batch, store, tmp_path):
    kept = batch["ssg"].image != 1
    fields = {name: getattr(batch["ssg"], name)[kept] for name in ("codes", "image", "row", "col")}
    batch["ssg"] = SSGBatch(**fields)
    batch["gt_mask"][1] = 0
    pictures.write_pictures(tmp_path, batch, batch["gt"], batch["gt"], store.spec)
    assert (tmp_path / "sample_1.png").exists()
