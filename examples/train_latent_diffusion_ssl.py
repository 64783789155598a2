"""Train a small latent diffusion model for x4 super-resolution with the Self-similarity Loss, on a CPU, in a minute.

First make a store that holds low-quality patches beside the graphs, then train on it::

    ssl-data build --dataset sample --lq-scale 4 --out store.zarr
    python examples/train_latent_diffusion_ssl.py store.zarr

A variational autoencoder is trained first and then left as it is. It turns an image, in [-1, 1], into a latent z of a
quarter of its height and width. The denoiser sees a noisy latent z_t, the time t in [0, 1], and the latent c of the
enlarged low-quality image; it predicts z::

    z_t = cos(pi t / 2) z + sin(pi t / 2) noise,        z' = denoiser(z_t, t, c),        sr = decode(z')

It minimises the paper's Eq. 7, whose last two terms reach it through the decoder::

    L_total = L_orig + beta * L_SSL + gamma * L1_pixel
    L_orig  = mean of (z' - z)^2        L_SSL = KL + L1 of the graphs of sr and gt        L1_pixel = mean of |sr - gt|

Near t = 1, z_t is mostly noise. The best prediction is then a mean of all latents that fit, and decodes to something
blurred whose graphs are wrong for no fault of the denoiser; pressing for the right ones would drag it away from that
mean, which sampling needs. Therefore, what the last two terms ask of an image is weighted by cos^2(pi t / 2), the share
of z in the variance of z_t: near 1 where the prediction decides on details, 0 where it can know nothing of them.

Measured is what the model is for: images sampled from noise for a held-out batch. The denoiser starts as ``z' = c``, so
that step 0 shows what the autoencoder makes of bicubic interpolation. docs/training.md has figures.
On a busy machine, set OMP_NUM_THREADS=1: threads that wait for each other are slower than one.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import torch
from common import Batch, History, ResidualBlock, enlarge, load_photographs, report, run, save, training_parser
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss, pixel_shuffle, pixel_unshuffle, relu

from ssl_data import SelfSimilarityLoss

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from common import Photographs

_CHANNELS = 24
"""Of a latent: so many values stand for the 48 of 4 x 4 pixels."""
_VALUE_RANGE = (-1.0, 1.0)
"""Of the images that the autoencoder takes and gives."""


class Autoencoder(nn.Module):
    """Images (B, 3, H, W) in [-1, 1] to latents (B, 24, H/4, W/4) and back: a linear map, and what a network adds."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(48, width, 3, padding=1), ResidualBlock(width), nn.Conv2d(width, 2 * _CHANNELS, 1)
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(_CHANNELS, width, 3, padding=1), ResidualBlock(width), nn.Conv2d(width, 48, 3, padding=1)
        )
        self.linear_encoder, self.linear_decoder = nn.Conv2d(48, _CHANNELS, 1), nn.Conv2d(_CHANNELS, 48, 1)
        nn.init.orthogonal_(self.linear_encoder.weight)
        with torch.no_grad():
            self.linear_decoder.weight.copy_(self.linear_encoder.weight.transpose(0, 1))  # the inverse, nearly
        self.register_buffer("unit", torch.ones(()))

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latents of images."""
        pixels = pixel_unshuffle(images, 4)
        mean, log_variance = self.encoder(pixels).chunk(2, dim=1)
        return self.linear_encoder(pixels) + mean, log_variance - 4  # little noise in the beginning

    def decode(self, latents: Tensor) -> Tensor:
        """The images of latents."""
        return pixel_shuffle(self.linear_decoder(latents) + self.decoder(latents), 4)

    def to_latents(self, images: Tensor) -> Tensor:
        """What the denoiser works with: latents without noise, scaled to about unit variance."""
        return self.encode(images)[0] / self.unit

    def to_images(self, latents: Tensor) -> Tensor:
        """The way back."""
        return self.decode(latents * self.unit)


class TimedBlock(nn.Module):
    """A residual block whose features are scaled and shifted according to the time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.timing = nn.Linear(width, 2 * width)
        self.last = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor, time_features: Tensor) -> Tensor:
        """Features (B, width, h, w) and (B, width) to the shape of the former."""
        scale, shift = self.timing(time_features)[..., None, None].chunk(2, dim=1)
        return features + self.last(relu(self.first(features) * (1 + scale) + shift))


class Denoiser(nn.Module):
    """Predicts the latent of the ground truth; adds what it has learnt to the latent of the low-quality image."""

    def __init__(self, width: int = 64, num_blocks: int = 4) -> None:
        super().__init__()
        self.register_buffer("frequencies", math.pi * 2 ** torch.linspace(-1, 5, width // 2))
        self.timing = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.first = nn.Conv2d(2 * _CHANNELS, width, 3, padding=1)
        self.blocks = nn.ModuleList(TimedBlock(width) for _ in range(num_blocks))
        self.last = nn.Conv2d(width, _CHANNELS, 3, padding=1)
        nn.init.zeros_(self.last.weight)  # so that the untrained denoiser repeats the low-quality latent
        nn.init.zeros_(self.last.bias)

    def forward(self, noisy: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """Latents (B, 24, h, w), times (B,) and latents to latents."""
        angles = time[:, None] * self.frequencies
        time_features = self.timing(torch.cat([angles.sin(), angles.cos()], dim=1))
        features = self.first(torch.cat([noisy, condition], dim=1))
        for block in self.blocks:
            features = block(features, time_features)
        return condition + self.last(features)


def signal_and_noise(time: Tensor) -> tuple[Tensor, Tensor]:
    """How much of a noisy latent is latent, and how much is noise; their squares add up to 1. (B,) to (B, 1, 1, 1)."""
    angle = time[:, None, None, None] * (math.pi / 2)
    return angle.cos(), angle.sin()


class LatentDiffusion(nn.Module):
    """A trained autoencoder, and a denoiser of its latents."""

    def __init__(self, autoencoder: Autoencoder, scale: int) -> None:
        super().__init__()
        self.autoencoder, self.denoiser, self.scale = autoencoder, Denoiser(), scale

    def condition(self, lq: Tensor) -> Tensor:
        """The latents of low-quality images (B, 3, h, w) in [0, 1], enlarged."""
        return self.autoencoder.to_latents(to_value_range(enlarge(lq, self.scale)))

    def sample(self, lq: Tensor, noise: Tensor, num_steps: int = 10) -> Tensor:
        """Latents made from noise, for low-quality images, by the deterministic sampler of DDIM."""
        condition, noisy = self.condition(lq), noise
        times = torch.linspace(1, 0, num_steps + 1)[:, None].expand(-1, len(lq))
        for now, later in itertools.pairwise(times):
            predicted = self.denoiser(noisy, now, condition)
            signal, spread = signal_and_noise(now)
            noise = (noisy - signal * predicted) / spread
            signal, spread = signal_and_noise(later)
            noisy = signal * predicted + spread * noise
        return noisy


def to_value_range(images: Tensor) -> Tensor:
    """Images in [0, 1] in the range of the autoencoder."""
    low, high = _VALUE_RANGE
    return low + (high - low) * images


def train_autoencoder(photographs: Photographs, num_steps: int) -> Autoencoder:
    """An autoencoder of the photographs, whose weights are left alone from here on."""
    autoencoder = Autoencoder()
    optimizer = torch.optim.Adam(autoencoder.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=num_steps)
    for _, batch in photographs.batches(num_steps):
        images = to_value_range(batch["gt"])
        mean, log_variance = autoencoder.encode(images)
        decoded = autoencoder.decode(mean + (log_variance / 2).exp() * torch.randn_like(mean))
        divergence = (mean.square() + log_variance.exp() - log_variance - 1).mean() / 2
        optimizer.zero_grad()
        (l1_loss(decoded, images) + 1e-5 * divergence).backward()
        optimizer.step()
        schedule.step()
        autoencoder.unit.lerp_(mean.detach().std(), 0.1)  # of the last batches
    return autoencoder.requires_grad_(requires_grad=False)


def losses(
    predicted: Tensor, latents: Tensor, sr: Tensor, batch: Batch, loss: SelfSimilarityLoss, options: argparse.Namespace
) -> dict[str, Tensor]:
    """The terms of Eq. 7 for predicted latents and their images."""
    latent = mse_loss(predicted, latents)
    ssl = loss(sr, batch["ssg"])
    pixel = l1_loss(sr, to_value_range(batch["gt"]))
    total = latent + options.beta * ssl.total + options.gamma * pixel
    return {"latent": latent, "l1": pixel, "ssl": ssl.total, "kl": ssl.kl, "ssl_l1": ssl.l1, "total": total}


def pass_back(images: Tensor, share: Tensor) -> Tensor:
    """The same images, which pass only this share (B, 1, 1, 1) of their gradient on.

    L_SSL is one mean over the edge pixels of all images; this is how to weight an image in it.
    """
    return share * images + (1 - share) * images.detach()


def training_loss(
    model: LatentDiffusion, batch: Batch, loss: SelfSimilarityLoss, options: argparse.Namespace
) -> Tensor:
    """The objective for one batch, at times spread over [0, 1)."""
    latents = model.autoencoder.to_latents(to_value_range(batch["gt"]))
    time = (torch.rand(1) + torch.arange(len(latents)) / len(latents)) % 1
    signal, spread = signal_and_noise(time)
    noisy = signal * latents + spread * torch.randn_like(latents)
    predicted = model.denoiser(noisy, time, model.condition(batch["lq"]))
    share = torch.ones_like(signal) if options.unweighted else signal.square()
    sr = pass_back(model.autoencoder.to_images(predicted), share)
    return losses(predicted, latents, sr, batch, loss, options)["total"]


def train(options: argparse.Namespace) -> History:
    """Train as told; the terms measured on images sampled for the held-out batch before, during and after."""
    photographs = load_photographs(options)
    held_out = photographs.held_out
    model = LatentDiffusion(train_autoencoder(photographs, options.autoencoder_steps), photographs.scale)
    loss = SelfSimilarityLoss(photographs.spec, value_range=_VALUE_RANGE)
    optimizer = torch.optim.Adam(model.denoiser.parameters(), lr=options.learning_rate)
    latents = model.autoencoder.to_latents(to_value_range(held_out["gt"]))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))

    best = losses(latents, latents, model.autoencoder.to_images(latents), held_out, loss, options)
    print(f"the autoencoder alone: l1 {best['l1']:.6f}  kl {best['kl']:.6f}  ssl_l1 {best['ssl_l1']:.6f}")

    @torch.no_grad()
    def evaluate(step: int) -> dict[str, float]:
        sampled = model.sample(held_out["lq"], noise)
        return report(step, losses(sampled, latents, model.autoencoder.to_images(sampled), held_out, loss, options))

    history = [evaluate(0)]
    for step, batch in photographs.batches(options.steps):
        optimizer.zero_grad()
        training_loss(model, batch, loss, options).backward()
        optimizer.step()
        if step % options.every == 0 or step == options.steps:
            history.append(evaluate(step))
    with torch.no_grad():
        sr = model.autoencoder.to_images(model.sample(held_out["lq"], noise))
    low, high = _VALUE_RANGE
    save(options, model, photographs, (sr - low) / (high - low))
    return history


def main(arguments: Sequence[str] | None = None) -> History:
    """Parse the command line and train."""
    parser = training_parser(__doc__, out="out/latent_diffusion_ssl")
    parser.set_defaults(steps=150, batch_size=8, crop_size=64, every=50)
    parser.add_argument("--gamma", type=float, default=0.1, help="weight of the L1 of the pixels")
    parser.add_argument("--unweighted", action="store_true", help="weight images alike at all times, for comparison")
    parser.add_argument("--autoencoder-steps", type=int, default=200)
    return run(train, parser, arguments)


if __name__ == "__main__":
    main()
