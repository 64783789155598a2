"""What the training examples share: options, photographs, the lines they print, and what they leave in a folder."""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pictures import write_pictures
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, Subset

from ssl_data import SSLCachedDataset, SSLDataError, collate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ssl_data import SSGSpec, Store

Batch = dict[str, Any]
"""A batch as `ssl_data.collate` makes it: "gt", "lq", "gt_mask", "ssg", "patch_id"."""

History = list[dict[str, float]]
"""The terms measured on the held-out batch: before training, every so many steps, and in the end."""

_HELD_OUT_SIZE = 128
"""Side of the held-out crops, in pixels, where the patches are so large."""


class ResidualBlock(nn.Module):
    """Two convolutions around a ReLU, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, width, h, w) to the same shape."""
        return features + self.body(features)


def training_parser(description: str | None, *, out: str) -> argparse.ArgumentParser:
    """The options that every example has; `out` is where it leaves its results by default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", help="a store built with --lq-scale")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument(
        "--beta", type=float, default=10.0, help="weight of the Self-similarity Loss; 0 to do without it"
    )
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--crop-size", type=int, default=96)
    parser.add_argument("--border", choices=("exact", "interior", "cached"), default="exact")
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--every", type=int, default=20, help="steps from one printed line to the next")
    parser.add_argument("--held-out", type=int, default=8, help="crops of held-out images to measure and to draw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=out, help="folder for the weights and the pictures (default: %(default)s)")
    return parser


def run(
    train: Callable[[argparse.Namespace], History],
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
) -> History:
    """Parse the command line and train; what is wrong with the store is one line on standard error."""
    options = parser.parse_args(arguments)
    torch.manual_seed(options.seed)
    try:
        return train(options)
    except SSLDataError as error:
        raise SystemExit(f"error: {error}") from None


@dataclass(frozen=True, kw_only=True)
class Photographs:
    """Crops to train on, and a batch of photographs that are never trained on."""

    dataset: SSLCachedDataset
    loader: DataLoader[Batch]
    held_out: Batch
    scale: int
    """Pixels of the ground truth per pixel of the low-quality image, along each axis."""

    @property
    def spec(self) -> SSGSpec:
        """How the graphs were made."""
        return self.dataset.store.spec

    def batches(self, num_steps: int) -> Iterator[tuple[int, Batch]]:
        """Step, from 1, and its batch; epoch after epoch, each with other crops and flips."""
        return zip(range(1, num_steps + 1), self._endless(), strict=False)

    def _endless(self) -> Iterator[Batch]:
        for epoch in itertools.count():
            self.dataset.set_epoch(epoch)
            yield from self.loader


def load_photographs(options: argparse.Namespace) -> Photographs:
    """Open the store as the options say; every third image is held out, whole, so that nothing of it is trained on."""
    turned = {"hflip": True, "vflip": True, "transpose": True}
    dataset = SSLCachedDataset(
        options.store, crop_size=options.crop_size, border=options.border, seed=options.seed, **turned
    )
    store = dataset.store
    if store.lq_scale is None:
        raise SystemExit(f"{options.store} holds no low-quality patches; build another with --lq-scale 4")
    is_held_out = store.source_indices % 3 == 1
    rest = Subset(dataset, np.flatnonzero(~is_held_out).tolist())
    if len(rest) < options.batch_size:
        raise SystemExit(f"{options.store} has fewer than --batch-size patches to train on, {len(rest)}")
    loader = DataLoader(rest, batch_size=options.batch_size, shuffle=True, drop_last=True, collate_fn=collate)
    held_out = _held_out_batch(store, np.flatnonzero(is_held_out), options.held_out)
    return Photographs(dataset=dataset, loader=loader, held_out=held_out, scale=store.lq_scale)


def _held_out_batch(store: Store, patches: np.ndarray, count: int) -> Batch:
    """Crops of some of these patches, spread over all of them; the same for every seed, so that seeds compare."""
    if not len(patches):
        raise SystemExit(f"{store.url} holds one image; to hold one out, two are needed")
    crops = SSLCachedDataset(store, crop_size=min(_HELD_OUT_SIZE, store.patch_size))
    chosen = np.linspace(0, len(patches) - 1, min(count, len(patches))).astype(int)
    return collate([crops[index] for index in patches[chosen]])


def report(step: int, terms: dict[str, Tensor]) -> dict[str, float]:
    """Print one line; the terms as plain numbers."""
    numbers = {name: value.item() for name, value in terms.items()}
    print(f"step {step:5}  " + "  ".join(f"{name} {value:.6f}" for name, value in numbers.items()), flush=True)
    return {"step": step, **numbers}


def enlarge(lq: Tensor, scale: int) -> Tensor:
    """The bicubic interpolation (B, C, scale h, scale w) of low-quality images (B, C, h, w)."""
    return interpolate(lq, scale_factor=scale, mode="bicubic")


def save(options: argparse.Namespace, network: nn.Module, photographs: Photographs, sr: Tensor) -> None:
    """Leave the weights and pictures of the held-out batch in the output folder.

    Parameters
    ----------
    sr : float (B, 3, H, W)
        The network's output for the held-out batch, in [0, 1].
    """
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), folder / "weights.pt")
    enlarged = enlarge(photographs.held_out["lq"], photographs.scale)
    written = write_pictures(folder, photographs.held_out, enlarged, sr, photographs.spec)
    print(f"weights and {len(written)} pictures in {folder}")
