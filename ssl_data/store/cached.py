"""A remote store behind a local cache.

Objects are cached in pieces of 1 MiB at multiples of 1 MiB; neighbouring pieces that are missing are fetched in one
request. Sizes come from the manifest, so that a read that the cache can answer makes no request at all. See
docs/decisions/0006-remote-cache.md.
"""

from __future__ import annotations

import hashlib
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ssl_data.errors import StoreCorruptError
from ssl_data.store.layout import FILES_PATH
from ssl_data.store.manifest import FILE_SCHEMA, FileRecord, decode_table
from ssl_data.store.remote import RemoteFile, RemoteSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ssl_data.store.cache import PieceCache

__all__ = ["CachedFile", "CachedSource"]

_PIECE_BYTES = 1 << 20
_REQUEST_PIECES = 32
"""At most so many pieces in one request, which has to be over within the client's time limit (30 s unless set)."""


class CachedFile:
    """An object of known size, read through the cache; see `ssl_data.store.source.ByteFile`.

    Parameters
    ----------
    file : RemoteFile
        Where missing pieces come from.
    cache : PieceCache
    prefix : str
        Begins the keys of the object's pieces; no other object, of whatever store, has the same.
    """

    most_bytes = RemoteFile.most_bytes
    descriptor = None

    def __init__(self, file: RemoteFile, cache: PieceCache, prefix: str) -> None:
        self.name = file.name
        self.num_bytes = file.num_bytes
        self._file = file
        self._cache = cache
        self._prefix = prefix

    def _key(self, piece: int) -> str:
        return f"{self._prefix}-{piece:06d}"

    def _piece_bytes(self, piece: int) -> int:
        return min(_PIECE_BYTES, self.num_bytes - piece * _PIECE_BYTES)

    def read(self, offset: int, num_bytes: int) -> bytes:
        """See `ByteFile.read`."""
        if num_bytes <= 0 or offset + num_bytes > self.num_bytes:
            return self._file.read(offset, num_bytes)  # whose error says what is wrong
        first = offset // _PIECE_BYTES
        wanted = range(first, -(-(offset + num_bytes) // _PIECE_BYTES))
        pieces = {piece: self._cache.get(self._key(piece), self._piece_bytes(piece)) for piece in wanted}
        for run in _runs(piece for piece in wanted if pieces[piece] is None):
            pieces.update(self._fetch(run))
        parts = [part for part in pieces.values() if part is not None]
        parts[-1] = parts[-1][: offset + num_bytes - wanted[-1] * _PIECE_BYTES]
        parts[0] = parts[0][offset - first * _PIECE_BYTES :]
        return b"".join(parts)

    def read_into(self, offset: int, out: memoryview) -> None:
        """See `ByteFile.read_into`."""
        out[:] = self.read(offset, len(out))

    def _fetch(self, run: range) -> Iterator[tuple[int, memoryview]]:
        start = run.start * _PIECE_BYTES
        content = memoryview(self._file.read(start, min(run.stop * _PIECE_BYTES, self.num_bytes) - start))
        for piece in run:
            part = content[piece * _PIECE_BYTES - start :][: self._piece_bytes(piece)]
            self._cache.put(self._key(piece), part)
            yield piece, part

    def forget(self, offset: int, num_bytes: int) -> None:
        """See `ByteFile.forget`."""
        for piece in range(offset // _PIECE_BYTES, -(-(offset + num_bytes) // _PIECE_BYTES)):
            self._cache.drop(self._key(piece))

    def close(self) -> None:
        """Nothing is open."""


def _runs(pieces: Iterable[int]) -> Iterator[range]:
    """Ascending numbers as ranges without gaps, none longer than a request may be."""
    for _, group in groupby(enumerate(pieces), key=lambda pair: pair[1] - pair[0]):
        members = [piece for _, piece in group]
        for first in range(members[0], members[-1] + 1, _REQUEST_PIECES):
            yield range(first, min(first + _REQUEST_PIECES, members[-1] + 1))


class CachedSource:
    """The objects of a remote store, cached; see `ssl_data.store.source.ByteSource`.

    Parameters
    ----------
    source : RemoteSource
    cache : PieceCache
    attributes : mapping
        The description in the root of the store; says which build of it this is.

    Raises
    ------
    StoreCorruptError
        If the manifest's list of files is missing or altered.
    """

    def __init__(self, source: RemoteSource, cache: PieceCache, attributes: Mapping[str, Any]) -> None:
        self.url = source.url
        self._source = source
        self._cache = cache
        # The hash of the list of files covers fingerprint, sizes and hashes: a store built anew has other keys.
        self._identity = f"{source.url}\n{attributes['fingerprint']}\n{attributes['files_sha256']}"
        self._files = self._read_files(attributes["files_sha256"])

    def _read_files(self, sha256: str) -> dict[str, FileRecord]:
        content = self._source.read_all(FILES_PATH)
        _check_sha256(content, sha256, self.name(FILES_PATH))
        table = decode_table(content, FILE_SCHEMA, self.name(FILES_PATH))
        return {row["path"]: FileRecord(**row) for row in table.to_pylist()}

    def name(self, path: str) -> str:
        """See `ByteSource.name`."""
        return self._source.name(path)

    def open(self, path: str) -> CachedFile | RemoteFile:
        """See `ByteSource.open`; makes no request for objects that the manifest lists."""
        record = self._files.get(path)
        if record is None:
            return self._source.open(path)
        prefix = hashlib.sha256(f"{self._identity}\n{path}".encode()).hexdigest()[:40]
        return CachedFile(RemoteFile(self._source, path, record.num_bytes), self._cache, prefix)

    def read_all(self, path: str) -> bytes:
        """See `ByteSource.read_all`; compares the content with the manifest's hash."""
        record = self._files.get(path)
        if record is None:
            return self._source.read_all(path)
        file = self.open(path)
        content = file.read(0, record.num_bytes)
        try:
            _check_sha256(content, record.sha256, self.name(path))
        except StoreCorruptError:
            file.forget(0, record.num_bytes)
            raise
        return content


def _check_sha256(content: bytes, expected: str, name: str) -> None:
    if hashlib.sha256(content).hexdigest() != expected:
        raise StoreCorruptError(f"{name} was altered: its SHA-256 differs from the manifest; run `ssl-data verify`")
