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

from ssl_data.errors import StoreError, StoreMismatchError, StoreNotFoundError, one_line
from ssl_data.pipeline.donor import Donor
from ssl_data.store.files import write_atomic
from ssl_data.store.finalize import committed_record, is_intact
from ssl_data.store.layout import PATCHES_PATH, PLAN_PATH, REJECTED_PATH, SOURCES_PATH, WORK_DIR, record_path
from ssl_data.store.local import LocalSource
from ssl_data.store.lock import build_lock
from ssl_data.store.manifest import PATCH_SCHEMA, REJECTED_SCHEMA, SOURCE_SCHEMA, read_table
from ssl_data.store.plan import read_plan
from ssl_data.store.reader import open_store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ssl_data.pipeline.plan import BuildPlan, ShardJob
    from ssl_data.store.manifest import ShardRecord
    from ssl_data.store.plan import StorePlan

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


def place_beside(root: Path) -> Path:
    """Where the new store grows; the name is one that nobody else would give to a store."""
    return root.with_name(f"{root.name}.ssl-data-retry")


def _place_of_replaced(root: Path) -> Path:
    return root.with_name(f"{root.name}.ssl-data-replaced")


def only_rejected_changed(root: Path, plan: BuildPlan) -> bool:
    """Whether the plan differs from a complete store in nothing but images which that store has rejected."""
    stored = read_plan(root)
    return stored is not None and stored.spec == plan.store.spec and is_intact(root) and not _other_changes(root, plan)


def _other_changes(root: Path, plan: BuildPlan) -> list[str]:
    """Names of images that are new, or had been used and are changed or gone."""
    source = LocalSource(root)
    rejected = set(read_table(source, REJECTED_PATH, REJECTED_SCHEMA)["source"].to_pylist())
    before = {row["source"]: row for row in read_table(source, SOURCES_PATH, SOURCE_SCHEMA).to_pylist()}
    now = {row["source"]: row for row in (source.to_row() for source in plan.sources)}
    return sorted(
        name for name in before.keys() | now.keys() if name not in rejected and before.get(name) != now.get(name)
    )


def refuse_other_changes(root: Path, plan: BuildPlan) -> None:
    """Refuse to retry where there is no complete store, or more than rejected images has changed.

    Raises
    ------
    StoreNotFoundError, StoreMismatchError, StoreError
    """
    stored = read_plan(root)
    if stored is None:
        raise StoreNotFoundError(f"{root} is no store: build it before images can be tried again")
    if not is_intact(root):
        raise StoreError(
            f"{root} is not complete: finish its build with the images as they were, or remove it and build anew"
        )
    if stored.spec != plan.store.spec:
        return  # another configuration is refused in the usual way, with its differences
    others = _other_changes(root, plan)
    if others:
        examples = one_line(", ".join(others[:3])) + (", ..." if len(others) > 3 else "")
        raise StoreMismatchError(
            f"{root}: --retry-failed tries rejected images again, but {len(others)} others were added, changed or "
            f"removed ({examples}); put them back, or build another store"
        )


def make_donor(root: Path) -> Donor:
    """What a finished store can give to one in which the images that it used are unchanged.

    Images with a filtered patch are made anew: what is a duplicate now may be none beside other images.
    """
    patches = read_table(LocalSource(root), PATCHES_PATH, PATCH_SCHEMA)
    incomplete = set(patches.filter(patches["filtered"].is_valid())["source"].to_pylist())
    first_index: dict[str, int] = {}
    for index, name in enumerate(patches.filter(patches["filtered"].is_null())["source"].to_pylist()):
        if name not in incomplete:
            first_index.setdefault(name, index)
    return Donor(root=root, fingerprint=open_store(root).attributes["fingerprint"], first_index=first_index)


def adopt_shards(jobs: Sequence[ShardJob], donor: Donor) -> None:
    """Commit the shards that are the same in the donor, by linking their files."""
    old = read_plan(donor.root)
    for job in jobs:
        record = None if old is None else _same_shard(job, donor, old)
        if record is not None:
            _adopt(job, donor.root, record)


def _same_shard(job: ShardJob, donor: Donor, old: StorePlan) -> ShardRecord | None:
    """The donor's shard of that number, if it holds the same patches in the same slots."""
    if job.shard >= old.num_shards or any(task.source.name not in donor.first_index for task in job.tasks):
        return None
    record = committed_record(donor.root, old, job.shard)
    planned = [(patch.slot, patch.patch_id) for task in job.tasks for patch in task.patches]
    if record is None or [(patch.slot, patch.patch_id) for patch in record.patches] != planned:
        return None
    return record


def _adopt(job: ShardJob, donor_root: Path, record: ShardRecord) -> None:
    for file in record.files:
        target = job.root / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(donor_root / file.path, target)  # files of a store are never changed in place
        except OSError:  # the file system knows no links
            shutil.copyfile(donor_root / file.path, target)
    adopted = replace(record, fingerprint=job.plan.fingerprint)
    write_atomic(job.root / record_path(job.shard), adopted.encode(), job.root / WORK_DIR)


def clear_place(beside: Path, plan: BuildPlan) -> None:
    """Remove what an earlier retry has left unfinished, if the images have changed since."""
    stored = read_plan(beside)
    if stored is not None and stored.fingerprint != plan.store.fingerprint:
        with build_lock(beside):
            shutil.rmtree(beside)


def replace_store(root: Path, beside: Path) -> None:
    """Put the finished new store in the place of the old one."""
    root.rename(_place_of_replaced(root))
    beside.rename(root)
    shutil.rmtree(_place_of_replaced(root))


def end_replacement(root: Path) -> None:
    """End a replacement that was stopped half way."""
    replaced, beside = _place_of_replaced(root), place_beside(root)
    if not (replaced / PLAN_PATH).exists():
        return
    if not root.exists() and is_intact(beside):
        beside.rename(root)
    if is_intact(root):
        shutil.rmtree(replaced)
