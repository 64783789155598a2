"""What lies at the place of a store before a build, and what must not be left behind after it."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from ssl_data.errors import StoreLockedError, StoreMismatchError, one_line
from ssl_data.pipeline.retry import only_rejected_changed
from ssl_data.store.layout import PLAN_PATH
from ssl_data.store.plan import explain_differences, read_plan

if TYPE_CHECKING:
    from ssl_data.pipeline.plan import BuildPlan
    from ssl_data.store.target import Target

__all__ = ["adopt_label", "is_plan_of", "refuse_foreign", "refuse_other_build", "remove_leftovers"]


def is_plan_of(target: Target, plan: BuildPlan) -> bool:
    """Whether a store, or one that has been begun, is the one that is planned."""
    stored = read_plan(target)
    return stored is not None and stored.fingerprint == plan.store.fingerprint


def refuse_foreign(target: Target) -> None:
    """Refuse a place that holds anything else than a store, or one that has been begun."""
    target.require_usable()
    if target.sizes([PLAN_PATH]) or target.has_work():
        return
    others = sorted(target.entries())
    if others:
        first = one_line(others[0])
        raise StoreMismatchError(f"--out {target.url} exists and is not a store ({first}, ...); name another folder")


def adopt_label(target: Target, plan: BuildPlan) -> BuildPlan:
    """The plan under the dataset's name by which it was begun: the name is in the bytes, but changes nothing else."""
    stored = read_plan(target)
    return plan if stored is None else replace(plan, store=replace(plan.store, dataset=stored.dataset))


def refuse_other_build(target: Target, plan: BuildPlan) -> None:
    """Refuse a store that was made, or begun, from other sources or specs.

    Raises
    ------
    StoreMismatchError
        With the differences.
    """
    stored = read_plan(target)
    if stored is None or stored.fingerprint == plan.store.fingerprint:
        return
    sources = {source.name: source.identity for source in plan.sources}
    differences = explain_differences(target, stored, plan.store, sources)
    remedy = "Build with the same options, name another --out, or remove the store"
    if only_rejected_changed(target, plan):
        remedy = "Only images have changed that were rejected: --retry-failed tries them again"
    message = f"{target.url} was built from something else:\n  " + "\n  ".join(differences) + f"\n{remedy}"
    raise StoreMismatchError(message, tuple(differences))


def remove_leftovers(target: Target) -> None:
    """Remove the work folder that a run left which died after completing the store."""
    if target.has_work():
        with contextlib.suppress(StoreLockedError, OSError), target.build_lock():
            target.end_work()
