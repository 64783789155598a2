"""What lies at the place of a store before a build, and what must not be left behind after it."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from ssl_data.errors import StoreLockedError, StoreMismatchError
from ssl_data.pipeline.retry import only_rejected_changed
from ssl_data.store.layout import PLAN_PATH, WORK_DIR
from ssl_data.store.lock import LOCK_NAME, build_lock
from ssl_data.store.plan import explain_differences, read_plan

if TYPE_CHECKING:
    from pathlib import Path

    from ssl_data.pipeline.plan import BuildPlan

__all__ = ["adopt_label", "is_plan_of", "refuse_foreign", "refuse_other_build", "remove_leftovers", "sweep"]


def is_plan_of(root: Path, plan: BuildPlan) -> bool:
    """Whether a store, or one that has been begun, is the one that is planned."""
    stored = read_plan(root)
    return stored is not None and stored.fingerprint == plan.store.fingerprint


def refuse_foreign(root: Path) -> None:
    """Refuse a place that holds anything else than a store, or one that has been begun."""
    if root.exists() and not root.is_dir():
        raise StoreMismatchError(f"--out {root} is a file; name a folder that does not exist yet")
    if not root.exists() or (root / PLAN_PATH).exists() or (root / WORK_DIR).exists():
        return
    others = sorted(entry.name for entry in root.iterdir())
    if others:
        raise StoreMismatchError(f"--out {root} exists and is not a store ({others[0]}, ...); name another folder")


def adopt_label(root: Path, plan: BuildPlan) -> BuildPlan:
    """The plan under the dataset's name by which it was begun: the name is in the bytes, but changes nothing else."""
    stored = read_plan(root)
    return plan if stored is None else replace(plan, store=replace(plan.store, dataset=stored.dataset))


def refuse_other_build(root: Path, plan: BuildPlan) -> None:
    """Refuse a store that was made, or begun, from other sources or specs.

    Raises
    ------
    StoreMismatchError
        With the differences.
    """
    stored = read_plan(root)
    if stored is None or stored.fingerprint == plan.store.fingerprint:
        return
    sources = {source.name: source.identity for source in plan.sources}
    differences = explain_differences(root, stored, plan.store, sources)
    remedy = "Build with the same options, name another --out, or remove the store"
    if only_rejected_changed(root, plan):
        remedy = "Only images have changed that were rejected: --retry-failed tries them again"
    message = f"{root} was built from something else:\n  " + "\n  ".join(differences) + f"\n{remedy}"
    raise StoreMismatchError(message, tuple(differences))


def remove_leftovers(root: Path) -> None:
    """Remove the work folder that a run left which died after completing the store."""
    if (root / WORK_DIR).exists():
        with contextlib.suppress(StoreLockedError, OSError), build_lock(root):
            shutil.rmtree(root / WORK_DIR)


def sweep(work_dir: Path) -> None:
    """Remove unfinished files of a run that died, and folders of parts; the lock of the folder is ours, and stays."""
    for entry in work_dir.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != LOCK_NAME:
            entry.unlink()
