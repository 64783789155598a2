"""Batches of self-similarity graphs: what travels from the loader to the loss."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ssl_data.errors import InputError
from ssl_data.kernels.torch_graph import check_images, graph_torch, pixel_blocks, to_computing_dtype, uncompiled
from ssl_data.kernels.torch_ssg import ssd_torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from ssl_data.config import SSGSpec

__all__ = ["SSGBatch", "require"]

_CODE_TYPES = (torch.uint8, torch.uint16)


def require(ok: bool, name: str, rule: str, value: object) -> None:  # noqa: FBT001 - an assertion reads best this way
    """Raise an `InputError` that names what is wrong, unless it is right."""
    if not ok:
        raise InputError(f"{name} must {rule}, got {value}")


def _kind(value: object) -> object:
    return value.dtype if isinstance(value, Tensor) else type(value).__name__


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SSGBatch:
    """The self-similarity graphs of the edge pixels of a batch of images.

    Exactly one of `codes` and `values` is given. The batch of one sample has image index 0 throughout.

    Raises
    ------
    InputError
        For a wrong dtype, differing lengths, or a negative index.
    """

    codes: Tensor | None = None
    """uint8 (N, K), ``round(255 sqrt(S))``, or uint16 (N, K), ``round(4095 sqrt(S))``: as a store holds them."""
    values: Tensor | None = None
    """float32 or float64 (N, K): exact, normalised graphs."""
    image: Tensor
    """Integer (N,): which image of the batch an edge pixel belongs to."""
    row: Tensor
    """Integer (N,): its row in that image."""
    col: Tensor
    """Integer (N,): its column."""
    extent: tuple[int, int, int] = field(init=False)
    """Largest image, row and col, -1 where there are no edge pixels.

    Known from the beginning, they need not be read back from an accelerator, which would make it wait.
    """

    def __post_init__(self) -> None:
        if (self.codes is None) == (self.values is None):
            raise InputError("SSGBatch needs either codes or values, not both")
        graphs = self.graphs
        if self.codes is not None:
            require(graphs.dtype in _CODE_TYPES, "codes", "be uint8 or uint16", graphs.dtype)
        else:
            require(graphs.dtype in (torch.float32, torch.float64), "values", "be float32 or float64", graphs.dtype)
        require(graphs.ndim == 2, "codes and values", "have shape (N, K)", tuple(graphs.shape))
        for name in ("image", "row", "col"):
            index = getattr(self, name)
            is_integer = isinstance(index, Tensor) and not index.is_floating_point() and not index.is_complex()
            require(is_integer and index.dtype != torch.bool, name, "be an integer tensor", _kind(index))
            require(index.shape == (len(graphs),), name, f"have shape ({len(graphs)},)", tuple(index.shape))
            require(index.device == graphs.device, name, f"lie on {graphs.device}", index.device)
        object.__setattr__(self, "extent", self._find_extent())

    def __repr__(self) -> str:
        kind = "values" if self.codes is None else "codes"
        dtype = str(self.graphs.dtype).removeprefix("torch.")
        return f"<SSGBatch: {len(self)} graphs of {self.num_positions} {dtype} {kind} on {self.graphs.device}>"

    def _find_extent(self) -> tuple[int, int, int]:
        if not len(self):
            return -1, -1, -1
        largest = []
        for name in ("image", "row", "col"):
            low, high = (int(bound) for bound in getattr(self, name).aminmax())
            require(low >= 0, name, "not be negative", low)
            largest.append(high)
        return largest[0], largest[1], largest[2]

    @classmethod
    @uncompiled
    def from_images(cls, images: Tensor, edge_masks: Tensor, spec: SSGSpec, *, edge_stride: int = 1) -> SSGBatch:
        """Compute the exact graphs of images that have no stored ones (paper Eq. 1, 2 and 4), without gradient.

        Parameters
        ----------
        images : float (B, 3, H, W)
            Intensities in [0, 1]; both sides at least ``spec.min_side``.
        edge_masks : (B, 1, H, W)
            0/1 or boolean, of any dtype; on the images' device.
        spec : SSGSpec
            Sizes, bandwidth and border rule.
        edge_stride : int
            Keep only edge pixels with ``row % edge_stride == col % edge_stride``.

        Returns
        -------
        SSGBatch
            With `values` in the images' dtype (float32 for half types), in the order image, row, col.

        Raises
        ------
        InputError
            For a wrong dtype or shape, an image too small to be reflected, or an `edge_stride` below 1.
        """
        check_images(images, "images", spec)
        expected = (len(images), 1, *images.shape[2:])
        require(edge_masks.shape == expected, "edge_masks", f"have shape {expected}", tuple(edge_masks.shape))
        require(edge_masks.device == images.device, "edge_masks", f"lie on {images.device}", edge_masks.device)
        require(edge_stride >= 1, "edge_stride", "be >= 1", edge_stride)
        image, row, col = edge_masks[:, 0].nonzero(as_tuple=True)
        if edge_stride > 1:
            kept = row % edge_stride == col % edge_stride
            image, row, col = image[kept], row[kept], col[kept]
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            ssd = ssd_torch(to_computing_dtype(images), image, row, col, spec)
            values = ssd.new_empty(ssd.shape[1], ssd.shape[0])
            for block in pixel_blocks(ssd):
                values[block] = graph_torch(ssd[:, block], spec)[0].t()
        return cls(values=values, image=image, row=row, col=col)

    @classmethod
    def unchecked(
        cls,
        *,
        codes: Tensor | None = None,
        values: Tensor | None = None,
        image: Tensor,
        row: Tensor,
        col: Tensor,
        extent: tuple[int, int, int],
    ) -> SSGBatch:
        """A batch of parts that are known to go together, and whose `extent` is known."""
        batch = cls.__new__(cls)
        parts = {"codes": codes, "values": values, "image": image, "row": row, "col": col, "extent": extent}
        for name, part in parts.items():
            object.__setattr__(batch, name, part)
        return batch

    @property
    def graphs(self) -> Tensor:
        """Whichever of `codes` and `values` there is: (N, K)."""
        graphs = self.values if self.codes is None else self.codes
        require(isinstance(graphs, Tensor), "codes and values", "be tensors", _kind(graphs))
        return graphs  # type: ignore[return-value]  # just checked

    def __len__(self) -> int:
        return len(self.graphs)

    @property
    def num_positions(self) -> int:
        """K."""
        return self.graphs.shape[1]

    def normalized(self, rows: slice = slice(None)) -> Tensor:
        """Normalised graphs (paper Eq. 4): float (N, K), on the device where the batch lies.

        Codes are decoded, ``S = (q / 255)^2`` or ``(q / 4095)^2``, and every row is divided by its sum, in float32;
        `values` are returned as they are.

        Parameters
        ----------
        rows : slice
            Decode only these edge pixels.
        """
        if self.codes is None:
            return self.graphs[rows]
        squares = self.codes[rows].float().square_()  # the factor 1 / M^2 cancels, and without it squares are exact
        return squares.div_(squares.sum(1, keepdim=True).clamp_min_(1))

    def crop(self, top: int, left: int, size: int, *, margin: int = 0) -> SSGBatch:
        """The graphs of the edge pixels inside a square, for trainers that crop whole batches on the device.

        Graphs are kept as they are: near the sides of the crop they have seen more of the image than the crop holds.
        With ``margin=spec.pad`` those are left out, and the rest equal the graphs of the cropped images.

        Parameters
        ----------
        top, left, size : int
            Position and side of the square, in pixels, the same for all images.
        margin : int
            Leave out edge pixels less than this many pixels from a side of the crop.

        Returns
        -------
        SSGBatch
            Rows and columns count from the corner of the crop.
        """
        require(size > 2 * margin >= 0, "size", f"be greater than twice the margin {margin}", size)
        row, col = self.row - top, self.col - left
        inside = torch.ones_like(row, dtype=torch.bool)
        for index in (row, col):
            inside &= (index >= margin) & (index < size - margin)
        kind = "values" if self.codes is None else "codes"
        kept = {kind: self.graphs[inside], "image": self.image[inside]}
        return SSGBatch(row=row[inside], col=col[inside], **kept)

    def to(self, device: torch.device | str | int, *, non_blocking: bool = False) -> SSGBatch:
        """The batch on another device; itself where it already lies there."""
        if self.graphs.device == torch.empty(0, device=device).device:
            return self
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> SSGBatch:
        """The batch in page-locked memory, from which copies to an accelerator are asynchronous."""
        return self._map(Tensor.pin_memory)

    def _map(self, move: Callable[[Tensor], Tensor]) -> SSGBatch:
        moved = copy(self)  # with its extent, and without checking again what was checked
        for name in ("image", "row", "col", "values" if self.codes is None else "codes"):
            object.__setattr__(moved, name, move(getattr(self, name)))
        return moved
