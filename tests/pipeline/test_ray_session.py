"""A private Ray: who can reach it, what it leaves, and how many tasks it runs at a time."""

import fcntl
import os
import signal
import socket
import tempfile
import time
from pathlib import Path

import pytest

from ssl_data.pipeline.executors import RayExecutor, make_executor
from ssl_data.pipeline.ray_session import SESSION_PREFIX, ray_session

LISTENING = "0A"


def descendants(pid):
    children = [
        int(child) for place in Path(f"/proc/{pid}/task").glob("*/children") for child in place.read_text().split()
    ]
    return [*children, *(grandchild for child in children for grandchild in descendants(child))]


def listening_addresses(pids):
    """Where these processes wait for connections: addresses as hexadecimal digits, as the kernel shows them."""
    sockets = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.add(str(entry.readlink()).removeprefix("socket:[").removesuffix("]"))
            except OSError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == LISTENING and inode in sockets:
                found.add(local.partition(":")[0])
    return found


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""127.0.0.1, the same in IPv6, and ::1."""


def worker_pid():
    return os.getpid()


@pytest.fixture
def temporary(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="ssl-", dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.delenv("RAY_TMPDIR", raising=False)
        yield Path(folder)


def test_a_private_ray_is_on_the_loopback_interface_and_leaves_nothing(temporary, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    handler = signal.getsignal(signal.SIGTERM)
    abandoned = temporary / f"{SESSION_PREFIX}of-a-process-that-died"
    abandoned.mkdir()
    (abandoned / "owner").touch()
    with ray_session(1) as ray:
        assert not abandoned.exists()
        assert ray.get(ray.remote(worker_pid).remote()) != os.getpid()
        found = listening_addresses([os.getpid(), *descendants(os.getpid())])
        assert found
        assert found <= LOOPBACK
        assert len(list(temporary.iterdir())) == 1
        with ray_session(1) as same:  # what is there is used, and left alone
            assert same is ray
        assert ray.is_initialized()
        assert signal.getsignal(signal.SIGTERM) is handler
    assert not ray.is_initialized()
    assert list(temporary.iterdir()) == []
    assert "RAY_AUTH_MODE" not in os.environ


def test_the_test_of_addresses_can_fail():
    with socket.create_server(("0.0.0.0", 0)):  # noqa: S104 - to be found
        assert not listening_addresses([os.getpid()]) <= LOOPBACK


def test_at_most_as_many_tasks_as_workers_run_on_a_larger_cluster(temporary, tmp_path):
    def busy(number):
        mark = tmp_path / f"{number}"
        mark.touch()
        time.sleep(0.2)
        at_a_time = len(list(tmp_path.iterdir()))
        mark.unlink()
        return at_a_time

    with ray_session(3):
        assert set(RayExecutor(1).run(busy, range(4))) == {1}
        assert max(RayExecutor(2).run(busy, range(6))) <= 2


def test_what_a_killed_build_left_goes_even_where_there_is_nothing_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    abandoned, owned = tmp_path / f"{SESSION_PREFIX}abandoned", tmp_path / f"{SESSION_PREFIX}owned"
    for folder in (abandoned, owned):
        folder.mkdir()
        (folder / "owner").touch()
    with (owned / "owner").open() as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        make_executor("serial")
        assert abandoned.exists()
        make_executor("ray")
        assert not abandoned.exists()
        assert owned.exists()
