"""A store on S3 reads like one in a folder, whatever the network does."""

import contextlib
import pickle
import time
from pathlib import Path

import numpy as np
import pytest

from ssl_data import open_store
from ssl_data.errors import (
    MissingDependencyError,
    StoreCorruptError,
    StoreIncompleteError,
    StoreNotFoundError,
    StoreUnreachableError,
)
from ssl_data.store.locate import CacheSettings
from ssl_data.testing import tiny_store

SECRET = "a-secret-that-must-never-be-shown"  # noqa: S105 - of nothing; as in conftest.py


def assert_same(remote, local):
    assert remote.num_patches == local.num_patches
    for index in range(local.num_patches):
        expected = local.read(index)
        found = remote.read(index)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert np.array_equal(found[name], value), (index, name)


@pytest.mark.parametrize("cache_bytes", [0, None])
def test_reads_what_the_folder_holds(url, store, cache_bytes):
    assert_same(open_store(url, cache_bytes=cache_bytes), store)


def test_a_trailing_slash_changes_nothing(url, store):
    assert_same(open_store(url + "/"), store)


def test_reads_over_plain_http_without_credentials(url, proxy, store, monkeypatch):
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert_same(open_store(f"http://127.0.0.1:{proxy.server_port}/{url.removeprefix('s3://')}"), store)


def test_a_file_url_is_a_folder(store):
    assert open_store(store.root.as_uri()).root == store.root


def test_what_is_cached_is_read_without_any_request(url, proxy, store):
    assert_same(open_store(url), store)
    proxy.reset()
    again = open_store(url)
    assert len(proxy.requests) == 2  # the root metadata and the list of files say which store this is
    proxy.reset()
    assert_same(again, store)
    assert proxy.requests == []


def test_nothing_is_cached_where_it_is_switched_off(url, tmp_path):
    open_store(url, cache_bytes=0).read(0)
    assert not (tmp_path / "cache").exists()


def test_a_pickled_store_carries_its_place_and_no_credentials(url, tmp_path):
    remote = open_store(url, cache_dir=tmp_path / "other", cache_bytes=123_456)
    pickled = pickle.dumps(remote)
    assert SECRET.encode() not in pickled
    assert len(pickled) < 500
    copy = pickle.loads(pickled)  # noqa: S301 - made here
    assert copy.__reduce__()[1] == (url, CacheSettings(folder=tmp_path / "other", num_bytes=123_456))
    assert (copy.read_gt(1) == remote.read_gt(1)).all()


@pytest.mark.parametrize("fault", ["reset", "500", "503", "429", "slow", "stall", "truncate"])
def test_passing_faults_are_waited_out(url, proxy, store, fault):
    remote = open_store(url, cache_bytes=0)
    opened, reading = len(proxy.requests), store.read(2)
    proxy.faults.extend([fault] * (1 if fault in ("slow", "stall") else 3))
    assert (remote.read_gt(2) == reading["gt"]).all()
    assert not proxy.faults
    assert len(proxy.requests) > opened + 1


@pytest.mark.parametrize("fault", ["reset", "503", "slow", "truncate"])
def test_passing_faults_while_opening_are_waited_out(url, proxy, store, fault):
    proxy.faults.extend([None, fault, None, fault])
    assert_same(open_store(url, cache_bytes=0), store)
    assert not proxy.faults


@pytest.mark.parametrize("fault", ["slow", "stall"])
def test_a_server_that_stays_slow_is_given_up(url, proxy, fault, monkeypatch):
    monkeypatch.setenv("SSL_DATA_REMOTE_RETRIES", "1")
    remote = open_store(url, cache_bytes=0)
    proxy.reset()
    proxy.every_fault = fault
    with pytest.raises(StoreUnreachableError, match=rf"{url}/gt/c/1/0/0/0 could not be read"):
        remote.read_gt(2)
    assert len(proxy.requests) <= 4  # two for the size, which "stall" does not concern, and two for the bytes


@pytest.mark.parametrize("cache_bytes", [0, None])
@pytest.mark.parametrize("fault", ["zeros", "whole"])
def test_wrong_bytes_from_the_server_are_refused_and_not_kept(url, proxy, store, fault, cache_bytes):
    for array, read in [("gt", "read_gt"), ("ssg", "read_codes"), ("edge_mask", "read_pixels"), ("lq_x4", "read_lq")]:
        remote = open_store(url, cache_bytes=cache_bytes)
        proxy.every_fault = fault
        with pytest.raises((StoreCorruptError, StoreUnreachableError), match=f"{url}/{array}/c/1/"):
            getattr(remote, read)(2)
        proxy.every_fault = None
        assert (getattr(remote, read)(2) == getattr(store, read)(2)).all()


@pytest.mark.parametrize("fault", ["reset", "503", "truncate"])
def test_a_permanent_failure_ends_soon_and_names_the_object(url, proxy, fault):
    remote = open_store(url, cache_bytes=0)
    proxy.every_fault = fault
    began = time.monotonic()
    with pytest.raises(
        StoreUnreachableError, match=rf"{url}/gt/c/1/0/0/0 could not be read .*check the network"
    ) as caught:
        remote.read_gt(2)
    assert time.monotonic() - began < 20
    assert len(proxy.requests) < 20
    assert_no_secrets(caught.value)


def assert_no_secrets(error):
    while error is not None:
        assert SECRET not in repr(error)
        assert "an-access-key" not in repr(error)
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("fault", ["401", "403"])
def test_refused_access_is_said_at_once(url, proxy, fault):
    proxy.every_fault = fault
    with pytest.raises(
        StoreUnreachableError, match=r"access to .*/zarr\.json was refused .*AWS_ACCESS_KEY_ID"
    ) as caught:
        open_store(url)
    assert len(proxy.requests) == 1
    assert_no_secrets(caught.value)


def test_a_server_that_is_not_there(url, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreUnreachableError, match="could not be read"):
        open_store(url)


def test_a_change_of_the_environment_takes_effect(url, monkeypatch, proxy):
    good = f"http://127.0.0.1:{proxy.server_port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with contextlib.suppress(StoreUnreachableError):
        open_store(url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", good)
    assert open_store(url).num_patches > 0


def test_no_store_at_all(url):
    with pytest.raises(StoreNotFoundError, match=r"stores/none is not a store: .*none/zarr\.json does not exist"):
        open_store(url.replace("whole.zarr", "none"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (Path("s3://bucket/store"), "give it as a str"),
        ("ftp://host/store", r"ftp:// is not supported"),
        (f"https://user:{SECRET}@host/store", "a password"),
        (f"https://{SECRET}@host/store", "holds a user"),
        (f"https://host/store?signature={SECRET}", "a query"),
    ],
)
def test_urls_that_cannot_be_meant(url, message):
    with pytest.raises(StoreNotFoundError, match=message) as caught:
        open_store(url)
    assert_no_secrets(caught.value)


def test_without_obstore_the_remedy_is_named(url, monkeypatch):
    monkeypatch.setattr("ssl_data.store.fetcher.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'ssl_data\[remote\]'"):
        open_store(url)


def shard_path(store, array):
    (path,) = [file for file in (store.root / array / "c" / "1").rglob("*") if file.is_file()]
    return str(path.relative_to(store.root))


@pytest.mark.parametrize(
    ("array", "cache_bytes"), [("gt", None), ("edge_mask", None), ("lq_x4", None), ("ssg", None), ("ssg", 0)]
)
@pytest.mark.parametrize("kind", ["missing", "empty", "truncated", "altered", "altered at its end", "unwritten"])
def test_a_damaged_object_is_named_and_read_right_once_repaired(store, damage, array, kind, cache_bytes):
    path = shard_path(store, array)
    damage(path, kind)
    remote = open_store(damage.url, cache_bytes=cache_bytes)
    remote.read(0)
    for _ in range(2):
        with pytest.raises(StoreCorruptError, match=f"{damage.url}/{path}"):
            remote.read(2)
    damage.repair()
    assert (remote.read(2)["ssg"] == store.read(2)["ssg"]).all()  # nothing damaged stayed in the cache


@pytest.mark.parametrize("array", ["gt", "edge_mask", "lq_x4", "ssg"])
def test_chunks_that_were_never_written_are_no_zeros(damage, store, array):
    path = shard_path(store, array)
    damage(path, "unwritten")
    with pytest.raises(StoreCorruptError, match=rf"chunk \d+ of {damage.url}/{path} was never written"):
        open_store(damage.url, cache_bytes=0).read(2)


@pytest.mark.parametrize("table", ["patches", "files"])
def test_an_altered_manifest_is_refused(damage, table):
    damage(f"manifest/{table}.parquet", "altered")
    with pytest.raises(StoreCorruptError, match=rf"{table}\.parquet was altered"):
        open_store(damage.url)
    damage.repair()
    assert open_store(damage.url).num_patches > 0


def test_an_unfinished_store_is_refused(damage):
    damage("zarr.json", "missing")
    with pytest.raises(StoreIncompleteError, match="has not finished"):
        open_store(damage.url)


def test_a_store_built_anew_at_the_same_place_is_not_read_from_old_pieces(store, bucket, environment, tmp_path):
    url = bucket.upload(store.root, "rebuilt.zarr")
    assert_same(open_store(url), store)
    other = tiny_store(tmp_path, lq_scale=4, threshold=30.0)
    bucket.upload(other.root, "rebuilt.zarr")
    assert_same(open_store(url), other)
