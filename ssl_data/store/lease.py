"""Who may write to a store under construction in an object store, which knows no locks.

A lease is an object that says who holds it. It is made where there is none, and replaced where it is stale, by
conditional puts, of which the server lets only one succeed. Its holder puts it again and again; one that was not
renewed for as long as it says is stale, by the clock of the server, which alone is the same for all. A holder that
cannot renew its lease knows, before others do, that it may have lost it.

The objects and rules are those of the locks of a folder, see `ssl_data.store.lock`.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import threading
import time
import uuid
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from ssl_data.errors import ConfigError, StoreError, StoreLockedError
from ssl_data.store.fetcher import ABSENT, FetchError, delete, fetch_version, list_below, put, put_if
from ssl_data.store.layout import WORK_DIR
from ssl_data.store.lock import FRAME_LOCK_NAME, LOCK_NAME, PART_PATTERN, Holder, part_work, refusal
from ssl_data.store.remote import explained
from ssl_data.store.target import Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ssl_data.store.fetcher import Listed, Version

__all__ = ["LEASE_VARIABLE", "build_lease", "current_holders", "frame_lease", "part_folders", "part_lease"]

LEASE_VARIABLE = "SSL_DATA_LEASE_SECONDS"
_DEFAULT_SECONDS = 60.0
_RENEWALS_PER_LEASE = 4
_CLOCK_GRAIN_SECONDS = 1.0
"""Servers tell times in whole seconds."""
_ATTEMPTS, _PAUSE_SECONDS = 5, 0.2
"""To take a lease that others take, renew or give up at the same moment, and where the network fails."""
_RELEASE_SECONDS = 3.0
"""A renewal under way delays the end of a builder by no more than this."""
_FRAME_POLL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """The content of a lease."""

    holder: Holder
    process: tuple[str, int] | None
    """Machine and start of the holding process, by which others on that machine can see that it is dead."""
    seconds: float
    """How long it stays valid without being renewed."""
    token: str
    renewals: int = 0
    """So that no two versions of it are equal."""
    released: bool = False

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, content: bytes) -> Self:
        values = json.loads(content)
        process = values.pop("process")
        return cls(**{**values, "holder": Holder(**values["holder"]), "process": process and (process[0], process[1])})

    def is_over(self, age_seconds: float) -> bool:
        """Whether nobody holds it any more, if it was put that long ago."""
        is_stale = age_seconds > self.seconds + _CLOCK_GRAIN_SECONDS
        return self.released or is_stale or _is_dead(self.holder.pid, self.process)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A lease as it was read."""

    entry: _Entry | None
    """None where it cannot be understood."""
    version: Version
    modified: float

    def is_over(self, now: float) -> bool:
        """Whether nobody holds it any more at that time; what cannot be understood, if it has been there for long."""
        age_seconds = now - self.modified
        return age_seconds > _DEFAULT_SECONDS if self.entry is None else self.entry.is_over(age_seconds)


def _machine() -> str | None:
    """What processes have in common that see each other's process numbers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return None


def _start_of(pid: int) -> int | None:
    """When a process began, in ticks since the machine did; None where it is no more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _is_dead(pid: int, process: tuple[str, int] | None) -> bool:
    """Whether a process is known to be no more; not if it runs, or ran, on another machine."""
    return process is not None and process[0] == _machine() and process[1] != _start_of(pid)


def _refusal(url: str, found: _Found | None) -> StoreLockedError:
    if found is None or found.entry is None:
        return refusal(url, [])
    return refusal(
        url, [found.entry.holder], f". Should it have died, its claim ends {found.entry.seconds:.0f} s later"
    )


def _read(url: str, path: str, *, brief: bool = False) -> _Found | None:
    try:
        content, version, modified = fetch_version(url, path, brief=brief)
    except FetchError as error:
        if error.kind == "missing":
            return None
        raise
    try:
        return _Found(entry=_Entry.decode(content), version=version, modified=modified)
    except (ValueError, TypeError, KeyError, AttributeError):
        return _Found(entry=None, version=version, modified=modified)


def _server_time(url: str) -> float:
    """The time by the clock of the server: that of an object that is put now."""
    path = f"{WORK_DIR}/clock-{uuid.uuid4().hex[:12]}"
    put(url, path, tuple, 0)
    try:
        return fetch_version(url, path)[2]
    finally:
        with contextlib.suppress(FetchError):
            delete(url, [path], brief=True)


def _lease_seconds() -> float:
    text = os.environ.get(LEASE_VARIABLE, "").strip()
    try:
        seconds = float(text or _DEFAULT_SECONDS)
    except ValueError:
        seconds = 0.0
    if not 2 <= seconds < float("inf"):
        raise ConfigError(f"{LEASE_VARIABLE} must be a number of seconds, at least 2, got {text!r}")
    return seconds


class _Lease:
    """A lease that this process wants, or has; it is renewed by a thread while the context lasts."""

    def __init__(self, url: str, path: str, role: str) -> None:
        self._url, self._path = url, path
        machine, start = _machine(), _start_of(os.getpid())
        self._entry = _Entry(
            holder=Holder.here(role),
            process=None if machine is None or start is None else (machine, start),
            seconds=_lease_seconds(),
            token=uuid.uuid4().hex,
        )
        self._version: Version = {}
        self._renewed = 0.0
        self._taken_by: Holder | None = None
        self._is_lost = False
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="ssl-data lease", daemon=True)
        self.keep_object = False
        """Whether the object stays when the lease is released, and only says so."""

    def take(self) -> None:
        """Take it, or raise `StoreLockedError` with its holder."""
        failure: FetchError | None = None
        found: _Found | None = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE_SECONDS)
            found = _read(self._url, self._path)
            if found is not None and found.entry is not None and found.entry.token == self._entry.token:
                self._version = found.version  # an attempt that was answered by an error had arrived
                return
            if found is not None and not self._is_over(found):
                raise _refusal(self._url, found)
            self._renewed = _now()
            try:
                self._version = self._put(ABSENT if found is None else found.version)
            except FetchError as error:
                if error.kind not in ("conflict", "missing", "failed"):
                    raise
                failure = error if error.kind == "failed" else None
            else:
                return
        raise failure or _refusal(self._url, found)

    def _is_over(self, found: _Found) -> bool:
        return found.is_over(found.modified) or found.is_over(_server_time(self._url))

    def _put(self, condition: Version | Literal["absent"], *, brief: bool = False) -> Version:
        return put_if(self._url, self._path, self._entry.encode(), condition, brief=brief)

    def prove_conditions(self) -> None:
        """Make sure that the server heeds conditions: without them nobody could be kept out."""
        before = self._version
        _insist(self._renew)
        conditions: tuple[Version | Literal["absent"], ...] = (ABSENT, before)
        for condition in conditions:
            try:
                _insist(partial(self._put, condition))
            except FetchError as error:
                if error.kind != "conflict":
                    raise
            else:
                raise StoreError(
                    f"{self._url}: this object store ignores the conditions of puts (If-None-Match, If-Match), without "
                    "which two builders would not see each other; build in a folder, and copy the store there"
                )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._is_lost or _now() - self._renewed > self._entry.seconds / 2:
            return  # it may be another's by now; if not, it ends by itself
        if not self._lock.acquire(timeout=_RELEASE_SECONDS):
            return
        try:
            self._release()
        except FetchError:
            pass  # it ends by itself
        finally:
            self._lock.release()

    def _release(self) -> None:
        if self.keep_object:
            self._entry = replace(self._entry, released=True)
            self._put(self._version, brief=True)
        else:
            delete(self._url, [self._path], brief=True)

    def _keep(self) -> None:
        while not self._stop.wait(self._entry.seconds / _RENEWALS_PER_LEASE):
            with contextlib.suppress(FetchError):  # there is time for further attempts
                self._renew()

    def _renew(self) -> None:
        """Put it again; where it is another's by now, or gone, it is lost."""
        with self._lock:
            if self._stop.is_set() or self._is_lost:
                return
            began = _now()
            self._entry = replace(self._entry, renewals=self._entry.renewals + 1)
            try:
                self._version = self._put(self._version, brief=True)
            except FetchError as error:
                if error.kind not in ("conflict", "missing"):
                    raise
                found = _read(self._url, self._path, brief=True)
                if found is None or found.entry is None or found.entry.token != self._entry.token:
                    self._is_lost = True
                    self._taken_by = None if found is None or found.entry is None else found.entry.holder
                    return
                self._version = found.version  # an earlier renewal had arrived, though its answer was lost
                self._version = self._put(self._version, brief=True)
            self._renewed = began

    def check(self) -> None:
        """Raise `StoreLockedError` if it is lost, or may be."""
        if _now() - self._renewed > self._entry.seconds:
            with contextlib.suppress(FetchError):  # perhaps nobody has noticed
                self._renew()
        if self._is_lost:
            who = "" if self._taken_by is None else f" by {self._taken_by}"
            raise StoreLockedError(f"{self._url}: the claim of this builder ran out, and was taken over{who}")
        if _now() - self._renewed > self._entry.seconds:
            raise StoreLockedError(
                f"{self._url}: the claim of this builder could not be renewed for {self._entry.seconds:.0f} s, so that "
                "others may have taken it over; check the network, and run the same command again"
            )


def _insist(action: Callable[[], object]) -> None:
    """Do what does no harm when it is done twice, and again where the network fails."""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE_SECONDS)
        try:
            action()
        except FetchError as error:
            if error.kind != "failed" or attempt == _ATTEMPTS - 1:
                raise
        else:
            return


def _now() -> float:
    """Seconds, also those for which the machine was asleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@contextlib.contextmanager
def build_lease(url: str, role: str) -> Iterator[Claim]:
    """See `Target.build_lock`."""
    with explained(f"{url}/{WORK_DIR}", "written"):
        own = _Lease(url, f"{WORK_DIR}/{LOCK_NAME}", role)
        own.take()
        with own:
            own.prove_conditions()
            parts = _live(url, _part_locks(list_below(url, WORK_DIR)), _server_time(url))
            if parts:
                raise refusal(url, parts)
            yield Claim(WORK_DIR, own.check)


@contextlib.contextmanager
def part_lease(url: str, index: int, num_parts: int) -> Iterator[Claim]:
    """See `Target.part_lock`. Parts and whole builds each take their own lease first, and look for others then."""
    with explained(f"{url}/{WORK_DIR}", "written"):
        work = part_work(index, num_parts)
        own = _Lease(url, f"{work}/{LOCK_NAME}", f"part {index}/{num_parts}")
        own.take()
        with own:
            own.prove_conditions()
            others = [path for path in _part_locks(list_below(url, WORK_DIR)) if f"-of-{num_parts}/" not in path]
            live = _live(url, [f"{WORK_DIR}/{LOCK_NAME}", *others], _server_time(url))
            if live:
                raise refusal(url, live)
            own.keep_object = True  # it says how the build is divided
            yield Claim(work, own.check)


@contextlib.contextmanager
def frame_lease(url: str) -> Iterator[None]:
    """See `Target.frame_lock`."""
    with explained(f"{url}/{WORK_DIR}", "written"):
        own = _Lease(url, f"{WORK_DIR}/{FRAME_LOCK_NAME}", "frame")
        give_up = _now() + 2 * _lease_seconds()
        while True:
            try:
                own.take()
                break
            except StoreLockedError:
                if _now() > give_up:
                    raise
            time.sleep(_FRAME_POLL_SECONDS)
        with own:
            yield


def current_holders(url: str) -> list[Holder]:
    """See `Target.holders`; by the clock of this machine, since looking must change nothing."""
    listed = list_below(url, WORK_DIR)
    whole = [entry.path for entry in listed if entry.path == f"{WORK_DIR}/{LOCK_NAME}"]
    now = time.time()
    live = _live(url, whole, now) or _live(url, _part_locks(listed), now)
    return [holder for holder in live if holder is not None]


def part_folders(listed: Iterable[Listed]) -> list[str]:
    """See `Target.part_folders`."""
    times = {entry.path: entry.modified for entry in listed}
    return [path.rpartition("/")[0] for path in sorted(_part_locks(listed), key=times.__getitem__)]


def _part_locks(listed: Iterable[Listed]) -> list[str]:
    pattern = f"{WORK_DIR}/{PART_PATTERN}/{LOCK_NAME}"
    return sorted(entry.path for entry in listed if fnmatch.fnmatchcase(entry.path, pattern))


def _live(url: str, paths: Iterable[str], now: float) -> list[Holder | None]:
    """The holders, as far as they are known, of those of some leases that are held at that time."""
    found = [lease for lease in (_read(url, path) for path in paths) if lease is not None]
    held = [lease.entry for lease in found if not lease.is_over(now)]
    return [None if entry is None else entry.holder for entry in held]
