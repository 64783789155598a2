"""Pictures of super-resolved samples: what a network was given and made of it, and where self-similarity is wrong.

One PNG per sample, with the same panels for all::

    ground truth     low quality, enlarged        super-resolved
    edge pixels      |SSG difference| of it       |SSG difference| of it

The difference of two graphs is the sum over all search positions of ``|x - y|``: 0 for equal graphs, 2 for graphs that
have nothing in common, and 625 times what an edge pixel adds to the loss's L1. It is drawn at the edge pixels, over the
darkened ground truth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ssl_data import SSGBatch

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from ssl_data import SSGSpec

_LARGEST = 2.0
_ANCHORS = np.array(
    [[75, 55, 150], [140, 50, 160], [205, 65, 115], [242, 110, 60], [252, 180, 60], [252, 250, 190]], dtype=np.float64
)
"""The colour scale, from 0 to `_LARGEST`: violet, red, orange, yellow; ever lighter."""
_PANEL_SIDE = 384
_GAP = 16
_LABEL_HEIGHT = 26
_TITLE_HEIGHT = 40
_SCALE_HEIGHT = 44
_PAGE, _INK, _PALE = (255, 255, 255), (25, 25, 30), (110, 110, 120)


def write_pictures(folder: Path, batch: dict[str, Any], enlarged: Tensor, sr: Tensor, spec: SSGSpec) -> list[Path]:
    """Draw each sample of a batch.

    Parameters
    ----------
    folder : Path
        An existing folder; the pictures are called ``sample_0.png`` and so on.
    batch : dict
        As `ssl_data.collate` makes it.
    enlarged, sr : float (B, 3, H, W)
        Low-quality images in the size of the ground truth, and super-resolved ones, in [0, 1].
    spec : SSGSpec
        How the graphs of the batch were made.

    Returns
    -------
    list of Path
        The files written.
    """
    gt, edges = _to_arrays(batch["gt"]), batch["gt_mask"][:, 0].numpy().astype(bool)
    images = {"low quality, enlarged (bicubic)": enlarged, "super-resolved": sr}
    arrays = {name: _to_arrays(tensor) for name, tensor in images.items()}
    differences = {name: graph_differences(tensor.clamp(0, 1), batch, spec) for name, tensor in images.items()}
    paths = []
    for index, patch_id in enumerate(batch["patch_id"]):
        above = [("ground truth", gt[index])]
        below = [(f"its {edges[index].sum()} edge pixels", _draw_at(edges[index], 255, gt[index]))]
        for name in images:
            difference = differences[name][index]
            mean = difference[edges[index]].mean() if edges[index].any() else 0.0
            above.append((name, arrays[name][index]))
            heat = _draw_at(edges[index], _colours(difference[edges[index]]), gt[index])
            below.append((f"|SSG difference|, mean {mean:.3f}", heat))
        paths.append(folder / f"sample_{index}.png")
        _compose(patch_id, [above, below]).save(paths[-1])
    return paths


def graph_differences(images: Tensor, batch: dict[str, Any], spec: SSGSpec) -> NDArray[np.float32]:
    """How far the graphs of images (B, 3, H, W) in [0, 1] lie from those of the batch: (B, H, W), 0 off the edges."""
    graphs = SSGBatch.from_images(images, batch["gt_mask"], spec)  # in the order of the batch: image, row, column
    difference = (graphs.normalized() - batch["ssg"].normalized()).abs().sum(1)
    maps = images.new_zeros(len(images), *images.shape[2:])
    maps[graphs.image, graphs.row, graphs.col] = difference.to(maps)
    return maps.numpy()


def _to_arrays(images: Tensor) -> NDArray[np.uint8]:
    return (images.clamp(0, 1) * 255).round().byte().movedim(1, -1).numpy()


def _draw_at(edges: NDArray[np.bool_], colours: NDArray[np.uint8] | int, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Coloured edge pixels over a darkened image."""
    grey = image.mean(axis=-1, keepdims=True) * 0.25
    drawn = np.repeat(grey, 3, axis=-1).astype(np.uint8)
    drawn[edges] = colours
    return drawn


def _colours(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Values (N,) in 0 .. `_LARGEST` to colours (N, 3)."""
    anchors = np.linspace(0, _LARGEST, len(_ANCHORS))
    channels = [np.interp(values, anchors, channel) for channel in _ANCHORS.T]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _compose(title: str, rows: list[list[tuple[str, NDArray[np.uint8]]]]) -> Image.Image:
    """Lay out labelled panels below a title, and the colour scale below them."""
    num_cols = len(rows[0])
    row_height = _LABEL_HEIGHT + _PANEL_SIDE
    width = num_cols * (_PANEL_SIDE + _GAP) + _GAP
    height = _TITLE_HEIGHT + len(rows) * (row_height + _GAP) + _SCALE_HEIGHT
    page = Image.new("RGB", (width, height), _PAGE)
    draw = ImageDraw.Draw(page)
    draw.text((_GAP, _TITLE_HEIGHT // 2), title, _INK, ImageFont.load_default(20), anchor="lm")
    for row, panels in enumerate(rows):
        for col, (label, pixels) in enumerate(panels):
            left, top = _GAP + col * (_PANEL_SIDE + _GAP), _TITLE_HEIGHT + row * (row_height + _GAP)
            draw.text((left, top + _LABEL_HEIGHT // 2), label, _INK, ImageFont.load_default(15), anchor="lm")
            page.paste(_enlarge(pixels), (left, top + _LABEL_HEIGHT))
    caption = (
        "|SSG difference| at an edge pixel: sum over its search",
        "positions of |SSG of the image - SSG of the ground truth|",
    )
    for line, text in enumerate(caption):
        draw.text((_GAP, height - _SCALE_HEIGHT + 6 + 20 * line), text, _PALE, ImageFont.load_default(13), anchor="lm")
    _draw_scale(draw, _GAP + _PANEL_SIDE + _GAP, height - _SCALE_HEIGHT, (num_cols - 1) * (_PANEL_SIDE + _GAP) - _GAP)
    return page


def _enlarge(pixels: NDArray[np.uint8]) -> Image.Image:
    """To the size of a panel, every pixel a sharp square."""
    return Image.fromarray(pixels).resize((_PANEL_SIDE, _PANEL_SIDE), Image.Resampling.NEAREST)


def _draw_scale(draw: ImageDraw.ImageDraw, left: int, top: int, width: int) -> None:
    """The colour scale with its numbers."""
    for x, colour in enumerate(_colours(np.linspace(0, _LARGEST, width, dtype=np.float32))):
        draw.line([(left + x, top), (left + x, top + 12)], tuple(colour.tolist()))
    marks = {0.0: "0, equal", 0.5: "0.5", 1.0: "1", 1.5: "1.5", 2.0: "2, nothing in common"}
    for value, text in marks.items():
        anchor = {0.0: "lm", _LARGEST: "rm"}.get(value, "mm")
        x = left + round(value / _LARGEST * (width - 1))
        draw.text((x, top + 26), text, _PALE, ImageFont.load_default(13), anchor=anchor)
