"""Graphs on tensors: what the loss and the batches of graphs share besides the sums of squared differences."""

from __future__ import annotations

import sys
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import torch
from torch import Tensor

from ssl_data.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ssl_data.config import SSGSpec

__all__ = [
    "check_images",
    "graph_torch",
    "pixel_blocks",
    "refuse_second_derivatives",
    "to_computing_dtype",
    "uncompiled",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")

_BLOCK_PIXELS = 256
"""Edge pixels whose graphs a CPU works on at once: 0.6 MB per array for the defaults."""


def check_images(images: Tensor, name: str, spec: SSGSpec) -> None:
    """Raise `InputError` unless `images` is float (B, 3, H, W) with both sides at least ``spec.min_side``."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        raise InputError(
            f"{name} must be a floating-point tensor, got {getattr(images, 'dtype', type(images).__name__)}"
        )
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"{name} must have shape (B, 3, H, W), got {tuple(images.shape)}")
    if min(images.shape[2:]) < spec.min_side:
        height, width = images.shape[2:]
        raise InputError(f"{name} must be at least {spec.min_side} pixels on each side, got {height}x{width}")


def to_computing_dtype(images: Tensor) -> Tensor:
    """The images as float32 or float64: half types have too few digits for sums of squared differences."""
    return images if images.dtype in (torch.float32, torch.float64) else images.float()


def uncompiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Keep `torch.compile` out of a function: it would unroll the loop over search offsets, for minutes.

    As `torch.compiler.disable`, but without importing the compiler (1.5 s) where the program has not done so.
    """
    disabled: Callable[_P, _R] | None = None

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        nonlocal disabled
        if disabled is None:
            if "torch._dynamo" not in sys.modules:
                return function(*args, **kwargs)
            disabled = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
        return disabled(*args, **kwargs)

    return call


def refuse_second_derivatives() -> None:
    """To be called first in an analytic backward pass: with ``create_graph`` it would give silently wrong results.

    `torch.autograd.function.once_differentiable` notices that only where the incoming gradient has a gradient itself.
    """
    if torch.is_grad_enabled():
        raise RuntimeError("the Self-similarity Loss has no second derivatives: differentiate it without create_graph")


def pixel_blocks(ssd: Tensor) -> Iterator[slice]:
    """Divide the columns of (K, N) into blocks that stay in the cache of a CPU core; on accelerators one block."""
    step = _BLOCK_PIXELS if ssd.device.type == "cpu" else max(1, ssd.shape[1])
    for first in range(0, ssd.shape[1], step):
        yield slice(first, first + step)


def graph_torch(ssd: Tensor, spec: SSGSpec) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised graphs (paper Eq. 2 and 4), not differentiable.

    Parameters
    ----------
    ssd : float (K, N)
        Of intensities in [0, 1].

    Returns
    -------
    ssg : float (K, N)
        ``S / (sum of S + 1e-10)`` with ``S = exp(-ssd * ssd_scale)``.
    log_ssg : float (K, N)
        Its logarithm, taken before exponentiation: faster, and with all digits where S vanishes.
    defect : float64 (N,)
        ``ssg * (1 + defect)`` is free of the rounding of the sum, the one error that all values of a graph share.
    """
    log_similarity = ssd * -spec.ssd_scale
    similarity = log_similarity.exp()
    total = similarity.sum(0, dtype=torch.float64).add_(1e-10)
    rounded = total.to(ssd.dtype)
    return similarity.div_(rounded), log_similarity.sub_(rounded.log()), rounded.double().div_(total).sub_(1)
