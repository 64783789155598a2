"""What a store is going to be: written before the first shard, compared before anything is added or reused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssl_data.config import ALGORITHM_VERSION, BuildSpec, canonical_json, fingerprint
from ssl_data.errors import StoreCorruptError, StoreMismatchError, StoreNotFoundError, first_of
from ssl_data.geometry.shards import num_shards
from ssl_data.store.layout import (
    ATTRIBUTE,
    FILES_PATH,
    FORMAT_VERSION,
    MANIFEST_DIR,
    PLAN_PATH,
    ROOT_METADATA,
    SOURCES_PATH,
)
from ssl_data.store.manifest import FILE_SCHEMA, SOURCE_SCHEMA, read_table
from ssl_data.store.source import ObjectMissingError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ssl_data.store.source import ByteSource
    from ssl_data.store.target import Target

__all__ = [
    "StorePlan",
    "explain_differences",
    "read_plan",
    "recover_plan",
    "require_format",
    "require_plan",
    "source_identity",
]

_VERSIONS = {"format_version": FORMAT_VERSION, "algorithm_version": ALGORITHM_VERSION}


@dataclass(frozen=True, kw_only=True)
class StorePlan:
    """Identity and size of a store."""

    dataset: str
    """Name of the dataset; a label, not part of the identity."""
    spec: BuildSpec
    sources_fingerprint: str
    """SHA-256 over the names and contents of all source files and given masks."""
    num_slots: int
    """Planned patches; the slots of those that are filtered stay empty."""

    @property
    def num_shards(self) -> int:
        """Work units."""
        return num_shards(self.num_slots, self.spec.store.patches_per_shard)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over everything that determines the bytes of the store."""
        return fingerprint(self._identity())

    def _identity(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "algorithm_version": ALGORITHM_VERSION,
            "spec": self.spec.to_dict(),
            "sources": self.sources_fingerprint,
        }

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            **self._identity(),
            "dataset": self.dataset,
            "num_slots": self.num_slots,
            "num_shards": self.num_shards,
            "fingerprint": self.fingerprint,
        }

    def encode(self) -> bytes:
        """As the content of ``manifest/plan.json``."""
        return (canonical_json(self.to_dict()) + "\n").encode()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StorePlan:
        """The plan that `to_dict` describes."""
        return cls(
            dataset=values["dataset"],
            spec=BuildSpec.from_dict(values["spec"]),
            sources_fingerprint=values["sources"],
            num_slots=values["num_slots"],
        )


def source_identity(sha256: str, mask_sha256: str | None) -> tuple[str, ...]:
    """What makes two sources of one name the same: the content, and that of the given mask where there is one."""
    return (sha256,) if mask_sha256 is None else (sha256, mask_sha256)


def require_format(values: Mapping[str, Any], where: str) -> None:
    """Raise `StoreMismatchError` if a store's description was written by an incompatible version."""
    for name, supported in _VERSIONS.items():
        found = values.get(name)
        if found != supported:
            raise StoreMismatchError(
                f"{where} has {name} {found!r}, this version of ssl_data supports {supported}; "
                "build the store anew, or install the version that wrote it"
            )


def read_plan(source: ByteSource) -> StorePlan | None:
    """The plan saved in a store, or None where there is none.

    Raises
    ------
    StoreCorruptError
        If it does not parse or does not match its own fingerprint.
    """
    path = source.name(PLAN_PATH)
    try:
        values = json.loads(source.read_all(PLAN_PATH))
    except ObjectMissingError:
        return None
    except ValueError as error:
        raise StoreCorruptError(f"{path} is not JSON ({error}); remove the store and build it anew") from error
    require_format(values if isinstance(values, dict) else {}, source.url)
    plan = _consistent_plan(values)
    if plan is None:
        raise StoreCorruptError(f"{path} was altered: it does not match its fingerprint; run `ssl-data repair`")
    return plan


def require_plan(source: ByteSource, store: str | Path) -> StorePlan:
    """The same where there has to be one; `store` is what the user calls the place.

    Raises
    ------
    StoreNotFoundError
        If there is none.
    StoreCorruptError
        As `read_plan` does.
    """
    plan = read_plan(source)
    if plan is None:
        raise StoreNotFoundError(
            f"{store} is no store, nor one that has been begun: {source.name(PLAN_PATH)} does not exist"
        )
    return plan


def _consistent_plan(values: Mapping[str, Any]) -> StorePlan | None:
    """The plan that a description holds, if it matches its own fingerprint."""
    try:
        plan = StorePlan.from_dict(values)
        return plan if plan.to_dict() == {name: values[name] for name in plan.to_dict()} else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def recover_plan(target: Target) -> StorePlan:
    """The plan of a store that may be damaged, from ``plan.json`` or the root attributes.

    What both hold is covered by the fingerprint, but for the dataset's name; where they differ in it, the hash in
    ``files.parquet`` decides.

    Raises
    ------
    StoreNotFoundError
        If there is no store, not even a damaged one.
    StoreCorruptError
        If neither file has the plan any more.
    """
    plans = [plan for path in (PLAN_PATH, ROOT_METADATA) for plan in _plans_in(target, path)]
    if not plans and not any(path.startswith(f"{MANIFEST_DIR}/") for path in target.entries()):
        raise StoreNotFoundError(
            f"{target.url} is not a store, not even a damaged one: there is nothing in a folder {MANIFEST_DIR}"
        )
    recorded = _recorded_hash(target, PLAN_PATH)
    for plan in plans:
        if plan == plans[0] == plans[-1] or hashlib.sha256(plan.encode()).hexdigest() == recorded:
            return plan
    raise StoreCorruptError(
        f"{target.name(PLAN_PATH)} and {target.name(ROOT_METADATA)} are damaged, and with them the options of the "
        "build: remove both and run the same `ssl-data build` again, which takes over the shards that are whole"
    )


def _plans_in(source: ByteSource, path: str) -> list[StorePlan]:
    """The plan in a file, whether it is ``plan.json`` or the root metadata."""
    try:
        values = json.loads(source.read_all(path))
        described = values.get("attributes", {}).get(ATTRIBUTE, values)
    except (OSError, ObjectMissingError, ValueError, AttributeError):
        return []
    if any(described.get(name) != value for name, value in _VERSIONS.items()):
        return []
    plan = _consistent_plan(described)
    return [] if plan is None else [plan]


def _recorded_hash(source: ByteSource, path: str) -> str | None:
    try:
        table = read_table(source, FILES_PATH, FILE_SCHEMA)
    except StoreCorruptError:
        return None
    return dict(zip(table["path"].to_pylist(), table["sha256"].to_pylist(), strict=True)).get(path)


def explain_differences(
    source: ByteSource, stored: StorePlan, wanted: StorePlan, sources: Mapping[str, tuple[str, ...]]
) -> list[str]:
    """One readable line for each way in which a saved plan differs from the wanted one.

    Parameters
    ----------
    sources : mapping
        `source_identity` of each wanted source.
    """
    lines = []
    stored_spec, wanted_spec = stored.spec.to_dict(), wanted.spec.to_dict()
    for group, fields in wanted_spec.items():
        for name, value in fields.items():
            if stored_spec[group][name] != value:
                lines.append(f"{group}.{name}: the store has {stored_spec[group][name]!r}, asked for {value!r}")
    if stored.sources_fingerprint != wanted.sources_fingerprint:
        table = read_table(source, SOURCES_PATH, SOURCE_SCHEMA)
        known = {row["source"]: source_identity(row["sha256"], row["mask_sha256"]) for row in table.to_pylist()}
        changed = [name for name in known.keys() & sources.keys() if known[name] != sources[name]]
        for what, names in (
            ("added", sources.keys() - known.keys()),
            ("removed", known.keys() - sources.keys()),
            ("changed", changed),
        ):
            if names:
                examples = first_of(sorted(names))
                lines.append(f"sources: {len(names)} {what} ({examples})")
    return lines
