"""Requests to object stores, made by a small process beside each process that reads or writes.

The client library runs threads of its own, which a fork does not copy: a process that was forked after the first
request would wait for ever, whatever client it makes (tried with obstore 0.12). Training forks its loader workers after
the dataset was opened. So the client lives in a process of its own, started by the first request of each process;
none but that one has those threads, and a process may fork at any time. Threads that ask at the same time have a
process each.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing.util
import os
import select
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ssl_data.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = [
    "ABSENT",
    "FetchError",
    "Listed",
    "Version",
    "delete",
    "fetch",
    "fetch_each",
    "fetch_size",
    "fetch_version",
    "list_below",
    "put",
    "put_if",
]

_PROGRAM = Path(__file__).with_name("fetch_process.py")
_ATTEMPTS, _FIRST_PAUSE_SECONDS, _PATIENCE_SECONDS = 4, 0.2, 60.0
"""For what the client library does not repeat by itself: deletions, listings that break off, objects put in parts. No
new attempt is made when so much time is over; the pause doubles each time."""
_SILENCE_SECONDS = 300.0
"""The process bounds its own retries; it is given up only if nothing at all arrives for so long."""


class FetchError(Exception):
    """A request failed for good.

    Parameters
    ----------
    kind : str
        "missing", "denied", "short" (the object ends before the range does), "conflict" (the object is not what a
        conditional put expects) or "failed".
    detail : str
        Status, code or short phrase, free of credentials.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail


Version = dict[str, str]
"""What tells the content of an object from what it was before and will be later."""
ABSENT: Literal["absent"] = "absent"
"""The condition that there be no such object yet."""


class Listed(NamedTuple):
    """An object, as a listing has it."""

    path: str
    num_bytes: int
    modified: float
    """When it was put, in seconds since 1970 by the clock of the server."""


class _Fetcher:
    """The running process and the two pipes to it."""

    def __init__(self) -> None:
        if find_spec("obstore") is None:
            raise MissingDependencyError("remote stores need obstore: pip install 'ssl_data[remote]'")
        self.environment = dict(os.environ)
        self._process = subprocess.Popen(  # noqa: S603 - this package's own program
            [sys.executable, "-P", str(_PROGRAM)],  # -P: the program's folder is not a place to import from
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        assert self._process.stdin is not None  # noqa: S101 - for the type checker: it is a pipe
        os.set_blocking(self._process.stdin.fileno(), False)
        # Unlike `atexit` this also runs at the end of worker processes, so that they leave no zombies behind.
        self._finalizer = multiprocessing.util.Finalize(None, self.close, exitpriority=0)

    def request(self, request: dict[str, Any], content: Iterable[bytes]) -> tuple[dict[str, Any], bytes]:
        """Send one request and wait for the answer and its content; `FetchError` if the process is no more."""
        with contextlib.suppress(BrokenPipeError):  # `_receive` says so
            self._send(json.dumps(request).encode() + b"\n")
            for block in content:
                self._send(block)
        answer: dict[str, Any] = json.loads(self._receive(int.from_bytes(self._receive(4), "big")))
        return answer, self._receive(answer["num_bytes"])

    def _send(self, content: bytes) -> None:
        assert self._process.stdin is not None  # noqa: S101 - for the type checker: it is a pipe
        descriptor, left = self._process.stdin.fileno(), memoryview(content)
        while left:
            _wait(descriptor, select.POLLOUT)
            with contextlib.suppress(BlockingIOError):  # no room for all that a pipe takes at once
                left = left[os.write(descriptor, left) :]

    def _receive(self, num_bytes: int) -> bytes:
        assert self._process.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
        descriptor = self._process.stdout.fileno()
        content, done = bytearray(num_bytes), 0
        while done < num_bytes:
            _wait(descriptor, select.POLLIN)
            received = os.readv(descriptor, [memoryview(content)[done:]])
            if not received:
                raise FetchError("failed", f"the fetching process ended with status {self._process.wait()}")
            done += received
        return bytes(content)

    def close(self) -> None:
        """End the process. It holds nothing worth saving, and may be in the middle of a long answer."""
        self._finalizer.cancel()
        self._process.kill()
        self._process.wait()
        self._close_pipes()

    def abandon(self) -> None:
        """In a forked copy: leave the process to the parent."""
        self._process.returncode = 0  # not a child of this process: nothing to wait for
        self._close_pipes()

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def _wait(descriptor: int, event: int) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(_SILENCE_SECONDS * 1000):
        raise FetchError("failed", f"the fetching process was silent for {_SILENCE_SECONDS:.0f} s")


class _Pool:
    """The fetching processes of this process: as many as threads have asked at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.all: list[_Fetcher] = []
        self.idle: list[_Fetcher] = []

    @contextlib.contextmanager
    def borrow(self) -> Iterator[_Fetcher]:
        """A fetching process for one request. One that was interrupted may have half an answer left: it is ended."""
        fetcher = self._take()
        try:
            yield fetcher
        except BaseException:  # also Ctrl-C
            self._end(fetcher)
            raise
        with self._lock:
            self.idle.append(fetcher)

    def _take(self) -> _Fetcher:
        with self._lock:
            while self.idle:
                fetcher = self.idle.pop()
                if fetcher.environment == dict(os.environ):
                    return fetcher
                self.all.remove(fetcher)  # the credentials may be others by now
                fetcher.close()
            fetcher = _Fetcher()
            self.all.append(fetcher)
            return fetcher

    def _end(self, fetcher: _Fetcher) -> None:
        fetcher.close()
        with self._lock:
            self.all.remove(fetcher)


_pool = _Pool()


def _after_fork() -> None:
    """Start afresh: the processes belong to the parent, and so may the lock, held by one of its threads just then."""
    global _pool
    inherited, _pool = _pool, _Pool()
    for fetcher in inherited.all:
        fetcher.abandon()


os.register_at_fork(after_in_child=_after_fork)


def _request(
    op: str,
    url: str,
    *,
    content: Iterable[bytes] = (),
    num_bytes: int = 0,
    brief: bool = False,
    **request: Any,  # noqa: ANN401 - JSON values
) -> tuple[dict[str, Any], bytes]:
    with _pool.borrow() as fetcher:
        asked = {"op": op, "url": url, "brief": brief, "num_bytes": num_bytes, **request}
        answer, received = fetcher.request(asked, content)
    if "error" in answer:
        raise FetchError(answer["error"], answer["detail"])
    return answer, received


def fetch(url: str, path: str, start: int | None = None, stop: int | None = None) -> bytes:
    """Bytes `start` to `stop` of an object, or all of it.

    Parameters
    ----------
    url : str
        Of the store.
    path : str
        Of the object, relative to the store.

    Raises
    ------
    FetchError
        After retries, where they can help.
    MissingDependencyError
        If obstore is not installed.
    """
    return _request("get", url, path=path, start=start, stop=stop)[1]


def fetch_each(url: str, paths: Sequence[str]) -> list[bytes | None]:
    """The contents of many small objects, fetched beside each other; None for one that does not exist."""
    answer, content = _persist("each", url, paths=list(paths))
    contents: list[bytes | None] = []
    at = 0
    for size in answer["sizes"]:
        contents.append(None if size is None else content[at : at + size])
        at += size or 0
    return contents


def fetch_version(url: str, path: str, *, brief: bool = False) -> tuple[bytes, Version, float]:
    """An object's content, version, and the time when it was put, by the server's clock; errors as those of `fetch`.

    With `brief`, all is tried once more at most, and given up after some seconds.
    """
    answer, content = _request("get", url, path=path, start=None, stop=None, brief=brief)
    return content, answer["version"], answer["modified"]


def fetch_size(url: str, path: str) -> int:
    """Size of an object in bytes; errors as those of `fetch`."""
    size: int = _request("size", url, path=path)[0]["size"]
    return size


def _persist(
    op: str,
    url: str,
    *,
    content: Callable[[], Iterable[bytes]] = tuple,
    **request: Any,  # noqa: ANN401 - JSON values
) -> tuple[dict[str, Any], bytes]:
    """The same for a request that may be repeated, whether or not it has arrived."""
    give_up = time.monotonic() + (0 if request.get("brief") else _PATIENCE_SECONDS)
    for attempt in range(_ATTEMPTS):
        try:
            return _request(op, url, content=content(), **request)
        except FetchError as error:
            if error.kind != "failed" or attempt == _ATTEMPTS - 1 or time.monotonic() > give_up:
                raise
        time.sleep(_FIRST_PAUSE_SECONDS * 2**attempt)
    raise AssertionError  # the last attempt returns or raises


def put(
    url: str,
    path: str,
    content: Callable[[], Iterable[bytes]],
    num_bytes: int,
    *,
    brief: bool = False,
) -> Version:
    """Put a whole object, whatever was there before; errors as those of `fetch`.

    Parameters
    ----------
    content : callable
        Gives the content, block by block, `num_bytes` in all; called for each attempt.
    """
    answer, _ = _persist("put", url, path=path, content=content, num_bytes=num_bytes, condition=None, brief=brief)
    version: Version = answer["version"]
    return version


def put_if(
    url: str, path: str, content: bytes, condition: Version | Literal["absent"], *, brief: bool = False
) -> Version:
    """Put a whole object that is absent, or has the version given; errors as those of `fetch`.

    Raises
    ------
    FetchError
        Also "conflict", if the condition is not met. This is tried once: "failed" may mean that the object was put all
        the same, and a second attempt would be in conflict with the first.
    """
    asked: dict[str, Any] = {"path": path, "condition": condition, "num_bytes": len(content), "brief": brief}
    answer, _ = _request("put", url, content=[content], **asked)
    version: Version = answer["version"]
    return version


def delete(url: str, paths: Iterable[str], *, brief: bool = False) -> None:
    """Remove objects, as far as they exist; errors as those of `fetch`."""
    _persist("delete", url, paths=list(paths), brief=brief)


def list_below(url: str, prefix: str = "", *, limit: int | None = None) -> list[Listed]:
    """All objects, or some of them, below a folder of the store, or of the whole store; errors as those of `fetch`."""
    lines = _persist("list", url, prefix=prefix, limit=limit)[1].splitlines()
    return [Listed(*json.loads(line)) for line in lines]
