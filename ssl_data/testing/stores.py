"""Small folders of images with plausible edges, and stores made of them, in a second or two."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from ssl_data.config import BuildConfig, EdgeSpec, FilterSpec, ImageSpec, PatchSpec, SSGSpec, StoreSpec
from ssl_data.pipeline.run import build
from ssl_data.store.finalize import describe_store
from ssl_data.store.layout import (
    ATTRIBUTE,
    FILES_PATH,
    PATCHES_PATH,
    PLAN_PATH,
    REJECTED_PATH,
    ROOT_METADATA,
    SOURCES_PATH,
    array_layouts,
    shard_path,
    ssg_rows_per_shard,
)
from ssl_data.store.manifest import FILE_SCHEMA, PATCH_SCHEMA, FileRecord, encode_table, read_record
from ssl_data.store.plan import StorePlan
from ssl_data.store.reader import Store, open_store
from ssl_data.store.writer import frame_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ssl_data.store.layout import ArrayLayout

_Spec = TypeVar("_Spec", ImageSpec, PatchSpec, EdgeSpec, FilterSpec, SSGSpec, StoreSpec)

__all__ = ["repeated_store", "synthetic_image", "tiny_store", "write_images"]


def synthetic_image(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Overlapping soft-textured rectangles: uint8 (H, W, 3) with some 5 to 20 % edge pixels."""
    random = np.random.default_rng(seed)
    image = np.full((height, width, 3), 128.0)
    for _ in range(max(8, height * width // 500)):
        top, left = random.integers(height), random.integers(width)
        rows, cols = random.integers(3, 24, size=2)
        image[top : top + rows, left : left + cols] = random.integers(0, 256, size=3)
    image += random.normal(0, 2, image.shape)
    rounded: NDArray[np.uint8] = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return rounded


def write_images(folder: Path, sizes: Sequence[tuple[int, int]], *, seed: int = 0) -> Path:
    """Write one PNG per (height, width), named ``image-0.png`` and so on; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (height, width) in enumerate(sizes):
        Image.fromarray(synthetic_image(height, width, seed + number)).save(folder / f"image-{number}.png")
    return folder


def tiny_store(folder: Path, *, sizes: Sequence[tuple[int, int]] = ((96, 128), (64, 64)), **changes: Any) -> Store:  # noqa: ANN401 - any field of a spec
    """Build a store of synthetic images below `folder` and open it.

    Parameters
    ----------
    folder : Path
        Gets ``images`` and ``store.zarr``.
    sizes : sequence of (height, width)
        One image each.
    **changes
        Fields of the specs by name, e.g. ``edge_stride=3`` or ``boundary="image"``; patches are 64 pixels wide and two
        share a shard unless told otherwise.
    """
    fields = {"patch_size": 64, "step": 32, "patches_per_shard": 2, "chunk_rows": 64, **changes}

    def take(spec: type[_Spec]) -> _Spec:
        return spec(
            **{field.name: fields.pop(field.name) for field in dataclasses.fields(spec) if field.name in fields}
        )

    config = BuildConfig(
        dataset=str(folder / "images"),
        out=str(folder / "store.zarr"),
        image=take(ImageSpec),
        patch=take(PatchSpec),
        edge=take(EdgeSpec),
        filter=take(FilterSpec),
        ssg=take(SSGSpec),
        store=take(StoreSpec),
    )
    if fields:
        raise TypeError(f"no spec has a field {', '.join(sorted(fields))}")
    write_images(folder / "images", sizes)
    build(config)
    return open_store(config.out)


def repeated_store(store: Store, folder: Path, num_shards: int) -> Store:
    """A store of any number of patches, in seconds: the first shard of `store`, linked again and again.

    All patches can be read. Their sources are called ``00000/image-0.png`` and so on, after the shard. What only
    `ssl_data.verify_store` looks at is not there: the records of the shards, and the hashes.

    Parameters
    ----------
    store : Store
        On the same file system; its first shard is full.
    folder : Path
        Where the new store goes; a new folder.
    num_shards : int
    """
    record, spec = read_record(store.source, 0), store.build_spec
    per_shard = spec.store.patches_per_shard
    if len(record.patches) != per_shard:
        raise ValueError(f"the first shard of {store.url} holds {len(record.patches)} patches, not {per_shard}")
    plan = dataclasses.replace(StorePlan.from_dict(store.attributes), num_slots=num_shards * per_shard)
    patches, files = [], []
    for shard in range(num_shards):
        patches += [
            dataclasses.replace(
                patch,
                patch_id=f"{shard:05d}/{patch.patch_id}",
                source=f"{shard:05d}/{patch.source}",
                slot=patch.slot + shard * per_shard,
                start=patch.start + shard * ssg_rows_per_shard(spec),
            )
            for patch in record.patches
        ]
        files += [_link(store.root, folder, layout.name, shard, len(layout.shape)) for layout in _layouts(plan)]
    file_table = encode_table(FILE_SCHEMA, files)
    description = describe_store(plan, patches, 0, hashlib.sha256(file_table).hexdigest())
    root = json.loads((store.root / ROOT_METADATA).read_bytes()) | {"attributes": {ATTRIBUTE: description}}
    contents = {
        **frame_files(plan),
        **{path: (store.root / path).read_bytes() for path in (SOURCES_PATH, REJECTED_PATH)},
        PLAN_PATH: plan.encode(),
        PATCHES_PATH: encode_table(PATCH_SCHEMA, [vars(patch) for patch in patches]),
        FILES_PATH: file_table,
        ROOT_METADATA: json.dumps(root).encode(),
    }
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return open_store(folder)


def _layouts(plan: StorePlan) -> tuple[ArrayLayout, ...]:
    return array_layouts(plan.spec, plan.num_slots)


def _link(from_root: Path, to_root: Path, array: str, shard: int, num_dimensions: int) -> FileRecord:
    """Link shard 0 of an array as another shard of another store."""
    original, path = from_root / shard_path(array, 0, num_dimensions), shard_path(array, shard, num_dimensions)
    (to_root / path).parent.mkdir(parents=True)
    (to_root / path).hardlink_to(original)
    return FileRecord(path=path, num_bytes=original.stat().st_size, sha256="")
