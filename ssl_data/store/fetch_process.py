"""The program that talks to object stores on behalf of one process; started by `ssl_data.store.fetcher`.

It is run by path and imports nothing of this package, to start fast. Each request on standard input is one line of JSON
with "op", "url" (of the store), "brief" (give up soon), what the operation needs, and "num_bytes" of content that
follow the line. Each answer on standard output is the length of its JSON (4 bytes, big-endian), the JSON, and
"num_bytes" bytes of content:

=======  ===================================================  =======================================================
op       asks for                                             answers with
=======  ===================================================  =======================================================
get      "path", or its bytes "start" to "stop"               content; of a whole object, also "version" and "modified"
each     all of "paths"                                       "sizes", null where there is none; content, end to end
size     the size of "path"                                   "size"
put      "path" to hold the content; on "condition" that it   "version"
         is "absent", or has the version given, or null
delete   "paths" to be gone                                   nothing
list     all below "prefix", or "limit" of them               content: JSON lines of path, size, time modified
=======  ===================================================  =======================================================

Content is put whole or not at all; what is large travels in parts. A failure is answered by "error" (missing, denied,
short, conflict, failed) and "detail". The end of standard input ends the program. Errors are reduced to a status, a
code or a short phrase: what the server or the client library says in full may repeat signatures and keys.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotModifiedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import from_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from obstore.store import ObjectStore

_RETRIES_TEXT = os.environ.get("SSL_DATA_REMOTE_RETRIES", "")
_RETRIES = int(_RETRIES_TEXT) if _RETRIES_TEXT.isdecimal() else 8
_RETRY_TIMEOUT = timedelta(seconds=60)  # no new attempt after that
_FIRST_WAIT, _LONGEST_WAIT = timedelta(milliseconds=100), timedelta(seconds=10)
_BRIEF_SECONDS = 3  # limit of a request that is not worth waiting for, and of its only other attempt
_PART_BYTES, _PARTS_AT_ONCE = 16 << 20, 4  # of a large object while it is put; they bound the memory
_BLOCK_BYTES = 1 << 20
_GETS_AT_ONCE = 8
_SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|SAS|SIGNATURE|CREDENTIAL", re.IGNORECASE)
_METADATA_SERVICES = ("169.254.169.254", "169.254.170.2", "metadata.google.internal")


def _connect(url: str, *, brief: bool) -> ObjectStore:
    """A client. Everything but the retries comes from the environment (AWS_*, GOOGLE_*, AZURE_*)."""
    open_store: Callable[..., ObjectStore] = from_url  # its overloads tell S3 from HTTP; here the URL decides
    options: dict[str, Any] = {}
    if url.startswith("http://"):
        options["client_options"] = {"allow_http": True}  # who writes http:// means it
    # Waits grow exponentially between these bounds and are drawn at random below their limit.
    backoff = {"init_backoff": _FIRST_WAIT, "max_backoff": _LONGEST_WAIT, "base": 2}
    retries = {"max_retries": _RETRIES, "retry_timeout": _RETRY_TIMEOUT, "backoff": backoff}
    if not brief:
        return open_store(url, retry_config=retries, **options)
    retries |= {"max_retries": 1, "retry_timeout": timedelta(seconds=_BRIEF_SECONDS)}
    before = dict(os.environ)
    # As options, they would take the place of all that the environment says about the network.
    os.environ.update(dict.fromkeys(("AWS_TIMEOUT", "GOOGLE_TIMEOUT", "AZURE_TIMEOUT"), f"{_BRIEF_SECONDS}s"))
    try:
        return open_store(url, retry_config=retries, **options)
    finally:
        os.environ.clear()
        os.environ.update(before)


class _Body:
    """The content that follows a request, block by block; what is left of it must be read before the next request."""

    def __init__(self, requests: BinaryIO, num_bytes: int) -> None:
        self._requests = requests
        self._left = num_bytes
        self.num_bytes = num_bytes

    def __iter__(self) -> Iterator[bytes]:
        while self._left:
            block = self._requests.read(min(self._left, _BLOCK_BYTES))
            if not block:
                raise OSError("the process that asked is gone")  # half an object must not be put
            self._left -= len(block)
            yield block

    def skip(self) -> None:
        for _ in self:
            pass


def _get(store: ObjectStore, request: dict[str, Any], _: _Body) -> tuple[dict[str, Any], Any]:
    path, start, stop = request["path"], request["start"], request["stop"]
    if start is None:
        result = obstore.get(store, path)
        meta = result.meta
        answer = {"version": _version(meta), "modified": meta["last_modified"].timestamp()}
        return answer, result.bytes()
    content = obstore.get_range(store, path, start=start, end=stop)
    if len(content) < stop - start:
        return {"error": "short", "detail": f"byte {start + len(content)}"}, b""
    return {}, content


def _each(store: ObjectStore, request: dict[str, Any], _: _Body) -> tuple[dict[str, Any], Any]:
    def get(path: str) -> bytes | None:
        try:
            return bytes(obstore.get(store, path).bytes())
        except FileNotFoundError:
            return None

    with ThreadPoolExecutor(_GETS_AT_ONCE) as pool:
        contents = list(pool.map(get, request["paths"]))
    sizes = [None if content is None else len(content) for content in contents]
    return {"sizes": sizes}, b"".join(content for content in contents if content is not None)


def _size(store: ObjectStore, request: dict[str, Any], _: _Body) -> tuple[dict[str, Any], Any]:
    return {"size": obstore.head(store, request["path"])["size"]}, b""


def _put(store: ObjectStore, request: dict[str, Any], body: _Body) -> tuple[dict[str, Any], Any]:
    put: Callable[..., Any] = obstore.put  # its types do not know of versions without a number
    path, condition = request["path"], request["condition"]
    mode = condition if isinstance(condition, dict) else {None: "overwrite", "absent": "create"}[condition]
    if body.num_bytes <= _PART_BYTES or condition is not None:
        result = put(store, path, b"".join(body), mode=mode, use_multipart=False)
    else:
        result = put(store, path, iter(body), chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)
    return {"version": _version(result)}, b""


def _delete(store: ObjectStore, request: dict[str, Any], _: _Body) -> tuple[dict[str, Any], Any]:
    for path in request["paths"]:
        with contextlib.suppress(FileNotFoundError):
            obstore.delete(store, path)
    return {}, b""


def _list(store: ObjectStore, request: dict[str, Any], _: _Body) -> tuple[dict[str, Any], Any]:
    found = (entry for page in obstore.list(store, request["prefix"] or None) for entry in page)
    chosen = itertools.islice(found, request["limit"])
    rows = ([entry["path"], entry["size"], entry["last_modified"].timestamp()] for entry in chosen)
    return {}, "".join(json.dumps(row) + "\n" for row in rows).encode()


_OPERATIONS = {"get": _get, "each": _each, "size": _size, "put": _put, "delete": _delete, "list": _list}


def _perform(store: ObjectStore, request: dict[str, Any], body: _Body) -> tuple[dict[str, Any], Any]:
    """Do it; and again where the client library gives up too early: answers such as a 404 that break off half-way."""
    for attempt in range(_RETRIES):
        try:
            return _OPERATIONS[request["op"]](store, request, body)
        except BaseError as error:
            is_cut = "body error" in str(error) and "retries: 0," in str(error)
            if not is_cut or body.num_bytes or request["brief"]:
                raise
        time.sleep(_FIRST_WAIT.total_seconds() * 2 ** min(attempt, 5))
    return _OPERATIONS[request["op"]](store, request, body)


def _version(meta: Any) -> dict[str, str]:  # noqa: ANN401 - typed differently for each operation
    """What tells this content of an object from any other, as `put` takes it for a condition."""
    return {name: meta[name] for name in ("e_tag", "version") if meta[name] is not None}


def _explain(error: Exception) -> dict[str, Any]:
    text = str(error)
    status = re.search(r"status code: (\d{3}(?: [A-Za-z]+)*)", text)
    code = re.search(r"<Code>(\w+)</Code>", text)
    found = [match[1] for match in (status, code) if match]
    phrase = text.partition("\n")[0].rpartition(" - ")[2]  # "Error performing GET ... in 2ms - what went wrong"
    detail = ", ".join(found) or _masked(phrase) or type(error).__name__
    if isinstance(error, FileNotFoundError):
        kind = "missing"
    elif any(service in text for service in _METADATA_SERVICES):
        kind, detail = "denied", "there are no credentials in the environment"
    elif isinstance(error, PermissionDeniedError | UnauthenticatedError) or detail.startswith(("401 ", "403 ")):
        kind = "denied"
    elif isinstance(error, AlreadyExistsError | PreconditionError | NotModifiedError):
        kind = "conflict"
    else:
        kind = "short" if status and status[1].startswith("416") else "failed"
    return {"error": kind, "detail": detail}


def _masked(text: str) -> str:
    """The text without addresses, which may carry signatures, and without values that are secret by their name."""
    text = re.sub(r"\S*://\S*", "...", text)
    for name, value in os.environ.items():
        if value and _SECRET_NAME.search(name):
            text = text.replace(value, "***")
    return text


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    stores: dict[tuple[str, bool], ObjectStore] = {}
    for line in requests:
        request = json.loads(line)
        url, brief = request["url"], request["brief"]
        body = _Body(requests, request["num_bytes"])
        try:
            if (url, brief) not in stores:
                stores[url, brief] = _connect(url, brief=brief)
            answer, content = _perform(stores[url, brief], request, body)
        except (BaseError, OSError, ValueError) as error:
            answer, content = _explain(error), b""
        body.skip()
        header = json.dumps({**answer, "num_bytes": len(content)}).encode()
        answers.write(len(header).to_bytes(4, "big") + header)
        answers.write(memoryview(content))
        answers.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks, whose end ends this one
    _serve(sys.stdin.buffer, sys.stdout.buffer)
