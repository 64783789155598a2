"""SIGTERM and SIGINT at random instants: exit code 4 within ten seconds, no unfinished file, and the same store."""

import random
import signal
import subprocess
import time

import pytest


def is_at_work(store, since):
    """Whether a build that was started then has come to write."""
    try:
        return (store / ".build" / "lock").stat().st_mtime >= since
    except OSError:
        return False


def stop(draw, builds, images, store, num_shards, *options):
    """Start a build and end it by a signal; its exit code, and the seconds that it took to end."""
    started = time.time()
    build = builds.start(images, store, *options, stderr=subprocess.PIPE, text=True)
    at = draw.randint(min(len(builds.committed(store)), num_shards - 1), num_shards - 1)
    while build.poll() is None and not (is_at_work(store, started) and len(builds.committed(store)) >= at):
        time.sleep(0.002)
    time.sleep(draw.uniform(0, 0.1))
    began = time.monotonic()
    build.send_signal(draw.choice([signal.SIGTERM, signal.SIGINT]))
    _, errors = build.communicate(timeout=builds.ends_within_seconds)
    return build.returncode, errors, time.monotonic() - began


@pytest.mark.parametrize(
    ("executor", "num_signals"),
    [
        ("serial", 3),
        ("ray", 1),
        pytest.param("serial", 60, marks=pytest.mark.slow),
        pytest.param("ray", 10, marks=pytest.mark.slow),
    ],
)
def test_a_build_that_is_told_to_stop_does(executor, num_signals, builds, undisturbed, tmp_path):
    images, expected = undisturbed
    num_shards = len(builds.committed(expected))
    draw = random.Random(num_signals)  # noqa: S311 - no secret
    store, num_stopped = tmp_path / "0", 0
    for number in range(num_signals):
        code, errors, seconds = stop(draw, builds, images, store, num_shards, "--executor", executor, "--workers", "1")
        assert code in {0, 4}, errors
        assert "Traceback" not in errors
        assert seconds < 10
        num_stopped += code == 4
        if code == 4:
            assert "the same command goes on" in errors
            assert {path.name for path in store.glob(".build/*")} <= {"lock"}
        else:
            assert builds.differences(expected, store) == ""
            store = tmp_path / str(number + 1)
    assert num_stopped >= 1
    assert builds.run(images, store)[0] == 0
    assert builds.differences(expected, store) == ""
    assert builds.leftovers(builds.shared_memory()) == []
