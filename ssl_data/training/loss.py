"""The Self-similarity Loss (paper section 3.4, Eq. 5-7)."""

from __future__ import annotations

import math
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from ssl_data.errors import ConfigError, InputError, MissingDependencyError
from ssl_data.kernels.torch_graph import (
    check_images,
    graph_torch,
    pixel_blocks,
    refuse_second_derivatives,
    to_computing_dtype,
    uncompiled,
)
from ssl_data.kernels.torch_ssg import ssd_torch

if TYPE_CHECKING:
    from types import ModuleType

    from ssl_data.config import SSGSpec
    from ssl_data.training.batch import SSGBatch

__all__ = ["Backend", "SSLTerms", "SelfSimilarityLoss"]

Backend = Literal["auto", "torch", "triton"]

_FLOOR = 1e-10
"""Graphs are clamped below at this value before their logarithm is taken."""


class SSLTerms(NamedTuple):
    """The loss and its two terms: scalars, float32 (float64 for float64 images), each differentiable."""

    total: Tensor
    """``kl_weight * kl + l1_weight * l1`` (paper Eq. 5)."""
    kl: Tensor
    """Mean Kullback-Leibler divergence, without its weight."""
    l1: Tensor
    """Mean absolute difference, without its weight."""


class SelfSimilarityLoss(nn.Module):
    """Compare the self-similarity graphs of super-resolved images with those of the ground truth.

    With x the graph of an SR image and y that of the ground truth at the same edge pixel, both (K,)::

        KL = mean of y (log y - log x), x and y clamped below at 1e-10        L1 = mean of |x - y|

    The means run over all entries of all edge pixels of the batch, so that an image counts by its number of edge
    pixels. A batch without any has loss 0 and gradient 0.

    Parameters
    ----------
    spec : SSGSpec
        The one that the stored graphs were made with.
    kl_weight, l1_weight : float
        Weights of the two terms in `SSLTerms.total`; the paper's alpha is ``l1_weight / kl_weight``.
    value_range : tuple of float
        Darkest and brightest value of the images passed to the loss; mapped linearly to the [0, 1] of the graphs.
    backend : {"auto", "torch", "triton"}
        What computes it; they agree up to rounding. "torch" runs everywhere. "triton" has kernels for NVIDIA GPUs of
        compute capability 8.0 or higher, for images up to float32, up to 63 search positions per axis and windows of
        up to 33 pixels; Triton needs a C compiler when they run for the first time. "auto" takes triton where it is
        installed and the rest holds, else torch.

    Raises
    ------
    ConfigError
        For a weight or range that is not finite, an empty range, an unknown backend, or, with ``backend="triton"``,
        sizes for which it has no room.
    MissingDependencyError
        With ``backend="triton"``, if it is not installed.

    Notes
    -----
    Computed in float32 for half-precision images, under autocast too; the gradient has the dtype of the images. The
    gradient is analytic and can be taken once (no second derivatives). Memory: 2.3 values of (N, K), i.e. 6 kB per
    edge pixel for the defaults. With triton, equal inputs give equal bits; with torch, on a GPU, gradients may differ
    in their last digits.
    """

    def __init__(
        self,
        spec: SSGSpec,
        *,
        kl_weight: float = 1.0,
        l1_weight: float = 1.0,
        value_range: tuple[float, float] = (0.0, 1.0),
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        for name, value in {"kl_weight": kl_weight, "l1_weight": l1_weight}.items():
            if not math.isfinite(value):
                raise ConfigError(f"SelfSimilarityLoss.{name} must be finite, got {value!r}")
        low, high = value_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ConfigError(
                f"SelfSimilarityLoss.value_range must be two ascending finite numbers, got {value_range!r}"
            )
        _check_backend(backend, spec)
        self.spec = spec
        self.backend = backend
        self.kl_weight = kl_weight
        self.l1_weight = l1_weight
        self.value_range = (low, high)

    @uncompiled
    def forward(self, sr: Tensor, ssg: SSGBatch) -> SSLTerms:
        """Compute the loss of a batch.

        Parameters
        ----------
        sr : float (B, 3, H, W)
            Super-resolved images, RGB, in `value_range`.
        ssg : SSGBatch
            Graphs of the ground truth, on the same device; edge pixels refer to the images of `sr`.

        Returns
        -------
        SSLTerms

        Raises
        ------
        InputError
            For a wrong dtype or shape, or graphs that do not belong to these images or this spec; with
            ``backend="triton"``, for images that it cannot take.
        """
        self._check(sr, ssg)
        low, high = self.value_range
        with torch.autocast(sr.device.type, enabled=False):
            images = to_computing_dtype(sr)
            if self.value_range != (0.0, 1.0):
                images = (images - low) / (high - low)
            kernels = self._kernels(images)
            if kernels is not None:
                kl, l1 = kernels.divergences_triton(images, ssg.image, ssg.row, ssg.col, ssg.graphs, self.spec)
            else:
                ssd = ssd_torch(images, ssg.image.long(), ssg.row.long(), ssg.col.long(), self.spec)
                kl, l1 = _Divergences.apply(ssd, ssg, self.spec)  # type: ignore[no-untyped-call]
        return SSLTerms(total=self.kl_weight * kl + self.l1_weight * l1, kl=kl, l1=l1)

    def extra_repr(self) -> str:
        """The settings, for ``print(model)``."""
        weights = f"kl_weight={self.kl_weight}, l1_weight={self.l1_weight}"
        return f"{self.spec}, {weights}, value_range={self.value_range}, backend={self.backend!r}"

    def _kernels(self, images: Tensor) -> ModuleType | None:
        """The module with the Triton kernels where they are to be used, else None."""
        asked_for = self.backend == "triton"
        if self.backend == "torch" or not (images.is_cuda or asked_for):
            return None
        kernels = _triton()
        runs_here = kernels is not None and kernels.runs_on(images.device) and images.dtype == torch.float32
        if asked_for and not runs_here:
            raise InputError(
                "backend 'triton' needs images up to float32 on an NVIDIA GPU of compute capability 8.0 or higher, "
                f"got {images.dtype} on {images.device}"
            )
        return kernels if kernels is not None and runs_here and kernels.supports(self.spec) else None

    def _check(self, sr: Tensor, ssg: SSGBatch) -> None:
        check_images(sr, "sr", self.spec)
        if ssg.graphs.device != sr.device:
            raise InputError(
                f"ssg must lie on the device of sr, {sr.device}, got {ssg.graphs.device}; use ssg.to(device)"
            )
        if ssg.num_positions != self.spec.num_positions:
            raise InputError(
                f"ssg must have K = {self.spec.num_positions} search positions for {self.spec}, got {ssg.num_positions}"
            )
        limits = (sr.shape[0], *sr.shape[2:])
        for name, largest, limit in zip(("image", "row", "col"), ssg.extent, limits, strict=True):
            if largest >= limit:
                raise InputError(f"ssg.{name} must be below {limit} for sr of shape {tuple(sr.shape)}, got {largest}")


@cache
def _triton() -> ModuleType | None:
    """The module with the Triton kernels; None where triton cannot be imported. Only asked where it would be used."""
    try:
        return import_module("ssl_data.kernels.triton_loss")
    except ImportError:
        return None


def _check_backend(backend: str, spec: SSGSpec) -> None:
    if backend not in get_args(Backend):
        raise ConfigError(f"SelfSimilarityLoss.backend must be 'auto', 'torch' or 'triton', got {backend!r}")
    if backend != "triton":
        return
    kernels = _triton()
    if kernels is None:
        raise MissingDependencyError("backend 'triton' needs Triton: pip install triton")
    if not kernels.supports(spec):
        raise ConfigError(
            f"backend 'triton' has room for {kernels.MAX_POSITIONS_PER_SIDE} search positions per axis and windows of "
            f"{kernels.MAX_WINDOW_SIZE} pixels, got {spec}"
        )


class _Divergences(torch.autograd.Function):
    """ssd (K, N) of the SR images -> the scalars KL and L1 against the graphs of the ground truth.

    Of the SR side only its graphs x (K, N) are kept; those of the ground truth are decoded again for the gradient.
    """

    @staticmethod
    def forward(ctx: Any, ssd: Tensor, ssg: SSGBatch, spec: SSGSpec) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        graphs = torch.empty_like(ssd)
        defects = ssd.new_empty(ssd.shape[1], dtype=torch.float64)
        kl, l1 = ssd.new_zeros(2, dtype=torch.float64)
        for block in pixel_blocks(ssd):
            x, log_x, defects[block] = graph_torch(ssd[:, block], spec)
            graphs[:, block] = x
            y = _target(ssg, block, ssd.dtype)
            l1 += x.sub_(y).abs_().sum()
            y.clamp_min_(_FLOOR)
            kl += y.log().sub_(log_x.clamp_min_(math.log(_FLOOR))).mul_(y).sum()
        ctx.save_for_backward(graphs, defects)
        ctx.ssg, ctx.ssd_scale = ssg, spec.ssd_scale
        num_entries = max(1, ssd.numel())
        return (kl / num_entries).to(ssd.dtype), (l1 / num_entries).to(ssd.dtype)

    @staticmethod
    def backward(ctx: Any, kl_gradient: Tensor, l1_gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        """Softmax form, with u = -ssd / (C k^2 h) and dx_i/du_j = x_i (delta_ij - x_j).

        KL: x sum(y) - y, without the entries of y where x is below the floor. L1: x (s - sum(s x)), s = sign(x - y).
        As x and y agree more and more in training, KL's part is computed as (x - y) + x (sum(y) - 1), the sum in
        float64 and corrected by the defect of x: in the plain form rounding would hide what is left.
        """
        refuse_second_derivatives()
        graphs, defects = ctx.saved_tensors
        scale = -ctx.ssd_scale / max(1, graphs.numel())
        kl_weight, l1_weight = kl_gradient * scale, l1_gradient * scale
        gradient = torch.empty_like(graphs)
        for block in pixel_blocks(graphs):
            x, y = graphs[:, block].contiguous(), _target(ctx.ssg, block, graphs.dtype)
            signs = torch.sub(x, y).sign_().mul_(l1_weight)
            y.clamp_min_(_FLOOR).mul_(x.clone().ge_(_FLOOR))
            excess = y.sum(0, dtype=torch.float64).mul_(1 + defects[block]).sub_(1).to(x.dtype)
            constant = excess.mul_(kl_weight).sub_((signs * x).sum(0))
            along_kl = torch.sub(x, y, out=y).mul_(kl_weight)
            torch.add(signs.add_(constant).mul_(x), along_kl, out=gradient[:, block])
        return gradient, None, None


def _target(ssg: SSGBatch, block: slice, dtype: torch.dtype) -> Tensor:
    """The ground truth's graphs of some edge pixels as a new tensor (K, n), laid out as the SR images' graphs."""
    return ssg.normalized(block).t().to(dtype, memory_format=torch.contiguous_format, copy=True)
