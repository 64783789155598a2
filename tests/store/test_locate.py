"""Where a store's bytes and the cache of a remote store are."""

from pathlib import Path

import pytest

from ssl_data.errors import ConfigError
from ssl_data.store.local import LocalSource
from ssl_data.store.locate import CacheSettings, open_source
from ssl_data.store.remote import RemoteSource


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in ("SSL_DATA_CACHE_DIR", "SSL_DATA_CACHE_BYTES", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("url", ["folder/store", "/folder/store", "file:///folder/a%20store", Path("s3/store")])
def test_folders(url):
    source = open_source(url)
    assert isinstance(source, LocalSource)
    assert "%20" not in source.url


@pytest.mark.parametrize("scheme", ["s3", "gs", "az", "abfs", "http", "https"])
def test_urls(scheme):
    source = open_source(f"{scheme}://host/a/store/")
    assert isinstance(source, RemoteSource)
    assert source.name("gt/c/0") == f"{scheme}://host/a/store/gt/c/0"


def test_the_cache_by_default(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert CacheSettings().resolved_folder() == Path("/home/someone/.cache/ssl_data")
    assert CacheSettings().resolved_bytes() == 32 * 2**30
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert CacheSettings().resolved_folder() == Path("/caches/ssl_data")


def test_arguments_go_before_the_environment(monkeypatch):
    monkeypatch.setenv("SSL_DATA_CACHE_DIR", "/scratch")
    monkeypatch.setenv("SSL_DATA_CACHE_BYTES", "1000")
    assert (CacheSettings().resolved_folder(), CacheSettings().resolved_bytes()) == (Path("/scratch"), 1000)
    settings = CacheSettings(folder="/other", num_bytes=0)
    assert (settings.resolved_folder(), settings.resolved_bytes()) == (Path("/other"), 0)


def test_sizes_that_make_no_sense(monkeypatch):
    with pytest.raises(ConfigError, match="cache_bytes must be >= 0, got -1"):
        CacheSettings(num_bytes=-1)
    monkeypatch.setenv("SSL_DATA_CACHE_BYTES", "32 GB")
    with pytest.raises(ConfigError, match="SSL_DATA_CACHE_BYTES must be a whole number of bytes, got '32 GB'"):
        CacheSettings().resolved_bytes()


def test_no_home_for_the_cache(monkeypatch):
    def homeless(_):
        raise RuntimeError

    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(ConfigError, match="SSL_DATA_CACHE_DIR"):
        CacheSettings().resolved_folder()
