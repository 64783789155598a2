"""Trying rejected images again: a new store grows beside the old one, takes over what is unchanged, and replaces it.

A store is a function of its sources and specs. Repaired images change the sources, and with them the fingerprint and,
where an image had no patches so far, the slots of all images behind it. So this makes a new store, equal byte for byte
to one built from scratch; the old one stays complete and readable until the new one is.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from ssl_data.errors import StoreError, StoreMismatchError, StoreNotFoundError, first_of
from ssl_data.pipeline.donor import Donor
from ssl_data.store.finalize import committed_records, is_intact
from ssl_data.store.layout import PATCHES_PATH, PLAN_PATH, REJECTED_PATH, SOURCES_PATH, record_path
from ssl_data.store.local_target import LocalTarget
from ssl_data.store.manifest import PATCH_SCHEMA, REJECTED_SCHEMA, SOURCE_SCHEMA, read_table
from ssl_data.store.plan import read_plan
from ssl_data.store.reader import open_store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ssl_data.pipeline.plan import BuildPlan, ShardJob
    from ssl_data.store.manifest import ShardRecord
    from ssl_data.store.plan import StorePlan
    from ssl_data.store.target import Target

__all__ = [
    "adopt_shards",
    "clear_place",
    "end_replacement",
    "make_donor",
    "only_rejected_changed",
    "place_beside",
    "refuse_other_changes",
    "replace_store",
]


def place_beside(target: LocalTarget) -> LocalTarget:
    """Where the new store grows; the name is one that nobody else would give to a store."""
    return LocalTarget(target.root.with_name(f"{target.root.name}.ssl-data-retry"))


def _place_of_replaced(root: Path) -> Path:
    return root.with_name(f"{root.name}.ssl-data-replaced")


def only_rejected_changed(target: Target, plan: BuildPlan) -> bool:
    """Whether the plan differs from a complete store in nothing but images which that store has rejected."""
    stored = read_plan(target)
    if stored is None or stored.spec != plan.store.spec:
        return False
    return is_intact(target) and not _other_changes(target, plan)


def _other_changes(target: Target, plan: BuildPlan) -> list[str]:
    """Names of images that are new, or had been used and are changed or gone."""
    rejected = set(read_table(target, REJECTED_PATH, REJECTED_SCHEMA)["source"].to_pylist())
    before = {row["source"]: row for row in read_table(target, SOURCES_PATH, SOURCE_SCHEMA).to_pylist()}
    now = {row["source"]: row for row in (source.to_row() for source in plan.sources)}
    return sorted(
        name for name in before.keys() | now.keys() if name not in rejected and before.get(name) != now.get(name)
    )


def refuse_other_changes(target: Target, plan: BuildPlan) -> None:
    """Refuse to retry where there is no complete store, or more than rejected images has changed.

    Raises
    ------
    StoreNotFoundError, StoreMismatchError, StoreError
    """
    stored = read_plan(target)
    if stored is None:
        raise StoreNotFoundError(f"{target.url} is no store: build it before images can be tried again")
    if not is_intact(target):
        raise StoreError(
            f"{target.url} is not complete: finish its build with the images as they were, or remove it and build anew"
        )
    if stored.spec != plan.store.spec:
        return  # another configuration is refused in the usual way, with its differences
    others = _other_changes(target, plan)
    if others:
        raise StoreMismatchError(
            f"{target.url}: --retry-failed tries rejected images again, but {len(others)} others were added, changed "
            f"or removed ({first_of(others)}); put them back, or build another store"
        )


def make_donor(target: LocalTarget) -> Donor:
    """What a finished store can give to one in which the images that it used are unchanged.

    Images with a filtered patch are made anew: what is a duplicate now may be none beside other images.
    """
    patches = read_table(target, PATCHES_PATH, PATCH_SCHEMA)
    incomplete = set(patches.filter(patches["filtered"].is_valid())["source"].to_pylist())
    first_index: dict[str, int] = {}
    for index, name in enumerate(patches.filter(patches["filtered"].is_null())["source"].to_pylist()):
        if name not in incomplete:
            first_index.setdefault(name, index)
    fingerprint = open_store(target.root).attributes["fingerprint"]
    return Donor(root=target.root, fingerprint=fingerprint, first_index=first_index)


def adopt_shards(jobs: Sequence[ShardJob], donor: Donor) -> None:
    """Commit the shards that are the same in the donor, by linking their files."""
    old = read_plan(LocalTarget(donor.root))
    for job in jobs:
        record = None if old is None else _same_shard(job, donor, old)
        if record is not None and isinstance(job.target, LocalTarget):
            _adopt(job, job.target.root, donor.root, record)


def _same_shard(job: ShardJob, donor: Donor, old: StorePlan) -> ShardRecord | None:
    """The donor's shard of that number, if it holds the same patches in the same slots."""
    if job.shard >= old.num_shards or any(task.source.name not in donor.first_index for task in job.tasks):
        return None
    record = committed_records(LocalTarget(donor.root), old, [job.shard]).get(job.shard)
    planned = [(patch.slot, patch.patch_id) for task in job.tasks for patch in task.patches]
    if record is None or [(patch.slot, patch.patch_id) for patch in record.patches] != planned:
        return None
    return record


def _adopt(job: ShardJob, root: Path, donor_root: Path, record: ShardRecord) -> None:
    for file in record.files:
        target = root / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(donor_root / file.path, target)  # files of a store are never changed in place
        except OSError:  # the file system knows no links
            shutil.copyfile(donor_root / file.path, target)
    adopted = replace(record, fingerprint=job.plan.fingerprint)
    job.target.put(record_path(job.shard), adopted.encode())


def clear_place(beside: LocalTarget, plan: BuildPlan) -> None:
    """Remove what an earlier retry has left unfinished, if the images have changed since."""
    stored = read_plan(beside)
    if stored is not None and stored.fingerprint != plan.store.fingerprint:
        with beside.build_lock():
            shutil.rmtree(beside.root)


def replace_store(target: LocalTarget, beside: LocalTarget) -> None:
    """Put the finished new store in the place of the old one."""
    replaced = _place_of_replaced(target.root)
    target.root.rename(replaced)
    beside.root.rename(target.root)
    shutil.rmtree(replaced)


def end_replacement(target: Target) -> None:
    """End a replacement that was stopped half way; there are none but in folders."""
    if not isinstance(target, LocalTarget):
        return
    replaced, beside = _place_of_replaced(target.root), place_beside(target)
    if not (replaced / PLAN_PATH).exists():
        return
    if not target.root.exists() and is_intact(beside):
        beside.root.rename(target.root)
    if is_intact(target):
        shutil.rmtree(replaced)
