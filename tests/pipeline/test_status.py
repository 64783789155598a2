"""How far a build is, seen from outside."""

import subprocess
import sys
import time

import pytest

from ssl_data import BuildConfig, PatchSpec, StoreSpec, build
from ssl_data.errors import StoreNotFoundError
from ssl_data.pipeline.status import read_status
from ssl_data.testing import write_images

SPECS = {"patch": PatchSpec(patch_size=64, step=32), "store": StoreSpec(patches_per_shard=2, chunk_rows=128)}

BUILDER = """
import sys, time
from ssl_data import BuildConfig, PatchSpec, StoreSpec
from ssl_data.pipeline.parts import Part, build_part
specs = dict(patch=PatchSpec(patch_size=64, step=32), store=StoreSpec(patches_per_shard=2, chunk_rows=128))
config = BuildConfig(dataset=sys.argv[1], out=sys.argv[2], workers=1, **specs)
pause = lambda at: time.sleep(60 if at.phase == "build" else 0)
build_part(config, Part.parse("0/2"), progress=pause)
"""


def test_a_build_is_followed_from_its_beginning_to_its_end(tmp_path):
    images, store = write_images(tmp_path / "images", [(96, 64), (64, 64), (100, 130)]), tmp_path / "store"
    with pytest.raises(StoreNotFoundError, match="is no store, nor one that has been begun"):
        read_status(store)
    with subprocess.Popen([sys.executable, "-c", BUILDER, str(images), str(store)]) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            time.sleep(0.2)
            if (store / "manifest" / "plan.json").exists() and read_status(store).seconds_left is not None:
                break
        status = read_status(store)
        process.kill()
    assert (status.state, status.num_done, status.num_shards) == ("building", 1, 8)
    assert [(builder.pid, builder.role) for builder in status.builders] == [(process.pid, "part 0/2")]
    assert status.shards_per_second is not None
    assert status.seconds_left == pytest.approx(7 / status.shards_per_second)
    (store / ".build" / "part-0-of-2" / "shard-00002-abc").touch()  # as one that dies with a shard in hand leaves it
    status = read_status(store)
    assert (status.state, status.num_done, status.running, status.builders) == ("stopped", 1, (), ())
    assert (status.shards_per_second, status.seconds_left) == (None, None)
    config = BuildConfig(dataset=str(images), out=str(store), **SPECS)
    seen = []
    build(config, progress=lambda at: seen.append(read_status(store)) if at.phase == "build" else None)
    assert [(at.state, at.num_done) for at in seen] == [("building", number) for number in range(2, 9)]
    status = read_status(store)
    assert (status.state, status.num_done, status.failed) == ("complete", 8, ())
    (store / "gt" / "c" / "1" / "0" / "0" / "0").unlink()
    assert read_status(store).state == "damaged"


def test_shards_in_hand_are_seen(tmp_path, monkeypatch):
    images, store = write_images(tmp_path / "images", [(96, 64)]), tmp_path / "store"
    seen = []

    def look(image, **options):
        seen.append(read_status(store).running)
        return edge_mask(image, **options)

    from ssl_data.kernels.edges import edge_mask

    monkeypatch.setattr("ssl_data.pipeline.job.edge_mask", look)
    build(BuildConfig(dataset=str(images), out=str(store), **SPECS))
    assert seen == [(0,), (0,)]
