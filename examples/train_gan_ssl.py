"""Train a small GAN for x4 super-resolution with the Self-similarity Loss, on a CPU, in about a minute.

First make a store that holds low-quality patches beside the graphs, then train on it::

    ssl-data build --dataset sample --lq-scale 4 --out store.zarr
    python examples/train_gan_ssl.py store.zarr

The generator is a small RRDB network, as in ESRGAN; the discriminator has strided convolutions with spectral
normalisation and judges patches. The generator minimises the paper's Eq. 6::

    L_total = L_orig + beta * L_SSL
    L_orig  = L1(sr, gt) + adversarial_weight * L_adv,        L_adv = mean of -log D(sr)
    L_SSL   = KL + L1 of the self-similarity graphs

Published models have a perceptual term in L_orig, too. It needs a trained VGG network, which would have to be
downloaded, and is left out. The discriminator minimises the mean of -log D(gt) - log(1 - D(sr)), as ever.

The paper's beta is 1000, for generators that are already trained. This one starts as bicubic interpolation, so that
step 0 shows what interpolation alone achieves; with the default of 30, L_SSL weighs somewhat more than the L1 of the
pixels. docs/training.md has figures.
On a busy machine, set OMP_NUM_THREADS=1: threads that wait for each other are slower than one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from common import Batch, History, enlarge, load_photographs, report, run, save, training_parser
from torch import Tensor, nn
from torch.nn.functional import interpolate, l1_loss, leaky_relu, softplus
from torch.nn.utils.parametrizations import spectral_norm

from ssl_data import SelfSimilarityLoss

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


class DenseBlock(nn.Module):
    """Convolutions that each see the outputs of all before them; a fifth of the last is added to the input."""

    def __init__(self, width: int, growth: int, num_layers: int = 4) -> None:
        super().__init__()
        self.growing = nn.ModuleList(
            nn.Conv2d(width + layer * growth, growth, 3, padding=1) for layer in range(num_layers)
        )
        self.last = nn.Conv2d(width + num_layers * growth, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, width, h, w) to the same shape."""
        seen = features
        for layer in self.growing:
            seen = torch.cat([seen, leaky_relu(layer(seen), 0.2)], dim=1)
        return features + 0.2 * self.last(seen)


class RRDB(nn.Module):
    """Residual in residual: three dense blocks, a fifth of whose sum is added to the input."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*(DenseBlock(width, growth) for _ in range(3)))

    def forward(self, features: Tensor) -> Tensor:
        """(B, width, h, w) to the same shape."""
        return features + 0.2 * self.body(features)


class Generator(nn.Module):
    """RRDBs at low resolution, two convolutions at high; adds detail to the bicubic interpolation of its input."""

    def __init__(self, scale: int, width: int = 32, growth: int = 16, num_blocks: int = 2) -> None:
        super().__init__()
        self.scale = scale
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(
            *(RRDB(width, growth) for _ in range(num_blocks)), nn.Conv2d(width, width, 3, padding=1)
        )
        self.enlarged = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 3, 3, padding=1)
        nn.init.zeros_(self.last.weight)  # so that the untrained network is bicubic interpolation
        nn.init.zeros_(self.last.bias)

    def forward(self, lq: Tensor) -> Tensor:
        """From lq (B, 3, h, w) to sr (B, 3, scale h, scale w)."""
        features = self.first(lq)
        features = interpolate(features + self.body(features), scale_factor=self.scale, mode="nearest")
        detail = self.last(leaky_relu(self.enlarged(features), 0.2))
        return enlarge(lq, self.scale) + detail


class Discriminator(nn.Module):
    """Strided convolutions with spectral normalisation; says of overlapping patches how real they look (logits)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 3, padding=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 1, H/4, W/4)."""
        return self.layers(2 * images - 1)


def generator_losses(
    sr: Tensor, batch: Batch, discriminator: Discriminator, loss: SelfSimilarityLoss, options: argparse.Namespace
) -> dict[str, Tensor]:
    """The terms of Eq. 6 for one batch."""
    l1 = l1_loss(sr, batch["gt"])
    adversarial = softplus(-discriminator(sr)).mean()
    ssl = loss(sr, batch["ssg"])
    total = l1 + options.adversarial_weight * adversarial + options.beta * ssl.total
    return {"l1": l1, "adversarial": adversarial, "ssl": ssl.total, "kl": ssl.kl, "ssl_l1": ssl.l1, "total": total}


def discriminator_loss(sr: Tensor, batch: Batch, discriminator: Discriminator) -> Tensor:
    """How badly real and super-resolved images are told apart."""
    return softplus(-discriminator(batch["gt"])).mean() + softplus(discriminator(sr.detach())).mean()


def train(options: argparse.Namespace) -> History:
    """Train as told; the terms measured on the held-out batch before, during and after."""
    photographs = load_photographs(options)
    held_out = photographs.held_out
    generator, discriminator = Generator(photographs.scale), Discriminator()
    loss = SelfSimilarityLoss(photographs.spec)
    optimizers = [
        torch.optim.Adam(generator.parameters(), lr=options.learning_rate, betas=(0.9, 0.99)),
        torch.optim.Adam(discriminator.parameters(), lr=2 * options.learning_rate, betas=(0.9, 0.99)),
    ]

    def evaluate(step: int) -> dict[str, float]:
        discriminator.eval()  # spectral normalisation iterates at every call in training: measuring must not
        with torch.no_grad():
            sr = generator(held_out["lq"])
            terms = generator_losses(sr, held_out, discriminator, loss, options)
            terms["discriminator"] = discriminator_loss(sr, held_out, discriminator)
        discriminator.train()
        return report(step, terms)

    history = [evaluate(0)]
    for step, batch in photographs.batches(options.steps):
        sr = generator(batch["lq"])
        discriminator.requires_grad_(requires_grad=False)
        optimizers[0].zero_grad()
        generator_losses(sr, batch, discriminator, loss, options)["total"].backward()
        optimizers[0].step()
        discriminator.requires_grad_(requires_grad=True)
        optimizers[1].zero_grad()
        discriminator_loss(sr, batch, discriminator).backward()
        optimizers[1].step()
        if step % options.every == 0 or step == options.steps:
            history.append(evaluate(step))
    with torch.no_grad():
        save(options, generator, photographs, generator(held_out["lq"]))
    return history


def main(arguments: Sequence[str] | None = None) -> History:
    """Parse the command line and train."""
    parser = training_parser(__doc__, out="out/gan_ssl")
    parser.set_defaults(beta=30.0, crop_size=64)
    parser.add_argument("--adversarial-weight", type=float, default=0.05)
    return run(train, parser, arguments)


if __name__ == "__main__":
    main()
