"""The three Triton kernels of the loss, for NVIDIA GPUs; `ssl_data.kernels.triton_loss` launches them.

Shapes: B images of 3 planes, padded to H x W; N edge pixels, K search positions, a window of k x k pixels, radius r of
the search area, radius f of the windows, k = 2 f + 1. "Entry" is one of the N K values of the graphs.

`graph_kernel`, one program per edge pixel
    ssd, graph, KL and L1 in one go; K positions lie side by side in the lanes of the block. The search areas of
    one edge pixel, 3 (2 r + 2 f + 1)^2 values (13 kB for the defaults), stay in the L1 cache. Per entry: 3 k^2 loads
    from L1, 9 k^2 operations (subtract, multiply, add), and to memory 4 bytes of x and 1 (codes) or 4 of y. Box sums
    over whole images would share work between neighbouring edge pixels, but only where masks are dense: this cost is
    per edge pixel, whatever their density. Lanes are a power of two, so that 399 of 1024 idle for the default K = 625.

`entry_gradient_kernel`, one program per edge pixel
    x and y -> G = dL/dssd. Per entry 5 to 8 bytes read, 4 written; for boundary "zero" also the k^2 weights of the
    window's own energy, k^2 additions per entry, all in registers.

`image_gradient_kernel`, one program per tile of the images
    With J(d) the part of the window that is seen at offset d, and U_d(x) the sum of G(p, d) over all edge pixels p with
    x in p + J(d), the gradient at x is (`ssl_data.kernels.torch_ssg` derives the terms)::

        2 * sum over d of (U_d(x) + U_-d(x + d)) * (I(x) - I(x + d))   +   2 I(x) * (weight of the energy outside J(d))

    Every pixel of the image belongs to one program, which collects everything that reaches it: no atomic operation, and
    the same order of additions at every run. The edge pixels are found through a map pixel -> row of G. For each d the
    values of G are laid into a block M of registers, where both U are one box sum: the values of -d come from
    p = z + d + s, with s the sum of the first and last pixel of J(d), which turns J(-d) = -J(d) into J(d). A box sum of
    a block is a product with two banded matrices of zeros and ones (`tl.dot` through shared memory), in plain float32.
    Per pixel of the image and search position: 1 load of the map, 3 of the image, about 2 q^2 G values with q = T /
    (T - 2 f) times the density of edge pixels, 2 T q^2 multiply-adds (T = 32 is the side of the block; 114 for k = 9).
    Written: 3 values per pixel. Scattering one atomic addition per window pixel would be 6 k^2 = 486 of them per entry.
    Where no edge pixel reaches the block, nothing is computed.

The limits of sizes that the blocks set are in `ssl_data.kernels.triton_loss`. Terms of an ssd are added in runs of one
window row, and these once more, so that rounding grows with 3 k + k additions and not with 3 k^2. Similarities, at most
1 each, are added in float64 as Eq. 4 has them; a constant under the exponential would change what its 1e-10 does.
"""

# ruff: noqa: PLR0913, PLR0917 - a kernel has no objects to carry its arguments

from __future__ import annotations

import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-untyped,import-not-found,unused-ignore]

__all__ = ["entry_gradient_kernel", "graph_kernel", "image_gradient_kernel"]

_FLOOR = tl.constexpr(1e-10)
"""Graphs are clamped below at this value before their logarithm is taken."""
_LOG_FLOOR = tl.constexpr(-23.025850929940457)


@triton.jit  # type: ignore[misc,untyped-decorator,unused-ignore]
def _target(graphs: tl.tensor, entries: tl.tensor, mask: tl.tensor, coded: tl.constexpr) -> tl.tensor:
    """Graphs of the ground truth of some edge pixels: float32 (P, lanes), 0 where masked."""
    if coded:
        codes = tl.load(graphs + entries, mask=mask, other=0).to(tl.int32)
        squares = codes * codes  # S times M^2, which cancels; sums of integers are exact, those of 12 bits need 34
        total = tl.maximum(tl.sum(squares.to(tl.int64), axis=1), 1).to(tl.float32)
        target = squares.to(tl.float32) / total[:, None]
    else:
        target = tl.load(graphs + entries, mask=mask, other=0).to(tl.float32)
    return target


@triton.jit  # type: ignore[misc,untyped-decorator,unused-ignore]
def graph_kernel(
    canvas: tl.tensor,
    centre: tl.tensor,
    graphs: tl.tensor,
    similar: tl.tensor,
    defects: tl.tensor,
    terms: tl.tensor,
    num_pixels: tl.tensor,
    width: tl.tensor,
    plane: tl.tensor,
    exponent: tl.tensor,
    coded: tl.constexpr,
    clipped: tl.constexpr,
    side: tl.constexpr,
    stride: tl.constexpr,
    window_radius: tl.constexpr,
    pixels: tl.constexpr,
    lanes: tl.constexpr,
) -> None:
    """Graphs of edge pixels, and each row's part of the two terms.

    Parameters
    ----------
    canvas : float32 (B, 3, H, W)
        The images, padded.
    centre : int64 (N,)
        Index of the edge pixels in the first plane of their images, counted from the beginning of `canvas`.
    graphs : uint8, uint16 or float (N, K)
        Of the ground truth; codes if `coded`.
    similar : float32 (N, K)
        Written: the graphs x.
    defects : float64 (N,)
        Written: ``x * (1 + defect)`` is free of the rounding of the sum of similarities.
    terms : float32 (2, N)
        Written: sums of y (log y - log x) and of |x - y|.
    width, plane : int
        Pixels between rows and between planes.
    exponent : float
        ``-1 / (3 k^2 h)``.
    clipped : bool
        Boundary "zero".
    side, stride : int
        Search positions along an axis, and their distance.
    pixels, lanes : int
        Edge pixels of one program, and a power of two that is at least K.
    """
    reach: tl.constexpr = (side // 2) * stride
    row = tl.program_id(0).to(tl.int64) * pixels + tl.arange(0, pixels)
    here = tl.load(centre + row, mask=row < num_pixels, other=0)
    position = tl.arange(0, lanes)
    present = (row < num_pixels)[:, None] & (position < side * side)[None, :]
    dy = (position // side) * stride - reach
    dx = (position % side) * stride - reach
    there = here[:, None] + (dy * width + dx)[None, :]

    ssd = tl.zeros((pixels, lanes), tl.float32)
    for window_row in range(2 * window_radius + 1):
        of_row = tl.zeros((pixels, lanes), tl.float32)
        for window_col in range(2 * window_radius + 1):
            jy = window_row - window_radius
            jx = window_col - window_radius
            shift = jy * width + jx
            seen = present
            if clipped:
                seen_row = (dy + jy >= -reach) & (dy + jy <= reach)
                seen_col = (dx + jx >= -reach) & (dx + jx <= reach)
                seen = present & (seen_row & seen_col)[None, :]
            for channel in tl.static_range(3):
                own = tl.load(canvas + here + (shift + channel * plane), mask=row < num_pixels, other=0.0)
                other = tl.load(canvas + there + (shift + channel * plane), mask=seen, other=0.0)
                difference = own[:, None] - other
                of_row += difference * difference
        ssd += of_row

    log_similarity = ssd * exponent
    similarity = tl.where(present, tl.exp(log_similarity), 0.0)
    total = tl.sum(similarity.to(tl.float64), axis=1) + 1e-10
    rounded = total.to(tl.float32)
    x = similarity / rounded[:, None]
    log_x = tl.maximum(log_similarity - tl.log(rounded.to(tl.float64)).to(tl.float32)[:, None], _LOG_FLOOR)
    entries = row[:, None] * (side * side) + position[None, :]
    y = _target(graphs, entries, present, coded)
    y_floored = tl.maximum(y, _FLOOR)
    kl = tl.where(present, y_floored * (tl.log(y_floored) - log_x), 0.0)

    tl.store(similar + entries, x, mask=present)
    tl.store(defects + row, rounded.to(tl.float64) / total - 1.0, mask=row < num_pixels)
    tl.store(terms + row, tl.sum(kl, axis=1), mask=row < num_pixels)
    tl.store(terms + num_pixels + row, tl.sum(tl.abs(x - y), axis=1), mask=row < num_pixels)


@triton.jit  # type: ignore[misc,untyped-decorator,unused-ignore]
def _row_gradient(
    similar: tl.tensor,
    defects: tl.tensor,
    graphs: tl.tensor,
    row: tl.tensor,
    more: tl.tensor,
    kl_weight: tl.tensor,
    l1_weight: tl.tensor,
    coded: tl.constexpr,
    num_positions: tl.constexpr,
    lanes: tl.constexpr,
) -> tl.tensor:
    """dL/dssd of the rows where `more`: float32 (P, lanes), elsewhere 0.

    Softmax form, see the Function `_Divergences` of `ssl_data.training.loss`. Without rounding, KL's part is x sum(y) -
    y; (x - y) + x (sum(y) - 1), the sum in float64 and corrected by the defect of x, keeps its digits where x and y
    nearly agree.
    """
    position = tl.arange(0, lanes)
    present = more[:, None] & (position < num_positions)[None, :]
    entries = row[:, None] * num_positions + position[None, :]
    x = tl.load(similar + entries, mask=present, other=0.0)
    y = _target(graphs, entries, present, coded)
    signs = tl.where(x > y, l1_weight, 0.0) - tl.where(x < y, l1_weight, 0.0)
    y = tl.where(present & (x >= _FLOOR), tl.maximum(y, _FLOOR), 0.0)
    defect = tl.load(defects + row, mask=more, other=0.0)
    excess = tl.sum(y.to(tl.float64), axis=1) * (1.0 + defect) - 1.0
    shared = excess.to(tl.float32) * kl_weight - tl.sum(signs * x, axis=1)
    return (signs + shared[:, None]) * x + (x - y) * kl_weight


@triton.jit  # type: ignore[misc,untyped-decorator,unused-ignore]
def entry_gradient_kernel(
    similar: tl.tensor,
    defects: tl.tensor,
    graphs: tl.tensor,
    order: tl.tensor,
    centre: tl.tensor,
    weights: tl.tensor,
    gradients: tl.tensor,
    outside: tl.tensor,
    num_pixels: tl.tensor,
    coded: tl.constexpr,
    clipped: tl.constexpr,
    side: tl.constexpr,
    stride: tl.constexpr,
    window_radius: tl.constexpr,
    pixels: tl.constexpr,
    lanes: tl.constexpr,
) -> None:
    """dL/dssd of edge pixels, each once: where a batch lists a pixel several times, its rows are added up.

    Parameters
    ----------
    similar, defects, graphs
        As `graph_kernel` wrote and read them.
    order : int64 (N,)
        Rows of the graphs, sorted by edge pixel.
    centre : int64 (N,)
        The edge pixels in that order.
    weights : float32 (2,)
        dL/dKL and dL/dL1, divided by ``-3 k^2 h N K``.
    gradients : float32 (N, K)
        Written where a pixel is first in that order, elsewhere left as it is.
    outside : float32 (N, k^2)
        Written likewise if `clipped`: for each pixel of the window the sum over the offsets at which it is not seen.
    """
    reach: tl.constexpr = (side // 2) * stride
    window_size: tl.constexpr = 2 * window_radius + 1
    sorted_row = tl.program_id(0).to(tl.int64) * pixels + tl.arange(0, pixels)
    own = tl.load(centre + sorted_row, mask=sorted_row < num_pixels, other=-1)
    before = tl.load(centre + sorted_row - 1, mask=(sorted_row > 0) & (sorted_row < num_pixels), other=-1)
    first = own != before  # neither is below 0 within the batch; behind its end both are -1
    kl_weight = tl.load(weights)
    l1_weight = tl.load(weights + 1)

    gradient = tl.zeros((pixels, lanes), tl.float32)
    at = sorted_row
    more = first
    while tl.max(more.to(tl.int32), axis=0) > 0:
        row = tl.load(order + at, mask=more, other=0)
        gradient += _row_gradient(similar, defects, graphs, row, more, kl_weight, l1_weight, coded, side * side, lanes)
        at += 1
        more = more & (tl.load(centre + at, mask=more & (at < num_pixels), other=-1) == own)

    position = tl.arange(0, lanes)
    present = first[:, None] & (position < side * side)[None, :]
    tl.store(gradients + sorted_row[:, None] * (side * side) + position[None, :], gradient, mask=present)
    if clipped:
        dy = (position // side) * stride - reach
        dx = (position % side) * stride - reach
        for pixel in range(window_size * window_size):
            y = dy + (pixel // window_size - window_radius)
            x = dx + (pixel % window_size - window_radius)
            unseen = (y < -reach) | (y > reach) | (x < -reach) | (x > reach)
            energy_weight = tl.sum(tl.where(unseen[None, :], gradient, 0.0), axis=1)
            tl.store(outside + sorted_row * (window_size * window_size) + pixel, energy_weight, mask=first)


@triton.jit  # type: ignore[misc,untyped-decorator,unused-ignore]
def image_gradient_kernel(  # noqa: PLR0915 - a kernel has no arrays of blocks, over which to loop for channels
    canvas: tl.tensor,
    gradients: tl.tensor,
    outside: tl.tensor,
    rows: tl.tensor,
    result: tl.tensor,
    width: tl.tensor,
    plane: tl.tensor,
    clipped: tl.constexpr,
    side: tl.constexpr,
    stride: tl.constexpr,
    window_radius: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Gradient of the loss with respect to the padded images; the program (x, y, z) owns one tile of image z.

    Parameters
    ----------
    canvas : float32 (B, 3, H, W)
        With the margins that `ssl_data.kernels.triton_loss` gives it, so that no access needs a check.
    gradients, outside
        As `entry_gradient_kernel` wrote them.
    rows : int32 (B, H, W)
        Which of their rows belongs to a pixel of the canvas; -1 for those that are no edge pixels.
    result : float32 (B, 3, H, W)
        Written, apart from the margins.
    width, plane : int
        Pixels between rows and between planes.
    block : int
        Side of the block that a program works on: its tile and, on each side, the window radius.
    """
    reach: tl.constexpr = (side // 2) * stride
    margin: tl.constexpr = reach + window_radius
    num_positions: tl.constexpr = side * side
    window_size: tl.constexpr = 2 * window_radius + 1
    tile: tl.constexpr = block - 2 * window_radius
    lane = tl.arange(0, block)
    first_pixel = (margin + tl.program_id(1) * tile) * width + margin + tl.program_id(0) * tile
    pixel = first_pixel + lane[:, None] * width + lane[None, :]
    image = tl.program_id(2).to(tl.int64)
    here = canvas + image * 3 * plane + pixel
    red, green, blue = tl.load(here), tl.load(here + plane), tl.load(here + 2 * plane)
    red_sum = tl.zeros((block, block), tl.float32)
    green_sum = tl.zeros((block, block), tl.float32)
    blue_sum = tl.zeros((block, block), tl.float32)

    # Element (a, b) of M belongs to the pixel z f rows and columns before, so that all windows lie in the block.
    before = rows + image * plane + pixel - window_radius * (width + 1)
    near = tl.load(before)
    near_values = gradients + near.to(tl.int64) * num_positions
    # U[i] is the sum of M[a] over the z = i + f - a in J(d), i.e. over a - i in f - last .. f - first.
    right_of = lane[None, :] - lane[:, None]
    for position in range(num_positions):
        dy = (position // side) * stride - reach
        dx = (position % side) * stride - reach
        top, bottom, left, right = -window_radius, window_radius, -window_radius, window_radius
        if clipped:
            top, bottom = tl.maximum(top, -reach - dy), tl.minimum(bottom, reach - dy)
            left, right = tl.maximum(left, -reach - dx), tl.minimum(right, reach - dx)
        opposite = tl.load(before + ((dy + top + bottom) * width + (dx + left + right)))
        if tl.max(tl.maximum(near, opposite)) >= 0:
            opposite_values = gradients + opposite.to(tl.int64) * num_positions + (num_positions - 1 - position)
            values = tl.load(near_values + position, mask=near >= 0, other=0.0)
            values += tl.load(opposite_values, mask=opposite >= 0, other=0.0)
            add_rows = (right_of >= window_radius - bottom) & (right_of <= window_radius - top)
            add_cols = (right_of <= right - window_radius) & (right_of >= left - window_radius)
            sums = tl.dot(add_rows.to(tl.float32), values, input_precision="ieee")
            sums = tl.dot(sums, add_cols.to(tl.float32), input_precision="ieee")
            there = here + (dy * width + dx)
            red_sum += sums * (red - tl.load(there))
            green_sum += sums * (green - tl.load(there + plane))
            blue_sum += sums * (blue - tl.load(there + 2 * plane))

    if clipped:
        energy_weight = tl.zeros((block, block), tl.float32)
        for of_window in range(window_size * window_size):
            # The pixel p with x = p + j; j counted from the first pixel of the window.
            jy, jx = of_window // window_size, of_window % window_size
            at = tl.load(before + ((2 * window_radius - jy) * width + (2 * window_radius - jx))).to(tl.int64)
            at_pixel = outside + at * (window_size * window_size) + of_window
            energy_weight += tl.load(at_pixel, mask=at >= 0, other=0.0)
        red_sum += energy_weight * red
        green_sum += energy_weight * green
        blue_sum += energy_weight * blue
    owned = (lane < tile)[:, None] & (lane < tile)[None, :]
    to = result + image * 3 * plane + pixel
    tl.store(to, 2.0 * red_sum, mask=owned)
    tl.store(to + plane, 2.0 * green_sum, mask=owned)
    tl.store(to + 2 * plane, 2.0 * blue_sum, mask=owned)
