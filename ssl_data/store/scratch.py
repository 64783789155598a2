"""Memory that is used again and again while reading.

What the system hands out anew has to be mapped and cleared page by page, which costs more than decoding LZ4 into it.
Each thread keeps the buffers it has used last; a forked process gets copies of its own.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["borrow"]

_LARGEST_KEPT = 32 << 20
"""Larger buffers are given back at once."""
_GRAIN = 1 << 16


class _Kept(threading.local):
    def __init__(self) -> None:
        self.buffers: list[NDArray[np.uint8]] = []


_kept = _Kept()


class borrow:  # noqa: N801 - reads as a function: ``with borrow(n) as buffer``
    """Uninitialised uint8 (num_bytes,), to be used inside only; loans may be nested."""

    __slots__ = ("_buffer", "_num_bytes")

    def __init__(self, num_bytes: int) -> None:
        self._num_bytes = num_bytes

    def __enter__(self) -> NDArray[np.uint8]:
        buffers = _kept.buffers
        buffer = buffers.pop() if buffers else np.empty(0, dtype=np.uint8)
        if len(buffer) < self._num_bytes:
            buffer = np.empty(-(-self._num_bytes // _GRAIN) * _GRAIN, dtype=np.uint8)
        self._buffer = buffer
        return buffer[: self._num_bytes]

    def __exit__(self, *_: object) -> None:
        if len(self._buffer) <= _LARGEST_KEPT:
            _kept.buffers.append(self._buffer)
