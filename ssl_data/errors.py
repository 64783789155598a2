"""Every error the library raises on purpose.

::

    SSLDataError
    ├── ConfigError             a field of a spec is out of its range                      (also ValueError)
    ├── InputError              an array passed to a kernel has a wrong dtype or shape     (also ValueError)
    ├── DatasetError            a dataset or one of its folders cannot be found or is misdescribed
    ├── SourceError             one image file cannot be used: .path, .reason, .reason_code
    ├── MissingDependencyError  an optional package is not installed                       (also ImportError)
    ├── ViewError               the page that shows a store cannot be served
    ├── BuildError              a build could not go on
    │   └── BuildInterruptedError   stopped by a signal; the same command resumes it
    └── StoreError
        ├── StoreNotFoundError      nothing, or something else, at that place
        ├── StoreIncompleteError    the build that makes this store has not finished
        ├── StoreCorruptError       a file is missing, truncated or altered
        ├── StoreMismatchError      the store was made with another configuration: .differences
        ├── StoreLockedError        another builder holds the store
        └── StoreUnreachableError   access to a remote store was refused, or it cannot be reached

The messages are written for the person who reads them on a terminal: what is wrong, where, and what to do.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "BuildError",
    "BuildInterruptedError",
    "ConfigError",
    "DatasetError",
    "InputError",
    "MissingDependencyError",
    "Problem",
    "ReasonCode",
    "SSLDataError",
    "SourceError",
    "StoreCorruptError",
    "StoreError",
    "StoreIncompleteError",
    "StoreLockedError",
    "StoreMismatchError",
    "StoreNotFoundError",
    "StoreUnreachableError",
    "ViewError",
    "explain_os_error",
    "first_of",
    "one_line",
]

ReasonCode = Literal[
    "unreadable",
    "bad_name",
    "empty_file",
    "git_lfs_pointer",
    "html_page",
    "not_an_image",
    "unsupported",
    "broken_header",
    "truncated",
    "corrupt",
    "too_large",
    "too_small",
    "no_mask",
    "bad_mask",
]
"""Why an image is rejected, for programs; docs/inputs.md explains each."""


def one_line(text: str) -> str:
    r"""A name from outside as part of a line on a terminal: what would break, colour or overwrite the line is escaped.

    Examples
    --------
    >>> print(one_line("a\nb # ü.png"))
    a\nb # ü.png
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def first_of(items: Sequence[object], most: int = 3) -> str:
    """The first of many things as part of a message of one line.

    Examples
    --------
    >>> first_of([1, 2, 3]), first_of([1, 2, 3, 4])
    ('1, 2, 3', '1, 2, 3, ...')
    """
    return one_line(", ".join(map(str, items[:most]))) + (", ..." if len(items) > most else "")


_REMEDIES = {
    errno.ENOSPC: "the disk is full: make room, and the same command goes on",
    errno.EDQUOT: "a quota is used up: make room, or have it raised, and the same command goes on",
    errno.EFBIG: "files may not become that large there (ulimit -f, or the file system): allow larger ones",
    errno.EROFS: "it is mounted for reading only: mount it for writing, or name another place",
    errno.EACCES: "check its permissions, or name another place",
}


def explain_os_error(error: OSError) -> str:
    """An error of the system in one line: file, the system's words, and what to do where that is known.

    Examples
    --------
    >>> explain_os_error(OSError(errno.EROFS, "Read-only file system", "/store"))
    '/store: Read-only file system (it is mounted for reading only: mount it for writing, or name another place)'
    """
    where = "" if error.filename is None else f"{error.filename}: "
    remedy = _REMEDIES.get(error.errno or 0)
    return one_line(f"{where}{error.strerror or error}") + ("" if remedy is None else f" ({remedy})")


class SSLDataError(Exception):
    """Base of every error raised by this library."""


class ConfigError(SSLDataError, ValueError):
    """A configuration field breaks its rule; the message names field, rule and value."""


class InputError(SSLDataError, ValueError):
    """An argument array has the wrong dtype, shape or content."""


class DatasetError(SSLDataError):
    """A dataset cannot be resolved to image files."""


class SourceError(SSLDataError):
    """One image file cannot be used.

    Parameters
    ----------
    path : str
        The file, as the user would name it.
    reason : str
        A short, stable reason ("truncated (...)").
    reason_code : ReasonCode
        What kind of reason it is.
    """

    def __init__(self, path: str, reason: str, reason_code: ReasonCode) -> None:
        super().__init__(path, reason, reason_code)
        self.path = path
        self.reason = reason
        self.reason_code = reason_code

    def __str__(self) -> str:
        return f"{one_line(self.path)}: {self.reason}"


class MissingDependencyError(SSLDataError, ImportError):
    """An optional package is needed; the message holds the command that installs it."""


class ViewError(SSLDataError):
    """The server that shows a store cannot listen where it is told to."""


class BuildError(SSLDataError):
    """A build could not go on."""


class BuildInterruptedError(BuildError):
    """A build was stopped by a signal; what was committed stays, the same command resumes."""


class StoreError(SSLDataError):
    """Base of the errors about a store on disk."""


class StoreNotFoundError(StoreError):
    """There is no store at that place."""


class StoreIncompleteError(StoreError):
    """The build of this store has not finished."""


class StoreCorruptError(StoreError):
    """A file of the store is missing, truncated or altered."""


class StoreMismatchError(StoreError):
    """The store on disk was made from other sources or another configuration.

    Parameters
    ----------
    message : str
        What was refused, with the differences spelled out.
    differences : tuple of str
        One readable line per differing field.
    """

    def __init__(self, message: str, differences: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.differences = differences


class StoreLockedError(StoreError):
    """Another process is building this store."""


class StoreUnreachableError(StoreError):
    """Access to a remote store was refused, or it could not be reached, also when tried again."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One finding of a validation that collects instead of raising."""

    where: str
    """What it is about: a file of the store, a field, a line."""
    kind: str
    """A stable identifier, e.g. ``"missing-file"``."""
    message: str
    """One sentence for a person."""
    shard: int | None = None
    """The work unit of a store that has to be made anew, where it is one."""

    def __str__(self) -> str:
        shard = "" if self.shard is None else f" (shard {self.shard})"
        return f"{one_line(self.where)}: {self.message}{shard}"
