"""The server behind ``ssl-data view``: the page, the files of one store, and graphs computed anew.

It only answers GET and HEAD, knows the files of the store by name and no others, and tells the browser to let the page
talk to nobody else.
"""

from __future__ import annotations

import errno
import gzip
import json
import logging
import re
import socket
import sys
import threading
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from ssl_data.errors import InputError, SSLDataError, StoreError, ViewError
from ssl_data.store.layout import store_paths
from ssl_data.store.local import LocalSource
from ssl_data.store.manifest import read_stored_patches
from ssl_data.store.source import ObjectMissingError
from ssl_data.view.byte_ranges import UnsatisfiableRangeError, content_range, requested_bytes
from ssl_data.view.documents import describe_graph, describe_patch, describe_patches, describe_store
from ssl_data.view.hosts import is_trusted_host

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from ssl_data.store.reader import Store
    from ssl_data.store.source import ByteFile

__all__ = ["ViewServer"]

_logger = logging.getLogger("ssl_data.view")

_PIECE_BYTES = 1 << 20
_IDLE_SECONDS = 60
_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript"}
_HEADERS = {
    # The page may run its own scripts and talk to this server; nothing else.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",  # another store may be shown at the same address next
}


class ViewServer(ThreadingHTTPServer):
    """Shows one store. Listens when it is made, answers while `serve_forever` runs.

    Parameters
    ----------
    store : Store
    host : str
        Name or address to listen on.
    port : int
        0 for any free one.

    Raises
    ------
    ViewError
        If it cannot listen there.
    StoreError
        If the table of patches cannot be read.
    """

    daemon_threads = True

    def __init__(self, store: Store, *, host: str, port: int) -> None:
        self.host = host
        self.content = Content(store)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            busy = error.errno == errno.EADDRINUSE
            remedy = "--port, or --port 0 for any free one" if busy else "--host or --port"
            raise ViewError(
                f"cannot listen on {host}, port {port} ({error.strerror}); choose another {remedy}"
            ) from error

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - as the base class has it
        """Log what nobody expected; a connection that breaks is no such thing."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            _logger.error("a request failed", exc_info=error)

    @property
    def url(self) -> str:
        """Where a browser finds the page."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{name}:{self.server_address[1]}/"


class Content:
    """Everything that the server answers with, by path."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()  # a store is made for one thread
        self._patches = read_stored_patches(store.source)
        self._table = gzip.compress(_encode(describe_patches(self._patches)), compresslevel=1, mtime=0)
        self._paths = store_paths(store.build_spec, store.attributes["num_slots"])

    def table(self) -> bytes:
        """The table of patches, as compressed JSON."""
        return self._table

    def document(self, path: str, query: dict[str, list[str]]) -> dict[str, Any] | None:
        """The document at a path below ``api/``, or None where there is none."""
        if path == "store":
            return describe_store(self.store)
        found = re.fullmatch(r"patches/([0-9]{1,18})(/graph)?", path)
        if found is None or int(found[1]) >= self.store.num_patches:
            return None
        index = int(found[1])
        if not found[2]:
            return describe_patch(self._patches, index)
        with self._lock:
            return describe_graph(self.store, index, _whole_number(query, "row"), _whole_number(query, "col"))

    def open(self, path: str) -> ByteFile:
        """A file of the store.

        Raises
        ------
        ObjectMissingError
            If no store of these specs has such a file, this one lost it, or it lies elsewhere by way of a link.
        StoreError
            If it cannot be read.
        """
        source = self.store.source
        if path not in self._paths:
            raise ObjectMissingError(f"{path} is no file of the store")
        if isinstance(source, LocalSource):
            root = source.root.resolve()
            if not Path(root, path).resolve().is_relative_to(root):
                raise ObjectMissingError(f"{source.name(path)} leads out of the store")
        return source.open(path)


def _encode(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _whole_number(query: dict[str, list[str]], name: str) -> int:
    values = query.get(name, [])
    if len(values) != 1 or not re.fullmatch(r"[0-9]{1,9}", values[0]):
        raise InputError(f"the graph of a pixel is asked for with one whole number as {name}, got {values}")
    return int(values[0])


@cache
def _assets() -> dict[str, Traversable]:
    """The files of the page, by name."""
    folder = resources.files("ssl_data.view") / "assets"
    return {file.name: file for file in folder.iterdir() if Path(file.name).suffix in _TYPES}


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    server_version = "ssl-data"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else head and body of an answer wait for each other
    timeout = _IDLE_SECONDS

    def do_GET(self) -> None:
        """Answer with a document, an asset or a part of a file; say in one sentence why not."""
        if not is_trusted_host(self.headers.get("Host"), self.server.host):
            self._refuse(HTTPStatus.FORBIDDEN, "this server does not answer to that name; use its address")
            return
        try:
            self._answer()
        except ObjectMissingError as error:
            self._refuse(HTTPStatus.NOT_FOUND, str(error))
        except InputError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except SSLDataError as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        except (ConnectionError, TimeoutError):  # the reader has gone, as when a page is left
            self.close_connection = True

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def _answer(self) -> None:
        path, _, query = self.path.partition("?")
        path = unquote(path).removeprefix("/")
        if path.startswith("store/"):
            self._send_file(path.removeprefix("store/"))
        elif path == "api/patches":
            self._send(self.server.content.table(), "application/json", {"Content-Encoding": "gzip"})
        elif path.startswith("api/"):
            document = self.server.content.document(path.removeprefix("api/"), parse_qs(query))
            if document is None:
                raise ObjectMissingError(f"there is no {path}")
            self._send(_encode(document), "application/json")
        elif asset := _assets().get(path or "index.html"):
            self._send(asset.read_bytes(), _TYPES[Path(asset.name).suffix])
        else:
            raise ObjectMissingError(f"there is no {path}")

    def _send_file(self, path: str) -> None:
        file = self.server.content.open(path)
        try:
            try:
                wanted = requested_bytes(self.headers.get("Range"), file.num_bytes)
            except UnsatisfiableRangeError:
                head = {"Content-Range": content_range(None, file.num_bytes)}
                self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"{path} is shorter", head)
                return
            self._send_bytes(file, wanted)
        finally:
            file.close()

    def _send_bytes(self, file: ByteFile, wanted: range | None) -> None:
        sent = range(file.num_bytes) if wanted is None else wanted
        head = {"Accept-Ranges": "bytes"}
        if wanted is not None:
            head["Content-Range"] = content_range(wanted, file.num_bytes)
        # Read before the head is sent: what fails now can still be said.
        piece = file.read(sent.start, min(_PIECE_BYTES, len(sent)))
        status = HTTPStatus.OK if wanted is None else HTTPStatus.PARTIAL_CONTENT
        self._send_head(status, "application/octet-stream", len(sent), head)
        if self.command == "HEAD":
            return
        self.wfile.write(piece)
        try:
            for offset in range(sent.start + len(piece), sent.stop, _PIECE_BYTES):
                self.wfile.write(file.read(offset, min(_PIECE_BYTES, sent.stop - offset)))
        except StoreError:  # too late for a sentence: the reader sees that the answer is short
            self.close_connection = True

    def _send(
        self, body: bytes, kind: str, head: dict[str, str] | None = None, status: HTTPStatus = HTTPStatus.OK
    ) -> None:
        self._send_head(status, kind, len(body), head or {})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_head(self, status: HTTPStatus, kind: str, num_bytes: int, head: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(num_bytes), **_HEADERS, **head}.items():
            self.send_header(name, value)
        self.end_headers()

    def _refuse(self, status: HTTPStatus, sentence: str, head: dict[str, str] | None = None) -> None:
        self._send(_encode({"error": sentence}), "application/json", head, status)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """Nothing: the library does not print."""
