"""Training pairs from PNG files, as super-resolution trainers usually read them; without graphs.

The yardstick of the benchmark of loading. Per sample: the whole ground-truth patch, the whole low-quality patch and the
mask from their files, as float32; then the same random crop of all three, flips, and tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
import torch
from scipy.io import loadmat, savemat
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ssl_data import Store

__all__ = ["PNGDataset", "write_files"]

MaskFormat = Literal["png", "mat"]


def write_files(store: Store, folder: Path) -> None:
    """The patches of a store as files: ``gt/N.png``, ``lq/N.png``, ``mask/N.png`` and ``mask/N.mat``."""
    for name in ("gt", "lq", "mask"):
        (folder / name).mkdir(parents=True)
    for index in range(len(store)):
        cv2.imwrite(str(folder / f"gt/{index}.png"), store.read_gt(index)[..., ::-1])
        cv2.imwrite(str(folder / f"lq/{index}.png"), store.read_lq(index)[..., ::-1])
        mask = store.read_edge_mask(index).astype(np.uint8)
        cv2.imwrite(str(folder / f"mask/{index}.png"), mask * 255)
        savemat(folder / f"mask/{index}.mat", {"mask": mask}, do_compression=True)


class PNGDataset(Dataset[dict[str, Any]]):
    """GT, LQ and mask of `write_files`.

    Parameters
    ----------
    folder : Path
    scale : int
        GT : LQ ratio.
    crop_size : int
        Side of the crops of the ground truth, in pixels.
    turned : bool
        Flip and transpose, with probability 1/2 each.
    mask_format : {"png", "mat"}
    """

    def __init__(self, folder: Path, *, scale: int, crop_size: int, turned: bool, mask_format: MaskFormat) -> None:
        self._folder = folder
        self._scale = scale
        self._crop_size = crop_size
        self._turned = turned
        self._mask_format = mask_format
        self._length = sum(1 for _ in (folder / "gt").iterdir())
        self._random = np.random.default_rng(0)

    def __len__(self) -> int:
        return self._length

    def _mask(self, index: int) -> NDArray[np.float32]:
        path = str(self._folder / f"mask/{index}.{self._mask_format}")
        if self._mask_format == "mat":
            return np.asarray(loadmat(path)["mask"], dtype=np.float32)[..., None]
        return np.asarray(cv2.imread(path, cv2.IMREAD_GRAYSCALE), dtype=np.float32)[..., None] / np.float32(255)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample: "gt" and "lq" float32 (3, H, W) RGB, "gt_mask" float32 (1, H, W)."""
        gt, lq = (_read_image(self._folder / f"{name}/{index}.png") for name in ("gt", "lq"))
        images = {"gt": gt, "lq": lq, "gt_mask": self._mask(index)}
        size = self._crop_size // self._scale
        top, left = self._random.integers(lq.shape[0] - size + 1, size=2)
        hflip, vflip, transpose = (self._random.random(3) < 0.5) & self._turned
        for name, image in images.items():
            scale = 1 if name == "lq" else self._scale
            crop = image[top * scale : (top + size) * scale, left * scale : (left + size) * scale]
            crop = crop[:, ::-1] if hflip else crop
            crop = crop[::-1] if vflip else crop
            images[name] = crop.transpose(1, 0, 2) if transpose else crop
        return {name: torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1))) for name, crop in images.items()}


def _read_image(path: Path) -> NDArray[np.float32]:
    bgr = np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR), dtype=np.float32) / 255
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
