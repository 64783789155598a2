"""Files that appear whole or not at all, and the lock of a store under construction."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_data.errors import StoreLockedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

__all__ = ["AtomicFile", "build_lock", "write_atomic"]


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class AtomicFile:
    """A file that takes its name only when it is committed, complete and on disk.

    Parameters
    ----------
    path : Path
        Final name; missing parent folders are made.
    work_dir : Path
        An existing folder on the same file system for the unfinished file.
    """

    def __init__(self, path: Path, work_dir: Path) -> None:
        descriptor, name = tempfile.mkstemp(dir=work_dir, prefix=f"{path.name}-")
        self._path = path
        self._temporary = Path(name)
        self.file: BinaryIO = os.fdopen(descriptor, "wb")

    def commit(self) -> None:
        """Flush to disk and take the final name, replacing what was there."""
        self.file.flush()
        os.fchmod(self.file.fileno(), 0o644)
        os.fsync(self.file.fileno())
        self.file.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary.replace(self._path)
        _sync_directory(self._path.parent)

    def discard(self) -> None:
        """Remove what was written, unless it is committed."""
        if not self.file.closed:
            self.file.close()
        self._temporary.unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes, work_dir: Path) -> None:
    """Write a whole file, see `AtomicFile`."""
    target = AtomicFile(path, work_dir)
    try:
        target.file.write(content)
        target.commit()
    finally:
        target.discard()


@contextlib.contextmanager
def build_lock(lock_path: Path) -> Iterator[None]:
    """Hold the right to build a store. The kernel releases it when the process ends, however it ends.

    Raises
    ------
    StoreLockedError
        At once, if another process holds it.
    """
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    with lock_path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = lock_path.exists() and os.path.samestat(os.fstat(file.fileno()), lock_path.stat())
        except BlockingIOError:
            ours = False
        if not ours:  # or the holder has just completed the store, and removed the file that we have locked
            file.seek(0)
            holder = file.read().strip() or "another process"
            message = f"{lock_path.parent.parent} is being built by {holder}; wait for it to end or stop it"
            raise StoreLockedError(message)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
