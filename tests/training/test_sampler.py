"""Batches of patch indices."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from ssl_data import PatchSampler, SSLCachedDataset, collate
from ssl_data.errors import ConfigError
from ssl_data.testing import tiny_store

shuffles = st.sampled_from(["full", "block", None])


@given(
    batch_size=st.integers(1, 7),
    world_size=st.integers(1, 8),
    shuffle=shuffles,
    drop_last=st.booleans(),
    epoch=st.integers(0, 50),
)
def test_len_is_the_number_of_batches(store, batch_size, world_size, shuffle, drop_last, epoch):
    options = {"world_size": world_size, "shuffle": shuffle, "drop_last": drop_last}
    for rank in range(world_size):
        sampler = PatchSampler(store, batch_size, rank=rank, **options)
        sampler.set_epoch(epoch)
        assert len(list(sampler)) == len(sampler)


@given(batch_size=st.integers(1, 4), shuffle=shuffles, data=st.data())
def test_a_resumed_epoch_is_the_rest_of_the_epoch(store, batch_size, shuffle, data):
    sampler = PatchSampler(store, batch_size, shuffle=shuffle, seed=7)
    sampler.set_epoch(3)
    whole = list(sampler)
    following = list(sampler)
    done = data.draw(st.integers(0, len(whole)))
    sampler.set_epoch(3)
    list(itertools.islice(sampler, done))
    resumed = PatchSampler(store, batch_size, shuffle=shuffle, seed=7)
    resumed.load_state_dict(sampler.state_dict())
    resumed.set_epoch(resumed.epoch)  # as training loops do at the beginning of an epoch
    assert list(resumed) == (whole[done:] or following)
    assert done == len(whole) or list(resumed) == following


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")  # more than this machine's cores
@pytest.mark.parametrize("num_workers", [0, 1, 2, 4])
def test_resuming_after_finished_batches_does_not_depend_on_the_workers(store, num_workers):
    sampler = PatchSampler(store, 2, seed=1)
    whole = [batch["patch_id"] for batch in loader_of(store, sampler, 0)]
    sampler.set_epoch(0)
    iterator = iter(loader_of(store, sampler, num_workers))
    first = [next(iterator)["patch_id"]]
    state = sampler.state_dict(num_batches=1)
    resumed = PatchSampler(store, 2, seed=1)
    resumed.load_state_dict(state)
    assert first + [batch["patch_id"] for batch in loader_of(store, resumed, 0)] == whole


def loader_of(store, sampler, num_workers):
    return DataLoader(SSLCachedDataset(store), batch_sampler=sampler, num_workers=num_workers, collate_fn=collate)


def test_epochs_follow_each_other_and_differ(store):
    sampler = PatchSampler(store, 2)
    first, second = list(sampler), list(sampler)
    assert (first != second, sampler.epoch) == (True, 1)
    sampler.set_epoch(1)
    assert list(sampler) == second
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_seeds_differ_and_no_shuffle_is_the_order_of_the_store(store):
    assert list(PatchSampler(store, 2, seed=0)) != list(PatchSampler(store, 2, seed=1))
    flat = [index for batch in PatchSampler(store, 2, shuffle=None) for index in batch]
    assert flat == list(range(store.num_patches))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"seed": 2}, "seed"), ({"world_size": 2}, "world_size"), ({"shuffle": "block"}, "shuffle"), ({}, "batch_size")],
)
def test_a_state_of_another_order_is_refused(store, change, message):
    state = PatchSampler(store, 2).state_dict()
    with pytest.raises(ConfigError, match=f"the saved order has {message}"):
        PatchSampler(store, 2 if change else 3, **change).load_state_dict(state)


def test_a_state_of_another_store_is_refused(store, tmp_path):
    other = tiny_store(tmp_path, edge_stride=3)
    with pytest.raises(ConfigError, match="the saved order has store"):
        PatchSampler(other, 2).load_state_dict(PatchSampler(store, 2).state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"rank": 2, "world_size": 2}, "rank 2 of 2"), ({"shuffle": "some"}, "shuffle must be"), ({"rank": -1}, "rank")],
)
def test_values_out_of_range_are_refused(store, options, message):
    with pytest.raises(ConfigError, match=message):
        PatchSampler(store, 2, **options)
