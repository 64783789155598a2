"""Building a store in an object store; see `ssl_data.store.target` and docs/decisions/0013-object-stores-as-targets.md.

Files are written on this machine, without a name, so that nothing is left of them when the process dies, and put whole.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Self

from ssl_data.store import lease
from ssl_data.store.fetcher import ABSENT, FetchError, delete, fetch, fetch_each, fetch_size, list_below, put, put_if
from ssl_data.store.layout import WORK_DIR
from ssl_data.store.lock import LOCK_NAME
from ssl_data.store.remote import RemoteSource, explained
from ssl_data.store.source import ObjectMissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ssl_data.store.lock import Holder
    from ssl_data.store.target import Claim

__all__ = ["RemoteTarget"]

_BLOCK_BYTES = 1 << 20
_PATHS_AT_ONCE = 64
_ATTEMPTS, _FIRST_PAUSE_SECONDS = 4, 0.2
"""For conditional puts, which the client does not repeat by itself: it cannot know whether the first has arrived."""


class _RemoteDraft:
    """Temporary files, and a mark in the store that they are being written; see `ssl_data.store.target.Draft`."""

    def __init__(self, target: RemoteTarget, label: str, work: str) -> None:
        self._target = target
        self._mark = f"{work}/{label}-{uuid.uuid4().hex[:12]}"
        self._files: list[tuple[str, BinaryIO]] = []

    def __enter__(self) -> Self:
        try:
            self._target.put(self._mark, b"")
        except BaseException as error:  # an interrupt, perhaps: the mark may be there nevertheless
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for _path, file in self._files:
            file.close()
        with contextlib.suppress(FetchError):  # whoever holds the work folder next sweeps it
            delete(self._target.url, [self._mark], brief=kind is not None)

    def open(self, path: str) -> BinaryIO:
        """See `Draft.open`."""
        self._files.append((path, tempfile.TemporaryFile()))  # noqa: SIM115 - closed when the draft is left
        return self._files[-1][1]

    def commit(self) -> None:
        """See `Draft.commit`."""
        for path, file in self._files:
            num_bytes = file.seek(0, os.SEEK_END)
            self._target.put_blocks(path, partial(_blocks, file), num_bytes)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    return iter(partial(file.read, _BLOCK_BYTES), b"")


class RemoteTarget(RemoteSource):
    """All below a URL; see `ssl_data.store.target.Target`."""

    news_seconds = 15.0

    def require_usable(self) -> None:
        """See `Target.require_usable`: there is no telling before something is there."""

    def sizes(self, paths: Iterable[str]) -> dict[str, int]:
        """See `Target.sizes`; one listing, unless it is about one object."""
        wanted = set(paths)
        if not wanted:
            return {}
        if len(wanted) == 1:
            return self._size(*wanted)
        shared = {path.partition("/")[0] for path in wanted if "/" in path}
        below = shared.pop() if len(shared) == 1 and all("/" in path for path in wanted) else ""
        with self._explained(below):
            return {path: num_bytes for path, num_bytes, _ in list_below(self.url, below) if path in wanted}

    def _size(self, path: str) -> dict[str, int]:
        with contextlib.suppress(ObjectMissingError), self._explained(path):
            return {path: fetch_size(self.url, path)}
        return {}

    def read_each(self, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """See `Target.read_each`; some at a time."""
        left = iter(paths)
        while chosen := list(itertools.islice(left, _PATHS_AT_ONCE)):
            with self._explained(chosen[0]):
                contents = fetch_each(self.url, chosen)
            yield from ((path, content) for path, content in zip(chosen, contents, strict=True) if content is not None)

    def entries(self) -> Iterator[str]:
        """See `Target.entries`."""
        with self._explained(""):
            yield from (entry.path for entry in list_below(self.url))

    def put(self, path: str, content: bytes) -> None:
        """See `Target.put`."""
        self.put_blocks(path, lambda: [content], len(content))

    def put_blocks(self, path: str, blocks: Callable[[], Iterable[bytes]], num_bytes: int) -> None:
        """The same with content that need not be in memory as a whole."""
        with self._explained(path):
            put(self.url, path, blocks, num_bytes)

    def create(self, path: str, content: bytes, work: str = WORK_DIR) -> bool:  # noqa: ARG002 - nothing is unfinished here
        """See `Target.create`. An attempt of our own that was answered by an error may have arrived nevertheless."""
        with self._explained(path):
            for attempt in range(_ATTEMPTS):
                try:
                    put_if(self.url, path, content, ABSENT)
                except FetchError as error:
                    if error.kind == "conflict":
                        return fetch(self.url, path) == content
                    if error.kind == "denied" or attempt == _ATTEMPTS - 1:
                        raise
                    time.sleep(_FIRST_PAUSE_SECONDS * 2**attempt)
                else:
                    return True
        raise AssertionError  # the last attempt returns or raises

    def remove(self, path: str) -> None:
        """See `Target.remove`."""
        self._remove_all([path])

    def _remove_all(self, paths: Iterable[str]) -> None:
        chosen = list(paths)
        with self._explained(chosen[0] if len(chosen) == 1 else WORK_DIR):
            delete(self.url, chosen)

    def draft(self, label: str, work: str) -> _RemoteDraft:
        """See `Target.draft`."""
        return _RemoteDraft(self, label, work)

    def has_work(self) -> bool:
        """See `Target.has_work`."""
        return bool(self.unfinished(WORK_DIR))

    def unfinished(self, work: str) -> list[str]:
        """See `Target.unfinished`."""
        with self._explained(work):
            return [entry.path.removeprefix(f"{work}/") for entry in list_below(self.url, work)]

    def tell(self, work: str, name: str, news: bytes | None) -> None:
        """See `Target.tell`; gives up soon."""
        path = f"{work}/{name}"
        with self._explained(path):
            if news is None:
                delete(self.url, [path], brief=True)
            else:
                put(self.url, path, lambda: [news], len(news), brief=True)

    def sweep(self, work: str) -> None:
        """See `Target.sweep`; the lock of the folder is ours, and stays."""
        self._remove_all(f"{work}/{name}" for name in self.unfinished(work) if name != LOCK_NAME)

    def end_work(self) -> None:
        """See `Target.end_work`; our own lock goes when it is released."""
        self.sweep(WORK_DIR)

    def part_folders(self) -> list[str]:
        """See `Target.part_folders`."""
        with self._explained(WORK_DIR):
            return lease.part_folders(list_below(self.url, WORK_DIR))

    def build_lock(self, role: str = "build") -> contextlib.AbstractContextManager[Claim]:
        """See `Target.build_lock`."""
        return lease.build_lease(self.url, role)

    def part_lock(self, index: int, num_parts: int) -> contextlib.AbstractContextManager[Claim]:
        """See `Target.part_lock`."""
        return lease.part_lease(self.url, index, num_parts)

    def frame_lock(self) -> contextlib.AbstractContextManager[None]:
        """See `Target.frame_lock`."""
        return lease.frame_lease(self.url)

    def holders(self) -> list[Holder]:
        """See `Target.holders`; as far as this machine's clock agrees with the server's."""
        with self._explained(WORK_DIR):
            return lease.current_holders(self.url)

    def _explained(self, path: str) -> contextlib.AbstractContextManager[None]:
        return explained(str(self.name(path)) if path else self.url, "written")
