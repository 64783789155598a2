"""Loader workers, forked or fresh, read from S3 although their parent has; and no process is left behind."""

import multiprocessing
import multiprocessing.forkserver
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ssl_data import open_store
from ssl_data.errors import StoreUnreachableError
from ssl_data.store import fetcher

# Only the test's own threads (the proxy's) are there when it forks.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.mark.parametrize(
    ("method", "cache_bytes"), [("fork", 0), ("fork", None), ("spawn", None), ("forkserver", None)]
)
def test_loader_workers_read_after_their_parent_has(url, store, method, cache_bytes):
    torch_data = pytest.importorskip("torch.utils.data")
    from ssl_data import SSLCachedDataset, collate

    if method == "forkserver":  # one that an earlier test started would keep the environment of that time
        multiprocessing.forkserver._forkserver._stop()
    remote = open_store(url, cache_bytes=cache_bytes)
    remote.read(0)
    loader = torch_data.DataLoader(
        SSLCachedDataset(remote),
        batch_size=2,
        num_workers=2 if method == "fork" else 1,  # a fresh process takes seconds to import torch
        multiprocessing_context=method,
        collate_fn=collate,
    )
    found = {name: gt for batch in loader for name, gt in zip(batch["patch_id"], batch["gt"], strict=True)}
    expected = SSLCachedDataset(store)
    assert len(found) == len(expected)
    for sample in expected:
        assert (found[sample["patch_id"]] == sample["gt"]).all()


@pytest.mark.parametrize("cache_bytes", [0, None])
def test_loader_workers_end_right_in_a_storm_of_faults(url, proxy, store, cache_bytes, monkeypatch):
    """Half of all requests fail in one way or another; every field of every sample is right nevertheless."""
    torch_data = pytest.importorskip("torch.utils.data")
    from ssl_data import SSLCachedDataset, collate

    monkeypatch.setenv("SSL_DATA_REMOTE_RETRIES", "20")
    kinds = [None, None, None, "reset", "503", "truncate"]
    storm = random.Random(0).choices(kinds, k=4000)  # noqa: S311 - nothing secret
    proxy.faults.extend(storm)
    options = {"crop_size": 32, "hflip": True, "seed": 1}
    dataset = SSLCachedDataset(open_store(url, cache_bytes=cache_bytes), **options)
    loader = torch_data.DataLoader(dataset, batch_size=2, num_workers=2, collate_fn=collate)
    expected = torch_data.DataLoader(SSLCachedDataset(store, **options), batch_size=2, collate_fn=collate)
    for found, wanted in zip(loader, expected, strict=True):
        assert found["patch_id"] == wanted["patch_id"]
        assert all((found[name] == wanted[name]).all() for name in ("gt", "gt_mask", "lq"))
        for name in ("codes", "image", "row", "col"):
            assert (getattr(found["ssg"], name) == getattr(wanted["ssg"], name)).all()
    weathered = storm[: len(storm) - len(proxy.faults)]
    assert len(weathered) - weathered.count(None) > 5


def test_a_fork_while_another_thread_reads(url, store):
    remote = open_store(url, cache_bytes=0)
    stop = threading.Event()

    def keep_reading():
        while not stop.is_set():
            remote.read_gt(0)

    thread = threading.Thread(target=keep_reading)
    thread.start()
    try:
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        process = context.Process(target=lambda: queue.put(int(remote.read_gt(1).sum())))
        process.start()
        assert queue.get(timeout=30) == store.read_gt(1).sum()
        process.join(30)
        assert process.exitcode == 0
    finally:
        stop.set()
        thread.join()


def test_after_the_fetching_process_was_killed_the_next_read_starts_another(url, store):
    remote = open_store(url, cache_bytes=0)
    fetcher._pool.idle[-1]._process.kill()
    with pytest.raises(StoreUnreachableError, match=r"could not be read \(the fetching process ended with status -9\)"):
        remote.read_gt(0)
    assert (remote.read_gt(0) == store.read_gt(0)).all()


READER = """
import sys, time
from ssl_data import open_store
from ssl_data.store import fetcher
store = open_store(sys.argv[1], cache_bytes=0)
print(fetcher._pool.idle[-1]._process.pid, flush=True)
while len(sys.argv) > 2:
    store.read_gt(0)
"""


def wait_until_gone(pid):
    give_up = time.monotonic() + 10
    while time.monotonic() < give_up:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":  # ended; whoever inherited it has not looked yet
            return
        time.sleep(0.02)
    pytest.fail(f"process {pid} is still there")


@pytest.mark.parametrize("end", ["by itself", "SIGKILL", "SIGINT"])
def test_the_fetching_process_ends_with_its_reader(url, end):
    arguments = [sys.executable, "-c", READER, url, *([] if end == "by itself" else ["for ever"])]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as reader:
        assert reader.stdout is not None
        fetching = int(reader.stdout.readline())
        if end != "by itself":
            os.kill(reader.pid, signal.Signals[end])
        reader.wait(timeout=20)
    wait_until_gone(fetching)


def test_interrupting_a_long_wait_works_at_once(url, proxy, monkeypatch):
    monkeypatch.setenv("SSL_DATA_REMOTE_RETRIES", "50")
    remote = open_store(url, cache_bytes=0)
    proxy.every_fault = "503"
    began = time.monotonic()
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        remote.read_gt(0)
    assert time.monotonic() - began < 5
    proxy.reset()
    assert remote.read_gt(0).shape == (64, 64, 3)
