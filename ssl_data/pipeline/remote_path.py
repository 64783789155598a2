"""Images in object stores: as much of a `pathlib.Path` as finding and reading them takes.

Failures are of two kinds, as on a disk. An object that is not there is an `OSError`, and costs an image. A network or a
server that fails, also when tried again, says nothing about the image: that is a `DatasetError`, and ends the build.
"""

from __future__ import annotations

import contextlib
import errno
import io
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Self

from ssl_data.errors import DatasetError, StoreCorruptError, StoreUnreachableError
from ssl_data.store.fetcher import fetch, fetch_size, list_below
from ssl_data.store.locate import unusable_url
from ssl_data.store.remote import explained
from ssl_data.store.source import ObjectMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import WriteableBuffer

__all__ = ["ImagePath", "RemotePath", "image_path", "join_path"]

_HEADER_BYTES = 1 << 16
"""What is fetched at once of an image of which only the header is read."""


@dataclass(frozen=True)
class RemotePath:
    """An object of an object store, or a folder: all objects below a prefix. Small and picklable."""

    bucket: str
    """URL of the bucket or container, without a slash at the end."""
    key: str
    """Path in it; empty for the bucket itself."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """The place behind a URL such as ``s3://bucket/folder``.

        Raises
        ------
        DatasetError
            If it is none of an object store, or holds credentials, which belong into the environment.
        """
        problem = unusable_url(url)
        if problem is None and url.startswith("http"):
            problem = "http:// and https:// servers cannot be listed; copy the images, or name an object store"
        found = re.fullmatch(r"([a-z0-9]+://[^/]+)/*(.*?)/*", url)
        if problem is not None or found is None:
            raise DatasetError(f"images cannot be read there: {problem or f'{url} names no bucket'}")
        return cls(found[1], found[2])

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}" if self.key else self.bucket

    def __truediv__(self, relative: str) -> Self:
        key = str(PurePosixPath(self.key, relative))
        return type(self)(self.bucket, "" if key == "." else key)

    @property
    def suffix(self) -> str:
        """As of a `pathlib.Path`."""
        return PurePosixPath(self.key).suffix

    def absolute(self) -> Self:
        """It is."""
        return self

    def is_dir(self) -> bool:
        """Whether there is anything below it."""
        with self._explained():
            return bool(list_below(self.bucket, self.key, limit=1))

    def is_file(self) -> bool:
        """Whether there is such an object."""
        try:
            self.num_bytes()
        except FileNotFoundError:
            return False
        return True

    def walk(self) -> Iterator[str]:
        """The paths of all objects below it, relative to it."""
        with self._explained():
            listed = list_below(self.bucket, self.key)
        return (entry.path.removeprefix(self.key).removeprefix("/") for entry in listed)

    def num_bytes(self) -> int:
        """Size of the object."""
        with self._explained():
            return fetch_size(self.bucket, self.key)

    def read_bytes(self) -> bytes:
        """The whole object."""
        with self._explained():
            return fetch(self.bucket, self.key)

    def read_range(self, start: int, stop: int) -> bytes:
        """Some bytes of the object, all of which must exist."""
        with self._explained():
            return fetch(self.bucket, self.key, start, stop)

    def open_header(self) -> BinaryIO:
        """A file that fetches what is read of it."""
        return io.BufferedReader(_RangeReader(self), _HEADER_BYTES)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with explained(str(self)):
                yield
        except ObjectMissingError:
            raise FileNotFoundError(errno.ENOENT, "No such object", str(self)) from None
        except StoreCorruptError:
            raise OSError(errno.EIO, "It became shorter while it was read", str(self)) from None
        except StoreUnreachableError as error:
            raise DatasetError(str(error)) from None


class _RangeReader(io.RawIOBase):
    def __init__(self, path: RemotePath) -> None:
        self._path = path
        self._num_bytes = path.num_bytes()
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._num_bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        out = memoryview(buffer).cast("B")
        stop = min(self._at + len(out), self._num_bytes)
        if stop <= self._at:
            return 0
        content = self._path.read_range(self._at, stop)
        out[: len(content)] = content
        self._at = stop
        return len(content)


ImagePath = Path | RemotePath


def image_path(text: str) -> ImagePath:
    """The place of images that a user names: a folder, or a URL of an object store."""
    return RemotePath.parse(text) if "://" in text else Path(text)


def join_path(base: ImagePath, path: str) -> ImagePath:
    """A place relative to another, unless it says where it is by itself."""
    if "://" in path or path.startswith("/"):
        return image_path(path)
    return base / path
