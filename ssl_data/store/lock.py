"""Who may write to a store under construction.

``.build/lock`` is held alone by whoever works on the whole store (a build, its completion, a repair), and together by
the parts of a divided build. Each part has a folder of its own in ``.build``, with a lock that it holds alone. The
kernel, or the server of a shared folder, releases a lock when its process ends, however it ends; the file that stays is
no obstacle.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING

from ssl_data.errors import StoreError, StoreLockedError
from ssl_data.store.layout import WORK_DIR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = [
    "FRAME_LOCK_NAME",
    "LOCK_NAME",
    "PART_PATTERN",
    "Holder",
    "build_lock",
    "current_holders",
    "frame_lock",
    "part_lock",
    "part_work",
    "refusal",
]

LOCK_NAME = "lock"
FRAME_LOCK_NAME = "frame.lock"
PART_PATTERN = "part-*-of-*"
"""The names of the work folders of parts."""
_ATTEMPTS = 4
_PAUSE_SECONDS = 0.05
"""Whoever asks whether a lock is held, holds it for an instant: that must not turn a builder away."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A process that works on a store."""

    role: str
    """What it does: "build", "finalize", "repair", or "part 2/5"."""
    host: str
    pid: int
    since: str
    """When it began, in UTC."""

    @classmethod
    def here(cls, role: str) -> Holder:
        """The running process, from now on."""
        now = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
        return cls(role=role, host=socket.gethostname(), pid=os.getpid(), since=now)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} ({self.role}, since {self.since})"


@contextlib.contextmanager
def build_lock(root: Path, role: str = "build") -> Iterator[None]:
    """Hold the right to work on a whole store.

    Raises
    ------
    StoreLockedError
        At once, if another process holds it, or works on a part.
    StoreError
        If the file system knows no locks.
    """
    file = _take(root / WORK_DIR / LOCK_NAME, fcntl.LOCK_EX)
    if file is None:
        raise _refusal(root)
    with file:
        _sign(file, role)
        yield


@contextlib.contextmanager
def part_lock(root: Path, index: int, num_parts: int) -> Iterator[Path]:
    """Hold the right to make one part of a store, beside others; yield the part's work folder.

    Raises
    ------
    StoreLockedError
        At once, if another process makes this part, works on the whole store, or on a part of another division, which
        would have shards in common with this one.
    StoreError
        If the file system knows no locks.
    """
    folder = root / part_work(index, num_parts)
    whole = _take(root / WORK_DIR / LOCK_NAME, fcntl.LOCK_SH)
    if whole is None:
        raise _refusal(root)
    with whole:
        own = _take(folder / LOCK_NAME, fcntl.LOCK_EX)
        if own is None:
            raise _refusal(root, [_read_holder(folder / LOCK_NAME)])
        with own:
            _sign(own, f"part {index}/{num_parts}")
            others = [path for path in _part_locks(root) if not path.parent.name.endswith(f"-of-{num_parts}")]
            foreign = [_read_holder(path) for path in others if _is_held(path)]
            if foreign:
                raise _refusal(root, foreign)
            yield folder


@contextlib.contextmanager
def frame_lock(root: Path) -> Iterator[None]:
    """Wait for, and hold, the right to write what the parts have in common; it takes each of them an instant."""
    with (root / WORK_DIR / FRAME_LOCK_NAME).open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def part_work(index: int, num_parts: int) -> str:
    """Where a part keeps its lock and its unfinished files, relative to the store."""
    return f"{WORK_DIR}/part-{index}-of-{num_parts}"


def current_holders(root: Path) -> list[Holder]:
    """Who works on a store now, on whatever machine; empty where nobody does."""
    whole = root / WORK_DIR / LOCK_NAME
    paths = [whole] if _is_held(whole) else [path for path in _part_locks(root) if _is_held(path)]
    return [holder for holder in map(_read_holder, paths) if holder is not None]


def _part_locks(root: Path) -> list[Path]:
    return sorted((root / WORK_DIR).glob(f"{PART_PATTERN}/{LOCK_NAME}"))


def _take(path: Path, kind: int) -> IO[str] | None:
    """The open, locked file, or None where another process holds the lock."""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE_SECONDS)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("a+", encoding="utf-8")
        except FileNotFoundError:  # the store was completed, and its work folder removed, this very instant
            continue
        if _try_lock(file, kind, path):
            return file
        file.close()
    return None


def _try_lock(file: IO[str], kind: int, path: Path) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        file.close()
        raise StoreError(
            f"{path} cannot be locked ({error.strerror}): two builders on this file system would not see each other; "
            "mount it with locks (NFS: without nolock, Lustre: with flock)"
        ) from error
    # The holder may just have completed the store, and removed the file that we have locked.
    return path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())


def _is_held(path: Path) -> bool:
    """Whether a process holds this lock alone."""
    try:
        file = path.open("r", encoding="utf-8")
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False


def _sign(file: IO[str], role: str) -> None:
    file.truncate(0)
    file.write(json.dumps(asdict(Holder.here(role))))
    file.flush()


def _read_holder(path: Path) -> Holder | None:
    """Who signed a lock, or None where that cannot be read, as in the instant before it is signed."""
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _refusal(root: Path, holders: list[Holder | None] | None = None) -> StoreLockedError:
    return refusal(root, current_holders(root) if holders is None else holders)


def refusal(store: Path | str, holders: Sequence[Holder | None], remedy: str = "") -> StoreLockedError:
    """The error for whoever comes second to a store; a holder that is not known is None."""
    known = [str(holder) for holder in holders if holder is not None]
    names = " and ".join(known[:3]) + (" and others" if len(known) > 3 else "")
    who = names or "another process"
    return StoreLockedError(f"{store} is being built by {who}; wait for it to end or stop it{remedy}")
