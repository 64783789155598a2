"""The loss on NVIDIA GPUs: graphs, terms and gradient in three Triton kernels (`ssl_data.kernels.triton_kernels`).

The kernels compare edge pixels directly, one after another; nothing of the size of a window is ever held in memory.
Kept for the gradient are the padded images and the graphs x of the SR side, float32 (N, K). x could be computed anew,
but that is the forward pass once more, 3 k^2 loads per entry to save 4 bytes; dL/dssd in its place would need two such
arrays, because the weights of KL and L1 are known only when the gradient is taken. The gradient takes another (N, K)
float32 while it runs, and (N, k^2) with boundary "zero".

Every sum has a fixed order: equal inputs give equal bits. That includes the gradient of the reflection, which
`torch.nn.functional.pad` adds up atomically on a GPU.

This module imports triton: import it only where that is wanted. With the environment variable ``TRITON_INTERPRET=1``,
set before triton is imported, the kernels run on the CPU, slowly, for tests.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]
from torch import Tensor
from torch.nn.functional import pad as pad_tensor

from ssl_data.kernels.torch_graph import refuse_second_derivatives
from ssl_data.kernels.triton_kernels import entry_gradient_kernel, graph_kernel, image_gradient_kernel

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ssl_data.config import SSGSpec

__all__ = ["INTERPRETED", "MAX_POSITIONS_PER_SIDE", "MAX_WINDOW_SIZE", "divergences_triton", "supports"]

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether kernels run in Triton's interpreter, on the CPU."""
MAX_POSITIONS_PER_SIDE = 63
"""A graph must fit into the registers of one program: 4096 values."""
MAX_WINDOW_SIZE = 33
"""A tile of the gradient needs the window's radius around it within a block of 64 x 64."""

_PIXELS = 16 if INTERPRETED else 1
"""Edge pixels of one program. An interpreter has the same work with 16 as with one; a GPU has registers for one."""


def supports(spec: SSGSpec) -> bool:
    """Whether the kernels have room for these sizes."""
    return spec.positions_per_side <= MAX_POSITIONS_PER_SIDE and spec.window_size <= MAX_WINDOW_SIZE


def divergences_triton(  # noqa: PLR0913 - the fields of an SSGBatch, which is known only above this layer
    images: Tensor, image: Tensor, row: Tensor, col: Tensor, graphs: Tensor, spec: SSGSpec
) -> tuple[Tensor, Tensor]:
    """KL and L1 between the graphs of images and given ones (paper Eq. 1-6), differentiable once in `images`.

    Parameters
    ----------
    images : float32 (B, 3, H, W)
        Intensities in [0, 1]; both sides at least ``spec.min_side``.
    image, row, col : integer (N,)
        Where the edge pixels lie; in any order, also several times. Not checked.
    graphs : (N, K)
        Of the ground truth: codes if uint8, else normalised values.
    spec : SSGSpec
        Sizes, bandwidth and border rule; see `supports`.

    Returns
    -------
    kl, l1 : float32 scalars
        Means over all N K entries; 0 without edge pixels.
    """
    padded_shape = [length + 2 * spec.pad for length in images.shape[2:]]
    corner = (image.long() * 3 * padded_shape[0] + row.long() + spec.pad) * padded_shape[1]
    layout = _Layout(spec=spec, centre=corner + col.long() + spec.pad, graphs=graphs.contiguous())
    kl, l1 = _TritonDivergences.apply(images, layout)  # type: ignore[no-untyped-call]
    return kl, l1


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """What the two passes share besides the images."""

    spec: SSGSpec
    centre: Tensor
    """int64 (N,): index of each edge pixel in the first plane of its padded image."""
    graphs: Tensor
    """(N, K) of the ground truth, contiguous."""

    def entry_options(self) -> dict[str, Any]:
        """Compile-time arguments of the kernels that have one program per edge pixel."""
        lanes = triton.next_power_of_2(self.spec.num_positions)
        return {
            **self.options(),
            "coded": self.graphs.dtype == torch.uint8,
            "pixels": _PIXELS,
            "lanes": lanes,
            "num_warps": min(8, max(1, lanes // 256)),
        }

    def options(self) -> dict[str, Any]:
        """Compile-time arguments of all kernels."""
        return {
            "clipped": self.spec.boundary == "zero",
            "side": self.spec.positions_per_side,
            "stride": self.spec.search_stride,
            "window_radius": self.spec.window_radius,
        }

    def entry_grid(self) -> tuple[int]:
        """One program for each block of edge pixels."""
        return (triton.cdiv(len(self.centre), _PIXELS),)


class _TritonDivergences(torch.autograd.Function):
    """(B, 3, H, W) images -> the scalars KL and L1 against the graphs of the ground truth."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, layout: _Layout) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        spec, num_pixels = layout.spec, len(layout.centre)
        padded = pad_tensor(images, (spec.pad,) * 4, mode="reflect").contiguous() if num_pixels else images
        similar = images.new_empty(num_pixels, spec.num_positions)
        defects = images.new_empty(num_pixels, dtype=torch.float64)
        terms = images.new_empty(2, num_pixels)
        if num_pixels:
            height, width = padded.shape[2:]
            with _on_device(images):
                graph_kernel[layout.entry_grid()](
                    padded,
                    layout.centre,
                    layout.graphs,
                    similar,
                    defects,
                    terms,
                    num_pixels,
                    width,
                    height * width,
                    -spec.ssd_scale,
                    **layout.entry_options(),
                )
        ctx.save_for_backward(padded, similar, defects)
        ctx.layout = layout
        kl, l1 = terms.sum(1, dtype=torch.float64).div_(max(1, similar.numel())).float()
        return kl, l1

    @staticmethod
    def backward(ctx: Any, kl_gradient: Tensor, l1_gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        refuse_second_derivatives()
        padded, similar, defects = ctx.saved_tensors
        layout: _Layout = ctx.layout
        if not len(similar):
            return torch.zeros_like(padded), None
        weights = torch.stack([kl_gradient, l1_gradient]) * (-layout.spec.ssd_scale / similar.numel())
        with _on_device(padded):
            gradient = _padded_gradient(padded, similar, defects, weights, layout)
        return _fold_reflection(gradient, layout.spec.pad), None


def _padded_gradient(padded: Tensor, similar: Tensor, defects: Tensor, weights: Tensor, layout: _Layout) -> Tensor:
    """Gradient with respect to the padded images, given dL/dKL and dL/dL1 as `weights` (see the kernel)."""
    spec = layout.spec
    centre, order = layout.centre.sort(stable=True)
    gradients = torch.empty_like(similar)
    outside = similar.new_empty(len(similar) if spec.boundary == "zero" else 0, spec.window_size**2)
    entry_gradient_kernel[layout.entry_grid()](
        similar,
        defects,
        layout.graphs,
        order,
        centre,
        weights,
        gradients,
        outside,
        len(similar),
        **layout.entry_options(),
    )
    result = torch.empty_like(padded)
    num_images, _, height, width = padded.shape
    block = 32 if spec.window_size <= 17 else 64
    tile = block - 2 * spec.window_radius
    grid = (triton.cdiv(width, tile), triton.cdiv(height, tile), num_images)
    rows = _row_map(centre, padded)
    image_gradient_kernel[grid](
        padded, gradients, outside, rows, result, height, width, **layout.options(), block=block, num_warps=block // 8
    )
    return result


def _row_map(centre: Tensor, padded: Tensor) -> Tensor:
    """For each pixel its (first) row in the ascending `centre`, -1 where it is no edge pixel: int32 (B, H, W), flat."""
    plane = padded.shape[2] * padded.shape[3]
    num_pixels = len(padded) * plane
    pixel = centre // (3 * plane) * plane + centre % plane
    # Repeated pixels go behind the end of the map: writing to one place in no fixed order would leave any of them.
    repeated = torch.zeros_like(centre, dtype=torch.bool)
    repeated[1:] = centre[1:] == centre[:-1]
    rows = centre.new_full((num_pixels + 1,), -1, dtype=torch.int32)
    rows[pixel.masked_fill(repeated, num_pixels)] = torch.arange(len(centre), dtype=torch.int32, device=centre.device)
    return rows


def _fold_reflection(gradient: Tensor, pad: int) -> Tensor:
    """Gradient of a reflection by `pad` pixels on each side: (B, C, H, W) -> (B, C, H - 2 pad, W - 2 pad)."""
    for axis in (2, 3):
        length = gradient.shape[axis] - 2 * pad
        folded = gradient.narrow(axis, pad, length).clone()
        folded.narrow(axis, 1, pad).add_(gradient.narrow(axis, 0, pad).flip(axis))
        folded.narrow(axis, length - 1 - pad, pad).add_(gradient.narrow(axis, pad + length, pad).flip(axis))
        gradient = folded
    return gradient


def _on_device(images: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the current GPU, which need not be the one of the images."""
    return torch.cuda.device(images.device) if images.is_cuda else nullcontext()
