"""Watching a build: what is logged, a file that others can read, and a word when nothing moves.

Events go to the logger "ssl_data.build", each with its fields in the attribute ``event``; what becomes of them is for
the program to decide. The progress file lies among the unfinished files of the build, and goes with them.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from ssl_data.errors import StoreError
from ssl_data.store.layout import unfinished_shard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ssl_data.pipeline.attempts import Failure, ShardOutcome
    from ssl_data.store.target import Target

__all__ = ["PROGRESS_NAME", "Monitor", "running_shards"]

PROGRESS_NAME = "progress.json"
STALL_SECONDS = 600.0
"""After so long without a finished shard, the build says so, and which shards are in hand."""

_logger = logging.getLogger("ssl_data.build")
_logger.addHandler(logging.NullHandler())  # nobody listening is no reason to print


class Monitor:
    """Follows the shards of one run; a context manager.

    Parameters
    ----------
    target : Target
        The store.
    work : str
        The work folder of the run.
    num_shards, num_reused : int
        Shards of the run, and those of them that are there already.
    stall_seconds : float
        See `STALL_SECONDS`.
    observe : callable, optional
        Called with the fields of every event, from any thread.
    """

    def __init__(
        self,
        target: Target,
        work: str,
        *,
        num_shards: int,
        num_reused: int,
        stall_seconds: float = STALL_SECONDS,
        observe: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        self._observe = observe
        self._target, self._work = target, work
        self._stall_seconds = stall_seconds
        self._began = self._last_progress = time.time()
        self._num_shards, self._num_reused, self._num_made = num_shards, num_reused, 0
        self._failed: dict[int, Failure] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ssl-data monitor", daemon=True)

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._log(logging.INFO, "start", num_shards=self._num_shards, num_reused=self._num_reused)
        self._write()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Say how it ended. The progress file stays only where it tells of a shard that could not be made."""
        self._stop.set()
        self._thread.join()
        if self._failed:
            self._write()
        else:
            self._tell(None)
        if kind is None:
            self._log(logging.INFO, "end", num_made=self._num_made)
        else:
            self._log(logging.ERROR, "stopped", num_made=self._num_made, error=f"{kind.__name__}: {error}")

    def record(self, outcome: ShardOutcome) -> None:
        """Take note of a shard that was made, or was not."""
        self._last_progress = time.time()
        for failure in outcome.failures:
            self._failed[failure.shard] = failure
            is_last = outcome.result is None and failure is outcome.failures[-1]
            level = logging.ERROR if is_last else logging.WARNING
            self._log(level, "shard-failed", failure.summary, **vars(failure), is_last=is_last)
        if outcome.result is not None:
            self._num_made += 1
            self._failed.pop(outcome.result.shard, None)
            made = {name: getattr(outcome.result, name) for name in ("shard", "num_patches", "num_graphs", "num_bytes")}
            self._log(logging.INFO, "shard-made", **made, seconds=round(outcome.seconds, 3))

    def _watch(self) -> None:
        while not self._stop.wait(min(self._target.news_seconds, self._stall_seconds)):
            self._write()
            still = time.time() - self._last_progress
            if still >= self._stall_seconds:
                self._last_progress = time.time()  # to be said again after as long
                running = self._running()
                names = ", ".join(map(str, running)) or "none that has begun to write"
                message = f"no shard was finished for {still:.0f} s; in hand: {names}"
                self._log(logging.WARNING, "stalled", message, seconds=round(still), running=running)

    def _write(self) -> None:
        """Replace the progress file; that nobody can read it for once is no reason to end a build."""
        progress = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "num_shards": self._num_shards,
            "num_reused": self._num_reused,
            "num_made": self._num_made,
            "seconds": round(time.time() - self._began, 3),
            "failed": [
                {"shard": failure.shard, "attempt": failure.attempt, "error": failure.summary}
                for failure in list(self._failed.values())
            ],
        }
        self._tell(json.dumps(progress).encode())

    def _tell(self, news: bytes | None) -> None:
        try:
            self._target.tell(self._work, PROGRESS_NAME, news)
        except (OSError, StoreError) as error:
            place = self._target.name(f"{self._work}/{PROGRESS_NAME}")
            why = error.strerror if isinstance(error, OSError) else str(error)
            self._log(logging.WARNING, "no-progress-file", f"{place} cannot be written: {why}")

    def _running(self) -> list[int]:
        try:
            return running_shards(self._target, self._work)
        except StoreError:
            return []  # what is not known is not said

    def _log(self, level: int, event: str, message: str = "", **fields: Any) -> None:  # noqa: ANN401 - JSON values
        happened = {"event": event, **fields}
        _logger.log(level, message or event, extra={"event": happened})
        if self._observe is not None:
            self._observe(happened)


def running_shards(target: Target, work: str) -> list[int]:
    """Shards with unfinished files in a work folder: those that are being made, where a builder is at work."""
    return sorted({shard for shard in map(unfinished_shard, target.unfinished(work)) if shard is not None})
