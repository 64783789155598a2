"""Batches of patch indices."""

import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_data import PatchSampler
from ssl_data.errors import ConfigError
from ssl_data.testing import tiny_store

orders = st.fixed_dictionaries(
    {"shuffle": st.sampled_from(["full", "block", None]), "drop_last": st.booleans(), "seed": st.integers(0, 2**32)}
)
batch_sizes, worlds, epochs = st.integers(1, 9), st.integers(1, 8), st.integers(0, 50)


@pytest.fixture(scope="module", autouse=True)
def _several_blocks():
    """Small blocks, so that the stores of these tests have several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ssl_data.training.sampler._SHARDS_PER_BLOCK", 4)
        yield


def samplers(store, batch_size, world_size, order, epoch=0):
    """One per rank."""
    ranks = [PatchSampler(store, batch_size, rank=r, world_size=world_size, **order) for r in range(world_size)]
    for sampler in ranks:
        sampler.set_epoch(epoch)
    return ranks


@given(batch_size=batch_sizes, world_size=worlds, order=orders, epoch=epochs)
def test_ranks_share_every_epoch(many, batch_size, world_size, order, epoch):
    ranks = samplers(many, batch_size, world_size, order, epoch)
    batches = [list(sampler) for sampler in ranks]
    assert {len(own) for own in batches} == {len(ranks[0])}
    (alone,) = samplers(many, batch_size, 1, {**order, "drop_last": False}, epoch)
    whole = list(itertools.chain.from_iterable(alone))
    assert sorted(whole) == list(range(many.num_patches))
    dealt = list(itertools.chain.from_iterable(itertools.chain.from_iterable(zip(*batches, strict=True))))
    per_step = batch_size * world_size
    if order["drop_last"]:
        assert dealt == whole[: many.num_patches // per_step * per_step]
    else:  # step after step the ranks get the whole order, and its beginning once more where that is not enough
        assert dealt[: many.num_patches] == whole
        assert len(dealt) == max(many.num_patches, len(ranks[0]) * world_size)
        assert dealt[many.num_patches :] == whole[: len(dealt) - many.num_patches]


@given(batch_size=batch_sizes, world_size=worlds, order=orders, epoch=epochs, data=st.data())
def test_only_chosen_patches_are_visited_each_once(many, batch_size, world_size, order, epoch, data):
    chosen = data.draw(st.lists(st.integers(0, many.num_patches - 1), min_size=1, unique=True), label="indices")
    ranks = samplers(many, batch_size, world_size, {**order, "indices": chosen, "drop_last": False}, epoch)
    batches = [list(sampler) for sampler in ranks]
    assert {len(own) for own in batches} == {len(ranks[0])}
    visited = [index for own in batches for batch in own for index in batch]
    assert set(visited) == set(chosen)
    assert len(visited) == max(len(chosen), len(ranks[0]) * world_size)
    again = samplers(many, batch_size, world_size, {**order, "indices": chosen[::-1], "drop_last": False}, epoch)
    assert [list(sampler) for sampler in again] == batches


def test_choosing_all_patches_is_choosing_none(many):
    named = PatchSampler(many, 5, seed=3, indices=range(many.num_patches))
    named.load_state_dict(PatchSampler(many, 5, seed=3).state_dict())
    assert list(named) == list(PatchSampler(many, 5, seed=3))


@given(batch_size=batch_sizes, world_size=worlds, order=orders, epoch=epochs)
def test_order_is_a_pure_function(many, batch_size, world_size, order, epoch):
    """Neither of what was visited before, nor of the object; and the world size only deals it out differently."""
    first, second = (samplers(many, batch_size, world_size, order)[-1] for _ in range(2))
    list(itertools.islice(first, 2))
    second.set_epoch(epoch + 1)
    list(second)
    for sampler in (first, second):
        sampler.set_epoch(epoch)
    assert list(first) == list(second)


@given(batch_size=batch_sizes, world_size=worlds, order=orders, epoch=epochs, data=st.data())
def test_a_resumed_epoch_is_the_rest_of_the_epoch_on_every_rank(many, batch_size, world_size, order, epoch, data):
    """Whatever was asked for ahead of the trainer, and if it is resumed again; rank 0 writes the state of all."""
    ranks = samplers(many, batch_size, world_size, order, epoch)
    whole, following = [list(sampler) for sampler in ranks], [list(sampler) for sampler in ranks]
    done = 0
    for _ in range(2):
        start, done = done, data.draw(st.integers(done, len(ranks[0])), label="done")
        ahead = data.draw(st.integers(done, len(ranks[0])), label="asked for")
        ranks = samplers(many, batch_size, world_size, order, epoch) if start == 0 else ranks
        assert ranks[0].first_batch == start
        list(itertools.islice(ranks[0], ahead - start))
        state = json.loads(json.dumps(ranks[0].state_dict(num_batches=done)))
        ranks = samplers(many, batch_size, world_size, order)
        for sampler in ranks:
            sampler.load_state_dict(state)
        if done == len(ranks[0]):
            break
    at_end = done == len(ranks[0]) > 0
    assert {(sampler.epoch, sampler.first_batch) for sampler in ranks} == {(epoch + at_end, 0 if at_end else done)}
    for sampler, own, next_own in zip(ranks, whole, following, strict=True):
        sampler.set_epoch(sampler.epoch)  # as training loops do at the beginning of an epoch
        assert list(sampler) == (next_own if at_end else own[done:])
        assert at_end or list(sampler) == next_own


@given(batch_size=batch_sizes, order=orders, data=st.data())
def test_its_own_count_is_what_was_asked_for(many, batch_size, order, data):
    """As loaders that keep the states of samplers, one for every batch, expect."""
    (sampler,) = samplers(many, batch_size, 1, order)
    whole = list(sampler)
    sampler.set_epoch(0)
    asked = data.draw(st.integers(0, max(0, len(whole) - 1)))
    list(itertools.islice(sampler, asked))
    (resumed,) = samplers(many, batch_size, 1, order)
    resumed.load_state_dict(sampler.state_dict())
    assert list(resumed) == whole[asked:]


@given(order=orders, data=st.data())
def test_an_iteration_under_way_is_left_alone(many, order, data):
    """Lightning says which epoch it is after the workers have begun to fetch it."""
    (sampler,) = samplers(many, 3, 1, order)
    whole = list(sampler)
    asked = data.draw(st.integers(1, len(whole)))
    sampler.set_epoch(0)
    iterator = iter(sampler)
    begun = list(itertools.islice(iterator, asked))
    sampler.set_epoch(0)
    assert begun + list(iterator) == whole


@given(order=orders, data=st.data())
def test_an_iteration_that_was_broken_off_begins_again(many, order, data):
    """However many batches workers had asked for, short of all."""
    (sampler,) = samplers(many, 3, 1, order)
    whole = list(sampler)
    start = data.draw(st.integers(0, len(whole) - 1))
    sampler.load_state_dict({**sampler.state_dict(num_batches=start), "epoch": 0})
    list(itertools.islice(sampler, data.draw(st.integers(0, len(whole) - start - 1))))
    assert list(sampler) == whole[start:]


@given(
    batch_size=st.integers(1, 7),
    world_size=st.integers(1, 8),
    order=orders,
    epoch=epochs,
)
def test_len_is_the_number_of_batches(store, batch_size, world_size, order, epoch):
    """Also where there are fewer patches than ranks."""
    for sampler in samplers(store, batch_size, world_size, order, epoch):
        assert len(list(sampler)) == len(sampler)


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
    [
        ({"indices": [0, 2]}, "patches"),
        ({"seed": 2}, "seed"),
        ({"world_size": 2}, "world_size"),
        ({"shuffle": "block"}, "shuffle"),
        ({}, "batch_size"),
    ],
)
def test_a_state_of_another_order_is_refused(store, change, message):
    state = PatchSampler(store, 2).state_dict()
    with pytest.raises(ConfigError, match=f"the saved order has {message}"):
        PatchSampler(store, 2 if change else 3, **change).load_state_dict(state)


def test_a_state_of_another_store_is_refused(store, tmp_path):
    other = tiny_store(tmp_path, edge_stride=3)
    with pytest.raises(ConfigError, match="the saved order has store"):
        PatchSampler(other, 2).load_state_dict(PatchSampler(store, 2).state_dict())


@pytest.mark.parametrize("num_batches", [-1, 5])
def test_more_batches_than_an_epoch_has_are_refused(store, num_batches):
    with pytest.raises(ConfigError, match=f"num_batches must lie in 0 .. 4, .* got {num_batches}"):
        PatchSampler(store, 2).state_dict(num_batches=num_batches)


def test_a_state_of_something_else_is_refused(store):
    with pytest.raises(ConfigError, match="the saved order has store None"):
        PatchSampler(store, 2).load_state_dict({"epoch": 3})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 2, "world_size": 2}, "rank 2 of 2"),
        ({"shuffle": "some"}, "shuffle must be"),
        ({"rank": -1}, "rank"),
        ({"indices": []}, "at least one patch"),
        ({"indices": [True, False]}, "integers, got bool"),
        ({"indices": [[0], [1]]}, "shape (2, 1)"),
        ({"indices": [0, -1]}, "-1 .. 0"),
        ({"indices": [99]}, "indices must lie in 0 .. "),
        ({"indices": [2, 1, 2]}, "got 2 more than once"),
    ],
)
def test_values_out_of_range_are_refused(store, options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        PatchSampler(store, 2, **options)
