"""Shared memory in huge pages, which is filled and read several times faster than in small ones.

A processor knows the places of some 2000 pages by heart. A batch of 60 MB takes 15 000 pages of 4 KB, but 30 of 2 MB.
Linux gives shared memory small pages unless its administrator wishes otherwise. MADV_COLLAPSE (Linux 6.1; madvise(2))
joins the pages of one mapping unless that is forbidden, if the file lies where a huge page may begin. Python's `mmap`
chooses no addresses, so both calls go to the C library. See docs/decisions/0019-huge-pages.md.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["address_of", "huge_page_bytes", "map_shared", "use_huge_pages"]

_MADV_COLLAPSE, _MAP_FIXED, _MAP_NORESERVE = 25, 0x10, 0x4000
"""<linux/mman.h>; Python names none of them."""
_LARGEST = 32 << 20
_PAGE_SIZE = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")

_given_up: list[NDArray[np.uint8]] = []


@functools.cache
def huge_page_bytes() -> int:
    """Size of a huge page, 2 MB on most machines; 0 where the system has none or only some that no batch would fill."""
    try:
        num_bytes = int(_PAGE_SIZE.read_text())
    except (OSError, ValueError):
        return 0
    return num_bytes if num_bytes <= _LARGEST else 0


def map_shared(descriptor: int, num_bytes: int) -> NDArray[np.uint8]:
    """A file in memory that is shared with all who map it: uint8 (num_bytes,), where a huge page may begin.

    Errors: OSError, ValueError - the file cannot be mapped.
    """
    page = huge_page_bytes()
    if not 0 < page <= num_bytes:
        return np.frombuffer(mmap.mmap(descriptor, num_bytes), dtype=np.uint8)
    # The file takes the place of a part of memory that is too large by a page; the array keeps all of it, and ends it.
    promised = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    room = np.frombuffer(mmap.mmap(-1, num_bytes + page, flags=promised), dtype=np.uint8)
    begin = -address_of(room) % page
    memory = room[begin : begin + num_bytes]
    access, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | _MAP_FIXED
    if _libc().mmap(address_of(memory), num_bytes, access, flags, descriptor, 0) != address_of(memory):
        error = ctypes.get_errno()
        _given_up.append(room)  # there may be a hole in it, which it must not unmap: another may have got it
        raise OSError(error, f"cannot map {num_bytes} bytes of shared memory: {os.strerror(error)}")
    return memory


def use_huge_pages(memory: NDArray[np.uint8]) -> bool:
    """Take huge pages for the whole ones in memory that begins where `map_shared` lets it; whether all were granted.

    It may refuse for its age, or for want of memory in one piece; the memory is as usable then.
    """
    page = huge_page_bytes()
    if not 0 < page <= memory.size:
        return False
    memory[: memory.size // page * page : page] |= 0  # Linux joins what is in use; the rest of a page it clears itself
    joined: int = _libc().madvise(address_of(memory), memory.size // page * page, _MADV_COLLAPSE)
    return joined == 0


def address_of(memory: NDArray[Any]) -> int:
    """Where an array begins in memory."""
    address: int = memory.__array_interface__["data"][0]
    return address


@functools.cache
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return library
