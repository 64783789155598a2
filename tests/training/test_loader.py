"""`PatchLoader`: the same samples with any number of workers, and resumed where the trainer was."""

import itertools
import json

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from ssl_data import PatchLoader, PatchSampler, SSLCachedDataset, collate

# More workers than cores is what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create . worker processes:UserWarning")

SEED = 5


def dataset_of(store, **options):
    return SSLCachedDataset(store, crop_size=32, hflip=True, vflip=True, transpose=True, seed=SEED, **options)


def loader_of(store, num_workers=0, *, batch_size=4, order=None, **options):
    sampler = PatchSampler(store, batch_size, **{"seed": SEED, **(order or {})})
    return PatchLoader(dataset_of(store), sampler, num_workers=num_workers, **options)


def tensors_of(value):
    """All tensors of a sample or a batch by name, the graphs' among them."""
    tensors = {name: item for name, item in value.items() if isinstance(item, torch.Tensor)}
    return tensors | {name: getattr(value["ssg"], name) for name in ("codes", "image", "row", "col")}


def assert_same(found, expected):
    """Two lists of samples or batches are equal, bit by bit."""
    assert [one["patch_id"] for one in found] == [one["patch_id"] for one in expected]
    for one, other in zip(found, expected, strict=True):
        left, right = tensors_of(one), tensors_of(other)
        assert left.keys() == right.keys() >= {"gt", "gt_mask", "lq", "codes"}
        assert all(torch.equal(left[name], right[name]) for name in left)


def plain_epoch(store, sampler, epoch):
    """What an epoch must be, without any loader."""
    dataset = dataset_of(store)
    dataset.set_epoch(epoch)
    sampler.set_epoch(epoch)
    return [collate([dataset[index] for index in batch]) for batch in sampler]


# Resuming

workers = st.fixed_dictionaries(
    {"num_workers": st.integers(1, 4), "prefetch_factor": st.integers(1, 3), "persistent_workers": st.booleans()}
)
options = st.one_of(st.just({}), workers)


@given(
    order=st.fixed_dictionaries({"shuffle": st.sampled_from(["full", "block", None]), "drop_last": st.booleans()}),
    batch_size=st.integers(3, 9),
    epoch=st.integers(0, 5),
    before=options,
    after=options,
    data=st.data(),
)
@settings(max_examples=15, phases=[Phase.reuse, Phase.generate])  # shrinking would take minutes
def test_goes_on_with_the_next_sample(many, order, batch_size, epoch, before, after, data):
    """At any batch, with another number of workers, whatever the first ones had fetched ahead."""
    sampler = PatchSampler(many, batch_size, seed=SEED, **order)
    whole, following = plain_epoch(many, sampler, epoch), plain_epoch(many, sampler, epoch + 1)
    done = data.draw(st.integers(0, len(whole)))
    first, resumed = (loader_of(many, batch_size=batch_size, order=order, **options) for options in (before, after))
    first.set_epoch(epoch)
    begun = list(itertools.islice(first, done))
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert_same(begun + list(resumed), whole if done < len(whole) else whole + following)


@pytest.mark.parametrize("num_workers", [0, 3])
def test_a_state_taken_between_epochs_is_the_beginning_of_the_next(many, num_workers):
    loader = loader_of(many, num_workers)
    for _ in loader:
        pass
    states = [loader.state_dict()]
    loader.set_epoch(1)
    states.append(loader.state_dict())
    expected = plain_epoch(many, PatchSampler(many, 4, seed=SEED), 1)
    for state in states:
        resumed = loader_of(many)
        resumed.load_state_dict(state)
        assert resumed.state_dict() == states[1]
        assert_same(list(resumed), expected)


def test_a_state_after_the_sampler_was_told_the_epoch(many):
    loader = loader_of(many)
    list(loader)
    loader.batch_sampler.set_epoch(4)
    assert loader.state_dict() == {**loader.batch_sampler.state_dict(), "epoch": 4, "num_batches": 0}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumed_twice_in_one_epoch(many, num_workers):
    whole = list(loader_of(many))
    seen, state = [], loader_of(many).state_dict()
    for count in (3, 2, 50):
        loader = loader_of(many, num_workers)
        loader.load_state_dict(state)
        seen += itertools.islice(loader, count)
        state = loader.state_dict()
    assert_same(seen, whole)


# Epochs


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"num_workers": 2, "persistent_workers": True}], ids=str)
def test_epochs_follow_each_other_with_crops_of_their_own(many, options):
    loader = loader_of(many, **options)
    for epoch in range(3):
        assert_same(list(loader), plain_epoch(many, PatchSampler(many, 4, seed=SEED), epoch))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_that_was_broken_off_begins_again(many, num_workers):
    loader = loader_of(many, num_workers)
    expected = list(loader_of(many))
    begun = list(itertools.islice(loader, 3))
    assert_same(begun, expected[:3])
    assert_same(list(loader), expected)


def test_options_reach_the_loader(many):
    loader = loader_of(many, collate_fn=len)
    assert list(loader) == [len(batch) for batch in PatchSampler(many, 4, seed=SEED)]
    assert len(loader) == len(loader.batch_sampler)


# Randomness


@pytest.mark.parametrize(
    ("num_workers", "context", "degradation"),
    [
        (0, None, None),
        (1, "fork", None),
        (3, "fork", None),
        (3, "fork", "realesrgan"),
        (3, "spawn", None),
        (1, "forkserver", None),
    ],
)
def test_samples_are_a_pure_function_of_seed_epoch_and_index(many, num_workers, context, degradation):
    """Not of the worker, its number or its kind of process, nor of what was drawn before."""
    dataset = dataset_of(many, degradation=degradation)
    # An order of its own, for which samples fall to other workers than in any other test; each index is visited twice.
    order = [*reversed(range(len(dataset))), *range(0, len(dataset), 5)]
    loader = DataLoader(
        dataset,
        batch_sampler=[[index] for index in order],
        num_workers=num_workers,
        collate_fn=collate,
        multiprocessing_context=context,
        persistent_workers=num_workers > 0,
    )
    for epoch in (1, 0):
        dataset.set_epoch(epoch)
        fresh = dataset_of(many, degradation=degradation)
        fresh.set_epoch(epoch)
        found = list(loader)  # each worker has global generators with seeds of its own, others than this process
        assert len(found) == len(order)
        for one, index in zip(found, order, strict=True):
            expected = collate([fresh[index]])
            assert one["patch_id"] == expected["patch_id"]
            left, right = tensors_of(one), tensors_of(expected)
            assert left.keys() == right.keys()
            assert all(torch.equal(left[name], right[name]) for name in left)
