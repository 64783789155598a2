"""Sample patches as pictures that fit into a page: the patch as JPEG, its mask as a PNG to lie over it."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ssl_data.store.reader import Store

__all__ = ["Sample", "choose_samples", "draw_sample"]

_LARGEST_SIDE = 256
_JPEG_QUALITY = 85
_MASK_COLOUR = (255, 0, 140)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One patch, to be shown."""

    patch_id: str
    density: float
    image: str
    """As a data URI."""
    mask: str
    """As a data URI, transparent where there is no edge pixel."""


def choose_samples(densities: NDArray[np.float64], num_samples: int) -> list[int]:
    """Indices of patches from the sparsest to the densest, at equal steps of rank; the same for the same store."""
    num_samples = min(num_samples, len(densities))
    if not num_samples:
        return []
    ranks = np.linspace(0, len(densities) - 1, num_samples).round().astype(np.int64)
    chosen: list[int] = np.argsort(densities, kind="stable")[ranks].tolist()
    return chosen


def draw_sample(store: Store, index: int) -> Sample:
    """Read one patch of a store and draw it.

    Raises
    ------
    StoreCorruptError
        If it cannot be read.
    """
    side = min(store.patch_size, _LARGEST_SIDE)
    mask = store.read_edge_mask(index)
    return Sample(
        patch_id=store.patch_id(index),
        density=float(mask.mean()),
        image=_data_uri(Image.fromarray(store.read_gt(index)).resize((side, side), Image.Resampling.LANCZOS), "JPEG"),
        mask=_data_uri(_mask_picture(mask, side), "PNG"),
    )


def _mask_picture(mask: NDArray[np.bool_], side: int) -> Image.Image:
    alpha = Image.fromarray(mask.astype(np.uint8) * 255).resize((side, side), Image.Resampling.BOX)
    # Sixteen steps of one colour: a palette takes a third of the room of full colours.
    steps = (np.asarray(alpha) >> 4).astype(np.uint8)
    picture = Image.fromarray(steps, mode="P")
    picture.putpalette(_MASK_COLOUR * 16)
    picture.info["transparency"] = bytes(17 * step for step in range(16))
    return picture


def _data_uri(picture: Image.Image, form: str) -> str:
    content = io.BytesIO()
    options = {"quality": _JPEG_QUALITY} if form == "JPEG" else {"optimize": True}
    picture.save(content, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(content.getvalue()).decode('ascii')}"
