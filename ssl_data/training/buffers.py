"""Memory for batches that is used again and again, also across processes.

Memory that the system hands out anew is mapped and cleared page by page, which takes longer than decoding graphs into
it; for memory that two processes share it takes several times longer. So batches lie in blocks, which their process
keeps and uses again once nobody looks at them any more; see docs/decisions/0010-batch-memory.md.

A block is an anonymous shared file. Its arrays have a `_Lease` as their base, which ends with the last of them. When a
batch goes from a loader's worker to the trainer, only the places of its tensors travel; the trainer maps the block,
once, and counts in its header how many of the batches that it was sent it has let go of. The block is free while that
number is the number sent. An update that is lost makes the number too small: then the block stays unused.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ssl_data.training.huge_pages import address_of, map_shared, use_huge_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from numpy.typing import NDArray

__all__ = ["BUFFERS_VARIABLE", "Place", "ReceivedBlocks", "SentBlocks", "find_place", "take_arrays"]

BUFFERS_VARIABLE = "SSL_DATA_SHARED_BUFFERS"
"""Environment variable; 0 switches the blocks off: arrays come from NumPy and travel as PyTorch sends tensors."""

_HEADER_BYTES = 64
"""Begins a block: number of batches let go of; key; whether it must not be used again. All int64."""
_ALIGNMENT = 64
_MOST_BLOCKS = 16
_SPARE = 1.25
"""A block is larger than asked for by this factor: the next batch may have a few more edge pixels."""


class _Memory:
    """The mapping of a block, by its owner or by a receiver."""

    def __init__(self, descriptor: int, num_bytes: int) -> None:
        self.whole = map_shared(descriptor, num_bytes)
        self.header = self.whole[:_HEADER_BYTES].view(np.int64)
        self.address = address_of(self.whole) + _HEADER_BYTES
        self.num_bytes = num_bytes - _HEADER_BYTES

    def lease(self, ended: Callable[[], None]) -> NDArray[np.uint8]:
        """The whole memory after the header."""
        return np.asarray(_Lease(self, ended))


class _Lease:
    """The base of arrays that look at a block; calls `ended` when the last of them has gone."""

    alive: ClassVar[weakref.WeakSet[_Lease]] = weakref.WeakSet()

    def __init__(self, memory: _Memory, ended: Callable[[], None]) -> None:
        place, shape = (memory.address, False), (memory.num_bytes,)
        self.__array_interface__ = {"data": place, "shape": shape, "typestr": "|u1", "version": 3}
        self._memory = memory
        self._ended: Callable[[], None] | None = ended
        _Lease.alive.add(self)

    def abandon(self) -> None:
        """See to it that the block is never used again."""
        self._memory.header[2] = 1

    def forget(self) -> None:
        """In a forked process: the lease is its parent's, and ends there."""
        self._ended = None

    def __del__(self) -> None:
        if self._ended is not None:
            self._ended()


class _Block:
    """A block of this process."""

    def __init__(self, num_bytes: int) -> None:
        self._descriptor = -1
        self._descriptor = os.memfd_create("ssl_data-batch", os.MFD_CLOEXEC)
        os.ftruncate(self._descriptor, _HEADER_BYTES + num_bytes)
        self.memory = _Memory(self._descriptor, _HEADER_BYTES + num_bytes)
        use_huge_pages(self.memory.whole)
        self.key = int.from_bytes(os.urandom(7), "little")
        self.memory.header[1] = self.key
        self._is_leased = False
        self._num_sent = 0

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    @property
    def is_unused(self) -> bool:
        """Whether nobody looks at it, nor will: no batch of it is on its way."""
        return not self._is_leased and self._num_sent == self.memory.header[0]

    @property
    def is_abandoned(self) -> bool:
        return bool(self.memory.header[2])

    def lease(self) -> NDArray[np.uint8]:
        self._is_leased = True
        return self.memory.lease(self._end_lease)

    def _end_lease(self) -> None:
        self._is_leased = False

    def send(self) -> SentBlock:
        self._num_sent += 1
        return SentBlock(self.key, self._descriptor, _HEADER_BYTES + self.memory.num_bytes)


@dataclass(frozen=True)
class SentBlock:
    """How a receiver finds a block."""

    key: int
    descriptor: int
    num_bytes: int

    def map(self, process: int) -> _Memory:
        """Map it; `process` owns it."""
        path = Path(f"/proc/{process}/fd/{self.descriptor}")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                memory = _Memory(descriptor, self.num_bytes)
            finally:
                os.close(descriptor)
        except (OSError, ValueError) as error:
            message = f"batches in the memory of worker {process} cannot be read ({error}); set {BUFFERS_VARIABLE}=0"
            raise RuntimeError(message) from error
        if memory.header[1] != self.key:
            raise RuntimeError(f"{path} is not the memory that was sent; set {BUFFERS_VARIABLE}=0")
        return memory


class _Blocks:
    """The blocks of this process, and those of others that it has mapped.

    Threads may take arrays and send batches at the same time: `lock` guards all but the end of a lease, which may come
    at any moment and sets one value.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.own: list[_Block] = []
        self.mapped: dict[tuple[int, int], _Memory] = {}
        """By process and key."""

    def take(self, num_bytes: int) -> NDArray[np.uint8]:
        """Uninitialised uint8 (n >= num_bytes,)."""
        with self.lock:
            self.own = [block for block in self.own if not (block.is_abandoned and block.is_unused)]
            block = self._find_free(num_bytes) or self._new_block(int(_SPARE * num_bytes))
            return np.empty(num_bytes, dtype=np.uint8) if block is None else block.lease()

    def _find_free(self, num_bytes: int) -> _Block | None:
        """A free block that is large enough. Where all are too small, the smallest ends: another takes its place."""
        free = sorted(
            (block for block in self.own if block.is_unused and not block.is_abandoned),
            key=lambda block: block.memory.num_bytes,
        )
        for block in free:
            if block.memory.num_bytes >= num_bytes:
                return block
        if free:
            self.own.remove(free[0])
        return None

    def _new_block(self, num_bytes: int) -> _Block | None:
        """One more, unless there are enough or the system grants none, e.g. for want of file descriptors."""
        if len(self.own) == _MOST_BLOCKS or not hasattr(os, "memfd_create") or os.environ.get(BUFFERS_VARIABLE) == "0":
            return None
        try:
            block = _Block(num_bytes)
        except OSError:
            return None
        self.own.append(block)
        return block

    def send(self, keys: Collection[int]) -> tuple[list[SentBlock], set[int]]:
        """Those with the given keys, as they are to be found; and the keys of all."""
        with self.lock:
            return [block.send() for block in self.own if block.key in keys], {block.key for block in self.own}

    def map(self, process: int, block: SentBlock) -> _Memory:
        """A block that `process` has sent."""
        with self.lock:
            memory = self.mapped.get((process, block.key))
            if memory is None:
                for owner, key in list(self.mapped):
                    if not Path(f"/proc/{owner}").exists():
                        del self.mapped[owner, key]
                memory = self.mapped[process, block.key] = block.map(process)
            return memory

    def keep_mapped(self, process: int, keys: Collection[int]) -> None:
        """Drop those blocks of a process that it has dropped itself."""
        with self.lock:
            for owner, key in list(self.mapped):
                if owner == process and key not in keys:
                    del self.mapped[owner, key]


_blocks = _Blocks()


def _before_fork() -> None:
    """The new process will see all arrays of this one: what they look at must stay as it is."""
    _blocks.lock.acquire()
    for lease in list(_Lease.alive):
        lease.abandon()


def _after_fork_in_parent() -> None:
    _blocks.lock.release()


def _after_fork_in_child() -> None:
    global _blocks  # noqa: PLW0603 - a process's own, which must not use its parent's
    for lease in list(_Lease.alive):
        lease.forget()
    _blocks = _Blocks()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


def take_arrays(*layouts: tuple[tuple[int, ...], type[np.generic]]) -> list[NDArray[Any]]:
    """Uninitialised arrays of the given (shape, dtype), side by side in one block."""
    sizes = [math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in layouts]
    places = list(accumulate((-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes), initial=0))
    memory = _blocks.take(places[-1])
    return [
        memory[place : place + size].view(dtype).reshape(shape)
        for place, size, (shape, dtype) in zip(places[:-1], sizes, layouts, strict=True)
    ]


@dataclass(frozen=True)
class Place:
    """Where an array lies in a block."""

    key: int
    offset: int
    shape: tuple[int, ...]
    dtype: str


def find_place(array: NDArray[Any]) -> Place | None:
    """The place of a C-contiguous array, if it lies in a block of this process."""
    address = address_of(array)
    for block in list(_blocks.own):  # another thread may change it
        offset = address - block.memory.address
        if 0 <= offset <= block.memory.num_bytes - array.nbytes:
            return Place(block.key, offset, array.shape, array.dtype.str)
    return None


class SentBlocks:
    """The blocks with the given keys, on their way to another process: what is pickled arrives as `ReceivedBlocks`.

    They count as sent once they are pickled; what has been pickled must be received exactly once.
    """

    def __init__(self, keys: Collection[int]) -> None:
        self._keys = keys

    def __reduce__(self) -> tuple[type[ReceivedBlocks], tuple[int, list[SentBlock], set[int]]]:
        return ReceivedBlocks, (os.getpid(), *_blocks.send(self._keys))


class ReceivedBlocks:
    """The other end: gives the arrays, which keep the sender from using their blocks again."""

    def __init__(self, process: int, blocks: Collection[SentBlock], kept: Collection[int]) -> None:
        _blocks.keep_mapped(process, kept)
        self._memories: dict[int, NDArray[np.uint8]] = {}
        for block in blocks:
            memory = _blocks.map(process, block)
            self._memories[block.key] = memory.lease(_Release(memory.header))

    def array(self, place: Place) -> NDArray[Any]:
        """An array that was sent."""
        dtype = np.dtype(place.dtype)
        stop = place.offset + math.prod(place.shape) * dtype.itemsize
        return self._memories[place.key][place.offset : stop].view(dtype).reshape(place.shape)


@dataclass(frozen=True)
class _Release:
    """Counts one more batch that has been let go of."""

    header: NDArray[np.int64]

    def __call__(self) -> None:
        self.header[0] += 1
