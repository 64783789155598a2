"""Samples that are read together are the batch that joining single samples gives, until somebody takes one."""

import itertools
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_data import SSLCachedDataset, collate
from ssl_data.errors import InputError
from ssl_data.store.shard import Gather
from ssl_data.testing import tiny_store
from ssl_data.training import graphs
from ssl_data.training.collate import Batch
from ssl_data.training.samples import Samples

OPTIONS = [
    {},
    {"crop_size": 48, "border": "interior"},
    {"crop_size": 48, "hflip": True, "transpose": True},
    {"degradation": "realesrgan"},
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny_store(tmp_path_factory.mktemp("store"), sizes=((160, 160), (128, 160)), lq_scale=4)


@pytest.fixture(scope="module")
def flat_store(tmp_path_factory):
    """Without a single edge pixel."""
    return tiny_store(tmp_path_factory.mktemp("flat"), sizes=((128, 128),), threshold=255)


def assert_equal(batch, expected):
    assert isinstance(batch, Batch)
    assert list(batch) == list(expected)
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert batch[name].dtype == value.dtype
            assert torch.equal(batch[name], value)
    assert batch["patch_id"] == expected["patch_id"]
    for name in ("codes", "image", "row", "col"):
        part, wanted = getattr(batch["ssg"], name), getattr(expected["ssg"], name)
        assert part.dtype == wanted.dtype
        assert torch.equal(part, wanted)
    assert batch["ssg"].extent == expected["ssg"].extent


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("indices", [[0], [3, 1, 2], [2, 2], range(4)], ids=str)
def test_they_are_the_batch_that_single_samples_make(store, options, indices):
    dataset = SSLCachedDataset(store, **options)
    samples = dataset.__getitems__(indices)
    assert isinstance(samples, Samples)
    expected = collate([dataset[index] for index in indices])
    assert_equal(collate(samples), expected)
    assert samples.is_whole
    apart = list(samples)
    assert not samples.is_whole
    assert_equal(collate(apart), expected)
    assert_equal(collate(samples), expected)


def test_without_edge_pixels(flat_store):
    dataset = SSLCachedDataset(flat_store)
    batch = collate(dataset.__getitems__(range(len(dataset))))
    assert len(batch["ssg"]) == 0
    assert batch["ssg"].extent == (-1, -1, -1)
    assert_equal(batch, collate([dataset[index] for index in range(len(dataset))]))


def test_samples_without_edge_pixels_among_others(tmp_path):
    """The last one has none: the largest image index is that of the last that has some."""
    dataset = SSLCachedDataset(tiny_store(tmp_path, sizes=((128, 128),)), crop_size=32, border="interior")
    counts = [len(dataset[index]["ssg"]) for index in range(len(dataset))]
    order = sorted(range(len(dataset)), key=lambda index: -counts[index])
    assert counts[order[-1]] == 0 < counts[order[0]]
    batch = collate(dataset.__getitems__(order))
    assert batch["ssg"].extent[0] == np.count_nonzero(counts) - 1
    assert_equal(batch, collate([dataset[index] for index in order]))


def test_what_is_changed_in_a_sample_is_changed_in_the_batch(store):
    samples = SSLCachedDataset(store).__getitems__([0, 1, 2])
    samples[-1]["gt"] = torch.ones_like(samples[-1]["gt"])
    samples[0]["index"] = samples[1]["index"] = samples[2]["index"] = 7
    batch = collate(samples)
    assert (batch["gt"][2] == 1).all()
    assert batch["index"].tolist() == [7, 7, 7]


class Uneven:
    """Draws a field for some samples only."""

    def __init__(self, indices):
        self._indices, self._number = indices, -1

    def draw(self, _):
        self._number += 1
        return {"kernel": np.ones(3)} if self._number in self._indices else {}


@pytest.mark.parametrize("indices", [[0], [1]])
def test_fields_that_only_some_samples_have_are_refused(store, indices):
    dataset = SSLCachedDataset(store, degradation=Uneven(indices))
    with pytest.raises(InputError, match="samples must have the same fields, but sample 1 has"):
        collate(dataset.__getitems__([0, 1]))


def test_they_are_used_like_a_list(store):
    samples = SSLCachedDataset(store).__getitems__([0, 1, 2])
    assert len(samples) == 3
    assert [sample["patch_id"] for sample in samples] == [sample["patch_id"] for sample in samples[:]]
    assert samples[1:] == [samples[1], samples[2]]
    with pytest.raises(IndexError):
        samples[3]
    first, _, third = samples
    samples[0] = {**first, "more": torch.ones(2)}
    del samples[1]
    samples.append({**third, "more": torch.zeros(2)})
    samples.remove(third)
    assert repr(samples) == "<Samples: 2>"
    batch = collate(samples)
    assert batch["more"].tolist() == [[1, 1], [0, 0]]
    assert batch["patch_id"] == [first["patch_id"], third["patch_id"]]


def test_batches_of_the_same_samples_are_dictionaries_of_their_own(store):
    samples = SSLCachedDataset(store).__getitems__([0, 1])
    first = collate(samples)
    first["patch_id"].clear()
    del first["gt"]
    assert_equal(collate(samples), collate(list(samples)))


def test_samples_share_the_memory_of_the_batch(store):
    samples = SSLCachedDataset(store).__getitems__([0, 1])
    batch = collate(samples)
    for number, sample in enumerate(samples):
        assert sample["gt"].data_ptr() == batch["gt"][number].data_ptr()
    assert samples[0]["ssg"].codes.data_ptr() == batch["ssg"].codes.data_ptr()


def test_samples_that_cannot_be_gathered_are_read_the_longer_way(store, monkeypatch):
    """Each to its own place, also where there are more than are prepared together."""
    dataset = SSLCachedDataset(store)
    expected = [dataset[index]["ssg"].codes for index in range(len(store))]
    prepare, number = graphs._prepare, itertools.count()
    monkeypatch.setattr(graphs, "_prepare", lambda *plan: prepare(*plan) if next(number) % 3 else Gather())
    indices = [index % len(store) for index in range(80)]
    samples = dataset.__getitems__(indices)
    assert next(number) == len(indices)
    for index, sample in zip(indices, samples, strict=True):
        assert torch.equal(sample["ssg"].codes, expected[index])


def test_a_batch_from_many_shards_keeps_few_files_open(tmp_path):
    """Besides those that are kept open of each array: those whose graphs are read next."""
    store = tiny_store(tmp_path, sizes=[(400, 400)], patch_size=64, step=24, patches_per_shard=1)
    dataset = SSLCachedDataset(store)
    expected = [dataset[index]["ssg"].codes for index in range(len(store))]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2 * 32, hard))
    try:
        samples = dataset.__getitems__(range(len(store)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(store) > 200
    assert all(torch.equal(sample["ssg"].codes, codes) for sample, codes in zip(samples, expected, strict=True))
