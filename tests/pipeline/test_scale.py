"""A hundred thousand shards: neither their number nor how many are done makes the next one dearer.

What is measured is the planner and the loop that drives the jobs. The work itself, images and files, is replaced by a
stub, here and nowhere else.
"""

import time
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest

from ssl_data.config import BuildSpec, PatchSpec, StoreSpec
from ssl_data.pipeline.driver import Steering, make_shards
from ssl_data.pipeline.executors import RayExecutor, SerialExecutor
from ssl_data.pipeline.job import ShardResult
from ssl_data.pipeline.plan import ShardJobs, make_plan
from ssl_data.pipeline.sources import Source
from ssl_data.store.layout import WORK_DIR
from ssl_data.store.local_target import LocalTarget
from ssl_data.store.target import Claim

PATCHES_PER_SHARD = 4
SPEC = BuildSpec(
    patch=PatchSpec(patch_size=32, step=32), store=StoreSpec(patches_per_shard=PATCHES_PER_SHARD, chunk_rows=64)
)


def no_work(job):
    """In place of making a shard."""
    patches = sum(len(task.patches) for task in job.tasks)
    return ShardResult(shard=job.shard, num_patches=patches, num_graphs=0, num_bytes=0, rejected=())


def plan_shards(num_shards):
    """A plan with so many shards; each image has the patches of two of them."""
    sources = [
        Source(
            name=f"image-{number:06d}.png",
            path=Path(f"/nowhere/image-{number:06d}.png"),
            sha256=f"{number:064x}",
            num_bytes=1,
            height=32,
            width=32 * 2 * PATCHES_PER_SHARD,
            rejected=None,
        )
        for number in range(num_shards // 2)
    ]
    return make_plan(sources, dataset="x", spec=SPEC)


def drive(plan, target, measure):
    """Run the loop; what `measure` says at the beginning and after each tenth of the shards."""
    num_shards, seen = plan.store.num_shards, [measure()]
    jobs = ShardJobs(plan, range(num_shards), target=target, num_threads=1)
    steering = Steering(progress=lambda at: seen.append(measure()) if at.done % (num_shards // 10) == 0 else None)
    results = make_shards(jobs, {}, SerialExecutor(1), steering, Claim(WORK_DIR))
    assert [result.shard for result in results] == list(range(num_shards))
    assert sum(result.num_patches for result in results) == plan.store.num_slots
    return [later - earlier for earlier, later in pairwise(seen)]


def cpu_seconds(function, *arguments):
    began = time.process_time()
    result = function(*arguments)
    return result, time.process_time() - began


@pytest.mark.parametrize("num_shards", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_time_per_shard_and_memory_stay_flat(num_shards, tmp_path, monkeypatch):
    monkeypatch.setattr("ssl_data.pipeline.attempts.run_shard", no_work)
    (tmp_path / WORK_DIR).mkdir()
    _, seconds_of_fewer = cpu_seconds(plan_shards, num_shards // 10)
    plan, seconds = cpu_seconds(plan_shards, num_shards)
    assert plan.store.num_shards == num_shards
    assert seconds < 10 * max(seconds_of_fewer, 0.05) * 2
    tenths = drive(plan, LocalTarget(tmp_path), time.process_time)
    print(f"planned in {seconds:.2f} s, driven in {sum(tenths):.2f} s, by tenths {tenths}")  # noqa: T201 - with -s
    assert max(tenths[5:]) < 2 * max(tenths[:5])
    tracemalloc.start()
    try:
        grown = drive(plan, LocalTarget(tmp_path), lambda: tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    print(f"bytes by tenths {grown}")  # noqa: T201 - with -s
    assert sum(grown) / num_shards < 600  # a result for each shard, and no job
    assert max(grown[5:]) < 2 * max(grown[:5])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_time_per_task_of_ray_stays_flat(tmp_path):
    plan = plan_shards(20_000)
    jobs = ShardJobs(plan, range(20_000), target=LocalTarget(tmp_path), num_threads=1)
    seen, tenths = 0, []
    began = time.monotonic()
    for result in RayExecutor(2).run(no_work, jobs):
        seen += 1
        assert result.num_patches == PATCHES_PER_SHARD
        if seen % 2_000 == 0:
            tenths.append(time.monotonic() - began)
            began = time.monotonic()
    print(f"by tenths {tenths}")  # noqa: T201 - with -s
    assert seen == 20_000
    assert max(tenths[5:]) < 3 * max(tenths[1:5])
