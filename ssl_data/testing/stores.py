"""Small folders of images with plausible edges, and stores made of them, in a second or two."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from ssl_data.config import BuildConfig, EdgeSpec, ImageSpec, PatchSpec, SSGSpec, StoreSpec
from ssl_data.pipeline.run import build
from ssl_data.store.reader import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_Spec = TypeVar("_Spec", ImageSpec, PatchSpec, EdgeSpec, SSGSpec, StoreSpec)

__all__ = ["synthetic_image", "tiny_store", "write_images"]


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
        ssg=take(SSGSpec),
        store=take(StoreSpec),
    )
    if fields:
        raise TypeError(f"no spec has a field {', '.join(sorted(fields))}")
    write_images(folder / "images", sizes)
    build(config)
    return open_store(config.out)
