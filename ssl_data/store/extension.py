"""The compiled extension of the store, where there is one."""

from __future__ import annotations

try:
    from ssl_data.store import _native as native
except ImportError:  # it is optional: without a compiler everything works, only slower
    native = None  # type: ignore[assignment]

__all__ = ["is_compiled", "native"]


def is_compiled() -> bool:
    """Whether compiled code is there."""
    return native is not None
