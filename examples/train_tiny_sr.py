"""Train a tiny x4 super-resolution network with the Self-similarity Loss, on a CPU, in about a minute.

First make a store that holds low-quality patches beside the graphs, then train on it::

    ssl-data build --dataset sample --lq-scale 4 --out store.zarr
    python examples/train_tiny_sr.py store.zarr

The objective is the paper's Eq. 6 without its adversarial and perceptual parts::

    total = L1(sr, gt) + beta * L_SSL,        L_SSL = KL + L1 of the self-similarity graphs

A graph is a probability distribution over 625 positions and L_SSL a mean over all of them: it is of the order of 0.001
where the L1 of the pixels is of the order of 0.03. The paper's beta is 1000, on top of perceptual and adversarial terms
and of generators that are already trained. Alone with a new network, so large a beta buys similar edges with wrong
colours: docs/training.md has figures. The default of 10 makes both terms about equal. The network starts as bicubic
interpolation and learns what to add to it, so that step 0 shows what interpolation alone achieves.
On a busy machine, set OMP_NUM_THREADS=1: threads that wait for each other are slower than one.
"""

from __future__ import annotations

import argparse
import itertools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, l1_loss
from torch.utils.data import DataLoader, Subset

from ssl_data import SelfSimilarityLoss, SSLCachedDataset, SSLDataError, collate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


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


class TinySR(nn.Module):
    """Residual blocks at low resolution, one PixelShuffle; adds detail to the bicubic interpolation of its input."""

    def __init__(self, scale: int, width: int = 32, num_blocks: int = 4) -> None:
        super().__init__()
        self.scale = scale
        last = nn.Conv2d(width, 3 * scale**2, 3, padding=1)
        nn.init.zeros_(last.weight)  # so that the untrained network is bicubic interpolation
        nn.init.zeros_(last.bias)
        blocks = [ResidualBlock(width) for _ in range(num_blocks)]
        self.detail = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), *blocks, last, nn.PixelShuffle(scale))

    def forward(self, lq: Tensor) -> Tensor:
        """From lq (B, 3, h, w) to sr (B, 3, scale h, scale w)."""
        return interpolate(lq, scale_factor=self.scale, mode="bicubic") + self.detail(lq)


def losses(network: TinySR, batch: dict[str, Any], loss: SelfSimilarityLoss, beta: float) -> dict[str, Tensor]:
    """The terms of the objective for one batch."""
    sr = network(batch["lq"])
    ssl = loss(sr, batch["ssg"])
    l1 = l1_loss(sr, batch["gt"])
    return {"l1": l1, "kl": ssl.kl, "ssl_l1": ssl.l1, "total": l1 + beta * ssl.total}


@torch.no_grad()
def evaluate(
    step: int, network: TinySR, batch: dict[str, Any], loss: SelfSimilarityLoss, beta: float
) -> dict[str, float]:
    """The terms for the held-out batch, printed and as plain numbers."""
    terms = {name: value.item() for name, value in losses(network, batch, loss, beta).items()}
    print(f"step {step:5}  " + "  ".join(f"{name} {value:.6f}" for name, value in terms.items()), flush=True)
    return {"step": step, **terms}


def endless(loader: DataLoader[dict[str, Any]], dataset: SSLCachedDataset) -> Iterator[dict[str, Any]]:
    """Batches, epoch after epoch; every epoch draws other crops and flips."""
    for epoch in itertools.count(1):  # epoch 0 is the held-out batch's
        dataset.set_epoch(epoch)
        yield from loader


def train(options: argparse.Namespace) -> list[dict[str, float]]:
    """Train as told; the terms measured on the held-out batch before, during and after."""
    torch.manual_seed(options.seed)
    dataset = SSLCachedDataset(
        options.store,
        crop_size=options.crop_size,
        border=options.border,
        hflip=True,
        vflip=True,
        transpose=True,
        seed=options.seed,
    )
    scale = dataset.store.lq_scale
    if scale is None:
        raise SystemExit(f"{options.store} holds no low-quality patches; build it with `ssl-data build --lq-scale 4`")
    # Every sixth patch is held out. Patches of one image may overlap: this shows that training works, not how well.
    fixed = collate([dataset[index] for index in range(0, len(dataset), 6)])
    rest = Subset(dataset, [index for index in range(len(dataset)) if index % 6])
    if len(rest) < options.batch_size:
        raise SystemExit(f"{options.store} has fewer than --batch-size patches to train on, {len(rest)}")
    loader = DataLoader(rest, batch_size=options.batch_size, shuffle=True, drop_last=True, collate_fn=collate)

    network = TinySR(scale)
    loss = SelfSimilarityLoss(dataset.store.spec)
    optimizer = torch.optim.Adam(network.parameters(), lr=options.learning_rate)
    history = [evaluate(0, network, fixed, loss, options.beta)]
    for step, batch in enumerate(itertools.islice(endless(loader, dataset), options.steps), start=1):
        optimizer.zero_grad()
        losses(network, batch, loss, options.beta)["total"].backward()
        optimizer.step()
        if step % options.every == 0 or step == options.steps:
            history.append(evaluate(step, network, fixed, loss, options.beta))
    torch.save(network.state_dict(), options.out)
    return history


def main(arguments: Sequence[str] | None = None) -> list[dict[str, float]]:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", help="a store built with --lq-scale")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--beta", type=float, default=10.0, help="weight of the Self-similarity Loss; 0 for L1 alone")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--crop-size", type=int, default=96)
    parser.add_argument("--border", choices=("exact", "interior", "cached"), default="exact")
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--every", type=int, default=20, help="steps from one printed line to the next")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="tiny_sr.pt", help="where the trained weights go")
    try:
        return train(parser.parse_args(arguments))
    except SSLDataError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
