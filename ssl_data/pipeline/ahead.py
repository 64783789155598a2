"""Computing the next item while this one is being used."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["ahead"]

Item = TypeVar("Item")


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items; each is computed in another thread while the one before it is in use.

    Worth it where both sides spend their time outside the interpreter's lock, as computing graphs, compressing, hashing
    and writing do. At most one item waits, so that memory stays bounded. An error of `items` is raised where the item
    would have come; a consumer that stops early waits for the item under way.
    """
    iterator = iter(items)
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        coming = thread.submit(next, iterator, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, iterator, end)
            yield item  # type: ignore[misc]  # not the end
