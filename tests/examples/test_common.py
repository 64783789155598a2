"""What is held out is never trained on."""

from __future__ import annotations

import argparse

import pytest

from ssl_data.testing import tiny_store


@pytest.fixture
def common(load_example):
    return load_example("common")


def options(store):
    return argparse.Namespace(store=str(store), crop_size=64, border="exact", batch_size=4, held_out=8, seed=0)


def image_of(patch_id):
    return patch_id.rpartition(":")[0]


def test_no_image_is_both_trained_on_and_held_out(common, photograph_store):
    photographs = common.load_photographs(options(photograph_store))
    one_epoch = len(photographs.loader)
    trained = {image_of(patch_id) for _, batch in photographs.batches(one_epoch) for patch_id in batch["patch_id"]}
    held_out = {image_of(patch_id) for patch_id in photographs.held_out["patch_id"]}
    assert len(trained) == 4
    assert len(held_out) == 2
    assert not trained & held_out


def test_every_epoch_draws_other_crops(common, photograph_store):
    photographs = common.load_photographs(options(photograph_store))
    num_batches = len(photographs.loader)
    crops = {}
    for step, batch in photographs.batches(2 * num_batches):
        for patch_id, gt in zip(batch["patch_id"], batch["gt"], strict=True):
            crops.setdefault(patch_id, []).append((step > num_batches, gt))
    both = [seen for seen in crops.values() if len(seen) == 2]
    assert both
    assert sum(not first[1].equal(second[1]) for first, second in both) > 0.8 * len(both)


def test_a_store_of_one_image_is_refused(common, tmp_path):
    store = tiny_store(tmp_path, sizes=[(96, 192)], lq_scale=4)
    with pytest.raises(SystemExit, match="one image"):
        common.load_photographs(options(store.root))
