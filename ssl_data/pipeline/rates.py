"""Timing the stages of a build, and what this machine does with any bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["MachineRates", "StageTimer", "measure_rates"]

_RATE_BYTES, _RATE_BLOCK_BYTES = 64_000_000, 640_000


class StageTimer:
    """Seconds by the name of a stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def stage(self, name: str, clock: Callable[[], float] = time.thread_time) -> Iterator[None]:
        """Add what happens inside to a stage."""
        began = clock()
        yield
        self.seconds[name] += clock() - began


@dataclass(frozen=True, kw_only=True)
class MachineRates:
    """What the machine does with any bytes."""

    hash_seconds_per_byte: float
    write_seconds_per_byte: float
    """Into the page cache; how long the disk takes is not known."""


def measure_rates() -> MachineRates:
    """Hash and write some random bytes, in pieces like chunks; the file lies in memory."""
    block = np.random.default_rng(0).bytes(_RATE_BLOCK_BYTES)
    timer, digest = StageTimer(), hashlib.sha256()
    blocks = range(_RATE_BYTES // _RATE_BLOCK_BYTES)
    with open(os.memfd_create("ssl_data"), "wb") as file:  # noqa: PTH123 - it has no path
        for _ in blocks:
            with timer.stage("hash"):
                digest.update(block)
            with timer.stage("write"):
                file.write(block)
    num_bytes = len(blocks) * _RATE_BLOCK_BYTES
    return MachineRates(
        hash_seconds_per_byte=timer.seconds["hash"] / num_bytes,
        write_seconds_per_byte=timer.seconds["write"] / num_bytes,
    )
