"""Running the jobs of a plan: which shards are there, and making the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssl_data.pipeline.job import ShardResult, run_shard, summarize
from ssl_data.pipeline.last_image import forget_last_image
from ssl_data.pipeline.report import add_result, sum_up
from ssl_data.store.finalize import committed_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from ssl_data.pipeline.executors import Executor
    from ssl_data.pipeline.plan import ShardJob
    from ssl_data.pipeline.report import ProgressFunction
    from ssl_data.store.plan import StorePlan

__all__ = ["committed_results", "make_shards"]


def committed_results(root: Path, plan: StorePlan, shards: Iterable[int] | None = None) -> dict[int, ShardResult]:
    """The results of those of some shards, or of all, that are committed under this plan."""
    chosen = range(plan.num_shards) if shards is None else shards
    records = {shard: committed_record(root, plan, shard) for shard in chosen}
    return {shard: summarize(record) for shard, record in records.items() if record is not None}


def make_shards(
    jobs: Sequence[ShardJob],
    reused: Mapping[int, ShardResult],
    executor: Executor,
    progress: ProgressFunction | None,
) -> list[ShardResult]:
    """Make those shards that were not there; return their results."""
    missing = [job for job in jobs if job.shard not in reused]
    if not missing:
        return []
    so_far = sum_up(reused.values(), len(jobs))
    results = []
    try:
        for result in executor.run(run_shard, missing):
            results.append(result)
            so_far = add_result(so_far, result)
            if progress is not None:
                progress(so_far)
    finally:
        forget_last_image()
    return results
