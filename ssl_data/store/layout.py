"""Every name, shape and path of a store, once. FORMAT.md is the normative text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssl_data.config import CODE_TYPES, LARGEST_CODES, STORED_AS_DIFFERENCES
from ssl_data.geometry.shards import num_shards, rows_per_shard

if TYPE_CHECKING:
    from ssl_data.config import BuildSpec, Quantization

__all__ = [
    "ATTRIBUTE",
    "COUNT",
    "EDGE_MASK",
    "FILES_PATH",
    "FORMAT_VERSION",
    "GT",
    "MANIFEST_DIR",
    "PATCHES_PATH",
    "PLAN_PATH",
    "REJECTED_PATH",
    "ROOT_METADATA",
    "SOURCES_PATH",
    "SSG",
    "START",
    "WORK_DIR",
    "ArrayLayout",
    "array_layouts",
    "array_metadata_path",
    "lq_name",
    "record_path",
    "shard_of",
    "shard_path",
    "ssg_rows_per_shard",
    "stays_inside",
    "store_paths",
    "unfinished_label",
    "unfinished_shard",
]

FORMAT_VERSION = 6
ATTRIBUTE = "ssl_data"
"""Key of this format's description in the attributes of the root group."""

GT, EDGE_MASK, SSG, START, COUNT = "gt", "edge_mask", "ssg", "start", "count"

ROOT_METADATA = "zarr.json"
"""Written last of all: its presence says that the store is complete."""
MANIFEST_DIR = "manifest"
PLAN_PATH = "manifest/plan.json"
SOURCES_PATH = "manifest/sources.parquet"
PATCHES_PATH = "manifest/patches.parquet"
FILES_PATH = "manifest/files.parquet"
REJECTED_PATH = "manifest/rejected.parquet"
WORK_DIR = ".build"
"""Lock and unfinished files of a running build; gone when the store is complete."""

_TILE = 128
"""Preferred side of an image tile, in pixels: a random crop of this size then reads about four of them."""


def lq_name(scale: int) -> str:
    """Name of the array of low-quality patches."""
    return f"lq_x{scale}"


def array_metadata_path(name: str) -> str:
    """Where the Zarr metadata of an array lies."""
    return f"{name}/{ROOT_METADATA}"


def record_path(shard: int) -> str:
    """Where the commit record of a shard lies."""
    return f"{MANIFEST_DIR}/shard-{shard:05d}.parquet"


def ssg_rows_per_shard(spec: BuildSpec) -> int:
    """Rows of ``ssg`` reserved for each shard."""
    return rows_per_shard(
        patch_size=spec.patch.patch_size,
        edge_stride=spec.edge.edge_stride,
        chunk_rows=spec.store.chunk_rows,
        patches_per_shard=spec.store.patches_per_shard,
    )


@dataclass(frozen=True, kw_only=True)
class ArrayLayout:
    """A sharded array. All shards lie along the first axis."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    shard_shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    dimension_names: tuple[str, ...]
    attributes: dict[str, Any]


def shard_path(name: str, shard: int, num_dimensions: int) -> str:
    """Where a shard of an array lies (Zarr's default chunk keys)."""
    return "/".join([name, "c", str(shard), *["0"] * (num_dimensions - 1)])


def unfinished_label(shard: int) -> str:
    """How the names of a shard's unfinished files begin."""
    return f"shard-{shard:05d}"


def unfinished_shard(name: str) -> int | None:
    """The shard that an unfinished file is for, by its name; None for files about the whole store."""
    found = re.match(r"shard-(\d+)(?:\.parquet)?-", name)
    return None if found is None else int(found[1])


def shard_of(path: str) -> int | None:
    """The shard to which a file of a store belongs, by its path; None for files about the whole store.

    Examples
    --------
    >>> shard_of("gt/c/7/0/0/0"), shard_of("manifest/shard-00007.parquet"), shard_of("count/c/0")
    (7, 7, None)
    """
    found = re.fullmatch(r"\w+/c/(\d+)(?:/0)+|manifest/shard-(\d+)\.parquet", path)
    return None if found is None else int(found[1] or found[2])


def stays_inside(path: str) -> bool:
    """Whether a relative path, which came from outside, leads to a place in the folder that it is relative to.

    Examples
    --------
    >>> stays_inside("gt/c/7/0/0/0"), stays_inside("gt/../../x"), stays_inside("/etc/x")
    (True, False, False)
    """
    return not path.startswith("/") and ".." not in path.split("/")


def _tile(side: int) -> int:
    return _TILE if side % _TILE == 0 else side


def _image_layout(name: str, side: int, num_slots: int, spec: BuildSpec, attributes: dict[str, Any]) -> ArrayLayout:
    tile = _tile(side)
    return ArrayLayout(
        name=name,
        dtype="uint8",
        shape=(num_slots, side, side, 3),
        shard_shape=(spec.store.patches_per_shard, side, side, 3),
        chunk_shape=(1, tile, tile, 3),
        dimension_names=("patch", "row", "col", "channel"),
        attributes=attributes,
    )


def _mask_attributes(spec: BuildSpec) -> dict[str, Any]:
    if spec.edge.masks == "given":
        return {"description": "edge masks as given, before edge_stride"}
    return {"description": "edge masks before edge_stride", "threshold": spec.edge.threshold}


def _describe(quantization: Quantization) -> dict[str, str]:
    largest = LARGEST_CODES[quantization]
    return {
        "name": quantization,
        "encode": f"q = round({largest} * sqrt(S))",
        "decode": f"S = (q / {largest})**2; SSG = S / S.sum(axis=1)",
    }


def _prediction(spec: BuildSpec) -> dict[str, Any]:
    if spec.store.compression not in STORED_AS_DIFFERENCES or CODE_TYPES[spec.store.quantization] != "uint8":
        return {}
    side, sums = spec.ssg.positions_per_side, "cumsum(axis=1, dtype=uint8).cumsum(axis=2, dtype=uint8)"
    decode = f"q = d.reshape(-1, {side}, {side}).{sums}.reshape(-1, {side**2}), in which sums wrap around"
    return {"prediction": {"name": "gradient", "decode": decode}}


def array_layouts(spec: BuildSpec, num_slots: int) -> tuple[ArrayLayout, ...]:
    """The sharded arrays of a store with that many patch slots, in the order in which a shard's files are written."""
    side, per_shard = spec.patch.patch_size, spec.store.patches_per_shard
    layouts = [
        _image_layout(GT, side, num_slots, spec, {"description": "ground-truth patches, RGB"}),
        ArrayLayout(
            name=EDGE_MASK,
            dtype="bool",
            shape=(num_slots, side, side),
            shard_shape=(per_shard, side, side),
            chunk_shape=(1, side, side),
            dimension_names=("patch", "row", "col"),
            attributes=_mask_attributes(spec),
        ),
    ]
    if spec.store.lq_scale is not None:
        attributes = {"description": "low-quality patches, RGB; MATLAB-style antialiased bicubic reduction of gt"}
        lq_side = side // spec.store.lq_scale
        layouts.append(_image_layout(lq_name(spec.store.lq_scale), lq_side, num_slots, spec, attributes))
    shard_rows = ssg_rows_per_shard(spec)
    num_positions = spec.ssg.num_positions
    layouts.append(
        ArrayLayout(
            name=SSG,
            dtype=CODE_TYPES[spec.store.quantization],
            shape=(num_shards(num_slots, per_shard) * shard_rows, num_positions),
            shard_shape=(shard_rows, num_positions),
            chunk_shape=(spec.store.chunk_rows, num_positions),
            dimension_names=("edge_pixel", "search_position"),
            attributes={
                "description": "self-similarity graphs of the edge pixels, one row each; "
                "rows start[i] : start[i] + count[i] belong to patch i, in row-major order of its edge pixels",
                "quantization": _describe(spec.store.quantization),
                **_prediction(spec),
            },
        )
    )
    return tuple(layouts)


def store_paths(spec: BuildSpec, num_slots: int) -> set[str]:
    """Every file of a complete store."""
    layouts, shards = array_layouts(spec, num_slots), range(num_shards(num_slots, spec.store.patches_per_shard))
    return {
        ROOT_METADATA,
        *(PLAN_PATH, SOURCES_PATH, PATCHES_PATH, FILES_PATH, REJECTED_PATH),
        *(array_metadata_path(name) for name in (START, COUNT, *(layout.name for layout in layouts))),
        *(shard_path(name, 0, 1) for name in (START, COUNT)),
        *(record_path(shard) for shard in shards),
        *(shard_path(layout.name, shard, len(layout.shape)) for layout in layouts for shard in shards),
    }
