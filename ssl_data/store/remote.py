"""A store behind a URL, read object by object without any cache."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Literal

from ssl_data.errors import StoreCorruptError, StoreError, StoreUnreachableError
from ssl_data.store.fetcher import FetchError, fetch, fetch_size
from ssl_data.store.source import ObjectMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RemoteFile", "RemoteSource", "explained"]


_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, or AWS_SKIP_SIGNATURE=true for a public bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true for a public bucket",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_SAS_TOKEN",
    "ab": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_SAS_TOKEN",
}
"""Environment variables that hold the credentials, by the first two letters of the URL."""


def _store_error(error: FetchError, name: str, done: str = "read") -> StoreError:
    """The failure in the words of a store, with a remedy; what could not be `done` is "read" or "written"."""
    if error.kind == "missing":
        return ObjectMissingError.of(name)
    if error.kind == "short":
        return StoreCorruptError(f"{name} is truncated ({error.detail}); run `ssl-data verify`")
    rights = "read" if done == "read" else "read, write, delete"
    credentials = _CREDENTIALS.get(name[:2], "those of the server")
    if error.kind == "denied":
        return StoreUnreachableError(
            f"access to {name} was refused ({error.detail}); check the credentials in the environment ({credentials}) "
            f"and that they may {rights} and list there: some services refuse access to what does not exist"
        )
    return StoreUnreachableError(
        f"{name} could not be {done} ({error.detail}), also when tried again where that can help; "
        f"check the network, the endpoint and the environment ({credentials})"
    )


@contextlib.contextmanager
def explained(name: str, done: Literal["read", "written"] = "read") -> Iterator[None]:
    """Raise what fails as an error about a store, and about the object of that name."""
    try:
        yield
    except FetchError as error:
        raise _store_error(error, name, done) from None


class RemoteFile:
    """An object of a remote store; see `ssl_data.store.source.ByteFile`.

    Parameters
    ----------
    source : RemoteSource
    path : str
    num_bytes : int
        Its size.
    """

    most_bytes = sys.maxsize
    """Each request takes its time, whatever it is for."""
    descriptor = None

    def __init__(self, source: RemoteSource, path: str, num_bytes: int) -> None:
        self.name = source.name(path)
        self.num_bytes = num_bytes
        self._url = source.url
        self._path = path

    def read(self, offset: int, num_bytes: int) -> bytes:
        """See `ByteFile.read`."""
        if num_bytes == 0:
            return b""
        with explained(self.name):
            return fetch(self._url, self._path, offset, offset + num_bytes)

    def read_into(self, offset: int, out: memoryview) -> None:
        """See `ByteFile.read_into`."""
        out[:] = self.read(offset, len(out))

    def forget(self, offset: int, num_bytes: int) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is open."""


class RemoteSource:
    """The objects below a URL; see `ssl_data.store.source.ByteSource`.

    Parameters
    ----------
    url : str
        Of the store, without a slash at the end.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def name(self, path: str) -> str:
        """See `ByteSource.name`."""
        return f"{self.url}/{path}"

    def read_all(self, path: str) -> bytes:
        """See `ByteSource.read_all`."""
        with explained(self.name(path)):
            return fetch(self.url, path)

    def open(self, path: str) -> RemoteFile:
        """See `ByteSource.open`; asks for the size."""
        with explained(self.name(path)):
            return RemoteFile(self, path, fetch_size(self.url, path))
