"""The program that talks to object stores on behalf of one reading process; started by `ssl_data.store.fetcher`.

It is run by path and imports nothing of this package, to start fast. Each request on standard input is one line of JSON
with "url" (of the store), "path" (of the object), "start" and "stop" (bytes; "start" null asks for the whole object,
"stop" null for its size alone). Each answer on standard output is the length of its JSON (4 bytes, big-endian), the
JSON, and "num_bytes" bytes of content::

    {"num_bytes": 1048576}
    {"size": 91750400, "num_bytes": 0}
    {"error": "missing", "detail": "404 Not Found, NoSuchKey", "num_bytes": 0}

The end of standard input ends the program. Errors are reduced to a status, a code or a short phrase: what the server or
the client library says in full may repeat signatures and keys.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import from_url

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from obstore.store import ObjectStore

_RETRIES_TEXT = os.environ.get("SSL_DATA_REMOTE_RETRIES", "")
_RETRIES = int(_RETRIES_TEXT) if _RETRIES_TEXT.isdecimal() else 8
_RETRY_TIMEOUT = timedelta(seconds=60)  # no new attempt after that
_FIRST_WAIT, _LONGEST_WAIT = timedelta(milliseconds=100), timedelta(seconds=10)
_SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|SAS|SIGNATURE|CREDENTIAL", re.IGNORECASE)
_METADATA_SERVICES = ("169.254.169.254", "169.254.170.2", "metadata.google.internal")


def _connect(url: str) -> ObjectStore:
    """A client. Everything but the retries comes from the environment (AWS_*, GOOGLE_*, AZURE_*)."""
    open_store: Callable[..., ObjectStore] = from_url  # its overloads tell S3 from HTTP; here the URL decides
    options: dict[str, Any] = {}
    if url.startswith("http://"):
        options["client_options"] = {"allow_http": True}  # who writes http:// means it
    # Waits grow exponentially between these bounds and are drawn at random below their limit.
    backoff = {"init_backoff": _FIRST_WAIT, "max_backoff": _LONGEST_WAIT, "base": 2}
    retries = {"max_retries": _RETRIES, "retry_timeout": _RETRY_TIMEOUT, "backoff": backoff}
    return open_store(url, retry_config=retries, **options)


def _fetch(store: ObjectStore, path: str, start: int | None, stop: int | None) -> tuple[dict[str, Any], Any]:
    """Answer and content of one request."""
    if start is None:
        content = obstore.get(store, path).bytes()
    elif stop is None:
        return {"size": obstore.head(store, path)["size"], "num_bytes": 0}, b""
    else:
        content = obstore.get_range(store, path, start=start, end=stop)
        if len(content) < stop - start:
            return {"error": "short", "detail": f"byte {start + len(content)}", "num_bytes": 0}, b""
    return {"num_bytes": len(content)}, content


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
    elif isinstance(error, PermissionDeniedError | UnauthenticatedError):
        kind = "denied"
    else:
        kind = "short" if status and status[1].startswith("416") else "failed"
    return {"error": kind, "detail": detail, "num_bytes": 0}


def _masked(text: str) -> str:
    """The text without addresses, which may carry signatures, and without values that are secret by their name."""
    text = re.sub(r"\S*://\S*", "...", text)
    for name, value in os.environ.items():
        if value and _SECRET_NAME.search(name):
            text = text.replace(value, "***")
    return text


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    stores: dict[str, ObjectStore] = {}
    for line in requests:
        request = json.loads(line)
        url: str = request["url"]
        try:
            if url not in stores:
                stores[url] = _connect(url)
            answer, content = _fetch(stores[url], request["path"], request["start"], request["stop"])
        except (BaseError, OSError, ValueError) as error:
            answer, content = _explain(error), b""
        header = json.dumps(answer).encode()
        answers.write(len(header).to_bytes(4, "big") + header)
        answers.write(memoryview(content))
        answers.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the reading process, whose end ends this one
    _serve(sys.stdin.buffer, sys.stdout.buffer)
