"""Making a shard in a few attempts: what fails is tried again after a pause, and then reported, not lost."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssl_data.errors import BuildError, SSLDataError, explain_os_error, one_line
from ssl_data.pipeline.job import IMAGE_NOTE, ShardResult, run_shard

if TYPE_CHECKING:
    from ssl_data.pipeline.plan import ShardJob

__all__ = ["DEFAULT_RETRIES", "Failure", "ShardOutcome", "attempt_shard"]

DEFAULT_RETRIES = 2
_FIRST_PAUSE_SECONDS = 0.5
"""Before the second attempt; the pause doubles with each."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An attempt to make a shard that came to nothing."""

    shard: int
    attempt: int
    """From 1 on."""
    image: str | None
    """The image in hand; None where it was not about one."""
    error: str
    """What is wrong, in one line."""
    traceback: str

    @property
    def summary(self) -> str:
        """Shard, image and error in one line."""
        image = "" if self.image is None or self.image in self.error else f", image {one_line(self.image)}"
        return f"shard {self.shard}{image}: {self.error}"

    def to_error(self) -> BuildError:
        """The error that ends a build; the traceback of its cause, which may be of another machine, is a note."""
        attempts = f" (in attempt {self.attempt}, the last)" if self.attempt > 1 else ""
        error = BuildError(f"{self.summary}{attempts}")
        error.add_note(self.traceback)
        return error


@dataclass(frozen=True, kw_only=True)
class ShardOutcome:
    """What became of a shard. An error does not travel as an exception: not every one can, and none may be lost."""

    result: ShardResult | None
    """None where all attempts failed."""
    failures: tuple[Failure, ...]
    seconds: float


def attempt_shard(job: ShardJob, retries: int = DEFAULT_RETRIES) -> ShardOutcome:
    """Make one shard, in at most ``1 + retries`` attempts."""
    began = time.monotonic()
    failures: list[Failure] = []
    for attempt in range(1, retries + 2):
        if failures:
            time.sleep(_FIRST_PAUSE_SECONDS * 2 ** (attempt - 2))
        try:
            result = run_shard(job)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
            failures.append(_describe(error, job.shard, attempt))
        else:
            return ShardOutcome(result=result, failures=tuple(failures), seconds=time.monotonic() - began)
    return ShardOutcome(result=None, failures=tuple(failures), seconds=time.monotonic() - began)


def _describe(error: Exception, shard: int, attempt: int) -> Failure:
    notes = getattr(error, "__notes__", [])
    images = [note.removeprefix(IMAGE_NOTE) for note in notes if note.startswith(IMAGE_NOTE)]
    return Failure(
        shard=shard,
        attempt=attempt,
        image=images[0] if images else None,
        error=_one_line_about(error),
        traceback="".join(traceback.format_exception(error)),
    )


def _one_line_about(error: Exception) -> str:
    if isinstance(error, OSError):
        return explain_os_error(error)
    return one_line(str(error) if isinstance(error, SSLDataError) else f"{type(error).__name__}: {error}")
