"""Whole builds."""

import filecmp
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zarr

from ssl_data import BuildConfig, EdgeSpec, MultiscaleSpec, PatchSpec, StoreSpec, build, open_store, verify_store
from ssl_data.errors import BuildError, BuildInterruptedError, StoreIncompleteError, StoreMismatchError
from ssl_data.pipeline import job, last_image
from ssl_data.pipeline.decode import decode_image
from ssl_data.pipeline.executors import RayExecutor, SerialExecutor
from ssl_data.testing import write_images

SIZES = [(96, 64), (64, 64), (100, 130)]


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "images", SIZES)


def configure(images, out, *, edge_stride=1, **options):
    return BuildConfig(
        dataset=str(images),
        out=str(out),
        patch=PatchSpec(patch_size=64, step=32),
        edge=EdgeSpec(edge_stride=edge_stride),
        store=StoreSpec(patches_per_shard=2, chunk_rows=128),
        **options,
    )


def differing_files(left, right):
    """Relative paths that are not the same in both trees, byte for byte."""
    trees = [{path.relative_to(root) for path in Path(root).rglob("*") if path.is_file()} for root in (left, right)]
    both = trees[0] & trees[1]
    return sorted(
        trees[0] ^ trees[1] | {path for path in both if not filecmp.cmp(left / path, right / path, shallow=False)}
    )


def test_a_report_counts_what_is_in_the_store(images, tmp_path):
    report = build(configure(images, tmp_path / "store"))
    store = open_store(tmp_path / "store")
    assert (report.num_sources, report.num_patches, report.rejected) == (3, 2 + 1 + 12, ())
    assert report.num_patches == store.num_patches
    assert report.num_graphs == store.counts.sum() == report.num_edge_pixels
    assert [store.patch_id(index) for index in (0, 1, 2)] == ["image-0.png:0,0", "image-0.png:32,0", "image-1.png:0,0"]
    assert verify_store(tmp_path / "store", deep=True) == []
    assert not (tmp_path / "store" / ".build").exists()


def test_the_bytes_depend_neither_on_threads_nor_on_where_the_images_lie(images, tmp_path):
    build(configure(images, tmp_path / "a", workers=1))
    moved = shutil.copytree(images, tmp_path / "elsewhere" / "images")
    build(configure(moved, tmp_path / "b"), executor=SerialExecutor(3))
    assert differing_files(tmp_path / "a", tmp_path / "b") == []


def test_a_complete_store_is_left_alone(images, tmp_path):
    first = build(configure(images, tmp_path / "store"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}
    again = build(configure(images, tmp_path / "store"))
    assert not first.nothing_to_do
    assert again.nothing_to_do
    assert (again.num_edge_pixels, again.num_bytes) == (first.num_edge_pixels, first.num_bytes)
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}
    assert {path: when for path, when in after.items() if path != tmp_path / "store"} == {
        path: when for path, when in before.items() if path != tmp_path / "store"
    }


def test_another_configuration_is_refused_with_the_differences(images, tmp_path):
    build(configure(images, tmp_path / "store"))
    (images / "image-1.png").unlink()
    write_images(images, [(80, 80)])
    with pytest.raises(StoreMismatchError) as caught:
        build(configure(images, tmp_path / "store", edge_stride=3))
    assert caught.value.differences == (
        "edge.edge_stride: the store has 1, asked for 3",
        "sources: 1 removed (image-1.png)",
        "sources: 1 changed (image-0.png)",
    )
    assert all(line in str(caught.value) for line in caught.value.differences)


def test_a_place_that_holds_something_else_is_refused(images, tmp_path):
    with pytest.raises(StoreMismatchError, match=r"exists and is not a store \(image-"):
        build(configure(images, images))
    (tmp_path / "other" / "manifest").mkdir(parents=True)
    with pytest.raises(StoreMismatchError, match=r"exists and is not a store \(manifest"):
        build(configure(images, tmp_path / "other"))
    zarr.create_group(tmp_path / "foreign")
    with pytest.raises(StoreMismatchError, match=r"exists and is not a store \(zarr\.json"):
        build(configure(images, tmp_path / "foreign"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreMismatchError, match="is a file"):
        build(configure(images, tmp_path / "file"))


def test_broken_images_are_listed_and_the_rest_goes_on(images, tmp_path):
    clean = build(configure(images, tmp_path / "clean"))
    (images / "a-text.png").write_text("no image")
    content = (images / "image-1.png").read_bytes()
    (images / "a-truncated.png").write_bytes(content[: len(content) // 2])
    write_images(tmp_path / "small", [(40, 200)])
    shutil.copy(tmp_path / "small" / "image-0.png", images / "z-small.png")
    report = build(configure(images, tmp_path / "store"))
    reasons = {image.source: image.reason for image in report.rejected}
    assert reasons["a-text.png"] == "not an image in a supported format"
    assert reasons["a-truncated.png"].startswith("truncated (")
    assert reasons["z-small.png"] == "40x200 is smaller than a patch of 64x64"
    assert len(reasons) == 3
    store, expected = open_store(tmp_path / "store"), open_store(tmp_path / "clean")
    assert report.num_patches == store.num_patches == clean.num_patches
    for index in range(store.num_patches):
        assert store.patch_id(index) == expected.patch_id(index)
        assert (store.read(index)["ssg"] == expected.read(index)["ssg"]).all()
    assert verify_store(tmp_path / "store", deep=True) == []
    again = build(configure(images, tmp_path / "store"))
    assert again.nothing_to_do
    assert again.rejected == report.rejected


def test_the_slots_of_a_broken_image_are_marked_for_plain_readers(images, tmp_path):
    content = (images / "image-0.png").read_bytes()
    (images / "image-0.png").write_bytes(content[: len(content) // 2])
    build(configure(images, tmp_path / "store"))
    group = zarr.open_group(tmp_path / "store", mode="r")
    assert group["start"][:].tolist()[:2] == [-1, -1]
    assert group["count"][:].tolist()[:2] == [0, 0]
    assert (group["start"][2:] >= 0).all()


def test_nothing_usable_is_an_error(tmp_path):
    images = write_images(tmp_path / "images", [(20, 20)])
    with pytest.raises(BuildError, match="none of the 1 images can be used .* use a smaller --patch-size"):
        build(configure(images, tmp_path / "store"))
    assert not (tmp_path / "store").exists()


class Stopping(SerialExecutor):
    """Ends with an error after some jobs."""

    def __init__(self, num_jobs, error):
        super().__init__(1)
        self.num_jobs, self.error = num_jobs, error

    def run(self, function, jobs):
        yield from super().run(function, jobs[: self.num_jobs])
        raise self.error


@pytest.mark.parametrize("num_jobs", [0, 1, 4])
def test_an_interrupted_build_goes_on_and_ends_the_same(images, tmp_path, num_jobs):
    build(configure(images, tmp_path / "undisturbed"))
    with pytest.raises(BuildInterruptedError, match=f"{num_jobs} of its shards done"):
        build(configure(images, tmp_path / "store"), executor=Stopping(num_jobs, KeyboardInterrupt()))
    with pytest.raises(StoreIncompleteError):
        open_store(tmp_path / "store")
    report = build(configure(images, tmp_path / "store"))
    assert report.num_shards_reused == num_jobs
    assert differing_files(tmp_path / "store", tmp_path / "undisturbed") == []


def test_a_shard_that_was_lost_or_cut_is_made_again(images, tmp_path):
    build(configure(images, tmp_path / "undisturbed"))
    build(configure(images, tmp_path / "store"))
    (tmp_path / "store" / "gt" / "c" / "1" / "0" / "0" / "0").unlink()
    cut = tmp_path / "store" / "ssg" / "c" / "3" / "0"
    cut.write_bytes(cut.read_bytes()[:-1])
    report = build(configure(images, tmp_path / "store"))
    assert report.num_shards_reused == 6
    assert differing_files(tmp_path / "store", tmp_path / "undisturbed") == []


def test_a_source_that_changes_during_the_build_stops_it(images, tmp_path):
    def tamper(progress):
        if progress.phase == "build":
            write_images(images, [(64, 64)] * 3, seed=50)

    with pytest.raises(BuildError, match="changed while the store was being built"):
        build(configure(images, tmp_path / "store"), executor=SerialExecutor(1), progress=tamper)


def test_an_image_that_cannot_be_read_any_more_stops_the_build_and_is_no_broken_image(images, tmp_path):
    def hide(progress):
        if progress.phase == "build" and progress.done == 1:
            (images / "image-2.png").rename(tmp_path / "away.png")

    undisturbed = build(configure(images, tmp_path / "undisturbed"))
    with pytest.raises(BuildError, match=r"image-2\.png could be read a moment ago: .*run the build again"):
        build(configure(images, tmp_path / "store"), executor=SerialExecutor(1), progress=hide)
    (tmp_path / "away.png").rename(images / "image-2.png")
    report = build(configure(images, tmp_path / "store"))
    assert (report.num_patches, report.rejected) == (undisturbed.num_patches, ())
    assert differing_files(tmp_path / "store", tmp_path / "undisturbed") == []


@pytest.mark.parametrize(
    "lost", ["count/c/0", "manifest/patches.parquet", "gt/zarr.json", "manifest/shard-00002.parquet"]
)
def test_any_lost_file_is_made_again(images, tmp_path, lost):
    build(configure(images, tmp_path / "undisturbed"))
    build(configure(images, tmp_path / "store"))
    (tmp_path / "store" / lost).unlink()
    build(configure(images, tmp_path / "store"))
    assert differing_files(tmp_path / "store", tmp_path / "undisturbed") == []


def test_a_builder_that_comes_second_to_a_place_finds_out_under_the_lock(images, tmp_path):
    def overtake(progress):
        if progress.phase == "scan" and progress.done == progress.total:
            build(configure(images, tmp_path / "store", edge_stride=3))

    with pytest.raises(StoreMismatchError, match="edge_stride"):
        build(configure(images, tmp_path / "store"), progress=overtake)
    assert verify_store(tmp_path / "store", deep=True) == []


def test_a_complete_store_that_cannot_be_written_has_nothing_to_do(images, tmp_path, monkeypatch):
    build(configure(images, tmp_path / "store"))
    monkeypatch.setattr("ssl_data.store.local_target.LocalTarget.build_lock", None)  # any use of it would be an error
    assert build(configure(images, tmp_path / "store")).nothing_to_do


def test_the_work_folder_of_a_run_that_died_last_of_all_is_removed(images, tmp_path):
    build(configure(images, tmp_path / "store"))
    (tmp_path / "store" / ".build").mkdir()
    build(configure(images, tmp_path / "store"))
    assert not (tmp_path / "store" / ".build").exists()


def test_the_name_of_the_folder_does_not_show(images, tmp_path):
    build(configure(images, tmp_path / "a"))
    build(configure(shutil.copytree(images, tmp_path / "another name"), tmp_path / "b"))
    assert differing_files(tmp_path / "a", tmp_path / "b") == []


def test_an_interrupt_while_the_images_are_scanned(images, tmp_path):
    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(BuildInterruptedError, match="store: interrupted; the same command goes on"):
        build(configure(images, tmp_path / "store"), progress=stop)


def test_a_relative_place_and_ray_workers_in_another_folder(images, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # names a cluster that was not asked for
    monkeypatch.chdir(tmp_path)
    build(configure("images", "store"), executor="ray")
    build(configure(images, tmp_path / "serial"))
    assert differing_files(tmp_path / "store", tmp_path / "serial") == []


def test_the_datasets_own_way_of_cutting_is_used_unless_another_is_asked_for(images, tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text("multiscale: {variant: gan, shortest_edge: 64}\nfolders: [{path: images}]")
    patch = PatchSpec(patch_size=64, step=32)
    build(BuildConfig(dataset=str(own), out=str(tmp_path / "own"), patch=patch))
    assert {patch_id.rsplit(":", 1)[0] for patch_id in ids_of(tmp_path / "own")} == {
        *("images/image-0.png", "images/image-1.png", "images/image-2.png"),
        *("images/image-0.png@S", "images/image-1.png@S", "images/image-2.png@S", "images/image-2.png@T0"),
    }
    build(BuildConfig(dataset=str(own), out=str(tmp_path / "none"), patch=patch, multiscale=MultiscaleSpec()))
    assert not any("@" in patch_id for patch_id in ids_of(tmp_path / "none"))


def ids_of(root):
    store = open_store(root)
    return [store.patch_id(index) for index in range(len(store))]


def test_progress_ends_with_everything_done(images, tmp_path):
    seen = []
    build(configure(images, tmp_path / "store"), progress=seen.append)
    assert [(p.done, p.total) for p in seen if p.phase == "scan"] == [(1, 3), (2, 3), (3, 3)]
    assert [(p.done, p.total) for p in seen if p.phase == "build"] == [(n, 8) for n in range(1, 9)]
    assert seen[-1].num_patches == 15


BUILDER = """
import sys
from ssl_data import BuildConfig, PatchSpec, StoreSpec, build
spec = dict(patch=PatchSpec(patch_size=64, step=32), store=StoreSpec(patches_per_shard=2, chunk_rows=128))
config = BuildConfig(dataset=sys.argv[1], out=sys.argv[2], workers=1, **spec)
build(config, progress=lambda progress: print(progress.phase, progress.done, flush=True))
"""


@pytest.mark.parametrize("kill_after", ["scan 3", "build 1", "build 5"])
def test_a_killed_build_resumes_to_the_same_bytes(images, tmp_path, kill_after):
    build(configure(images, tmp_path / "undisturbed"))
    store = tmp_path / "store"
    command = [sys.executable, "-c", BUILDER, str(images), str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == kill_after:
                time.sleep(0.01)
                process.kill()
    report = build(configure(images, store))
    assert report.num_patches == 15
    assert differing_files(store, tmp_path / "undisturbed") == []


def write_listing(path, folders):
    """A dataset file that lists every file by name, in this order."""
    entries = [
        {"name": folder.name, "path": str(folder), "files": [file.name for file in files]} for folder, files in folders
    ]
    path.write_text(json.dumps({"name": "listed", "folders": entries}))  # JSON is YAML
    return path


@pytest.mark.timeout(900)
def test_serial_ray_and_reordered_builds_are_the_same_bytes(shared_images, tmp_path):
    names = ("bench-small", "df2k-like", "div8k-like", "photo-small-permissive")
    folders = [(shared_images / name, sorted((shared_images / name).iterdir())) for name in names]
    forwards = write_listing(tmp_path / "forwards.yaml", folders)
    backwards = write_listing(tmp_path / "backwards.yaml", [(folder, files[::-1]) for folder, files in folders[::-1]])

    def run(dataset, out, executor):
        config = BuildConfig(
            dataset=str(dataset),
            out=str(out),
            patch=PatchSpec(patch_size=256, step=256),
            edge=EdgeSpec(edge_stride=3),
        )
        return build(config, executor=executor)

    serial = run(forwards, tmp_path / "serial", SerialExecutor(1))
    assert serial.rejected == ()
    assert serial.num_sources == 24
    run(forwards, tmp_path / "ray", RayExecutor(2))
    assert differing_files(tmp_path / "serial", tmp_path / "ray") == []
    run(backwards, tmp_path / "reordered", RayExecutor(2))
    assert differing_files(tmp_path / "serial", tmp_path / "reordered") == []


def test_an_image_that_fills_several_shards_is_decoded_once(tmp_path, monkeypatch):
    decoded = []

    def count(content, name, **options):
        decoded.append(name)
        return decode_image(content, name, **options)

    monkeypatch.setattr(job, "decode_image", count)
    images = write_images(tmp_path / "images", [(200, 200), (64, 64), (200, 136)])
    report = build(configure(images, tmp_path / "store"), executor=SerialExecutor(1))
    assert report.num_shards > 10
    assert sorted(decoded) == [f"image-{number}.png" for number in range(3)]
    assert not last_image._last


def test_progress_adds_up_what_has_been_made(tmp_path):
    images = write_images(tmp_path / "images", [(200, 200)])
    seen = []
    report = build(configure(images, tmp_path / "store"), executor=SerialExecutor(1), progress=seen.append)
    made = [step for step in seen if step.phase == "build"]
    assert [step.done for step in made] == list(range(1, report.num_shards + 1))
    assert (made[-1].num_patches, made[-1].num_graphs) == (report.num_patches, report.num_graphs)
    assert made[-1].num_bytes == report.num_bytes > made[0].num_bytes > 0
