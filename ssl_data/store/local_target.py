"""Building a store in a folder; see `ssl_data.store.target`."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from ssl_data.errors import StoreMismatchError
from ssl_data.store import lock
from ssl_data.store.files import AtomicFile, create_atomic, is_unfinished, name_file, write_atomic
from ssl_data.store.layout import WORK_DIR
from ssl_data.store.local import LocalSource
from ssl_data.store.source import ObjectMissingError
from ssl_data.store.target import Claim

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ssl_data.store.lock import Holder

__all__ = ["LocalTarget"]


class _LocalDraft:
    """Files under temporary names in a work folder; see `ssl_data.store.target.Draft`."""

    def __init__(self, root: Path, label: str, work: str) -> None:
        self._root = root
        self._label = label
        self._work_dir = root / work
        self._files: list[AtomicFile] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        for file in self._files:
            file.discard()
        if error and isinstance(error[0], OSError):
            name_file(error[0], self._root)

    def open(self, path: str) -> BinaryIO:
        """See `Draft.open`."""
        self._files.append(AtomicFile(self._root / path, self._work_dir, self._label))
        return self._files[-1].file

    def commit(self) -> None:
        """See `Draft.commit`."""
        for file in self._files:  # where one does not fit on the disk, none takes its name
            file.complete()
        for file in self._files:
            file.commit()


class LocalTarget(LocalSource):
    """A folder; see `ssl_data.store.target.Target`."""

    news_seconds = 2.0

    def require_usable(self) -> None:
        """See `Target.require_usable`."""
        if self.root.exists() and not self.root.is_dir():
            raise StoreMismatchError(f"--out {self.root} is a file; name a folder that does not exist yet")

    def sizes(self, paths: Iterable[str]) -> dict[str, int]:
        """See `Target.sizes`."""
        found = {}
        for path in paths:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                found[path] = (self.root / path).stat().st_size
        return found

    def read_each(self, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """See `Target.read_each`."""
        for path in paths:
            with contextlib.suppress(ObjectMissingError):
                yield path, self.read_all(path)

    def entries(self) -> Iterator[str]:
        """See `Target.entries`."""
        for folder, subfolders, files in os.walk(self.root):
            place = Path(folder)
            links = [name for name in subfolders if (place / name).is_symlink()]
            for name in (*files, *links):
                yield str((place / name).relative_to(self.root))
            if not subfolders and not files and place != self.root:
                yield str(place.relative_to(self.root))

    def put(self, path: str, content: bytes) -> None:
        """See `Target.put`."""
        write_atomic(self.root / path, content, self.root / WORK_DIR)

    def create(self, path: str, content: bytes, work: str = WORK_DIR) -> bool:
        """See `Target.create`."""
        return create_atomic(self.root / path, content, self.root / work)

    def remove(self, path: str) -> None:
        """See `Target.remove`; folders that are left empty go, too."""
        place = self.root / path
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            place.rmdir() if place.is_dir() and not place.is_symlink() else place.unlink()
        for parent in place.parents:
            if parent == self.root or (parent.exists() and any(parent.iterdir())):
                break
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                parent.rmdir()

    def draft(self, label: str, work: str) -> _LocalDraft:
        """See `Target.draft`."""
        return _LocalDraft(self.root, label, work)

    def has_work(self) -> bool:
        """See `Target.has_work`."""
        return (self.root / WORK_DIR).exists()

    def unfinished(self, work: str) -> list[str]:
        """See `Target.unfinished`."""
        folder = self.root / work
        return [entry.name for entry in folder.iterdir()] if folder.is_dir() else []

    def tell(self, work: str, name: str, news: bytes | None) -> None:
        """See `Target.tell`; not worth waiting for the disk."""
        place = self.root / work / name
        if news is None:
            place.unlink(missing_ok=True)
        else:
            unfinished = place.with_suffix(".new")
            try:
                unfinished.write_bytes(news)
                unfinished.replace(place)
            finally:  # it may have found the disk full
                unfinished.unlink(missing_ok=True)

    def sweep(self, work: str) -> None:
        """See `Target.sweep`; the lock of the folder is ours, and stays."""
        for entry in (self.root / work).iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != lock.LOCK_NAME:
                entry.unlink()

    def end_work(self) -> None:
        """See `Target.end_work`."""
        shutil.rmtree(self.root / WORK_DIR)

    def part_folders(self) -> list[str]:
        """See `Target.part_folders`."""
        folders = sorted((self.root / WORK_DIR).glob(lock.PART_PATTERN), key=lambda folder: folder.stat().st_mtime)
        return [f"{WORK_DIR}/{folder.name}" for folder in folders]

    @contextlib.contextmanager
    def build_lock(self, role: str = "build") -> Iterator[Claim]:
        """See `Target.build_lock`."""
        with lock.build_lock(self.root, role), self._dropping_unfinished(WORK_DIR):
            yield Claim(WORK_DIR)

    @contextlib.contextmanager
    def part_lock(self, index: int, num_parts: int) -> Iterator[Claim]:
        """See `Target.part_lock`."""
        work = lock.part_work(index, num_parts)
        with lock.part_lock(self.root, index, num_parts), self._dropping_unfinished(work):
            yield Claim(work)

    @contextlib.contextmanager
    def frame_lock(self) -> Iterator[None]:
        """See `Target.frame_lock`."""
        with lock.frame_lock(self.root), self._dropping_unfinished(WORK_DIR):
            yield

    @contextlib.contextmanager
    def _dropping_unfinished(self, work: str) -> Iterator[None]:
        """Let no unfinished file stay behind what ends with an error, where we hold the lock of a work folder.

        Whoever makes a file also removes it. But an interrupt may come between making one and taking note of it, and a
        Ray worker may be ended before it gets that far.
        """
        try:
            yield
        except BaseException:
            for name in filter(is_unfinished, self.unfinished(work)):
                (self.root / work / name).unlink(missing_ok=True)
            raise

    def holders(self) -> list[Holder]:
        """See `Target.holders`."""
        return lock.current_holders(self.root)
