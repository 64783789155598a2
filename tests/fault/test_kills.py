"""Builds of photographs that are killed (-9) at random instants, and started again until they end."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-c", "from ssl_data.cli.app import main; main()"]
OPTIONS = ["--patch-size", "64", "--step", "64", "--edge-stride", "3", "--compression", "balanced"]
"""Some sixty shards in a few seconds."""
ENDS_WITHIN_SECONDS = 240
TARGETS = ("driver", "worker", "raylet")


@pytest.fixture(scope="module")
def undisturbed(shared_images, tmp_path_factory):
    """A store that was built in peace, its images, and the seconds that it took."""
    images = shared_images / "bench-small"
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    began = time.monotonic()
    done = start(images, store, "--workers", "1")
    assert done.wait(ENDS_WITHIN_SECONDS) == 0
    return images, store, time.monotonic() - began


def start(images, store, *options):
    command = [*COMMAND, "build", "--dataset", images, "--out", store, *OPTIONS, *options]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def command_line(pid):
    """What a process was started as; empty where there is none, or it has ended and nobody has asked how."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def descendants(pid):
    """Processes that a process has started, and theirs."""
    found = []
    for place in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in place.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def victims(target, driver):
    """The processes of a build of one kind."""
    if target == "driver":
        return [driver.pid]
    lines = {pid: command_line(pid) for pid in descendants(driver.pid)}
    if target == "worker":
        return [pid for pid, line in lines.items() if line.startswith("ray::")]
    return [pid for pid, line in lines.items() if line.split(" ")[0].endswith("/raylet")]


def disturb(draw, driver, target, within_seconds):
    """Kill one process of a build, some time after there is one; return all its processes, and whether it was hit."""
    while driver.poll() is None and not victims(target, driver):
        time.sleep(0.02)
    time.sleep(draw.uniform(0, within_seconds))
    mine = {driver.pid, *descendants(driver.pid)}
    candidates = victims(target, driver) if driver.poll() is None else []
    if not candidates:
        return mine, False
    try:
        os.kill(draw.choice(candidates), signal.SIGKILL)
    except ProcessLookupError:
        return mine, False
    return mine | set(descendants(driver.pid)), True


def outlived(pids):
    """Those of some processes that are still there after a while."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        left = [f"{pid}: {command_line(pid)}" for pid in pids if command_line(pid)]
        if not left:
            return []
        time.sleep(0.2)
    return left


def trial(seed, undisturbed, store, *, executor):
    """Kill a build up to three times, then let it end; the store must be the same, and nothing be left. Count kills."""
    images, expected, seconds = undisturbed
    draw = random.Random(seed)  # noqa: S311 - no secret
    options = ("--executor", executor, "--workers", "2" if executor == "ray" else "1")
    targets = TARGETS if executor == "ray" else TARGETS[:1]
    pids, num_kills = set(), 0
    for number in range(draw.randint(1, 3)):
        driver = start(images, store, *options)
        found, was_killed = disturb(draw, driver, targets[(seed + number) % len(targets)], seconds)
        pids |= found
        num_kills += was_killed
        assert driver.wait(ENDS_WITHIN_SECONDS) in {0, 1, -signal.SIGKILL}, seed
    last = start(images, store, *options)
    assert last.wait(ENDS_WITHIN_SECONDS) == 0, seed
    compared = subprocess.run(["diff", "-r", expected, store], capture_output=True, text=True, check=False)
    assert compared.stdout + compared.stderr == "", seed
    assert outlived(pids) == [], seed
    return num_kills


def test_a_killed_build_goes_on(undisturbed, tmp_path):
    assert sum(trial(seed, undisturbed, tmp_path / str(seed), executor="serial") for seed in range(2)) >= 1


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_killed_builds_go_on(undisturbed, tmp_path):
    num_kills = 0
    for seed in range(int(os.environ.get("SSL_DATA_KILL_TRIALS", "25"))):
        executor = "serial" if seed % 5 == 4 else "ray"
        num_kills += trial(seed, undisturbed, tmp_path / str(seed), executor=executor)
        print(f"trial {seed}: {num_kills} kills so far", flush=True)  # noqa: T201 - shown with -s
    assert num_kills >= 1
