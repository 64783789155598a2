"""Sums of squared differences of float images, differentiable: the side of the loss that changes at every step.

For an edge pixel p and a search offset d, with windows clipped to a rectangle J(d) = -J(-d) (all of the window for
boundary "image", its part inside the search area for "zero"; see `ssl_data.kernels.reference`)::

    ssd(p, d) = sum over j in J(d) of D_d(p + j)  +  sum over j outside J(d) of E(p + j)
    D_d(x) = sum over c of (I(x) - I(x + d))^2        E(x) = sum over c of I(x)^2

Because D_-d(x) = D_d(x - d), one map D_d and one box filter of it serve d and -d: only half of the offsets are visited,
and nothing of the size of a window is ever held. The gradient takes the same way back. All sums are sums of
non-negative numbers built by doubling, never differences of running sums: those lose half of the digits of float32.

Images lie side by side in one flat line per channel, so that a shift by (dy, dx) is a shift by ``dy * width + dx`` and
every operation runs over one contiguous line. Where a shift leaves a row or an image it reads what lies next to it;
those results are never sampled, because the padding is as wide as the computation reaches.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import pad as pad_tensor

from ssl_data.kernels.torch_graph import refuse_second_derivatives

if TYPE_CHECKING:
    from ssl_data.config import SSGSpec

__all__ = ["ssd_torch"]

_GROUP_PIXELS = 1 << 17
"""Pixels that one CPU thread works on at once: large enough to hide calls, small enough to stay in the L3 cache."""


def ssd_torch(images: Tensor, image: Tensor, row: Tensor, col: Tensor, spec: SSGSpec) -> Tensor:
    """Sums of squared differences at edge pixels (paper Eq. 1), differentiable once in `images`.

    Parameters
    ----------
    images : float32 or float64 (B, C, H, W)
        Intensities in [0, 1]; both sides at least ``spec.min_side``.
    image, row, col : int64 (N,)
        Where the edge pixels lie; in any order, though images in ascending order are faster. Not checked.
    spec : SSGSpec
        Sizes and border rule.

    Returns
    -------
    float (K, N)
        Column i belongs to edge pixel i: each search position writes and reads one contiguous line.

    Notes
    -----
    Time: about K / 2 * 30 additions or multiplications per pixel of the images, whatever their number of edge pixels,
    and 4 K memory accesses per edge pixel. Memory: K values per edge pixel, and some twenty maps.
    """
    if images.device.type == "cpu" and bool((image[1:] < image[:-1]).any()):
        order = torch.argsort(image, stable=True)
        sorted_ssd = ssd_torch(images, image[order], row[order], col[order], spec)
        return sorted_ssd.index_select(1, torch.argsort(order))
    padded = pad_tensor(images, (spec.pad,) * 4, mode="reflect")
    height, width = padded.shape[2:]
    pixel = (image * height + row) * width + col
    outside = _outside_energy(padded, pixel, spec) if spec.boundary == "zero" else None
    layout = _Layout(spec, _groups(padded, image), pixel)
    ssd: Tensor = _WindowSSD.apply(padded, outside, layout)  # type: ignore[no-untyped-call]
    return ssd


@dataclass(frozen=True)
class _Layout:
    """What the two passes over a batch share besides the images."""

    spec: SSGSpec
    groups: list[tuple[slice, slice]]
    """Images that are worked on at once, and their edge pixels."""
    pixel: Tensor
    """int64 (N,): flat index, in all padded images, of the pixel `pad` rows and columns before each edge pixel."""


def _groups(padded: Tensor, image: Tensor) -> list[tuple[slice, slice]]:
    """Runs of images that have edge pixels; on accelerators, which like long lines, simply all of them."""
    if padded.device.type != "cpu":
        return [(slice(0, len(padded)), slice(0, len(image)))]
    per_group = max(1, _GROUP_PIXELS * torch.get_num_threads() // padded.shape[2:].numel())
    ends = torch.bincount(image, minlength=len(padded)).cumsum(0).tolist()
    groups: list[tuple[slice, slice]] = []
    for index, (first, last) in enumerate(zip([0, *ends], ends, strict=False)):
        if first == last:
            continue
        if groups and groups[-1][0].stop == index and index - groups[-1][0].start < per_group:
            images, pixels = groups.pop()
            groups.append((slice(images.start, index + 1), slice(pixels.start, last)))
        else:
            groups.append((slice(index, index + 1), slice(first, last)))
    return groups


@dataclass(frozen=True)
class _Pair:
    """The offsets d and -d, for images whose rows are a given number of pixels apart."""

    positions: tuple[int, int]
    """Their rows in the (K, N) result."""
    shift: int
    """Flat distance from x to x + d; positive."""
    box: tuple[int, int]
    """Height and width of J(d), which are those of J(-d)."""
    firsts: tuple[int, int]
    """Flat distance from `_Layout.pixel` to the first pixel of the box in D_d, for d and -d."""
    lasts: tuple[int, int]
    """The same to its last pixel."""


def _axis(spec: SSGSpec) -> range:
    return range(-spec.search_radius, spec.search_radius + 1, spec.search_stride)


def _visible(offset: int, spec: SSGSpec) -> tuple[int, int]:
    """First and last j along one axis of J(d): where the window around p + d sees the image."""
    radius, reach = spec.window_radius, spec.search_radius
    if spec.boundary == "image":
        return -radius, radius
    return max(-radius, -reach - offset), min(radius, reach - offset)


@lru_cache(maxsize=64)
def _pairs(spec: SSGSpec, width: int) -> list[_Pair]:
    """The half of the search area behind its centre, each offset with its opposite."""
    offsets = [(dy, dx) for dy in _axis(spec) for dx in _axis(spec)]
    pairs = []
    for position in range(len(offsets) // 2 + 1, len(offsets)):
        dy, dx = offsets[position]
        (top, bottom), (left, right) = _visible(dy, spec), _visible(dx, spec)
        origin = spec.pad * (width + 1)
        # J(-d) = -J(d), and D_-d(p + j) = D_d(p - d + j): the box of -d starts at p - d - (bottom, right).
        firsts = (top * width + left, (-dy - bottom) * width - dx - right)
        lasts = (bottom * width + right, (-dy - top) * width - dx - left)
        pairs.append(
            _Pair(
                positions=(position, len(offsets) - 1 - position),
                shift=dy * width + dx,
                box=(bottom - top + 1, right - left + 1),
                firsts=(origin + firsts[0], origin + firsts[1]),
                lasts=(origin + lasts[0], origin + lasts[1]),
            )
        )
    return pairs


class _Maps:
    """The images of one group as flat lines, and the working maps of the same length.

    Behind each line lie zeros, so that an operation at any shift may run over the full length. Views that every pair of
    offsets needs are made once: for small images, slicing would take as long as computing.
    """

    def __init__(self, padded: Tensor, spec: SSGSpec) -> None:
        num_images, channels, height, width = padded.shape
        self.width = width
        self._length = num_images * height * width
        room = (spec.search_radius + spec.window_size) * (width + 1)
        self.intensity = padded.new_zeros(channels, self._length + room)
        self._here = self.at(self.intensity, 0)
        self._here.view(channels, num_images, height, width).copy_(padded.transpose(0, 1))
        self._difference = padded.new_empty(channels, self._length)
        self._channels = self._difference.unbind()
        self._scratch = [padded.new_zeros(self._length + room) for _ in range(3)]
        self.map = self._scratch[0]
        self._map_here = self.at(self.map, 0)
        self._box_sums: dict[tuple[int, int], tuple[list[tuple[Tensor, Tensor, Tensor]], Tensor]] = {}

    def at(self, line: Tensor, shift: int) -> Tensor:
        """The line as seen from pixels `shift` before: (..., length)."""
        return line[..., shift : shift + self._length]

    def subtract_shifted(self, shift: int) -> Tensor:
        """I(x) - I(x + d): (C, length)."""
        return torch.sub(self._here, self.at(self.intensity, shift), out=self._difference)

    def square_difference(self, shift: int) -> None:
        """D_d, into `map`."""
        self.subtract_shifted(shift)
        torch.mul(self._channels[0], self._channels[0], out=self._map_here)
        for channel in self._channels[1:]:
            self._map_here.addcmul_(channel, channel)

    def box_sum(self, height: int, width: int) -> Tensor:
        """Sums of `map` over boxes, each at the first (top left) pixel of its box: (length,)."""
        if (height, width) not in self._box_sums:
            steps, total = self._run_sum(self.map, width, 1)
            more_steps, total = self._run_sum(total, height, self.width)
            self._box_sums[height, width] = steps + more_steps, self.at(total, 0)
        steps, total = self._box_sums[height, width]
        for first, second, target in steps:
            torch.add(first, second, out=target)
        return total

    def _run_sum(self, line: Tensor, count: int, step: int) -> tuple[list[tuple[Tensor, Tensor, Tensor]], Tensor]:
        """Additions that give ``line(x) + line(x + step) + ...`` (`count` terms), and where they leave it.

        By doubling: about ``log2(count)`` additions per pixel.
        """
        steps, total, size = [], line, 1
        for bit in f"{count:b}"[1:]:
            target = next(spare for spare in self._scratch if spare is not total and spare is not line)
            steps.append((self.at(total, 0), self.at(total, size * step), self.at(target, 0)))
            total, size = target, 2 * size
            if bit == "1":
                steps.append((self.at(total, 0), self.at(line, size * step), self.at(total, 0)))
                size += 1
        return steps, total


class _WindowSSD(torch.autograd.Function):
    """(B, C, H, W) padded images and (classes, N) energies outside J(d) -> ssd (K, N)."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, outside: Tensor | None, layout: _Layout) -> Tensor:  # noqa: ANN401
        spec = layout.spec
        ssd = padded.new_empty(spec.num_positions, len(layout.pixel))
        ssd[spec.num_positions // 2] = 0  # the centre: a window compared with itself
        for images, pixels in layout.groups:
            maps = _Maps(padded[images], spec)
            pixel = layout.pixel[pixels] - images.start * padded.shape[2:].numel()
            for pair in _pairs(spec, maps.width):
                maps.square_difference(pair.shift)
                sums = maps.box_sum(*pair.box)
                for position, first in zip(pair.positions, pair.firsts, strict=True):
                    torch.index_select(sums[first:], 0, pixel, out=ssd[position, pixels])
        if outside is not None:
            for position, energy_class in _clipped_positions(spec):
                ssd[position].add_(outside[energy_class])
        ctx.save_for_backward(padded)
        ctx.layout = layout
        ctx.num_classes = 0 if outside is None else len(outside)
        return ssd

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:  # noqa: ANN401
        refuse_second_derivatives()
        (padded,) = ctx.saved_tensors
        layout: _Layout = ctx.layout
        by_pixel = torch.zeros_like(padded)
        for images, pixels in layout.groups:
            pixel = layout.pixel[pixels] - images.start * padded.shape[2:].numel()
            _write_gradient(by_pixel[images], padded[images], gradient[:, pixels], pixel, layout.spec)
        by_class = None
        if ctx.num_classes:
            by_class = gradient.new_zeros(ctx.num_classes, gradient.shape[1])
            for position, energy_class in _clipped_positions(layout.spec):
                by_class[energy_class].add_(gradient[position])
        return by_pixel, by_class, None


def _write_gradient(target: Tensor, padded: Tensor, gradient: Tensor, pixel: Tensor, spec: SSGSpec) -> None:
    """The gradient through the windows of one group of images, into `target` (G, C, H, W).

    With U_d(x) the sum of dL/dssd over all windows of d (and -d) that contain x, D_d contributes
    2 U_d(x) (I(x) - I(x + d)) at x and the opposite at x + d. U_d is a box sum, too: values are laid down at the last
    pixels of their boxes, so that the same sums, seen from first pixels, collect them.
    """
    maps = _Maps(padded, spec)
    total = torch.zeros_like(maps.intensity)
    for pair in _pairs(spec, maps.width):
        maps.map.zero_()
        for position, last in zip(pair.positions, pair.lasts, strict=True):
            maps.map[last:].scatter_add_(0, pixel, gradient[position])
        weight = maps.box_sum(*pair.box)
        difference = maps.subtract_shifted(pair.shift)
        maps.at(total, 0).addcmul_(difference, weight)
        maps.at(total, pair.shift).addcmul_(difference, weight, value=-1)
    num_images, channels, height, width = padded.shape
    target.copy_(maps.at(total, 0).view(channels, num_images, height, width).transpose(0, 1)).mul_(2)


@lru_cache(maxsize=64)
def _clipped_positions(spec: SSGSpec) -> list[tuple[int, int]]:
    """Search positions whose windows are clipped, each with its row in `_outside_energy`."""
    ranges = _visible_ranges(spec)
    along = [_visible(offset, spec) for offset in _axis(spec)]
    whole = (-spec.window_radius, spec.window_radius)
    boxes = enumerate((rows, cols) for rows in along for cols in along)
    return [
        (position, ranges.index(rows) * len(ranges) + ranges.index(cols))
        for position, (rows, cols) in boxes
        if (rows, cols) != (whole, whole)
    ]


def _visible_ranges(spec: SSGSpec) -> list[tuple[int, int]]:
    """The different `_visible` ranges along one axis: at most 9 for windows of 9 pixels."""
    return list(dict.fromkeys(_visible(offset, spec) for offset in _axis(spec)))


def _outside_energy(padded: Tensor, pixel: Tensor, spec: SSGSpec) -> Tensor:
    """Energy of each edge pixel's window outside J(d), for every pair of a row and a column range: (ranges^2, N).

    Small beside the rest, and therefore left to autograd.
    """
    radius, width = spec.window_radius, padded.shape[3]
    energy = padded.square().sum(1).flatten()
    line = pad_tensor(energy, (radius, radius))
    columns = [line[start : start + len(energy)] for start in range(spec.window_size)]
    # Element m: sum of the m leftmost, or rightmost, columns of the window, as a map seen from the window's centre.
    from_left = list(accumulate(columns, initial=torch.zeros_like(energy)))
    from_right = list(accumulate(columns[::-1], initial=torch.zeros_like(energy)))
    rows = torch.arange(spec.pad - radius, spec.pad + radius + 1, device=pixel.device)
    samples = (pixel + rows[:, None] * width + spec.pad).flatten()

    def rows_of_window(energy_of_row: Tensor) -> Tensor:
        return energy_of_row.index_select(0, samples).view(len(rows), -1)

    ranges = _visible_ranges(spec)
    whole = rows_of_window(from_left[-1])
    above_and_below = [whole[: first + radius].sum(0) + whole[last + radius + 1 :].sum(0) for first, last in ranges]
    by_column_range = []
    for left, right in ranges:
        beside = rows_of_window(from_left[left + radius] + from_right[radius - right])
        within = [beside[first + radius : last + radius + 1].sum(0) for first, last in ranges]
        by_column_range.append(torch.stack(above_and_below) + torch.stack(within))
    return torch.stack(by_column_range, dim=1).flatten(0, 1)
