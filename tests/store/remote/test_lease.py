"""Who may write to a store in an object store: one builder, or several parts, each once; until they die."""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from ssl_data.errors import ConfigError, StoreError, StoreLockedError, StoreUnreachableError
from ssl_data.store import lease
from ssl_data.store.locate import open_target

WHOLE = ".build/lock"
serial = itertools.count()


@pytest.fixture
def target(environment, monkeypatch):
    monkeypatch.setenv("SSL_DATA_LEASE_SECONDS", "2")
    return open_target(f"s3://bucket/leases/{os.getpid()}/store-{next(serial)}")


HOLDER = """
import sys, time
from ssl_data.store.locate import open_target
url, *part = sys.argv[1:]
target = open_target(url)
with target.part_lock(*map(int, part)) if part else target.build_lock():
    print("held", flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def holder(target, *part):
    """Another process that builds a store, or makes a part of it; killed at the end."""
    command = [sys.executable, "-c", HOLDER, target.url, *map(str, part)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def from_elsewhere(target, path=WHOLE, **changes):
    """Make it look as if a process of another machine had taken a lease."""
    entry = lease._Entry(
        holder=replace(lease.Holder.here("build"), host="elsewhere", pid=1),
        process=("another machine", 1),
        seconds=2.0,
        token="token",  # noqa: S106 - of nothing
    )
    target.put(path, replace(entry, **changes).encode())


def test_a_second_builder_is_told_who_holds_the_store_since_when_until_the_first_dies(target):
    with holder(target) as first:
        message = rf"being built by process {first.pid} on \S+ \(build, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00\)"
        with pytest.raises(StoreLockedError, match=message), target.build_lock():
            pass
        with pytest.raises(StoreLockedError, match=message), target.part_lock(0, 2):
            pass
        assert [(held.pid, held.role) for held in target.holders()] == [(first.pid, "build")]
        time.sleep(3.1)  # it is renewed in time
        with pytest.raises(StoreLockedError, match=message), target.build_lock():
            pass
    with target.build_lock():  # on this machine it is known that the first is dead
        pass
    assert list(target.entries()) == []


def test_parts_run_beside_each_other_but_each_once(target):
    with holder(target, 0, 3) as first:
        with target.part_lock(1, 3) as claim:
            assert claim.work == ".build/part-1-of-3"
            assert {(held.pid, held.role) for held in target.holders()} == {
                (first.pid, "part 0/3"),
                (os.getpid(), "part 1/3"),
            }
        with pytest.raises(StoreLockedError, match=rf"process {first.pid} .*part 0/3"), target.part_lock(0, 3):
            pass
        with pytest.raises(StoreLockedError, match=rf"process {first.pid} .*part 0/3"), target.part_lock(1, 2):
            pass
        with pytest.raises(StoreLockedError, match=rf"process {first.pid} .*part 0/3"), target.build_lock():
            pass
        assert sorted(target.part_folders()) == [".build/part-0-of-3", ".build/part-1-of-3"]
    with target.part_lock(0, 3), target.part_lock(1, 3):
        pass
    assert target.holders() == []
    with target.build_lock():
        target.end_work()
    assert list(target.entries()) == []


def test_a_lease_from_elsewhere_is_taken_over_when_it_was_not_renewed(target):
    from_elsewhere(target)
    with (
        pytest.raises(StoreLockedError, match=r"process 1 on elsewhere .*its claim ends 2 s later"),
        target.build_lock(),
    ):
        pass
    from_elsewhere(target, released=True)
    with target.build_lock():
        pass
    from_elsewhere(target)
    time.sleep(4.5)
    assert target.holders() == []
    with target.build_lock():
        pass
    assert list(target.entries()) == []


def test_of_many_that_take_over_a_stale_lease_one_wins(target):
    from_elsewhere(target, released=True)
    held, refused, end = [], [], threading.Event()

    def build():
        try:
            with target.build_lock():
                held.append(1)
                end.wait(60)
        except StoreLockedError:
            refused.append(1)

    threads = [threading.Thread(target=build) for _ in range(5)]
    for thread in threads:
        thread.start()
    give_up = time.monotonic() + 60
    while len(held) + len(refused) < 5 and time.monotonic() < give_up:
        time.sleep(0.05)
    end.set()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 4)


def test_whoever_lost_a_lease_notices_and_leaves_it_to_the_other(target):
    with target.build_lock() as claim:
        claim.check()
        from_elsewhere(target, seconds=60.0)
        time.sleep(1.5)
        with pytest.raises(StoreLockedError, match=r"ran out, and was taken over by process 1 on elsewhere"):
            claim.check()
    assert json.loads(target.read_all(WHOLE))["holder"]["host"] == "elsewhere"


def test_a_builder_that_cannot_renew_its_lease_stops_before_others_start(target, proxy):
    with target.build_lock() as claim:
        proxy.every_fault = "503"
        time.sleep(2.2)
        with pytest.raises(StoreLockedError, match=r"could not be renewed for 2 s"):
            claim.check()
        proxy.reset()
        claim.check()  # nobody has noticed


def test_lost_answers_do_not_lock_a_builder_out_of_its_own_store(target, proxy):
    proxy.faults.extend([None, "lost", "lost", None, None, "lost"])
    with target.build_lock() as claim:
        assert not proxy.faults
        proxy.faults.extend(["lost", "reset", "lost"])
        time.sleep(2.5)
        claim.check()
    assert list(target.entries()) == []


def test_a_server_that_ignores_conditions_is_refused(target, proxy):
    proxy.every_fault = "unconditional"
    with pytest.raises(StoreError, match=r"ignores the conditions of puts \(If-None-Match, If-Match\)"):
        target.build_lock().__enter__()
    assert list(target.entries()) == []


def test_the_frame_is_waited_for(target):
    order = []

    def write(number):
        with target.frame_lock():
            order.append(number)
            time.sleep(0.2)
            order.append(number)

    threads = [threading.Thread(target=write, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order in ([0, 0, 1, 1], [1, 1, 0, 0])


def test_what_is_no_lease_is_not_taken_for_a_free_place(target):
    target.put(WHOLE, b"something else")
    with pytest.raises(StoreLockedError, match="being built by another process"), target.build_lock():
        pass
    assert target.read_all(WHOLE) == b"something else"


def test_without_access_no_lease_is_had(target, proxy):
    proxy.every_fault = "403"
    with pytest.raises(StoreUnreachableError, match="refused"), target.build_lock():
        pass


@pytest.mark.parametrize("text", ["1", "soon", "-5", "inf", "nan"])
def test_times_that_make_no_sense(target, monkeypatch, text):
    monkeypatch.setenv("SSL_DATA_LEASE_SECONDS", text)
    with pytest.raises(ConfigError, match=f"SSL_DATA_LEASE_SECONDS must be a number of seconds, .* got '{text}'"):
        target.build_lock().__enter__()
