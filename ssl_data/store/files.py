"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["AtomicFile", "create_atomic", "is_unfinished", "name_file", "write_atomic"]


_BUFFER_BYTES = 4 << 20
"""So much is written at once. Linux keeps it in pieces of memory of about that size: large ones are copied faster."""


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
    label : str, optional
        How the name of the unfinished file begins; the name of the file where not given.
    """

    def __init__(self, path: Path, work_dir: Path, label: str | None = None) -> None:
        descriptor, name = tempfile.mkstemp(dir=work_dir, prefix=f"{label or path.name}-")
        self._path = path
        self._temporary = Path(name)
        self.file: BinaryIO = os.fdopen(descriptor, "wb", buffering=_BUFFER_BYTES)

    def commit(self) -> None:
        """Flush to disk and take the final name, replacing what was there."""
        self.complete()
        self._temporary.replace(self._path)
        _sync_directory(self._path.parent)

    def commit_new(self) -> None:
        """The same, but raise `FileExistsError` where something has that name."""
        self.complete()
        try:
            os.link(self._temporary, self._path)
        except FileExistsError:
            raise
        except OSError:  # the file system knows no links: whoever writes here holds a lock
            if self._path.exists():
                raise FileExistsError(self._path) from None
            self._temporary.replace(self._path)
        _sync_directory(self._path.parent)

    def complete(self) -> None:
        """Flush to disk, for the last time; committing does it where it is not done."""
        if self.file.closed:
            return
        self.file.flush()
        os.fchmod(self.file.fileno(), 0o644)
        os.fsync(self.file.fileno())
        self.file.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)

    def discard(self) -> None:
        """Remove what was written, unless it is committed."""
        with contextlib.suppress(OSError):  # what is still in its buffer may not fit on a full disk
            self.file.close()
        self._temporary.unlink(missing_ok=True)


def is_unfinished(name: str) -> bool:
    """Whether a file in a work folder is one that has not taken its name yet, by what `tempfile` appends."""
    return re.search(r"-[a-z0-9_]{8}$", name) is not None


def name_file(error: OSError, path: Path) -> None:
    """Say which file it was, where the system does not, as when a disk is full or fails."""
    if error.filename is None:
        error.filename = str(path)


def write_atomic(path: Path, content: bytes, work_dir: Path) -> None:
    """Write a whole file, see `AtomicFile`."""
    target = AtomicFile(path, work_dir)
    try:
        target.file.write(content)
        target.commit()
    except OSError as error:
        name_file(error, path)
        raise
    finally:
        target.discard()


def create_atomic(path: Path, content: bytes, work_dir: Path) -> bool:
    """Write a whole file unless there is one of that name; whether it now has that content."""
    target = AtomicFile(path, work_dir)
    try:
        target.file.write(content)
        target.commit_new()
    except FileExistsError:
        return path.read_bytes() == content
    except OSError as error:
        name_file(error, path)
        raise
    finally:
        target.discard()
    return True
