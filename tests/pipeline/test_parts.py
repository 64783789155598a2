"""Builds divided into parts."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssl_data import BuildConfig, EdgeSpec, PatchSpec, StoreSpec, build, verify_store
from ssl_data.errors import (
    BuildInterruptedError,
    ConfigError,
    StoreIncompleteError,
    StoreLockedError,
    StoreMismatchError,
    StoreNotFoundError,
)
from ssl_data.pipeline.executors import RayExecutor, SerialExecutor
from ssl_data.pipeline.parts import Part, build_part, finalize
from ssl_data.store.lock import build_lock, part_lock
from ssl_data.testing import write_images

SIZES = [(96, 64), (64, 64), (100, 130)]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("parts") / "images", SIZES)


def configure(images, out, *, edge_stride=1, **options):
    return BuildConfig(
        dataset=str(images),
        out=str(out),
        patch=PatchSpec(patch_size=64, step=32),
        edge=EdgeSpec(edge_stride=edge_stride),
        store=StoreSpec(patches_per_shard=2, chunk_rows=128),
        **options,
    )


@pytest.fixture(scope="module")
def whole(images):
    """The same store, built in one go: 8 shards."""
    build(configure(images, images.parent / "whole"))
    return images.parent / "whole"


def part(index, num_parts):
    return Part(index=index, num_parts=num_parts)


def same_trees(left, right):
    done = subprocess.run(["diff", "-r", left, right], capture_output=True, text=True, check=False)
    return done.stdout == "" and done.returncode == 0


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.integers(1, 6).flatmap(lambda num_parts: st.permutations(range(num_parts))))
def test_any_number_of_parts_in_any_order_gives_the_same_bytes(order, images, whole, tmp_path):
    shutil.rmtree(tmp_path / "store", ignore_errors=True)
    reports = [build_part(configure(images, tmp_path / "store"), part(index, len(order))) for index in order]
    assert sum(report.num_shards for report in reports) == 8
    assert sum(report.num_patches for report in reports) == 15
    assert [report.num_shards_missing for report in reports][-1] == 0
    report = finalize(str(tmp_path / "store"))
    assert (report.num_patches, report.num_shards_reused, report.nothing_to_do) == (15, 8, False)
    assert same_trees(tmp_path / "store", whole)


PART_BUILDER = """
import sys, time
from ssl_data import BuildConfig, PatchSpec, StoreSpec
from ssl_data.pipeline.parts import Part, build_part

def progress(at):
    print(at.phase, at.done, flush=True)
    if at.phase == "build" and "pause" in sys.argv:
        time.sleep(60)

spec = dict(patch=PatchSpec(patch_size=64, step=32), store=StoreSpec(patches_per_shard=2, chunk_rows=128))
config = BuildConfig(dataset=sys.argv[1], out=sys.argv[2], workers=1, **spec)
build_part(config, Part.parse(sys.argv[3]), progress=progress)
"""


def start(images, store, name, *options):
    command = [sys.executable, "-c", PART_BUILDER, str(images), str(store), name, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_five_processes_two_of_them_killed_and_restarted_give_the_same_bytes(images, whole, tmp_path):
    store = tmp_path / "store"
    victims = (0, 2)  # these have two shards each
    processes = [start(images, store, f"{index}/5", *["pause"] * (index in victims)) for index in range(5)]
    for index in victims:
        while processes[index].stdout.readline().strip() != "build 1":
            assert processes[index].poll() is None
        processes[index].kill()
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [-9, 0, -9, 0, 0]
    with pytest.raises(StoreIncompleteError, match=r"2 of 8 shards are missing: 5, 7; run part 0/5, 2/5 again"):
        finalize(str(store))
    again = [start(images, store, name) for name in ("0/5", "2/5")]
    for process in again:
        process.communicate(timeout=60)
        assert process.returncode == 0
    finalize(str(store))
    assert same_trees(store, whole)
    assert verify_store(store, deep=True) == []


def test_completing_too_early_lists_what_is_missing_and_changes_nothing(images, whole, tmp_path):
    build_part(configure(images, tmp_path / "store"), part(1, 3))
    with pytest.raises(
        StoreIncompleteError, match=r"5 of 8 shards are missing: 0, 2, 3, 5, 6; run part 0/3, 2/3 again"
    ):
        finalize(str(tmp_path / "store"))
    with pytest.raises(StoreNotFoundError, match="is no store"):
        finalize(str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()
    report = build_part(configure(images, tmp_path / "store"), part(1, 3))
    assert (report.num_shards_reused, report.num_shards, report.nothing_to_do) == (3, 3, True)


def test_completing_twice_has_nothing_to_do(images, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "store")
    assert finalize(str(tmp_path / "store")).nothing_to_do
    report = build_part(configure(images, tmp_path / "store"), part(0, 2))
    assert (report.nothing_to_do, report.num_shards_missing) == (True, 0)
    assert same_trees(tmp_path / "store", whole)


def test_a_part_and_an_ordinary_build_go_on_with_each_other_s_work(images, whole, tmp_path):
    build_part(configure(images, tmp_path / "store"), part(0, 2))
    report = build(configure(images, tmp_path / "store"))
    assert report.num_shards_reused == 4
    assert same_trees(tmp_path / "store", whole)
    for name in ("gt/c/3/0/0/0", "manifest/patches.parquet"):
        (tmp_path / "store" / name).unlink()
    build_part(configure(images, tmp_path / "store"), part(1, 2))
    finalize(str(tmp_path / "store"))
    assert same_trees(tmp_path / "store", whole)


def test_a_part_with_another_plan_is_refused_with_the_differences(images, tmp_path):
    build_part(configure(images, tmp_path / "store"), part(0, 2))
    with pytest.raises(StoreMismatchError, match="edge_stride: the store has 1, asked for 3"):
        build_part(configure(images, tmp_path / "store", edge_stride=3), part(1, 2))


def test_of_two_plans_that_arrive_together_one_is_refused_under_the_lock(images, tmp_path):
    def overtake(progress):
        if progress.phase == "scan" and progress.done == progress.total:
            build_part(configure(images, tmp_path / "store", edge_stride=3), part(0, 2))

    with pytest.raises(StoreMismatchError, match="edge_stride: the store has 3, asked for 1"):
        build_part(configure(images, tmp_path / "store"), part(1, 2), progress=overtake)


def test_whoever_would_be_in_the_way_of_a_part_is_refused(images, tmp_path):
    config = configure(images, tmp_path / "store")
    build_part(config, part(0, 3))
    with part_lock(tmp_path / "store", 1, 3):
        with pytest.raises(StoreLockedError, match="part 1/3, since "):
            build_part(config, part(1, 3))
        with pytest.raises(StoreLockedError, match="part 1/3, since "):
            build_part(config, part(0, 2))
        with pytest.raises(StoreLockedError, match="part 1/3, since "):
            build(config)
        with pytest.raises(StoreLockedError, match="part 1/3, since "):
            finalize(config.out)
        build_part(config, part(2, 3))
    with build_lock(tmp_path / "store"), pytest.raises(StoreLockedError, match="build, since "):
        build_part(config, part(1, 3))


def test_an_interrupted_part_leaves_nothing_unfinished(images, tmp_path):
    class Stopping(SerialExecutor):
        def run(self, function, jobs):
            yield from super().run(function, jobs[:1])
            raise KeyboardInterrupt

    with pytest.raises(BuildInterruptedError, match="part 1/2 was interrupted; the same command goes on"):
        build_part(configure(images, tmp_path / "store"), part(1, 2), executor=Stopping(1))
    folder = tmp_path / "store" / ".build" / "part-1-of-2"
    assert [entry.name for entry in folder.iterdir()] == ["lock"]
    assert build_part(configure(images, tmp_path / "store"), part(1, 2)).num_shards_reused == 1


def test_parts_with_ray_workers(images, whole, tmp_path):
    build_part(configure(images, tmp_path / "store"), part(0, 2), executor=RayExecutor(2))
    build_part(configure(images, tmp_path / "store"), part(1, 2))
    finalize(str(tmp_path / "store"))
    assert same_trees(tmp_path / "store", whole)


def test_more_parts_than_shards(images, tmp_path):
    report = build_part(configure(images, tmp_path / "store"), part(9, 10))
    assert (report.num_shards, report.num_patches, report.num_shards_missing) == (0, 0, 8)


@pytest.mark.parametrize("text", ["5/5", "1/0", "-1/5", "1", "1/2/3", "a/b", ""])
def test_what_is_no_part(text):
    with pytest.raises(ConfigError):
        Part.parse(text)


def test_images_found_broken_are_reported_by_the_parts_and_by_the_end(tmp_path):
    images = write_images(tmp_path / "images", SIZES)
    (images / "a-text.png").write_text("no image")
    content = Path(images / "image-2.png").read_bytes()
    (images / "image-2.png").write_bytes(content[: len(content) // 2])
    found = [build_part(configure(images, tmp_path / "store"), part(index, 2)).rejected for index in range(2)]
    assert {image.source for image in found[0]} == {"a-text.png", "image-2.png"}
    report = finalize(str(tmp_path / "store"))
    assert report.rejected == build(configure(images, tmp_path / "whole")).rejected
    assert report.num_sources == 4
    assert same_trees(tmp_path / "store", tmp_path / "whole")
