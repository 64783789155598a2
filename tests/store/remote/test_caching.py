"""The cache before a remote store: damage, failure and sharing never change what is read."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from ssl_data import open_store
from ssl_data.errors import StoreCorruptError
from ssl_data.store import cached
from ssl_data.store.cache import PieceCache
from ssl_data.store.cached import CachedFile


def read_everything(store):
    return [store.read(index) for index in range(store.num_patches)]


def assert_right(remote, store):
    for found, expected in zip(read_everything(remote), read_everything(store), strict=True):
        assert all(np.array_equal(found[name], value) for name, value in expected.items())


def pieces_of(tmp_path):
    return [path for path in (tmp_path / "cache" / "pieces").rglob("*") if path.is_file()]


class CountingFile:
    """An object in memory that notes what is read of it."""

    name = "object"

    def __init__(self, content):
        self._content = content
        self.num_bytes = len(content)
        self.reads = []

    def read(self, offset, num_bytes):
        self.reads.append((offset, num_bytes))
        return self._content[offset : offset + num_bytes]


def test_neighbouring_pieces_are_fetched_in_one_request(tmp_path, monkeypatch):
    monkeypatch.setattr(cached, "_PIECE_BYTES", 100)
    monkeypatch.setattr(cached, "_REQUEST_PIECES", 4)
    content = np.random.default_rng(0).bytes(1030)
    origin = CountingFile(content)
    file = CachedFile(origin, PieceCache(tmp_path, 1 << 20), "prefix")
    assert file.read(250, 300) == content[250:550]
    assert origin.reads == [(200, 400)]
    assert file.read(0, 1030) == content
    assert origin.reads[1:] == [(0, 200), (600, 400), (1000, 30)]
    for offset, num_bytes in [(0, 1), (99, 2), (100, 100), (1029, 1), (437, 500), (5, 0)]:
        assert file.read(offset, num_bytes) == content[offset : offset + num_bytes]
    assert len(origin.reads) == 4 + 1  # nothing is asked of the cache where nothing is wanted


def test_a_damaged_cache_file_is_fetched_again(url, store, proxy, tmp_path):
    read_everything(open_store(url))
    for path in pieces_of(tmp_path):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    remote = open_store(url)
    proxy.reset()
    assert_right(remote, store)
    assert proxy.requests
    proxy.reset()
    assert_right(remote, store)
    assert proxy.requests == []


def test_a_cache_deleted_while_in_use(url, store, tmp_path):
    remote = open_store(url)
    assert_right(remote, store)
    shutil.rmtree(tmp_path / "cache")
    assert_right(remote, store)
    assert pieces_of(tmp_path)


def test_a_cache_that_cannot_be_written_is_said_once_and_does_without(url, store, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(RuntimeWarning, match="remote objects are read without it"):
        remote = open_store(url, cache_dir=tmp_path / "file" / "below")
    assert_right(remote, store)  # warnings are errors here


@pytest.mark.parametrize("broken", ["pieces", "usage", "unfinished"])
def test_a_cache_that_breaks_while_in_use_fails_no_read(url, store, tmp_path, broken):
    """Its files have become folders, its folders files."""
    remote = open_store(url)
    assert_right(remote, store)
    paths = pieces_of(tmp_path) if broken == "pieces" else [tmp_path / "cache" / broken]
    for path in paths:
        if path.is_dir():
            path.rmdir()
            path.write_bytes(b"")
        else:
            path.unlink()
            path.mkdir()
    if broken != "pieces":  # there must be something to add
        for path in pieces_of(tmp_path):
            path.unlink()
    with pytest.warns(RuntimeWarning, match="remote objects are read without it") as caught:
        assert_right(remote, store)
    assert len(caught) == 1


FULL = """
import resource, sys
from ssl_data import open_store
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))  # larger files fail, as on a full disk
store = open_store(sys.argv[1])
print(*[int(store.read(index)["ssg"].sum()) for index in range(store.num_patches)])
"""


def test_a_disk_on_which_nothing_can_be_written_fails_no_read(url, store, tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, url], capture_output=True, text=True, check=True, timeout=60)
    assert list(map(int, done.stdout.split())) == [int(patch["ssg"].sum()) for patch in read_everything(store)]
    assert done.stderr.count("remote objects are read without it") == 1
    assert all(path.stat().st_size <= 20_000 for path in pieces_of(tmp_path))
    assert not list((tmp_path / "cache" / "unfinished").iterdir())


def test_the_limit_holds_while_reading(url, store, tmp_path, monkeypatch):
    monkeypatch.setattr(cached, "_PIECE_BYTES", 4096)
    limit = 100_000
    remote = open_store(url, cache_bytes=limit)
    for _ in range(2):
        assert_right(remote, store)
        assert 0 < sum(path.stat().st_size for path in pieces_of(tmp_path)) <= limit


def test_a_damaged_piece_goes_unnoticed_by_nobody(url, store, proxy, tmp_path):
    """Bytes that were already wrong when they were cached fail the chunk's own checksum and are not kept."""
    remote = open_store(url)
    original = remote.source.open("gt/c/0/0/0/0").read
    file = remote.source.open("gt/c/0/0/0/0")
    whole = bytearray(original(0, file.num_bytes))
    whole[100] ^= 1
    file._cache.drop(file._key(0))
    file._cache.put(file._key(0), bytes(whole))
    with pytest.raises(StoreCorruptError, match=f"chunk 0 of {url}/gt/c/0/0/0/0"):
        remote.read_gt(0)
    assert (remote.read_gt(0) == store.read_gt(0)).all()


READER = """
import sys
from ssl_data import open_store
store = open_store(sys.argv[1])
print(*[int(store.read(index)["ssg"].sum()) for index in range(store.num_patches)])
"""


def start_reader(url):
    return subprocess.Popen([sys.executable, "-W", "error", "-c", READER, url], stdout=subprocess.PIPE, text=True)


def sums_of(reader):
    output, _ = reader.communicate(timeout=60)
    return list(map(int, output.split()))


def test_two_processes_share_the_cache(url, store, proxy):
    expected = [int(patch["ssg"].sum()) for patch in read_everything(store)]
    both = [start_reader(url) for _ in range(2)]
    assert [sums_of(reader) for reader in both] == [expected, expected]
    proxy.reset()
    assert sums_of(start_reader(url)) == expected
    assert len(proxy.requests) == 2  # the root metadata and the list of files
