"""What fails is tried again, and reported with shard, image and traceback; nothing is lost."""

import dataclasses
import logging
import time
from functools import partial

import pytest

from ssl_data import BuildConfig, PatchSpec, StoreSpec, build, verify_store
from ssl_data.errors import BuildError
from ssl_data.kernels.codes import graph_codes
from ssl_data.pipeline.attempts import attempt_shard
from ssl_data.pipeline.executors import RayExecutor, SerialExecutor
from ssl_data.pipeline.monitor import Monitor
from ssl_data.pipeline.plan import ShardJobs
from ssl_data.pipeline.run import make_build_plan
from ssl_data.pipeline.status import read_status
from ssl_data.store.local_target import LocalTarget
from ssl_data.testing import write_images


@pytest.fixture
def config(tmp_path):
    images = write_images(tmp_path / "images", [(96, 64), (64, 64), (100, 130)])
    specs = {"patch": PatchSpec(patch_size=64, step=32), "store": StoreSpec(patches_per_shard=2, chunk_rows=128)}
    return BuildConfig(dataset=str(images), out=str(tmp_path / "store"), **specs)


@pytest.fixture
def pauses(monkeypatch):
    """The pauses between attempts, which are not waited for."""
    seen = []
    monkeypatch.setattr("ssl_data.pipeline.attempts.time.sleep", seen.append)
    return seen


def fail_on(calls, monkeypatch):
    """Let the computation of graphs fail with an error of the system at these calls, counted from 0."""
    count = iter(range(10**6))

    def compute(*arguments, **options):
        if next(count) in calls:
            raise OSError(5, "Input/output error")
        return graph_codes(*arguments, **options)

    monkeypatch.setattr("ssl_data.pipeline.job.graph_codes", compute)


def events(caplog, name):
    return [record.event for record in caplog.records if getattr(record, "event", {}).get("event") == name]


def test_what_fails_twice_is_made_in_the_third_attempt(config, monkeypatch, caplog, pauses):
    caplog.set_level(logging.INFO, "ssl_data")
    fail_on({2, 3}, monkeypatch)
    report = build(config, executor=SerialExecutor(1))
    assert report.num_patches == 15
    assert verify_store(config.out, deep=True) == []
    assert pauses == [0.5, 1.0]
    failures = events(caplog, "shard-failed")
    assert [(e["shard"], e["attempt"], e["image"], e["is_last"]) for e in failures] == [
        (1, 1, "image-1.png", False),
        (1, 2, "image-1.png", False),
    ]
    assert "Input/output error" in failures[0]["error"]
    assert "in compute" in failures[0]["traceback"]
    assert [e["shard"] for e in events(caplog, "shard-made")] == list(range(8))


def test_what_fails_for_good_ends_the_build_with_one_line_and_shows_in_the_status(config, monkeypatch, caplog, pauses):
    fail_on(range(2, 100), monkeypatch)
    with pytest.raises(BuildError) as caught:
        build(config, executor=SerialExecutor(1), retries=1)
    message = f"shard 1, image image-1.png: {config.out}: Input/output error (in attempt 2, the last)"
    assert str(caught.value) == message
    assert "in compute" in caught.value.__notes__[0]
    assert [e["is_last"] for e in events(caplog, "shard-failed")] == [False, True]
    status = read_status(config.out)
    assert (status.state, status.num_done, status.running) == ("stopped", 1, ())
    assert [(failure["shard"], failure["attempt"]) for failure in status.failed] == [(1, 2)]
    monkeypatch.undo()
    assert build(config).num_shards_reused == 1


def test_without_retries_the_first_failure_is_the_last(config, monkeypatch, pauses):
    fail_on({0}, monkeypatch)
    with pytest.raises(BuildError) as caught:
        build(config, executor=SerialExecutor(1), retries=0)
    assert str(caught.value) == f"shard 0, image image-0.png: {config.out}: Input/output error"
    assert pauses == []


def test_failures_travel_from_ray_workers(config, tmp_path):
    plan = make_build_plan(config)
    (job,) = ShardJobs(plan, [3], target=LocalTarget(tmp_path / "store"), num_threads=1)
    lost = dataclasses.replace(job, work=".build/nowhere")
    (outcome,) = RayExecutor(1).run(partial(attempt_shard, retries=1), [lost])
    assert outcome.result is None
    assert [(failure.shard, failure.attempt) for failure in outcome.failures] == [(3, 1), (3, 2)]
    assert "No such file or directory" in outcome.failures[1].error
    assert "mkstemp" in outcome.failures[1].traceback


def test_a_build_that_does_not_move_says_so_and_what_is_in_hand(tmp_path, caplog):
    (tmp_path / "shard-00007-gt-abc").touch()
    with Monitor(LocalTarget(tmp_path), ".", num_shards=9, num_reused=0, stall_seconds=0.05):
        deadline = time.monotonic() + 20
        while not events(caplog, "stalled") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / "progress.json").exists()
    (stalled, *_) = events(caplog, "stalled")
    assert stalled["running"] == [7]
    assert any("no shard was finished for 0 s; in hand: 7" in record.getMessage() for record in caplog.records)
    assert not (tmp_path / "progress.json").exists()
