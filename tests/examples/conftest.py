"""What the tests of the training examples share: photographs to train on, and scripts that are imported as modules."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

import ssl_data
from ssl_data import BuildConfig, PatchSpec, StoreSpec

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def photograph_store(tmp_path_factory):
    """A store of 65 patches of real photographs."""
    out = tmp_path_factory.mktemp("photographs") / "store.zarr"
    config = BuildConfig(
        dataset="sample", out=str(out), patch=PatchSpec(patch_size=128, step=256), store=StoreSpec(lq_scale=4)
    )
    ssl_data.build(config)
    return out


@pytest.fixture(autouse=True)
def undisturbed():
    """Leave the global random state alone; use one thread, as several wait for each other on a busy machine."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(num_threads)


@pytest.fixture
def load_example(monkeypatch):
    """Import a script of the examples by its name, as running it would: with its neighbours in reach."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module
