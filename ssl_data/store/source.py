"""Where the bytes of a store come from: what the reader asks of a folder, of an object store, or of a cache before one.

An object is one file of a store, named by its path relative to the store, with forward slashes.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol, Self

from ssl_data.errors import StoreCorruptError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ByteFile", "ByteSource", "ObjectMissingError", "sha256_of"]

_HASH_STEP_BYTES = 8 << 20


class ObjectMissingError(StoreCorruptError):
    """An object of the store does not exist."""

    @classmethod
    def of(cls, name: str | Path) -> Self:
        """The error about the object with this full name."""
        # Not in __init__: an error is pickled, on its way from a worker, as class and message.
        return cls(f"{name} is missing; run `ssl-data verify` on the store")


class ByteFile(Protocol):
    """One object, open for reading at any place."""

    @property
    def name(self) -> str | Path:
        """Full name, for messages."""
        ...

    @property
    def num_bytes(self) -> int:
        """Size of the object."""
        ...

    @property
    def most_bytes(self) -> int:
        """More than this is better read in several pieces, each used before the next is read."""
        ...

    @property
    def descriptor(self) -> int | None:
        """Of an open local file, from which compiled code may read; None for what is none."""
        ...

    def read(self, offset: int, num_bytes: int) -> bytes | memoryview:
        """Exactly `num_bytes` bytes from byte `offset` on.

        Raises
        ------
        StoreCorruptError
            If the object ends before.
        StoreUnreachableError
            If it cannot be read for now.
        """
        ...

    def read_into(self, offset: int, out: memoryview) -> None:
        """Fill `out` with the bytes from byte `offset` on; raises as `read` does."""
        ...

    def forget(self, offset: int, num_bytes: int) -> None:
        """Drop any copy kept of these bytes: they turned out to be damaged."""
        ...

    def close(self) -> None:
        """Let go of it; reading afterwards fails."""
        ...


class ByteSource(Protocol):
    """All objects of one store. Safe to use after a fork."""

    @property
    def url(self) -> str:
        """The store, as a user names it."""
        ...

    def name(self, path: str) -> str | Path:
        """Full name of an object, for messages."""
        ...

    def read_all(self, path: str) -> bytes:
        """The whole content of an object.

        Raises
        ------
        ObjectMissingError
            If it does not exist.
        StoreUnreachableError
            If it cannot be read for now.
        """
        ...

    def open(self, path: str) -> ByteFile:
        """Open an object.

        Raises
        ------
        ObjectMissingError
            If it does not exist (at the latest when it is read).
        StoreUnreachableError
            If it cannot be read for now.
        """
        ...


def sha256_of(file: ByteFile) -> str:
    """SHA-256 (hexadecimal) of an object, read piece by piece in bounded memory."""
    digest = hashlib.sha256()
    for offset in range(0, file.num_bytes, _HASH_STEP_BYTES):
        digest.update(file.read(offset, min(_HASH_STEP_BYTES, file.num_bytes - offset)))
    return digest.hexdigest()
