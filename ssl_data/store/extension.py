"""The compiled extension of the store, where there is one."""

from __future__ import annotations

try:
    from ssl_data.store import _native as native
except ImportError:  # it is optional: without a compiler everything works, only slower
    native = None  # type: ignore[assignment]

__all__ = ["has_crc32c", "is_compiled", "native"]


def is_compiled() -> bool:
    """Whether compiled code is there."""
    return native is not None


def has_crc32c() -> bool:
    """Whether compiled code computes CRC-32C, for which it needs instructions of the processor."""
    return native is not None and native.has_crc32c
