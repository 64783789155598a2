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

from typing import TYPE_CHECKING

import torch
from common import Batch, History, ResidualBlock, enlarge, load_photographs, report, run, save, training_parser
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from ssl_data import SelfSimilarityLoss

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


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
        return enlarge(lq, self.scale) + self.detail(lq)


def losses(sr: Tensor, batch: Batch, loss: SelfSimilarityLoss, beta: float) -> dict[str, Tensor]:
    """The terms of the objective for one batch."""
    ssl = loss(sr, batch["ssg"])
    l1 = l1_loss(sr, batch["gt"])
    return {"l1": l1, "ssl": ssl.total, "kl": ssl.kl, "ssl_l1": ssl.l1, "total": l1 + beta * ssl.total}


def train(options: argparse.Namespace) -> History:
    """Train as told; the terms measured on the held-out batch before, during and after."""
    photographs = load_photographs(options)
    held_out = photographs.held_out
    network = TinySR(photographs.scale)
    loss = SelfSimilarityLoss(photographs.spec)
    optimizer = torch.optim.Adam(network.parameters(), lr=options.learning_rate)

    def evaluate(step: int) -> dict[str, float]:
        with torch.no_grad():
            return report(step, losses(network(held_out["lq"]), held_out, loss, options.beta))

    history = [evaluate(0)]
    for step, batch in photographs.batches(options.steps):
        optimizer.zero_grad()
        losses(network(batch["lq"]), batch, loss, options.beta)["total"].backward()
        optimizer.step()
        if step % options.every == 0 or step == options.steps:
            history.append(evaluate(step))
    with torch.no_grad():
        save(options, network, photographs, network(held_out["lq"]))
    return history


def main(arguments: Sequence[str] | None = None) -> History:
    """Parse the command line and train."""
    return run(train, training_parser(__doc__, out="out/tiny_sr"), arguments)


if __name__ == "__main__":
    main()
