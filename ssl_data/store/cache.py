"""A folder that keeps pieces of remote objects, up to a limit, for all processes of a machine.

A piece is one file: its content, then the CRC-32C of it. Files appear by renaming, so that a reader sees a whole piece
or none; what a crash leaves behind is either never named or noticed by its checksum. One small file holds the sum of
all sizes and is locked while a piece is added; the lock goes with the process that holds it, however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_data.store.codec import crc32c

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PieceCache"]

_CRC_BYTES = 4
_PIECES, _UNFINISHED, _USAGE = "pieces", "unfinished", "usage"
_TOUCH_SECONDS = 60.0
"""How exact "least recently used" is: a piece's time is not written again within this time."""
_ABANDONED_SECONDS = 3600.0
"""An unfinished file this old belongs to a process that died."""
_KEPT = 0.9
"""Share of the limit that stays when pieces are evicted, so that this is not done at every addition."""


class PieceCache:
    """Pieces by key. Never raises where the disk fails: it warns once, and the caller reads from the origin.

    Parameters
    ----------
    folder : Path
        Made when the first piece is added, readable by its owner only.
    limit_bytes : int
        All files together take no more than this, besides those that are just being written.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._warned = False

    def _path(self, key: str) -> Path:
        return self.folder / _PIECES / key[:2] / key[2:]

    def get(self, key: str, num_bytes: int) -> memoryview | None:
        """The piece of that name and size, or None; a damaged one is dropped."""
        path = self._path(key)
        try:
            with path.open("rb", buffering=0) as file:
                content = memoryview(file.read())
                if time.time() - os.fstat(file.fileno()).st_mtime > _TOUCH_SECONDS:
                    with contextlib.suppress(OSError):  # a cache that may only be read still serves
                        os.utime(file.fileno())
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(error)
            return None
        piece, checksum = content[:-_CRC_BYTES], content[-_CRC_BYTES:]
        if len(piece) != num_bytes or crc32c(piece) != checksum:
            self.drop(key)
            return None
        return piece

    def put(self, key: str, piece: bytes | memoryview) -> None:
        """Keep a piece; the least recently used ones make room for it."""
        num_bytes = len(piece) + _CRC_BYTES
        if num_bytes > _KEPT * self.limit_bytes:
            return
        try:
            unfinished = self._write(piece)
            try:
                self._add(unfinished, self._path(key), num_bytes)
            finally:
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            self._warn(error)

    def drop(self, key: str) -> None:
        """Remove a piece; its size is counted until the next eviction."""
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"the cache in {self.folder} fails ({error.strerror or error}); remote objects are read without it "
                "where necessary. SSL_DATA_CACHE_DIR names another folder, SSL_DATA_CACHE_BYTES=0 switches it off",
                RuntimeWarning,
                stacklevel=2,
            )

    def _write(self, piece: bytes | memoryview) -> Path:
        folder = self.folder / _UNFINISHED
        if not folder.is_dir():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
                file.write(piece)
                file.write(crc32c(piece))
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return Path(name)

    def _add(self, unfinished: Path, path: Path, num_bytes: int) -> None:
        """Give a written piece its name, and count it, before the name so that a crash makes the sum too large."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._usage() as file:
            if path.exists():  # another process was faster
                return
            usage = _parse(file)
            if usage is None or usage + num_bytes > self.limit_bytes:
                usage = self._evict(unfinished, int(_KEPT * self.limit_bytes) - num_bytes)
            os.pwrite(file, b"%020d" % (usage + num_bytes), 0)
            unfinished.replace(path)

    @contextlib.contextmanager
    def _usage(self) -> Iterator[int]:
        """The file with the sum of all sizes, locked; opened anew, as forked copies of a descriptor share its lock."""
        descriptor = os.open(self.folder / _USAGE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _evict(self, own: Path, target_bytes: int) -> int:
        """Remove pieces, the least recently used first, until the target is met; return the size of what is left."""
        abandoned = time.time() - _ABANDONED_SECONDS
        total, pieces = 0, []
        for path, status in _walk(self.folder / _UNFINISHED):
            if status.st_mtime < abandoned:
                path.unlink(missing_ok=True)
            elif path != own:
                total += status.st_size
        for path, status in _walk(self.folder / _PIECES):
            total += status.st_size
            pieces.append((status.st_mtime_ns, status.st_size, path))
        for _, num_bytes, path in sorted(pieces):
            if total <= target_bytes:
                break
            path.unlink(missing_ok=True)
            total -= num_bytes
        return total


def _parse(descriptor: int) -> int | None:
    """The sum as it was written, or None where there is none."""
    text = os.pread(descriptor, 64, 0)
    return int(text) if text.isdigit() else None


def _walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            with contextlib.suppress(FileNotFoundError):  # a damaged piece, dropped by another process just now
                yield path, path.stat()
