"""The header ``Range`` of a request (RFC 9110, section 14): which bytes of an object are asked for.

Readers of Zarr ask for chunks by place and for the index of a shard as the last bytes of its file. A server that
ignores such a header answers with the whole file, in which they would look for the chunk at the wrong place.
"""

from __future__ import annotations

import re

__all__ = ["UnsatisfiableRangeError", "content_range", "requested_bytes"]


class UnsatisfiableRangeError(ValueError):
    """The object has none of the bytes asked for."""


def requested_bytes(header: str | None, num_bytes: int) -> range | None:
    """The bytes of an object that a request asks for, or None where it is the whole object.

    Parameters
    ----------
    header : str or None
        ``bytes=first-last``, ``bytes=first-`` or ``bytes=-suffix``. Everything else, several ranges among it, may be
        ignored by the standard, and is.
    num_bytes : int
        Size of the object.

    Raises
    ------
    UnsatisfiableRangeError
        If it begins behind the end, or the suffix is empty.

    Examples
    --------
    >>> requested_bytes("bytes=2-3", 10), requested_bytes("bytes=8-", 10), requested_bytes("bytes=-3", 10)
    (range(2, 4), range(8, 10), range(7, 10))
    """
    found = re.fullmatch(r"bytes=\s*([0-9]*)-([0-9]*)\s*", header or "", re.IGNORECASE)
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        wanted = range(max(num_bytes - int(last), 0), num_bytes)
    else:
        if last and int(last) < int(first):
            return None  # not a valid range, so that the header is to be ignored
        wanted = range(int(first), min(int(last) + 1, num_bytes) if last else num_bytes)
    if not wanted:
        raise UnsatisfiableRangeError(f"{header} of {num_bytes} bytes")
    return wanted


def content_range(sent: range | None, num_bytes: int) -> str:
    """The header ``Content-Range`` of an answer with these bytes, or of a refusal."""
    return f"bytes */{num_bytes}" if sent is None else f"bytes {sent.start}-{sent.stop - 1}/{num_bytes}"
