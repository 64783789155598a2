"""The loss on NVIDIA GPUs: graphs, terms and gradient in three Triton kernels (`ssl_data.kernels.triton_kernels`).

The kernels compare edge pixels directly, one after another; nothing of the size of a window is ever held in memory.
Kept for the gradient are the padded images and the graphs x of the SR side, float32 (N, K). x could be computed anew,
but that is the forward pass once more, 3 k^2 loads per entry to save 4 bytes; dL/dssd in its place would need two such
arrays, because the weights of KL and L1 are known only when the gradient is taken. The gradient takes another (N, K)
float32 while it runs, and (N, k^2) with boundary "zero".

Every sum has a fixed order: equal inputs give equal bits. That includes the gradient of the reflection, which
`torch.nn.functional.pad` adds up atomically on a GPU. Nothing is read back from the GPU, so that it never waits.

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

__all__ = ["INTERPRETED", "MAX_POSITIONS_PER_SIDE", "MAX_WINDOW_SIZE", "divergences_triton", "runs_on", "supports"]

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether kernels run in Triton's interpreter, on the CPU."""
MAX_POSITIONS_PER_SIDE = 63
"""A graph must fit into the registers of one program: 4096 values."""
MAX_WINDOW_SIZE = 33
"""A tile of the gradient needs the window's radius around it within a block of 64 x 64."""

_BLOCKS = (32, 64)
"""Sides of the blocks of the gradient; the smallest that leaves half of itself to its tile is taken."""
_PIXELS = 16 if INTERPRETED else 1
"""Edge pixels of one program. An interpreter has the same work with 16 as with one; a GPU has registers for one."""


def runs_on(device: torch.device) -> bool:
    """Whether the kernels can run there: NVIDIA GPUs from compute capability 8.0 on, the oldest that Triton is for."""
    if device.type != "cuda" or torch.version.cuda is None:
        return INTERPRETED
    return torch.cuda.get_device_capability(device) >= (8, 0)


def supports(spec: SSGSpec) -> bool:
    """Whether the kernels have room for these sizes."""
    return spec.positions_per_side <= MAX_POSITIONS_PER_SIDE and spec.window_size <= MAX_WINDOW_SIZE


def divergences_triton(
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
        Of the ground truth: codes if uint8 or uint16, else normalised values.
    spec : SSGSpec
        Sizes, bandwidth and border rule; see `supports`.

    Returns
    -------
    kl, l1 : float32 scalars
        Means over all N K entries; 0 without edge pixels.
    """
    layout = _Layout(spec=spec, height=images.shape[2], width=images.shape[3], graphs=graphs.contiguous())
    centre = layout.pixel_index(image.long(), row.long(), col.long())
    kl, l1 = _TritonDivergences.apply(images, centre, layout)  # type: ignore[no-untyped-call]
    return kl, l1


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """What the two passes share besides the images.

    The canvas of an image is, from the inside out: the image; its reflection, `SSGSpec.pad` wide; zeros, so that every
    access of the gradient's kernel from one of its blocks ends within the canvas.
    """

    spec: SSGSpec
    height: int
    """Of the images."""
    width: int
    graphs: Tensor
    """(N, K) of the ground truth, contiguous."""

    @property
    def margin(self) -> int:
        """Zeros before the first row and column."""
        return self.spec.search_radius + self.spec.window_radius

    @property
    def block(self) -> int:
        """Side of the block that one program of the gradient works on."""
        return next(block for block in _BLOCKS if block > 2 * self.spec.window_size - 4)

    def tiles(self, length: int) -> int:
        """Tiles along an axis of the images, with their reflection."""
        return -(-(length + 2 * self.spec.pad) // (self.block - 2 * self.spec.window_radius))

    def canvas_length(self, length: int) -> int:
        """Along an axis: all tiles; the overhang of the last block; margins."""
        overhang = 2 * self.spec.window_radius
        return 2 * self.margin + self.tiles(length) * (self.block - overhang) + overhang

    @property
    def canvas_shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.canvas_length(self.height), self.canvas_length(self.width)

    @property
    def plane(self) -> int:
        """Pixels of one channel of one canvas."""
        return self.canvas_shape[0] * self.canvas_shape[1]

    def canvas(self, images: Tensor) -> Tensor:
        """The images on their canvases: float32 (B, 3, H, W), contiguous."""
        reflected = pad_tensor(images, (self.spec.pad,) * 4, mode="reflect")
        canvas = images.new_zeros(*images.shape[:2], *self.canvas_shape)
        self.reflected_part(canvas).copy_(reflected)
        return canvas

    def reflected_part(self, canvas: Tensor) -> Tensor:
        """The images and their reflection: a view."""
        return canvas[
            ...,
            self.margin : self.margin + self.height + 2 * self.spec.pad,
            self.margin : self.margin + self.width + 2 * self.spec.pad,
        ]

    def pixel_index(self, image: Tensor, row: Tensor, col: Tensor) -> Tensor:
        """Index of pixels in the first plane of their canvases: int64 (N,)."""
        origin = self.margin + self.spec.pad
        return image * (3 * self.plane) + (row + origin) * self.canvas_shape[1] + col + origin

    def options(self) -> dict[str, Any]:
        """Compile-time arguments of all kernels."""
        return {
            "clipped": self.spec.boundary == "zero",
            "side": self.spec.positions_per_side,
            "stride": self.spec.search_stride,
            "window_radius": self.spec.window_radius,
            "enable_fp_fusion": True,  # a multiplication and an addition with one rounding
        }

    def entry_options(self) -> dict[str, Any]:
        """Compile-time arguments of the kernels that have one program per edge pixel."""
        lanes = triton.next_power_of_2(self.spec.num_positions)
        return {
            **self.options(),
            "coded": not self.graphs.is_floating_point(),
            "pixels": _PIXELS,
            "lanes": lanes,
            "num_warps": min(8, max(1, lanes // 256)),
        }

    def entry_grid(self) -> tuple[int]:
        """One program for each block of edge pixels."""
        return (triton.cdiv(len(self.graphs), _PIXELS),)

    def tile_grid(self, num_images: int) -> tuple[int, int, int]:
        """One program for each tile."""
        return self.tiles(self.width), self.tiles(self.height), num_images


class _TritonDivergences(torch.autograd.Function):
    """(B, 3, H, W) images and (N,) pixels -> the scalars KL and L1 against the graphs of the ground truth."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, centre: Tensor, layout: _Layout) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        num_pixels, spec = len(centre), layout.spec
        canvas = layout.canvas(images) if num_pixels else images
        similar = images.new_empty(num_pixels, spec.num_positions)
        defects = images.new_empty(num_pixels, dtype=torch.float64)
        terms = images.new_empty(2, num_pixels)
        if num_pixels:
            with _on_device(images):
                graph_kernel[layout.entry_grid()](
                    canvas,
                    centre,
                    layout.graphs,
                    similar,
                    defects,
                    terms,
                    num_pixels,
                    layout.canvas_shape[1],
                    layout.plane,
                    -spec.ssd_scale,
                    **layout.entry_options(),
                )
        ctx.save_for_backward(canvas, centre, similar, defects)
        ctx.layout = layout
        kl, l1 = (sums.sum(dtype=torch.float64).div_(max(1, similar.numel())).float() for sums in terms)
        return kl, l1

    @staticmethod
    def backward(ctx: Any, kl_gradient: Tensor, l1_gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        refuse_second_derivatives()
        canvas, centre, similar, defects = ctx.saved_tensors
        layout: _Layout = ctx.layout
        if not len(similar):
            return torch.zeros_like(canvas), None, None
        weights = torch.stack([kl_gradient, l1_gradient]) * (-layout.spec.ssd_scale / similar.numel())
        centre, order = centre.sort(stable=True)
        with _on_device(canvas):
            gradients, outside = _entry_gradients(similar, defects, order, centre, weights, layout)
            on_canvas = _image_gradient(canvas, centre, gradients, outside, layout)
        return _fold_reflection(layout.reflected_part(on_canvas), layout.spec.pad), None, None


def _entry_gradients(
    similar: Tensor, defects: Tensor, order: Tensor, centre: Tensor, weights: Tensor, layout: _Layout
) -> tuple[Tensor, Tensor]:
    """dL/dssd (N, K) and the weights of the windows' own energy (N, k^2), see the kernel."""
    num_pixels = len(similar)
    gradients = torch.empty_like(similar)
    outside = similar.new_empty(num_pixels if layout.spec.boundary == "zero" else 0, layout.spec.window_size**2)
    entry_gradient_kernel[layout.entry_grid()](
        similar,
        defects,
        layout.graphs,
        order,
        centre,
        weights,
        gradients,
        outside,
        num_pixels,
        **layout.entry_options(),
    )
    return gradients, outside


def _image_gradient(canvas: Tensor, centre: Tensor, gradients: Tensor, outside: Tensor, layout: _Layout) -> Tensor:
    """Gradient with respect to the canvas (B, 3, H, W); undefined in its margins."""
    result = torch.empty_like(canvas)
    image_gradient_kernel[layout.tile_grid(len(canvas))](
        canvas,
        gradients,
        outside,
        _row_map(centre, len(canvas), layout.plane),
        result,
        layout.canvas_shape[1],
        layout.plane,
        **layout.options(),
        block=layout.block,
        num_warps=4 if layout.block == 32 else 16,  # so that the sums fit into registers
    )
    return result


def _row_map(centre: Tensor, num_images: int, plane: int) -> Tensor:
    """For each pixel its (first) row in the ascending `centre`, -1 where it is no edge pixel: int32 (B, H, W), flat."""
    num_pixels = num_images * plane
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
