"""Disks that are full, forbidden or gone: a clear word, exit code 1, and the same store once they are there again."""

import shutil
import subprocess
import time

import pytest


class Disk:
    """A file system in memory, of a size that can be changed."""

    def __init__(self, place, *options):
        self.place = place
        place.mkdir()
        self._mount("-t", "tmpfs", "-o", ",".join(["size=1g", *options]), "none")

    def _mount(self, *arguments):
        done = subprocess.run(["mount", *arguments, self.place], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"this machine does not let us mount a file system: {done.stderr.strip()}")

    def change(self, options):
        self._mount("-o", f"remount,{options}")

    def close(self):
        subprocess.run(["umount", "--lazy", self.place], capture_output=True, check=False)


@pytest.fixture
def disk(tmp_path):
    opened = Disk(tmp_path / "disk")
    yield opened
    opened.close()


def unfinished(store):
    """Names in the work folder of what may stay there, and of what may not."""
    return {path.name for path in store.glob(".build/*")} - {"lock", "progress.json"}


def size_of(store):
    """What its files take, in pages of memory."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in store.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("executor", "workers", "shares"),
    [
        ("serial", 1, (0.0, 0.01, 0.5, 0.97)),
        pytest.param("serial", 2, [percent / 100 for percent in range(0, 100, 4)], marks=pytest.mark.slow),
        pytest.param("ray", 2, (0.2, 0.4, 0.6, 0.8, 0.97), marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_ends_a_build_that_goes_on_when_there_is_room(executor, workers, shares, builds, undisturbed, disk):
    images, expected = undisturbed
    store, needed = disk.place / "store", size_of(expected)
    options = ("--executor", executor, "--workers", workers, "--retries", "0")
    num_shards = []
    for share in shares:
        disk.change(f"size={max(int(share * needed), 4096)}")
        code, errors = builds.run(images, store, *options)
        assert code == 1, (share, errors)
        assert "Traceback" not in errors
        (line,) = [line for line in errors.splitlines() if line.startswith("ssl-data: error:")]
        assert f"{store}" in line, share
        assert "No space left on device (the disk is full: make room, and the same command goes on)" in line, share
        assert unfinished(store) == set(), share
        num_shards.append(len(builds.committed(store)))
    assert num_shards == sorted(num_shards)
    assert num_shards[-1] > 0
    disk.change("size=1g")
    code, errors = builds.run(images, store, *options)
    assert code == 0, errors
    assert builds.differences(expected, store) == ""


def test_a_build_may_not_write_files_of_the_size_that_it_needs(builds, undisturbed, tmp_path):
    images, expected = undisturbed
    store = tmp_path / "store"
    code, errors = builds.run(images, store, "--retries", "0", prefix=["prlimit", "--fsize=60000"])
    assert code == 1
    assert f"{store}: File too large (files may not become that large there (ulimit -f" in errors
    assert unfinished(store) == set()
    assert builds.run(images, store)[0] == 0
    assert builds.differences(expected, store) == ""


@pytest.mark.parametrize("after", ["nothing", "some shards"])
def test_a_target_that_is_mounted_for_reading_only(after, builds, undisturbed, disk):
    images, expected = undisturbed
    store = disk.place / "store"
    if after == "some shards":
        build = with_some_shards(builds, images, store)
        build.kill()
        build.wait()
    disk.change("ro")
    code, errors = builds.run(images, store)
    assert code == 1
    assert f"{store}" in errors
    assert "Read-only file system (it is mounted for reading only: mount it for writing" in errors
    disk.change("rw")
    assert builds.run(images, store)[0] == 0
    assert builds.differences(expected, store) == ""
    disk.change("ro")
    assert builds.run(images, store)[0] == 0  # complete: nothing to do


def test_images_that_vanish_during_the_build(builds, undisturbed, tmp_path):
    photographs, expected = undisturbed
    images, store = shutil.copytree(photographs, tmp_path / "images"), tmp_path / "store"
    build = with_some_shards(builds, images, store, stderr=subprocess.PIPE, text=True)
    images.rename(tmp_path / "away")
    _, errors = build.communicate(timeout=builds.ends_within_seconds)
    assert build.returncode == 1
    assert "could be read a moment ago: cannot be read (No such file or directory); run the build again" in errors
    assert unfinished(store) == set()
    code, errors = builds.run(images, store)
    assert code == 1
    assert f"{images}" in errors
    (tmp_path / "away").rename(images)
    assert builds.run(images, store)[0] == 0
    assert builds.differences(expected, store) == ""


def with_some_shards(builds, images, store, **streams):
    """A build that has committed its first shards, and goes on."""
    build = builds.start(images, store, "--workers", "1", "--retries", "0", **streams)
    while len(builds.committed(store)) < 3:
        assert build.poll() is None
        time.sleep(0.01)
    return build
