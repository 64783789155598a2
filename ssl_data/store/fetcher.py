"""Requests to object stores, made by a small process beside each process that reads.

The client library runs threads of its own, which a fork does not copy: a process that was forked after the first
request would wait for ever, whatever client it makes (tried with obstore 0.12). Training forks its loader workers after
the dataset was opened. So the client lives in a process of its own, started by the first request of each reading
process; a reading process never has those threads, and may fork at any time.
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
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ssl_data.errors import MissingDependencyError

__all__ = ["FetchError", "fetch", "fetch_size"]

_PROGRAM = Path(__file__).with_name("fetch_process.py")
_SILENCE_SECONDS = 300.0
"""The process bounds its own retries; it is given up only if nothing at all arrives for so long."""


class FetchError(Exception):
    """A request failed for good.

    Parameters
    ----------
    kind : str
        "missing", "denied", "short" (the object ends before the range does) or "failed".
    detail : str
        Status, code or short phrase, free of credentials.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail


class _Fetcher:
    """The running process and the two pipes to it."""

    def __init__(self) -> None:
        if find_spec("obstore") is None:
            raise MissingDependencyError("reading remote stores needs obstore: pip install 'ssl_data[remote]'")
        self.environment = dict(os.environ)
        self._process = subprocess.Popen(  # noqa: S603 - this package's own program
            [sys.executable, "-P", str(_PROGRAM)],  # -P: the program's folder is not a place to import from
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        # Unlike `atexit` this also runs at the end of worker processes, so that they leave no zombies behind.
        self._finalizer = multiprocessing.util.Finalize(None, self.close, exitpriority=0)

    def request(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Send one request and wait for the answer and its content; `FetchError` if the process is no more."""
        assert self._process.stdin is not None  # noqa: S101 - for the type checker: it is a pipe
        with contextlib.suppress(BrokenPipeError):  # `_receive` says so
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
        answer: dict[str, Any] = json.loads(self._receive(int.from_bytes(self._receive(4), "big")))
        return answer, self._receive(answer["num_bytes"])

    def _receive(self, num_bytes: int) -> bytes:
        assert self._process.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
        descriptor = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        content, done = bytearray(num_bytes), 0
        while done < num_bytes:
            if not poll.poll(_SILENCE_SECONDS * 1000):
                raise FetchError("failed", f"the fetching process was silent for {_SILENCE_SECONDS:.0f} s")
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


_lock = threading.Lock()
_fetcher: _Fetcher | None = None


def _after_fork() -> None:
    """Start afresh: the process belongs to the parent, and so may the lock, held by one of its threads just then."""
    global _lock, _fetcher
    inherited, _fetcher, _lock = _fetcher, None, threading.Lock()
    if inherited is not None:
        inherited.abandon()


os.register_at_fork(after_in_child=_after_fork)


def _request(**request: Any) -> tuple[dict[str, Any], bytes]:  # noqa: ANN401 - JSON values
    global _fetcher  # noqa: PLW0603 - one per process is the point
    with _lock:
        if _fetcher is not None and _fetcher.environment != dict(os.environ):
            _fetcher.close()  # the credentials may be others by now
            _fetcher = None
        if _fetcher is None:
            _fetcher = _Fetcher()
        try:
            answer, content = _fetcher.request(request)
        except BaseException:  # also Ctrl-C: half an answer may be left in the pipe
            _fetcher.close()
            _fetcher = None
            raise
    if "error" in answer:
        raise FetchError(answer["error"], answer["detail"])
    return answer, content


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
    return _request(url=url, path=path, start=start, stop=stop)[1]


def fetch_size(url: str, path: str) -> int:
    """Size of an object in bytes; errors as those of `fetch`."""
    size: int = _request(url=url, path=path, start=0, stop=None)[0]["size"]
    return size
