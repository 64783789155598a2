"""How far a build is, as seen from outside: by another process, or another machine that shares the folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from ssl_data.pipeline.monitor import PROGRESS_NAME, running_shards
from ssl_data.store.finalize import is_intact
from ssl_data.store.layout import ROOT_METADATA, WORK_DIR, record_path
from ssl_data.store.locate import open_target
from ssl_data.store.plan import require_plan
from ssl_data.store.source import ObjectMissingError

if TYPE_CHECKING:
    from pathlib import Path

    from ssl_data.store.lock import Holder
    from ssl_data.store.target import Target

__all__ = ["StoreStatus", "read_status"]


@dataclass(frozen=True, kw_only=True)
class StoreStatus:
    """How far a build is."""

    store: str
    state: Literal["complete", "building", "stopped", "damaged"]
    """"stopped": begun, and nobody is at work; "damaged": complete, but files are missing or short."""
    num_shards: int
    num_done: int
    running: tuple[int, ...]
    """Shards in hand."""
    failed: tuple[dict[str, Any], ...]
    """Shards whose last attempt failed: shard, attempt, error."""
    shards_per_second: float | None
    """Of all builders together, since each began; None before the first shard."""
    seconds_left: float | None
    builders: tuple[Holder, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def read_status(store: str | Path) -> StoreStatus:
    """Look at a store, complete or not. Nothing is changed, and no builder is disturbed.

    Parameters
    ----------
    store : str or Path
        A folder, or a URL of an object store.

    Raises
    ------
    StoreNotFoundError
        If nothing has been begun there.
    StoreUnreachableError
        If that cannot be said for now.
    """
    target = open_target(store)
    plan = require_plan(target, store)
    num_done = len(target.sizes(map(record_path, range(plan.num_shards))))
    builders = target.holders()
    folders = [WORK_DIR, *sorted(target.part_folders())]
    runs = [run for run in (_read_progress(target, folder) for folder in folders) if run is not None]
    at_work = {(builder.host, builder.pid) for builder in builders}
    alive = [run for run in runs if (run["host"], run["pid"]) in at_work and run["seconds"] > 0]
    rate = sum(run["num_made"] / run["seconds"] for run in alive) or None
    running = {shard for folder in folders for shard in running_shards(target, folder)} if builders else set()
    return StoreStatus(
        store=str(store),
        state=_state(target, is_building=bool(builders)),
        num_shards=plan.num_shards,
        num_done=num_done,
        running=tuple(sorted(running)),
        failed=tuple(failure for run in runs for failure in run["failed"]),
        shards_per_second=rate,
        seconds_left=None if rate is None else (plan.num_shards - num_done) / rate,
        builders=tuple(builders),
    )


def _state(target: Target, *, is_building: bool) -> Literal["complete", "building", "stopped", "damaged"]:
    if is_building:
        return "building"
    if not target.sizes([ROOT_METADATA]):
        return "stopped"
    return "complete" if is_intact(target) else "damaged"


def _read_progress(target: Target, work: str) -> dict[str, Any] | None:
    """What a run says about itself; also a dead one, until the next begins."""
    try:
        values: dict[str, Any] = json.loads(target.read_all(f"{work}/{PROGRESS_NAME}"))
    except (ObjectMissingError, OSError, ValueError):
        return None
    return values
