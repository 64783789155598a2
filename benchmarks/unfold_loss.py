"""The loss as one would first write it: `Tensor.unfold`, whole-array expressions, and autograd for the gradient.

Ours, from the definition (paper Eq. 1-7). The yardstick of ``benchmarks/loss.py``; the tests show that it computes
the same as `ssl_data.SelfSimilarityLoss`. It holds K * C * k^2 differences per edge pixel, 0.6 MB in float32, several
times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

from ssl_data import SSLTerms

if TYPE_CHECKING:
    from torch import Tensor

    from ssl_data import SSGBatch, SSGSpec

__all__ = ["unfold_loss", "unfold_ssd"]


def unfold_ssd(images: Tensor, image: Tensor, row: Tensor, col: Tensor, spec: SSGSpec) -> Tensor:
    """Sums of squared differences (N, K) of images (B, C, H, W) at edge pixels."""
    search, window = spec.search_radius, spec.window_radius
    reach = search + window
    padded = pad(images, (spec.pad,) * 4, mode="reflect")
    padded = pad(padded, (reach - spec.pad,) * 4)
    around = torch.arange(2 * reach + 1, device=images.device)
    rows, cols = row[:, None, None] + around[:, None], col[:, None, None] + around
    areas = padded[image[:, None, None], :, rows, cols].movedim(3, 1)
    windows = areas[:, :, search : search + spec.window_size, search : search + spec.window_size]
    if spec.boundary == "zero":
        inside = (around - reach).abs() <= search
        areas = areas * (inside[:, None] & inside)
    others = areas.unfold(2, spec.window_size, spec.search_stride).unfold(3, spec.window_size, spec.search_stride)
    return (windows[:, :, None, None] - others).square().sum((1, 4, 5)).flatten(1)


def unfold_loss(sr: Tensor, ssg: SSGBatch, spec: SSGSpec) -> SSLTerms:
    """KL, L1 and their sum, for at least one edge pixel."""
    ssd = unfold_ssd(sr, ssg.image.long(), ssg.row.long(), ssg.col.long(), spec)
    similarity = torch.exp(-ssd * spec.ssd_scale)
    x = similarity / (similarity.sum(1, keepdim=True) + 1e-10)
    y = ssg.normalized().to(x.dtype)
    l1 = (x - y).abs().mean()
    x, y = x.clamp_min(1e-10), y.clamp_min(1e-10)
    kl = (y * (y.log() - x.log())).mean()
    return SSLTerms(total=kl + l1, kl=kl, l1=l1)
