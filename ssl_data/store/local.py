"""A store in a folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ssl_data.errors import StoreCorruptError
from ssl_data.store.files import name_file
from ssl_data.store.source import ObjectMissingError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LocalFile", "LocalSource"]


class LocalFile:
    """A file, open as long as the object lives; see `ssl_data.store.source.ByteFile`.

    Uses positioned reads only, so that one open file may be shared by threads and by forked processes.

    Raises
    ------
    ObjectMissingError
        If the file does not exist.
    """

    most_bytes = 512 << 10
    """Stays in a core's cache until it is decoded; the system reads ahead by itself."""

    def __init__(self, path: Path) -> None:
        self.name = path
        self.descriptor = -1
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectMissingError.of(path) from None
        self.num_bytes = os.fstat(self.descriptor).st_size

    def read(self, offset: int, num_bytes: int) -> memoryview:
        """See `ByteFile.read`."""
        content = memoryview(bytearray(num_bytes))
        self.read_into(offset, content)
        return content

    def read_into(self, offset: int, out: memoryview) -> None:
        """See `ByteFile.read_into`."""
        done = 0
        while done < len(out):  # one call returns at most 2 GiB, and may be cut short by a signal
            try:
                count = os.preadv(self.descriptor, [out[done:]], offset + done)
            except OSError as error:
                name_file(error, self.name)
                raise
            if not count:
                raise StoreCorruptError(f"{self.name} ends at byte {offset + done}; run `ssl-data verify`")
            done += count

    def forget(self, offset: int, num_bytes: int) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """See `ByteFile.close`."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __del__(self) -> None:
        self.close()


class LocalSource:
    """The files of a folder; see `ssl_data.store.source.ByteSource`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def url(self) -> str:
        """The folder."""
        return str(self.root)

    def name(self, path: str) -> Path:
        """See `ByteSource.name`."""
        return self.root / path

    def read_all(self, path: str) -> bytes:
        """See `ByteSource.read_all`."""
        try:
            return (self.root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectMissingError.of(self.root / path) from None

    def open(self, path: str) -> LocalFile:
        """See `ByteSource.open`."""
        return LocalFile(self.root / path)
