"""From what a user gives (a folder or a URL, the place and size of the cache) to where the bytes come from."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ssl_data.errors import ConfigError, StoreNotFoundError
from ssl_data.store.local import LocalSource
from ssl_data.store.local_target import LocalTarget
from ssl_data.store.remote import RemoteSource
from ssl_data.store.remote_target import RemoteTarget

__all__ = ["CACHE_BYTES_VARIABLE", "CACHE_DIR_VARIABLE", "CacheSettings", "open_source", "open_target", "unusable_url"]

CACHE_DIR_VARIABLE = "SSL_DATA_CACHE_DIR"
CACHE_BYTES_VARIABLE = "SSL_DATA_CACHE_BYTES"
_DEFAULT_CACHE_BYTES = 32 << 30

_REMOTE_SCHEMES = ("s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss", "http", "https")


def open_source(url: str | Path) -> LocalSource | RemoteSource:
    """The objects of a store.

    Parameters
    ----------
    url : str or Path
        Folder of the store, or its URL: s3://, gs://, az://, abfs://, http://, https:// or file://.

    Raises
    ------
    StoreNotFoundError
        For a URL that is none of these, or holds a password or query: credentials belong into the environment.
    """
    text = str(url)
    if isinstance(url, Path) and re.match(rf"({'|'.join(_REMOTE_SCHEMES)}):/", text):
        raise StoreNotFoundError(f"{text} was a URL before it became a Path, which drops a slash; give it as a str")
    if "://" not in text:
        return LocalSource(Path(url).absolute())  # so that it stays the same place when the working directory changes
    parts = urlsplit(text)
    if parts.scheme == "file":
        return LocalSource(Path(unquote(parts.path)))
    problem = unusable_url(text)
    if problem is not None:
        raise StoreNotFoundError(problem)
    return RemoteSource(text.rstrip("/"))


def unusable_url(text: str) -> str | None:
    """Why a URL cannot be used, without the URL, which may hold a password; None where it can."""
    parts = urlsplit(text)
    if parts.scheme not in _REMOTE_SCHEMES:
        schemes = ", ".join(f"{scheme}://" for scheme in _REMOTE_SCHEMES)
        return f"{parts.scheme}:// is not supported; give a folder or one of {schemes}"
    token = parts.username is not None and not parts.scheme.startswith("abfs")  # abfs://container@account
    if token or parts.password is not None or parts.query or parts.fragment:
        return (
            f"the URL at {parts.hostname} holds a user, a password, a query or a fragment; "
            "give it without, and credentials in the environment"
        )
    return None


def open_target(url: str | Path) -> LocalTarget | RemoteTarget:
    """The place of a store that is to be built, or looked after.

    Parameters
    ----------
    url : str or Path
        Folder of the store, or its URL: s3://, gs://, az://, abfs:// or file://.

    Raises
    ------
    ConfigError
        For a URL that is none of these, or holds a password or query: credentials belong into the environment.
    """
    try:
        source = open_source(url)
    except StoreNotFoundError as error:
        raise ConfigError(str(error)) from None
    if isinstance(source, LocalSource):
        return LocalTarget(source.root)
    if source.url.startswith("http"):
        raise ConfigError(
            f"{source.url}: nothing can be written to a plain web server; name an object store or a folder"
        )
    return RemoteTarget(source.url)


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """Where pieces of remote stores are kept, and how much of them. Where not given, the environment decides."""

    folder: str | Path | None = None
    """``SSL_DATA_CACHE_DIR``, else ``ssl_data`` in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    num_bytes: int | None = None
    """``SSL_DATA_CACHE_BYTES``, else 32 GiB; 0 for no cache."""

    def __post_init__(self) -> None:
        if self.num_bytes is not None and self.num_bytes < 0:
            raise ConfigError(f"cache_bytes must be >= 0, got {self.num_bytes}")

    def resolved_folder(self) -> Path:
        """The folder in force.

        Raises
        ------
        ConfigError
            If it depends on the user's home, and there is none.
        """
        parent = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        folder = Path(self.folder or os.environ.get(CACHE_DIR_VARIABLE) or f"{parent}/ssl_data")
        try:
            return folder.expanduser()
        except RuntimeError:
            message = f"there is no home folder for the cache {folder}; name another in {CACHE_DIR_VARIABLE}"
            raise ConfigError(message) from None

    def resolved_bytes(self) -> int:
        """The limit in force, in bytes.

        Raises
        ------
        ConfigError
            If the environment variable is not a whole number.
        """
        if self.num_bytes is not None:
            return self.num_bytes
        text = os.environ.get(CACHE_BYTES_VARIABLE, "").strip()
        if not text:
            return _DEFAULT_CACHE_BYTES
        if not text.isdecimal():
            raise ConfigError(f"{CACHE_BYTES_VARIABLE} must be a whole number of bytes, got {text!r}")
        return int(text)
