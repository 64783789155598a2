"""Who may write to a store: one builder, or several parts, each once."""

import contextlib
import subprocess
import sys

import pytest

from ssl_data.errors import StoreError, StoreLockedError
from ssl_data.store.lock import build_lock, current_holders, part_lock

HOLDER = """
import sys, time
from pathlib import Path
from ssl_data.store.lock import build_lock, part_lock
root, *part = sys.argv[1:]
lock = part_lock(Path(root), *map(int, part)) if part else build_lock(Path(root))
with lock:
    print("held", flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def holder(root, *part):
    """Another process that builds a store, or makes a part of it; killed at the end."""
    command = [sys.executable, "-c", HOLDER, str(root), *map(str, part)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_second_builder_is_told_who_holds_the_store_since_when_until_the_first_dies(tmp_path):
    with holder(tmp_path / "store") as first:
        message = rf"being built by process {first.pid} on \S+ \(build, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00\)"
        with pytest.raises(StoreLockedError, match=message), build_lock(tmp_path / "store"):
            pass
        with pytest.raises(StoreLockedError, match=message), part_lock(tmp_path / "store", 0, 2):
            pass
    with build_lock(tmp_path / "store"):
        pass


def test_parts_run_beside_each_other_but_each_once(tmp_path):
    with holder(tmp_path, 0, 3) as first, holder(tmp_path, 1, 3) as second:
        assert [(held.pid, held.role) for held in current_holders(tmp_path)] == [
            (first.pid, "part 0/3"),
            (second.pid, "part 1/3"),
        ]
        with part_lock(tmp_path, 2, 3) as folder:
            assert folder.parent == tmp_path / ".build"
        with pytest.raises(StoreLockedError, match=rf"process {second.pid} .*part 1/3"), part_lock(tmp_path, 1, 3):
            pass
        with pytest.raises(StoreLockedError, match=rf"process {first.pid} .* and process {second.pid} "):
            build_lock(tmp_path).__enter__()
    with part_lock(tmp_path, 1, 3), part_lock(tmp_path, 0, 3):
        pass
    assert current_holders(tmp_path) == []


def test_parts_of_two_divisions_would_have_shards_in_common(tmp_path):
    with holder(tmp_path, 0, 3) as first, pytest.raises(StoreLockedError, match=rf"{first.pid} .*part 0/3"):
        part_lock(tmp_path, 1, 2).__enter__()
    with part_lock(tmp_path, 1, 2):
        pass


def test_a_file_system_without_locks_is_an_error(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(StoreError, match=r"lock cannot be locked \(No locks available\).*mount it with locks"):
        build_lock(tmp_path).__enter__()
