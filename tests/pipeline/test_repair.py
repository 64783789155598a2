"""Damage of every kind is found where it is, and repaired to the same bytes."""

import random
import shutil
import subprocess

import pytest

from ssl_data import open_store, verify_store
from ssl_data.errors import (
    BuildInterruptedError,
    StoreCorruptError,
    StoreError,
    StoreIncompleteError,
    StoreLockedError,
    StoreMismatchError,
    StoreNotFoundError,
)
from ssl_data.pipeline.executors import SerialExecutor
from ssl_data.pipeline.repair import RepairSources, repair_store
from ssl_data.store.layout import shard_of
from ssl_data.store.lock import build_lock
from ssl_data.testing import tiny_store, write_images


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A store with a rejected image, and its images beside it; to be read only."""
    folder = tmp_path_factory.mktemp("repair")
    (folder / "images").mkdir()
    (folder / "images" / "text.png").write_text("no image")
    return tiny_store(folder, sizes=((96, 128), (64, 64), (80, 70)), lq_scale=4).root


@pytest.fixture
def copy(original, tmp_path):
    return shutil.copytree(original, tmp_path / "store.zarr")


@pytest.fixture
def sources(original):
    return RepairSources(dataset=str(original.parent / "images"))


def same_trees(left, right):
    done = subprocess.run(["diff", "-r", left, right], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr == ""


def flip(draw, path, _):
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    return [path]


def truncate(draw, path, _):
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])
    return [path]


def delete(draw, path, _):
    path.unlink()
    return [path]


def swap(draw, path, files):
    other = draw.choice([file for file in files if file.read_bytes() != path.read_bytes()])
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)
    return [path, other]


def found_by_verifying(root):
    try:
        return {(problem.where, problem.shard) for problem in verify_store(root)}
    except StoreIncompleteError:  # without its root metadata, a store is as if its build had not ended
        return {("zarr.json", None)}


def damage_and_repair(seed, original, root, sources):
    """One trial: damage as `seed` draws it; what verification says must be right, and repair must restore the bytes."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    files = sorted(path for path in root.rglob("*") if path.is_file())
    harm = (flip, truncate, delete, swap)[seed % 4]
    names = {str(path.relative_to(root)) for path in harm(draw, draw.choice(files), files)}
    expected = {(name, shard_of(name)) for name in names}
    found = found_by_verifying(root)
    if "zarr.json" in names and len(names) == 2 and ("zarr.json", None) in found:
        expected &= found | {("zarr.json", None)}  # without it, hashes of the others may be gone, too
    assert found == expected, (seed, harm.__name__)
    report = repair_store(root, sources)
    assert set(report.shards) == {shard for _, shard in expected if shard is not None}, (seed, harm.__name__)
    assert same_trees(original, root), (seed, harm.__name__)


@pytest.mark.parametrize("block", [pytest.param(range(28)), pytest.param(range(28, 228), marks=pytest.mark.slow)])
def test_random_damage_is_named_rightly_and_repaired(block, original, copy, sources):
    for seed in block:
        damage_and_repair(seed, original, copy, sources)


def test_several_damages_at_once(original, copy, sources):
    (copy / "gt" / "c" / "1" / "0" / "0" / "0").unlink()
    (copy / "manifest" / "shard-00003.parquet").write_bytes(b"")
    (copy / "manifest" / "files.parquet").unlink()
    (copy / "zarr.json").write_text("{")
    (copy / "count" / "zarr.json").write_text("{}")
    report = repair_store(copy, sources)
    assert report.shards == (1, 3)
    assert same_trees(original, copy)


@pytest.mark.parametrize(
    "lost",
    [
        ["zarr.json"],
        ["manifest/plan.json"],
        ["manifest/files.parquet", "manifest/patches.parquet", "manifest/rejected.parquet"],
        ["start/zarr.json", "count/c/0", "ssg/zarr.json"],
    ],
)
def test_tables_and_metadata_are_restored_without_the_images(original, copy, lost):
    for name in lost:
        (copy / name).unlink()
    assert repair_store(copy).shards == ()
    assert same_trees(original, copy)


def test_what_does_not_belong_is_removed(original, copy):
    (copy / "gt" / "c" / "99" / "0").mkdir(parents=True)
    (copy / "gt" / "c" / "99" / "0" / "0").write_bytes(b"x")
    (copy / "empty" / "empty").mkdir(parents=True)
    (copy / "link").symlink_to(original)
    assert repair_store(copy).removed == ("empty/empty", "gt/c/99/0/0", "link")
    assert same_trees(original, copy)
    assert original.exists()


def test_nothing_to_repair(original, copy):
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    report = repair_store(copy)
    assert (report.nothing_to_do, report.problems, report.shards) == (True, (), ())
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


def test_without_the_images_a_shard_is_not_repaired_and_nothing_is_changed(original, copy):
    (copy / "ssg" / "c" / "2" / "0").unlink()
    with pytest.raises(StoreError, match=r"shard 2 must be made anew .* --dataset"):
        repair_store(copy)
    assert not (copy / ".build").exists()
    (problem,) = verify_store(copy)
    assert problem.where == "ssg/c/2/0"


def test_images_that_have_changed_are_refused_by_name_and_nothing_is_changed(original, copy, tmp_path):
    images = shutil.copytree(original.parent / "images", tmp_path / "images")
    write_images(images, [(96, 128)], seed=7)
    (images / "image-1.png").unlink()
    (copy / "ssg" / "c" / "2" / "0").unlink()
    with pytest.raises(StoreMismatchError, match=r"not those that the store was made from") as caught:
        repair_store(copy, RepairSources(dataset=str(images)))
    assert caught.value.differences == ("sources: 1 changed (image-0.png)",)
    assert [problem.where for problem in verify_store(copy)] == ["ssg/c/2/0"]
    (copy / "manifest" / "sources.parquet").unlink()
    with pytest.raises(StoreMismatchError, match=r"sources\.parquet is damaged"):
        repair_store(copy, RepairSources(dataset=str(images)))


def test_only_the_images_of_the_broken_shards_are_needed(original, copy, tmp_path):
    images = shutil.copytree(original.parent / "images", tmp_path / "images")
    for name in ("image-1.png", "text.png"):
        (images / name).unlink()
    write_images(tmp_path / "others", [(70, 90)] * 3, seed=9)
    shutil.copy(tmp_path / "others" / "image-2.png", images)
    (images / "another.png").write_text("new")
    (copy / "ssg" / "c" / "2" / "0").unlink()
    seen = []
    assert repair_store(copy, RepairSources(dataset=str(images)), progress=seen.append).shards == (2,)
    assert [(at.done, at.total) for at in seen if at.phase == "scan"] == [(1, 1)]
    assert same_trees(original, copy)
    (copy / "ssg" / "c" / "3" / "0").unlink()
    with pytest.raises(StoreMismatchError) as caught:
        repair_store(copy, RepairSources(dataset=str(images)))
    assert caught.value.differences[-1].startswith("sources: 1 ")


def test_a_repair_that_is_interrupted_goes_on(original, copy, sources):
    class Stopping(SerialExecutor):
        def run(self, function, jobs):
            yield from super().run(function, jobs[:1])
            raise KeyboardInterrupt

    for shard in (0, 2):
        (copy / "gt" / "c" / str(shard) / "0" / "0" / "0").unlink()
    with pytest.raises(BuildInterruptedError, match="the same command goes on"):
        repair_store(copy, sources, executor=Stopping(1))
    with pytest.raises(StoreIncompleteError):
        open_store(copy)
    assert repair_store(copy, sources).shards == (2,)
    assert same_trees(original, copy)


def test_what_cannot_be_repaired(original, copy, tmp_path):
    for name in ("zarr.json", "manifest/plan.json"):
        (copy / name).write_text("{}")
    with pytest.raises(StoreCorruptError, match="remove both and run the same `ssl-data build` again"):
        repair_store(copy)
    with pytest.raises(StoreNotFoundError, match="not even a damaged one"):
        repair_store(tmp_path)


def test_a_store_under_construction_is_left_alone(copy):
    (copy / "zarr.json").unlink()
    with build_lock(copy), pytest.raises(StoreLockedError):
        repair_store(copy)
