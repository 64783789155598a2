"""Stores of real photographs, and one of many small patches."""

from __future__ import annotations

import json

import pytest

from ssl_data import BuildConfig, PatchSpec, StoreSpec, build, open_store
from ssl_data.testing import tiny_store


@pytest.fixture(scope="session")
def photograph_store(photographs):
    """A function that builds a store of two photographs, 23 patches of 128 pixels, below a folder and opens it."""

    def photograph_store(folder, **specs):
        files = ["coffee.png", "astronaut.png"]
        listing = {"folders": [{"name": "photos", "path": str(photographs), "files": files}]}
        (folder / "photos.yaml").write_text(json.dumps(listing))
        config = BuildConfig(
            dataset=str(folder / "photos.yaml"),
            out=str(folder / "store.zarr"),
            patch=PatchSpec(patch_size=128, step=128),
            **{"store": StoreSpec(lq_scale=4, patches_per_shard=8), **specs},
        )
        build(config)
        return open_store(config.out)

    return photograph_store


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """52 patches of 9 images in 18 shards, with low-quality patches; to be read only."""
    sizes = [(192, 256), *[(64, 64)] * 5, *[(96, 96)] * 3]
    return tiny_store(tmp_path_factory.mktemp("many"), sizes=sizes, lq_scale=4, patches_per_shard=3)
