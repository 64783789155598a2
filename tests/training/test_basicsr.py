"""The dataset type for BasicSR.

BasicSR is no dependency: its registry, option dictionaries and loader are stood in for by the few lines below, which
have the interface of BasicSR 1.4.2 (basicsr/utils/registry.py, basicsr/data/__init__.py). Its absence is tested for
real.
"""

import importlib.util
import multiprocessing
import sys
import types
from copy import deepcopy

import pytest
import torch
from torch.utils.data import DataLoader

from ssl_data import SelfSimilarityLoss, SSGBatch
from ssl_data import SSLCachedDataset as LibraryDataset
from ssl_data.errors import ConfigError, MissingDependencyError, StoreMismatchError, StoreNotFoundError
from ssl_data.training.basicsr import SSLCachedDataset, register


class StandInRegistry:
    """Names and objects, as in ``basicsr.utils.registry.Registry``."""

    def __init__(self):
        self._objects = {}

    def register(self, obj):
        assert obj.__name__ not in self._objects, f"{obj.__name__} was already registered"
        self._objects[obj.__name__] = obj

    def get(self, name):
        return self._objects[name]

    def __contains__(self, name):
        return name in self._objects


@pytest.fixture
def registry(monkeypatch):
    registry = StandInRegistry()
    for name in ("basicsr", "basicsr.utils", "basicsr.utils.registry"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["basicsr.utils.registry"].DATASET_REGISTRY = registry
    return registry


@pytest.fixture
def section(store):
    """The dataset section of an option file, completed by BasicSR with phase and scale."""
    return {
        "name": "DF2K_OST",
        "type": "SSLCachedDataset",
        "store": str(store.root),
        "recipe": "ESRGAN-SSL",
        "gt_size": 32,
        "use_hflip": True,
        "use_rot": True,
        "num_worker_per_gpu": 2,
        "batch_size_per_gpu": 2,
        "dataset_enlarge_ratio": 1,
        "prefetch_mode": None,
        "phase": "train",
        "scale": 4,
    }


def build_dataset(registry, section):
    section = deepcopy(section)
    return registry.get(section["type"])(section)


def build_loader(dataset, **options):
    """As BasicSR builds it: with no collate function."""
    return DataLoader(dataset, batch_size=2, shuffle=False, drop_last=True, **options)


def test_the_type_is_registered_once(registry):
    register()
    register()
    assert registry.get("SSLCachedDataset") is SSLCachedDataset


def test_a_section_of_an_option_file_becomes_a_dataset(registry, section, store):
    register()
    dataset = build_dataset(registry, section)
    dataset.set_epoch(1)
    expected = LibraryDataset.from_recipe("ESRGAN-SSL", store, crop_size=32)
    expected.set_epoch(1)
    for index in range(len(dataset)):
        for key in ("gt", "lq", "gt_mask"):
            assert torch.equal(dataset[index][key], expected[index][key])
        assert torch.equal(dataset[index]["ssg"].codes, expected[index]["ssg"].codes)
    assert dataset.opt == section


def test_options_work_without_a_recipe(section, store):
    del section["recipe"]
    section.update(gt_size=64, use_hflip=False, use_rot=True, degradation="realesrgan", edge_stride=3, seed=5)
    dataset = SSLCachedDataset(section)
    dataset.set_epoch(0)
    expected = LibraryDataset(store, vflip=True, transpose=True, degradation="realesrgan", edge_stride=3, seed=5)
    for index in range(len(dataset)):
        for key in ("gt", "gt_mask", "kernel1"):
            assert torch.equal(dataset[index][key], expected[index][key])


@pytest.mark.parametrize("workers", [0, 1])
def test_the_default_loader_joins_graphs_and_the_loss_takes_them(section, workers):
    for batch in build_loader(SSLCachedDataset(section), num_workers=workers):
        assert isinstance(batch["ssg"], SSGBatch)
        assert set(batch["ssg"].image.tolist()) <= {0, 1}
        assert len(batch["ssg"]) == batch["gt_mask"].sum()
        sr = torch.nn.functional.interpolate(batch["lq"], scale_factor=4, mode="nearest").requires_grad_()
        terms = SelfSimilarityLoss(SSLCachedDataset(section).store.spec)(sr, batch["ssg"])
        terms.total.backward()
        assert sr.grad.abs().sum() > 0


def test_spawned_workers_join_graphs_too(section):
    context = multiprocessing.get_context("spawn")
    (batch, *_) = build_loader(SSLCachedDataset(section), num_workers=1, multiprocessing_context=context)
    assert isinstance(batch["ssg"], SSGBatch)


def test_crops_change_from_epoch_to_epoch_though_nobody_tells_the_epoch(section):
    loader = build_loader(SSLCachedDataset(section), num_workers=1)
    torch.manual_seed(0)
    first, second = (torch.cat([batch["gt"] for batch in loader]) for _ in range(2))
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(first, torch.cat([batch["gt"] for batch in loader]))


def test_a_chosen_epoch_makes_samples_repeatable(section):
    dataset = SSLCachedDataset(section)
    loader = build_loader(dataset, num_workers=1, persistent_workers=True)
    epochs = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        epochs.append(torch.cat([batch["gt"] for batch in loader]))
    assert torch.equal(epochs[0], epochs[2])
    assert not torch.equal(epochs[0], epochs[1])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"dataroot_gt": "images"}, ConfigError, "no option dataroot_gt; known: "),
        ({"scale": 2}, ConfigError, "scale is 2 in the option file, 4 in the store"),
        ({"store": None}, ConfigError, "needs the option 'store'"),
        ({"store": "nowhere"}, StoreNotFoundError, "nowhere is not a store"),
        ({"gt_size": None}, StoreMismatchError, "64 pixels wide, crops of the recipe 128"),
        ({"recipe": "ESRGAN"}, ConfigError, "recipe ESRGAN: neither"),
    ],
)
def test_sections_that_cannot_be_served_are_refused(section, changes, error, message):
    with pytest.raises(error, match=message):
        SSLCachedDataset({**section, **changes})


def test_without_basicsr_the_remedy_is_named():
    if importlib.util.find_spec("basicsr"):
        pytest.skip("BasicSR is installed here")
    with pytest.raises(
        MissingDependencyError, match="needs BasicSR .*No module named 'basicsr'.*: pip install basicsr"
    ):
        register()
