"""Builds of photographs that are killed (-9) at random instants, and started again until they end."""

import os
import random
import signal
import time

import pytest

TARGETS = ("driver", "worker", "raylet")


def victims(builds, target, driver):
    """The processes of a build of one kind."""
    if target == "driver":
        return [driver.pid]
    lines = {pid: builds.command_line(pid) for pid in builds.descendants(driver.pid)}
    if target == "worker":
        return [pid for pid, line in lines.items() if line.startswith(("ray::call", "ray::IDLE"))]
    return [pid for pid, line in lines.items() if line.split(" ")[0].endswith("/raylet")]


def disturb(draw, builds, driver, target, is_time):
    """Kill one process of a build soon after it is time; return all processes of the build, and whether it was hit."""
    while driver.poll() is None and not (victims(builds, target, driver) and is_time()):
        time.sleep(0.005)
    time.sleep(draw.uniform(0, 0.2))
    mine = {driver.pid, *builds.descendants(driver.pid)}
    candidates = victims(builds, target, driver) if driver.poll() is None else []
    if not candidates:
        return mine, False
    try:
        os.kill(draw.choice(candidates), signal.SIGKILL)
    except ProcessLookupError:
        return mine, False
    return mine | set(builds.descendants(driver.pid)), True


def trial(seed, builds, undisturbed, store, *, executor):
    """Kill a build up to three times, then let it end; the store must be the same, and nothing be left. Count kills."""
    images, expected = undisturbed
    num_shards = len(builds.committed(expected))
    draw = random.Random(seed)  # noqa: S311 - no secret
    options = ("--executor", executor, "--workers", "2" if executor == "ray" else "1")
    targets = TARGETS if executor == "ray" else TARGETS[:1]
    shared_memory = builds.shared_memory()
    pids, num_kills = set(), 0
    for number in range(draw.randint(1, 3)):
        driver = builds.start(images, store, *options)
        target = targets[(seed + number) % len(targets)]
        num_committed = draw.randint(len(builds.committed(store)), num_shards)  # an instant, however fast the machine
        is_time = lambda at=num_committed: len(builds.committed(store)) >= at  # noqa: E731
        found, was_killed = disturb(draw, builds, driver, target, is_time)
        pids |= found
        num_kills += was_killed
        assert driver.wait(builds.ends_within_seconds) in {0, 1, -signal.SIGKILL}, seed
    code, errors = builds.run(images, store, *options)
    assert code == 0, (seed, errors)
    assert builds.differences(expected, store) == "", seed
    assert builds.outlived(pids) == [], seed
    assert builds.leftovers(shared_memory) == [], seed
    return num_kills


def test_a_killed_build_goes_on(builds, undisturbed, tmp_path):
    assert sum(trial(seed, builds, undisturbed, tmp_path / str(seed), executor="serial") for seed in range(2)) >= 1


def test_a_build_outlives_a_worker_of_ray(builds, undisturbed, tmp_path):
    images, expected = undisturbed
    store = tmp_path / "store"
    shared_memory = builds.shared_memory()
    driver = builds.start(images, store, "--executor", "ray", "--workers", "1")
    draw = random.Random(0)  # noqa: S311 - no secret
    pids, was_killed = disturb(draw, builds, driver, "worker", lambda: len(builds.committed(store)) >= 3)
    assert was_killed
    assert driver.wait(builds.ends_within_seconds) == 0
    assert builds.differences(expected, store) == ""
    assert builds.outlived(pids) == []
    assert builds.leftovers(shared_memory) == []


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_killed_builds_go_on(builds, many_undisturbed, tmp_path):
    num_trials, num_kills = int(os.environ.get("SSL_DATA_KILL_TRIALS", "25")), 0
    for seed in range(num_trials):
        executor = "serial" if seed % 5 == 4 else "ray"
        num_kills += trial(seed, builds, many_undisturbed, tmp_path / str(seed), executor=executor)
        print(f"trial {seed}: {num_kills} kills so far", flush=True)  # noqa: T201 - shown with -s
    assert num_kills >= num_trials / 2
