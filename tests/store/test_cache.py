"""Pieces of remote objects on the local disk."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import time
import warnings

import pytest

from ssl_data.store.cache import PieceCache

PIECE_BYTES = 1000
LIMIT_BYTES = 20_000


def key(number):
    return hashlib.sha256(str(number).encode()).hexdigest()


def piece(number):
    return number.to_bytes(4, "little") * (PIECE_BYTES // 4)


def pieces_of(folder):
    return [path for path in (folder / "pieces").rglob("*") if path.is_file()]


def disk_bytes(folder):
    return sum(path.stat().st_size for path in pieces_of(folder))


@pytest.fixture
def cache(tmp_path):
    return PieceCache(tmp_path / "cache", LIMIT_BYTES)


def test_what_was_put_is_found(cache):
    assert cache.get(key(1), PIECE_BYTES) is None
    cache.put(key(1), piece(1))
    assert cache.get(key(1), PIECE_BYTES) == piece(1)
    assert cache.get(key(2), PIECE_BYTES) is None


def test_others_cannot_look_inside(cache):
    cache.put(key(1), piece(1))
    assert cache.folder.stat().st_mode & 0o777 == 0o700


def test_a_dropped_piece_is_gone(cache):
    cache.put(key(1), piece(1))
    cache.drop(key(1))
    assert cache.get(key(1), PIECE_BYTES) is None


@pytest.mark.parametrize("damage", ["altered", "checksum", "truncated", "empty", "longer"])
def test_a_damaged_piece_is_dropped(cache, damage):
    cache.put(key(1), piece(1))
    (path,) = pieces_of(cache.folder)
    content = bytearray(path.read_bytes())
    if damage == "altered":
        content[17] ^= 1
    elif damage == "checksum":
        content[-1] ^= 1
    path.write_bytes({"truncated": content[:-9], "empty": b"", "longer": content + b"x"}.get(damage, bytes(content)))
    assert cache.get(key(1), PIECE_BYTES) is None
    assert not path.exists()


def test_the_limit_is_kept_and_the_least_recently_used_go_first(cache):
    for number in range(10):
        cache.put(key(number), piece(number))
    old = time.time() - 1000
    for age, number in enumerate([*range(5, 10), *range(5)]):  # 0 .. 4 were used after 5 .. 9
        path = cache._path(key(number))
        os.utime(path, (old + age, old + age))
    cache.get(key(5), PIECE_BYTES)  # and 5 just now
    for number in range(10, 60):
        cache.put(key(number), piece(number))
        assert disk_bytes(cache.folder) <= LIMIT_BYTES
        if number == 19:  # the limit was met once, and a tenth made free
            present = [n for n in range(10) if cache.get(key(n), PIECE_BYTES) is not None]
            assert present == [0, 1, 2, 3, 4, 5, 9]
    assert disk_bytes(cache.folder) > LIMIT_BYTES / 2
    assert cache.get(key(59), PIECE_BYTES) == piece(59)


def test_a_piece_above_the_limit_is_not_kept(cache):
    cache.put(key(1), bytes(LIMIT_BYTES))
    assert not cache.folder.exists()


def test_what_was_there_before_counts_although_the_sum_is_lost(cache):
    for number in range(15):
        cache.put(key(number), piece(number))
    for content in (b"", b"nonsense"):
        (cache.folder / "usage").write_bytes(content)
        for number in range(100, 110):
            cache.put(key((content, number)), piece(number))
        assert disk_bytes(cache.folder) <= LIMIT_BYTES


def test_unfinished_files_of_dead_processes_are_removed(cache):
    cache.put(key(0), piece(0))
    abandoned = cache.folder / "unfinished" / "abandoned"
    abandoned.write_bytes(bytes(5000))
    os.utime(abandoned, (1, 1))
    for number in range(1, 40):
        cache.put(key(number), piece(number))
    assert list((cache.folder / "unfinished").iterdir()) == []


def test_a_folder_that_vanishes_is_made_anew(cache):
    cache.put(key(1), piece(1))
    shutil.rmtree(cache.folder)
    assert cache.get(key(1), PIECE_BYTES) is None
    cache.put(key(1), piece(1))
    assert cache.get(key(1), PIECE_BYTES) == piece(1)


def test_a_place_that_cannot_be_written_is_said_once(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = PieceCache(tmp_path / "file", LIMIT_BYTES)
    with pytest.warns(RuntimeWarning, match=r"the cache in .*file fails \(.*SSL_DATA_CACHE_DIR"):
        assert cache.get(key(1), PIECE_BYTES) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put(key(1), piece(1))


def test_a_full_disk_is_said_once_and_leaves_nothing(cache, monkeypatch):
    def full(content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ssl_data.store.cache.crc32c", full)
    with pytest.warns(RuntimeWarning, match="No space left"):
        cache.put(key(1), piece(1))
    cache.put(key(2), piece(2))
    assert list((cache.folder / "unfinished").iterdir()) == []


FILLER = """
import hashlib, sys
from pathlib import Path
from ssl_data.store.cache import PieceCache
folder, seed = Path(sys.argv[1]), int(sys.argv[2])
cache = PieceCache(folder, 20_000)
for step in range(300):
    number = (seed * 7 + step * 13) % 60
    key, piece = hashlib.sha256(str(number).encode()).hexdigest(), number.to_bytes(4, "little") * 250
    found = cache.get(key, len(piece))
    assert found is None or found == piece, number
    if found is None:
        cache.put(key, piece)
    with cache._usage():  # without the lock, files that come and go while the folders are listed are counted both
        assert len(list((folder / "pieces").glob("*/*"))) * 1004 <= 20_000
"""


def test_several_processes_fill_and_evict_at_once(tmp_path):
    arguments = [sys.executable, "-W", "error", "-c", FILLER, str(tmp_path / "cache")]
    fillers = [subprocess.Popen([*arguments, str(seed)]) for seed in range(3)]
    assert [filler.wait(60) for filler in fillers] == [0, 0, 0]
    usage = int((tmp_path / "cache" / "usage").read_text())
    assert disk_bytes(tmp_path / "cache") <= usage <= LIMIT_BYTES


WRITER = """
import hashlib, sys
from pathlib import Path
from ssl_data.store.cache import PieceCache
cache = PieceCache(Path(sys.argv[1]), 20_000)
number = 0
print("ready", flush=True)
while True:
    number = (number + 1) % 60
    cache.put(hashlib.sha256(str(number).encode()).hexdigest(), number.to_bytes(4, "little") * 250)
"""


def test_after_a_kill_at_any_moment_the_cache_is_right_and_bounded(tmp_path):
    folder = tmp_path / "cache"
    for trial in range(4):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(0.01 + 0.017 * trial)
            writer.kill()
    cache = PieceCache(folder, LIMIT_BYTES)
    for number in range(60):
        found = cache.get(key(number), PIECE_BYTES)
        assert found is None or found == piece(number)
        cache.put(key(number), piece(number))
        assert disk_bytes(folder) <= LIMIT_BYTES


def test_a_piece_is_served_whose_time_of_use_cannot_be_noted(tmp_path, monkeypatch):
    cache = PieceCache(tmp_path, 1 << 20)
    cache.put("a" * 40, b"content")
    for path in tmp_path.rglob("*"):
        os.utime(path, (1, 1))

    def refuse(*_args):
        raise PermissionError("read-only")

    monkeypatch.setattr(os, "utime", refuse)
    assert bytes(cache.get("a" * 40, 7)) == b"content"
