"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["AtomicFile", "write_atomic"]


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
