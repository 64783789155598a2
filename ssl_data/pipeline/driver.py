"""Running the jobs of a plan: which shards are there, and making the others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ssl_data.pipeline.attempts import DEFAULT_RETRIES, attempt_shard
from ssl_data.pipeline.job import ShardResult, summarize
from ssl_data.pipeline.last_image import forget_last_image
from ssl_data.pipeline.monitor import Monitor
from ssl_data.pipeline.report import add_result, sum_up
from ssl_data.store.finalize import committed_records
from ssl_data.store.layout import record_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ssl_data.pipeline.executors import Executor
    from ssl_data.pipeline.plan import ShardJobs
    from ssl_data.pipeline.report import ProgressFunction
    from ssl_data.store.plan import StorePlan
    from ssl_data.store.target import Claim, Target

__all__ = ["committed_results", "make_shards"]


@dataclass(kw_only=True)
class Steering:
    """How a run is followed, and how much it puts up with; nothing of it shows in the store."""

    progress: ProgressFunction | None = None
    retries: int = DEFAULT_RETRIES
    """Further attempts to make a shard that fails."""
    num_done: int | None = None
    """Shards that are there; None before the run has looked."""


def committed_results(target: Target, plan: StorePlan, shards: Iterable[int] | None = None) -> dict[int, ShardResult]:
    """The results of those of some shards, or of all, that are committed under this plan."""
    chosen = range(plan.num_shards) if shards is None else shards
    return {shard: summarize(record) for shard, record in committed_records(target, plan, chosen).items()}


def make_shards(
    jobs: ShardJobs,
    reused: Mapping[int, ShardResult],
    executor: Executor,
    steering: Steering,
    claim: Claim,
) -> list[ShardResult]:
    """Make those shards that were not there; return their results.

    Raises
    ------
    BuildError
        If a shard could not be made in any of its attempts.
    StoreLockedError
        If the claim on the store was lost.
    """
    missing = jobs.without(reused)
    if not missing:
        return []
    so_far = sum_up(reused.values(), len(jobs))
    steering.num_done = so_far.done
    results = []
    target = jobs.target
    for path in target.sizes(map(record_path, missing.shards)):
        target.remove(path)  # of a shard that lost files, or of other contents
    try:
        observe, num_reused = getattr(executor, "observe", None), len(jobs) - len(missing)
        with Monitor(target, claim.work, num_shards=len(jobs), num_reused=num_reused, observe=observe) as monitor:
            for outcome in executor.run(partial(attempt_shard, retries=steering.retries), missing):
                claim.check()
                monitor.record(outcome)
                if outcome.result is None:
                    raise outcome.failures[-1].to_error()
                results.append(outcome.result)
                so_far = add_result(so_far, outcome.result)
                steering.num_done = so_far.done
                if steering.progress is not None:
                    steering.progress(so_far)
    finally:
        forget_last_image()
    return results
