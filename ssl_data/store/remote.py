"""A store behind a URL, read object by object without any cache."""

from __future__ import annotations

from ssl_data.errors import StoreCorruptError, StoreError, StoreUnreachableError
from ssl_data.store.fetcher import FetchError, fetch, fetch_size
from ssl_data.store.source import ObjectMissingError

__all__ = ["RemoteFile", "RemoteSource"]


_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, or AWS_SKIP_SIGNATURE=true for a public bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true for a public bucket",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_SAS_TOKEN",
    "ab": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_SAS_TOKEN",
}
"""Environment variables that hold the credentials, by the first two letters of the URL."""


def _store_error(error: FetchError, name: str) -> StoreError:
    """The failure in the words of a store, with a remedy."""
    if error.kind == "missing":
        return ObjectMissingError.of(name)
    if error.kind == "short":
        return StoreCorruptError(f"{name} is truncated ({error.detail}); run `ssl-data verify`")
    credentials = _CREDENTIALS.get(name[:2], "those of the server")
    if error.kind == "denied":
        return StoreUnreachableError(
            f"access to {name} was refused ({error.detail}); check the credentials in the environment ({credentials}) "
            "and that they may read and list there: some services refuse access to what does not exist"
        )
    return StoreUnreachableError(
        f"{name} could not be read ({error.detail}), also when tried again where that can help; "
        f"check the network, the endpoint and the environment ({credentials})"
    )


class RemoteFile:
    """An object of a remote store; see `ssl_data.store.source.ByteFile`.

    Parameters
    ----------
    source : RemoteSource
    path : str
    num_bytes : int
        Its size.
    """

    def __init__(self, source: RemoteSource, path: str, num_bytes: int) -> None:
        self.name = source.name(path)
        self.num_bytes = num_bytes
        self._url = source.url
        self._path = path

    def read(self, offset: int, num_bytes: int) -> bytes:
        """See `ByteFile.read`."""
        if num_bytes == 0:
            return b""
        try:
            return fetch(self._url, self._path, offset, offset + num_bytes)
        except FetchError as error:
            raise _store_error(error, self.name) from None

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
        try:
            return fetch(self.url, path)
        except FetchError as error:
            raise _store_error(error, self.name(path)) from None

    def open(self, path: str) -> RemoteFile:
        """See `ByteSource.open`; asks for the size."""
        try:
            return RemoteFile(self, path, fetch_size(self.url, path))
        except FetchError as error:
            raise _store_error(error, self.name(path)) from None
