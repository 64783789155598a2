"""Where a store is built: what a builder asks of a folder, or of an object store.

Paths are relative to the store, with forward slashes. Whatever is put appears whole or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from ssl_data.store.layout import WORK_DIR
from ssl_data.store.source import ByteSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from typing import BinaryIO

    from ssl_data.store.lock import Holder

__all__ = ["Claim", "Draft", "Target"]


@dataclass(frozen=True)
class Claim:
    """The right to work on a store, or on a part of it."""

    work: str
    """The folder for what is unfinished, and for news of this work."""
    check: Callable[[], None] = lambda: None
    """Raises `StoreLockedError` where the claim was lost."""


class Draft(Protocol):
    """Files that are being written on this machine, and take their places one after the other when all are complete.

    A context manager; what was not committed when it is left leaves no trace.
    """

    def open(self, path: str) -> BinaryIO:
        """An empty file that will become this object."""
        ...

    def commit(self) -> None:
        """Put all files in their places, in the order in which they were opened."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None: ...


class Target(ByteSource, Protocol):
    """The place of a store that is being built. Small and picklable; workers on other machines get copies."""

    @property
    def news_seconds(self) -> float:
        """How often it is worth while to put news of a build here."""
        ...

    def require_usable(self) -> None:
        """Raise `StoreMismatchError` where there can be no store."""
        ...

    def sizes(self, paths: Iterable[str]) -> dict[str, int]:
        """The sizes of those of these objects that exist."""
        ...

    def read_each(self, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Path and content of those of these objects that exist, in this order; meant for many small ones."""
        ...

    def entries(self) -> Iterator[str]:
        """The paths of everything that is there; in a folder also those of links and of empty folders."""
        ...

    def put(self, path: str, content: bytes) -> None:
        """Make this the content of an object, whatever it was before."""
        ...

    def create(self, path: str, content: bytes, work: str = WORK_DIR) -> bool:
        """Make an object that does not exist yet. False where it does, with another content; it then stays as it is.

        Until it is complete it may be seen in the work folder.
        """
        ...

    def remove(self, path: str) -> None:
        """Remove what `entries` lists, where it is there."""
        ...

    def draft(self, label: str, work: str) -> Draft:
        """Begin to write files. Meanwhile, something in the work folder has a name that begins with `label`."""
        ...

    def has_work(self) -> bool:
        """Whether a builder is at work, or has left anything behind."""
        ...

    def unfinished(self, work: str) -> list[str]:
        """Names of what lies in a work folder."""
        ...

    def tell(self, work: str, name: str, news: bytes | None) -> None:
        """Put news of a build into a work folder, or take them away again. `OSError` or `StoreError` where it fails."""
        ...

    def sweep(self, work: str) -> None:
        """Remove what a dead builder has left in a work folder that is now ours."""
        ...

    def end_work(self) -> None:
        """Remove all work folders, of a complete store. For the holder of the claim on the whole store."""
        ...

    def part_folders(self) -> list[str]:
        """The work folders of all parts that have been begun; those of the division that was used last come last."""
        ...

    def build_lock(self, role: str = "build") -> AbstractContextManager[Claim]:
        """Hold the right to work on the whole store.

        Raises
        ------
        StoreLockedError
            At once, if another process holds it, or works on a part.
        """
        ...

    def part_lock(self, index: int, num_parts: int) -> AbstractContextManager[Claim]:
        """Hold the right to make one part of a store, beside others.

        Raises
        ------
        StoreLockedError
            At once, if another process makes this part, works on the whole store, or on a part of another division.
        """
        ...

    def frame_lock(self) -> AbstractContextManager[None]:
        """Wait for, and hold, the right to write what the parts have in common; it takes each of them an instant."""
        ...

    def holders(self) -> list[Holder]:
        """Who works on the store now, on whatever machine; empty where nobody does."""
        ...
