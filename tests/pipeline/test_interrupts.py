"""Interrupts at the worst moment: a file has just been made, and nobody has taken note of it."""

import os
import subprocess
import tempfile

import pytest

from ssl_data import BuildConfig, PatchSpec, StoreSpec, build
from ssl_data.errors import BuildInterruptedError
from ssl_data.pipeline.executors import SerialExecutor
from ssl_data.pipeline.parts import Part, build_part, finalize
from ssl_data.pipeline.repair import RepairSources, repair_store
from ssl_data.testing import write_images


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("interrupts") / "images", [(64, 96), (64, 64)])


def configure(images, out):
    specs = {"patch": PatchSpec(patch_size=64, step=32), "store": StoreSpec(patches_per_shard=1, chunk_rows=128)}
    return BuildConfig(dataset=str(images), out=str(out), **specs)


def build_in_parts(config, executor):
    for index in range(2):
        build_part(config, Part(index=index, num_parts=2), executor=executor)
    finalize(config.out)


def break_and_repair(config, executor):
    build(config, executor=executor)
    for path in ("gt/c/1/0/0/0", "ssg/zarr.json"):
        os.unlink(f"{config.out}/{path}")  # noqa: PTH108 - as short as it gets
    repair_store(config.out, RepairSources(dataset=config.dataset), executor=executor)


@pytest.mark.parametrize("work", [build, build_in_parts, break_and_repair])
def test_whenever_a_file_is_made_an_interrupt_leaves_none(work, images, tmp_path, monkeypatch):
    config, num_made, make = configure(images, tmp_path / "store"), 0, tempfile.mkstemp
    moments = iter(range(10**6))
    interrupted_at = next(moments)

    def make_and_stop(**options):
        nonlocal num_made, interrupted_at
        made = make(**options)
        num_made += 1
        if num_made > interrupted_at:
            num_made, interrupted_at = 0, next(moments)
            os.close(made[0])
            raise KeyboardInterrupt
        return made

    monkeypatch.setattr(tempfile, "mkstemp", make_and_stop)
    num_interrupts = 0
    while True:
        try:
            work(config, executor=SerialExecutor(1))
            break
        except (BuildInterruptedError, KeyboardInterrupt):
            num_interrupts += 1
        left = [path.relative_to(tmp_path / "store") for path in (tmp_path / "store").glob(".build/**/*")]
        assert {path.name for path in left if (tmp_path / "store" / path).is_file()} <= {"lock", "frame.lock"}
    assert num_interrupts >= 4
    monkeypatch.undo()
    build(configure(images, tmp_path / "undisturbed"))
    assert subprocess.run(["diff", "-r", tmp_path / "undisturbed", tmp_path / "store"], check=False).returncode == 0
