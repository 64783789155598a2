"""Repaired images are tried again; the store then equals one built from scratch."""

import filecmp
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ssl_data import BuildConfig, EdgeSpec, PatchSpec, StoreSpec, build, open_store, verify_store
from ssl_data.errors import BuildInterruptedError, StoreError, StoreMismatchError, StoreNotFoundError
from ssl_data.pipeline.executors import RayExecutor, SerialExecutor
from ssl_data.testing import write_images

SIZES = [(96, 64), (64, 64), (100, 130), (64, 96), (80, 70)]
COMMAND = [sys.executable, "-W", "error", "-c", "from ssl_data.cli.app import main; main()"]


def configure(images, out, *, edge_stride=1):
    return BuildConfig(
        dataset=str(images),
        out=str(out),
        patch=PatchSpec(patch_size=64, step=32),
        edge=EdgeSpec(edge_stride=edge_stride),
        store=StoreSpec(patches_per_shard=2, chunk_rows=128, lq_scale=4),
    )


def cut(path):
    """The header stays whole: the image keeps its slots."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path):
    """The image loses its slots."""
    path.write_bytes(b"")


def hide(path):
    path.rename(path.with_suffix(".away"))
    path.symlink_to(path.with_name("nowhere"))


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "images", SIZES)


@pytest.fixture
def repair(images):
    """Put back the images of these numbers, as they were."""
    contents = {path.name: path.read_bytes() for path in images.iterdir()}

    def put_back(*numbers):
        for number in numbers:
            name = f"image-{number}.png"
            (images / name).unlink(missing_ok=True)
            (images / name).write_bytes(contents[name])

    return put_back


def tree(root):
    return {path.relative_to(root) for path in Path(root).rglob("*") if path.is_file()}


def assert_equal(left, right):
    assert tree(left) == tree(right)
    assert [path for path in tree(left) if not filecmp.cmp(left / path, right / path, shallow=False)] == []


def assert_as_if_built_from_scratch(images, store):
    scratch = store.with_name("scratch")
    build(configure(images, scratch))
    assert_equal(store, scratch)
    assert verify_store(store, deep=True) == []
    assert not store.with_name("store.ssl-data-retry").exists()
    assert not store.with_name("store.ssl-data-replaced").exists()


class Counting:
    """Which images are decoded, in the place of the function that does it."""

    def __init__(self, monkeypatch):
        from ssl_data.pipeline import job

        self.names = []
        self._decode = job.decode_image
        monkeypatch.setattr(job, "decode_image", self)

    def __call__(self, content, name, **options):
        self.names.append(name)
        return self._decode(content, name, **options)


@pytest.mark.parametrize("damage", [cut, empty, hide])
@pytest.mark.parametrize("number", range(len(SIZES)))
def test_only_the_repaired_image_is_processed(images, repair, tmp_path, monkeypatch, damage, number):
    damage(images / f"image-{number}.png")
    first = build(configure(images, tmp_path / "store"))
    assert len(first.rejected) == 1
    repair(number)
    counting = Counting(monkeypatch)
    report = build(configure(images, tmp_path / "store"), retry_failed=True)
    assert set(counting.names) == {f"image-{number}.png"}
    assert (report.rejected, report.num_sources_used) == ((), 5)
    assert_as_if_built_from_scratch(images, tmp_path / "store")


@pytest.mark.parametrize("seed", range(6))
def test_any_damage_and_any_repair(images, repair, tmp_path, seed):
    random = np.random.default_rng(seed)
    broken = random.permutation(len(SIZES))[: random.integers(1, len(SIZES))]
    for number in broken:
        [cut, empty, hide][random.integers(3)](images / f"image-{number}.png")
    build(configure(images, tmp_path / "store"))
    for number in broken:
        fate = random.integers(4)
        if fate == 0:
            repair(number)
        elif fate == 1:
            (images / f"image-{number}.png").unlink()
        elif fate == 2:
            write_images(tmp_path / "other", [(64 + 32 * seed, 100)], seed=seed)
            (images / f"image-{number}.png").unlink()
            (tmp_path / "other" / "image-0.png").rename(images / f"image-{number}.png")
    report = build(configure(images, tmp_path / "store"), retry_failed=True)
    assert report.num_sources == report.num_sources_used + len(report.rejected)
    assert_as_if_built_from_scratch(images, tmp_path / "store")


def test_ray_workers_copy_too(images, repair, tmp_path):
    empty(images / "image-0.png")
    build(configure(images, tmp_path / "store"))
    repair(0)
    build(configure(images, tmp_path / "store"), executor=RayExecutor(2), retry_failed=True)
    assert_as_if_built_from_scratch(images, tmp_path / "store")


def test_shards_in_front_of_the_repaired_image_are_linked(images, repair, tmp_path):
    empty(images / "image-3.png")
    build(configure(images, tmp_path / "store"))
    inodes = {path: (tmp_path / "store" / path).stat().st_ino for path in tree(tmp_path / "store")}
    repair(3)
    report = build(configure(images, tmp_path / "store"), retry_failed=True)
    same = {path for path in tree(tmp_path / "store") if (tmp_path / "store" / path).stat().st_ino == inodes.get(path)}
    assert {path.as_posix() for path in same if path.parts[0] == "ssg"} == {f"ssg/c/{n}/0" for n in range(7)}
    assert report.num_shards_reused == 7


def test_several_retries_in_one_process(images, repair, tmp_path):
    for number in (0, 2):
        empty(images / f"image-{number}.png")
    build(configure(images, tmp_path / "store"))
    for number in (2, 0):
        repair(number)
        build(configure(images, tmp_path / "store"), retry_failed=True)
    assert_as_if_built_from_scratch(images, tmp_path / "store")


def test_where_nothing_was_repaired_nothing_is_done(images, tmp_path):
    cut(images / "image-1.png")
    first = build(configure(images, tmp_path / "store"))
    again = build(configure(images, tmp_path / "store"), retry_failed=True)
    assert again.nothing_to_do
    assert again.rejected == first.rejected


def test_a_rejected_image_that_was_removed_changes_the_store_though_no_shard(images, tmp_path):
    empty(images / "image-4.png")
    build(configure(images, tmp_path / "store"))
    (images / "image-4.png").unlink()
    report = build(configure(images, tmp_path / "store"), retry_failed=True)
    assert report.num_shards_reused == report.num_shards
    assert not report.nothing_to_do
    assert_as_if_built_from_scratch(images, tmp_path / "store")


def change_good(images, repair):
    write_images(images, [(70, 70)], seed=9)


def add(images, repair):
    write_images(images / "more", [(70, 70)])


def remove_good(images, repair):
    (images / "image-0.png").unlink()


@pytest.mark.parametrize("change", [change_good, add, remove_good])
def test_other_changes_are_refused_and_the_store_is_left_alone(images, repair, tmp_path, change):
    cut(images / "image-1.png")
    build(configure(images, tmp_path / "store"))
    before = {path: (tmp_path / "store" / path).read_bytes() for path in tree(tmp_path / "store")}
    repair(1)
    change(images, repair)
    with pytest.raises(StoreMismatchError, match=r"tries rejected images again, but 1 others were added, changed or"):
        build(configure(images, tmp_path / "store"), retry_failed=True)
    assert before == {path: (tmp_path / "store" / path).read_bytes() for path in tree(tmp_path / "store")}
    assert not (tmp_path / "store.ssl-data-retry").exists()


def test_another_configuration_is_refused(images, repair, tmp_path):
    cut(images / "image-1.png")
    build(configure(images, tmp_path / "store"))
    repair(1)
    with pytest.raises(StoreMismatchError, match="edge.edge_stride: the store has 1, asked for 3"):
        build(configure(images, tmp_path / "store", edge_stride=3), retry_failed=True)


class Stopping(SerialExecutor):
    """Is interrupted after some jobs."""

    def __init__(self, num_jobs):
        super().__init__(1)
        self.num_jobs = num_jobs

    def run(self, function, jobs):
        yield from super().run(function, jobs[: self.num_jobs])
        raise KeyboardInterrupt


def test_without_a_complete_store_there_is_nothing_to_retry(images, tmp_path):
    with pytest.raises(StoreNotFoundError, match="is no store: build it before"):
        build(configure(images, tmp_path / "store"), retry_failed=True)
    with pytest.raises(BuildInterruptedError):
        build(configure(images, tmp_path / "store"), executor=Stopping(2))
    with pytest.raises(StoreError, match="is not complete: finish its build"):
        build(configure(images, tmp_path / "store"), retry_failed=True)


def test_an_interrupted_retry_leaves_the_old_store_and_goes_on(images, repair, tmp_path):
    empty(images / "image-0.png")
    old = build(configure(images, tmp_path / "store"))
    repair(0)
    with pytest.raises(BuildInterruptedError, match="interrupted with 3 of its shards done"):
        build(configure(images, tmp_path / "store"), executor=Stopping(3), retry_failed=True)
    assert open_store(tmp_path / "store").num_patches == old.num_patches
    assert verify_store(tmp_path / "store", deep=True) == []
    report = build(configure(images, tmp_path / "store"), retry_failed=True)
    assert report.num_shards_reused == 3
    assert_as_if_built_from_scratch(images, tmp_path / "store")


def test_an_interrupted_retry_begins_anew_when_more_was_repaired(images, repair, tmp_path):
    for number in (0, 1):
        empty(images / f"image-{number}.png")
    build(configure(images, tmp_path / "store"))
    repair(0)
    with pytest.raises(BuildInterruptedError):
        build(configure(images, tmp_path / "store"), executor=Stopping(3), retry_failed=True)
    repair(1)
    build(configure(images, tmp_path / "store"), retry_failed=True)
    assert_as_if_built_from_scratch(images, tmp_path / "store")


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_retry_that_died_while_replacing_the_store_is_ended_by_the_next_build(images, repair, tmp_path, moment):
    store, beside, replaced = (tmp_path / name for name in ("store", "store.ssl-data-retry", "store.ssl-data-replaced"))
    empty(images / "image-0.png")
    build(configure(images, store))
    repair(0)
    build(configure(images, beside))
    if moment != "before":
        store.rename(replaced)
    if moment == "after":
        beside.rename(store)
        (replaced / "zarr.json").unlink()
    build(configure(images, store), retry_failed=moment == "before")
    assert_as_if_built_from_scratch(images, store)


def test_the_command_line_says_when_to_retry(images, repair, tmp_path):
    def run(*options):
        command = [*COMMAND, "build", "--dataset", images, "--out", tmp_path / "store", "--patch-size", "64", *options]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)

    cut(images / "image-1.png")
    assert run().returncode == 3
    repair(1)
    refused = run()
    assert refused.returncode == 1
    assert "sources: 1 changed (image-1.png)" in refused.stderr
    assert "Only images have changed that were rejected: --retry-failed tries them again" in refused.stderr
    done = run("--retry-failed", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["num_sources_used"] == 5
    assert run().returncode == 0
