"""The image that this process has decoded last: the patches of a large one fill several shards, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["decoded_once", "forget_last_image"]

_last: dict[Hashable, NDArray[np.uint8]] = {}
"""One image, or none."""


def decoded_once(key: Hashable, decode: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The image behind a key, which says all that its pixels depend on; decoded unless it is the last one.

    Not to be altered by the caller. What `decode` raises is raised, and nothing kept.
    """
    if key not in _last:
        _last.clear()  # first, so that two images never take memory at once
        _last[key] = decode()
    return _last[key]


def forget_last_image() -> None:
    """Give its memory back."""
    _last.clear()
