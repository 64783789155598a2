"""The pictures of the documents, all of them drawn from a store of the sample photographs.

``python docs/pictures/draw.py [FOLDER]`` builds that store in a folder that is removed again, and draws the pictures
beside this file, or in the folder that is given. The same versions of Pillow and scikit-image draw the same bytes;
`tests/docs` compares the pixels with those that are committed.

The photographs shown are chelsea.png (S. van der Walt) and coffee.png (R. Michetti), both CC0.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import ssl_data

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ssl_data import Store

    Pixels = NDArray[np.uint8]

CAT, CUP = "skimage/chelsea.png:0,0", "skimage/coffee.png:0,0"
"""The patches that are shown."""
WHISKER, EYELID, FUR = (216, 85), (128, 142), (139, 115)
"""Edge pixels (row, col) of the cat: on a line, on a curve, in a texture."""
GRAIN = (163, 50)
"""An edge pixel on the wood below the cup, whose lines repeat."""
LIKE, UNLIKE = (-5, 7), (6, -3)
"""Offsets from it to a search position that looks alike, and to one that does not."""

_RADIUS = 12
_GAP = 16
_LABEL_HEIGHT = 38
_PAGE, _INK, _PALE = (255, 255, 255), (30, 30, 35), (110, 110, 120)
_MARKS = ((255, 190, 40), (60, 220, 255), (255, 90, 200))
_NEAR, _INSIDE = (255, 120, 40), (90, 210, 120)
_HEAT = np.array(
    [[10, 8, 30], [70, 15, 110], [150, 35, 115], [220, 75, 70], [250, 150, 50], [252, 245, 180]], dtype=np.float64
)
"""The colour scale of similarities, from 0 to 1; ever lighter."""


@dataclass(frozen=True, kw_only=True)
class Patch:
    """One patch of the store, with its graphs as similarities."""

    image: Pixels
    mask: NDArray[np.bool_]
    pixels: NDArray[np.int32]
    codes: NDArray[np.uint8]

    @classmethod
    def read(cls, store: Store, patch_id: str) -> Patch:
        """The patch with this name."""
        index = next(index for index in range(store.num_patches) if store.patch_id(index) == patch_id)
        found = store.read(index)
        return cls(image=found["gt"], mask=found["edge_mask"], pixels=found["pixels"], codes=found["ssg"])

    def similarities(self, pixel: tuple[int, int]) -> NDArray[np.float64]:
        """S of an edge pixel at its search positions: (25, 25), 1 in the middle."""
        (row,) = np.flatnonzero((self.pixels == pixel).all(axis=1))
        return similarities(self.codes[row])

    def around(self, pixel: tuple[int, int], radius: int = _RADIUS) -> Pixels:
        """The image around a pixel: (2 radius + 1, 2 radius + 1, 3)."""
        row, col = pixel
        return self.image[row - radius : row + radius + 1, col - radius : col + radius + 1]


def similarities(codes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What the codes (625,) of one edge pixel stand for: (25, 25)."""
    return np.square(codes.reshape(2 * _RADIUS + 1, -1) / 255.0)


def heat(values: NDArray[Any]) -> Pixels:
    """Values (H, W) from 0 to 1 as colours (H, W, 3)."""
    anchors = np.linspace(0, 1, len(_HEAT))
    channels = [np.interp(values, anchors, channel) for channel in _HEAT.T]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def grey(values: NDArray[Any]) -> Pixels:
    """Values (H, W), 0 to 255 or boolean, as grey (H, W, 3)."""
    levels = values.astype(np.uint8) * 255 if values.dtype == bool else values.astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=-1)


class Page:
    """A white page on which panels are put at places in pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), _PAGE)
        self.draw = ImageDraw.Draw(self.image)

    def panel(self, pixels: Pixels, left: int, top: int, factor: int) -> None:
        """Put pixels there, each as a sharp square."""
        large = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
        self.image.paste(Image.fromarray(large), (left, top))

    def text(self, left: int, top: int, text: str, *, size: int = 25, pale: bool = False) -> None:
        """One line or several, from its upper left corner."""
        self.draw.text((left, top), text, _PALE if pale else _INK, ImageFont.load_default(size), spacing=6)

    def square(self, centre: tuple[float, float], half: float, colour: tuple[int, int, int], width: int = 3) -> None:
        """A frame around a point (x, y); its lines lie outside."""
        x, y = centre
        near, far = (round(x - half) - width, round(y - half) - width), (round(x + half), round(y + half))
        self.draw.rectangle((near, (far[0] + width - 1, far[1] + width - 1)), outline=colour, width=width)

    def scale(self, left: int, top: int, width: int) -> None:
        """The colour scale of similarities with its numbers, below the panels that use it."""
        self.panel(heat(np.linspace(0, 1, width)[None].repeat(12, axis=0)), left, top, 1)
        for value, text, anchor in ((0, "0", "lt"), (0.5, "similarity", "mt"), (1, "1", "rt")):
            place = (left + round(value * width), top + 16)
            self.draw.text(place, text, _PALE, ImageFont.load_default(18), anchor=anchor)


def draw_overview(cat: Patch, _cup: Patch) -> Page:
    """A patch, its mask, and the graphs of three edge pixels beside what they look at."""
    side, small = 2 * 256, 6 * 25
    lefts = (_GAP, 2 * _GAP + side, 3 * _GAP + 2 * side, 3 * _GAP + 2 * side + small + 8)
    page = Page(lefts[-1] + small + _GAP, _LABEL_HEIGHT + side + _GAP)
    for left, text in zip(lefts, ("a patch", "its edge mask", "around", "graph"), strict=True):
        page.text(left, 4, text)
    page.panel(cat.image, lefts[0], _LABEL_HEIGHT, 2)
    page.panel(grey(cat.mask), lefts[1], _LABEL_HEIGHT, 2)
    for number, (pixel, colour) in enumerate(zip((EYELID, FUR, WHISKER), _MARKS, strict=True)):
        top = _LABEL_HEIGHT + number * (side - small) // 2
        for left in lefts[:2]:
            page.square((left + 2 * pixel[1] + 1, _LABEL_HEIGHT + 2 * pixel[0] + 1), 25, colour)
        page.panel(cat.around(pixel), lefts[2], top, 6)
        page.panel(heat(cat.similarities(pixel)), lefts[3], top, 6)
        for left in lefts[2:]:
            page.square((left + small / 2, top + small / 2), small / 2 - 3, colour)
    return page


def draw_mask(_cat: Patch, cup: Patch) -> Page:
    """How the edge pixels of a patch are found: grey, Laplacian, threshold, stride."""
    top, left, side, factor = 116, 140, 96, 3
    view = np.s_[top : top + side, left : left + side]
    padded = np.pad(np.asarray(Image.fromarray(cup.image).convert("L"), dtype=np.int64), 1, mode="reflect")
    centre = padded[1:-1, 1:-1]
    laplacian = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * centre
    assert np.array_equal(laplacian > 20, cup.mask)  # noqa: S101 - the picture shows what the store holds
    row, col = np.indices(cup.mask.shape)
    panels = {
        "photograph": cup.image,
        "Laplacian of its grey": grey((128 + laplacian).clip(0, 255)),
        "edge mask: above 20": grey(cup.mask),
        "edge stride 3": grey(cup.mask & (row % 3 == col % 3)),
    }
    return _row({label: pixels[view] for label, pixels in panels.items()}, factor)


def draw_graph(_cat: Patch, cup: Patch) -> Page:
    """What one value of a graph compares: the windows around an edge pixel and around a search position."""
    margin, factor, large = 4, 12, 14
    area, side = (2 * (_RADIUS + margin) + 1) * factor, (2 * _RADIUS + 1) * large
    values = cup.similarities(GRAIN)
    lefts = (_GAP, _GAP + area + 2 * _GAP)
    page = Page(lefts[1] + side + _GAP, _LABEL_HEIGHT + area + _GAP)
    page.text(lefts[0], 4, "around the edge pixel p")
    page.text(lefts[1], 4, "S(p, d) for every offset d")
    page.panel(cup.around(GRAIN, _RADIUS + margin), lefts[0], _LABEL_HEIGHT, factor)
    page.panel(heat(values), lefts[1], _LABEL_HEIGHT, large)
    page.scale(lefts[1], _LABEL_HEIGHT + area - 34, side)
    x, y = lefts[0] + area / 2, _LABEL_HEIGHT + area / 2
    page.square((x, y), (_RADIUS + 0.5) * factor, _PAGE, 2)
    for (row, col), colour in zip(((0, 0), LIKE, UNLIKE), _MARKS, strict=True):
        for half, width in ((4.5, 4), (0.5, 2)):  # the window, and its centre
            page.square((x + col * factor, y + row * factor), half * factor, colour, width)
        place = (lefts[1] + side / 2 + col * large, _LABEL_HEIGHT + side / 2 + row * large)
        page.square(place, large / 2, colour)
        value = f"{values[_RADIUS + row, _RADIUS + col]:.2f}"
        page.draw.text((place[0] + 14, place[1]), value, colour, ImageFont.load_default(20), anchor="lm")
    return page


def draw_boundary(_cat: Patch, cup: Patch) -> Page:
    """The graph of one edge pixel with either boundary."""
    spec = ssl_data.SSGSpec(boundary="image")
    codes = ssl_data.self_similarity_graph(cup.image, np.array([GRAIN], dtype=np.int32), spec, output="codes")
    panels = {
        "around the edge pixel": cup.around(GRAIN),
        'boundary "zero"': heat(cup.similarities(GRAIN)),
        'boundary "image"': heat(similarities(codes[0])),
    }
    return _row(panels, 12)


def draw_flip(cat: Patch, _cup: Patch) -> Page:
    """A graph moves with its image: that of the flipped image is the flipped graph."""
    pixel = EYELID
    flipped = np.array([[pixel[0], cat.image.shape[1] - 1 - pixel[1]]], dtype=np.int32)
    codes = ssl_data.self_similarity_graph(np.ascontiguousarray(cat.image[:, ::-1]), flipped, output="codes")
    values = similarities(codes[0])
    assert np.array_equal(values, cat.similarities(pixel)[:, ::-1])  # noqa: S101 - exactly, not only to the eye
    panels = {
        "around an edge pixel": cat.around(pixel),
        "its graph": heat(cat.similarities(pixel)),
        "flipped": cat.around(pixel)[:, ::-1],
        "graph, computed anew": heat(values),
    }
    return _row(panels, 11)


def draw_crop(cat: Patch, _cup: Patch) -> Page:
    """A crop of a patch: which stored graphs are also those of the crop, and which are not."""
    top, left, side = 70, 84, 128
    shown = (cat.image * 0.35).astype(np.uint8)
    rows, cols = np.indices(cat.mask.shape)
    inside = (rows >= top) & (rows < top + side) & (cols >= left) & (cols < left + side)
    depth = np.minimum.reduce([rows - top, top + side - 1 - rows, cols - left, left + side - 1 - cols])
    shown[inside] = cat.image[inside]
    shown[cat.mask & inside & (depth < _RADIUS)] = _NEAR
    shown[cat.mask & inside & (depth >= _RADIUS)] = _INSIDE
    page = Page(2 * 512 + 3 * _GAP, _LABEL_HEIGHT + 512 + _GAP)
    page.text(_GAP, 4, "a patch of 256 pixels and a crop of 128")
    page.panel(shown, _GAP, _LABEL_HEIGHT, 2)
    centre = (_GAP + 2 * left + side, _LABEL_HEIGHT + 2 * top + side)
    page.square(centre, side, _PAGE, 2)
    page.panel(shown[top : top + side, left : left + side], 2 * _GAP + 512, _LABEL_HEIGHT, 4)
    page.square((2 * _GAP + 512 + 256, _LABEL_HEIGHT + 256), 4 * (side / 2 - _RADIUS), _PAGE, 2)
    page.text(2 * _GAP + 512, 4, "the crop; its interior is framed")
    return page


def _row(panels: dict[str, Pixels], factor: int) -> Page:
    """Labelled panels side by side."""
    side = factor * len(next(iter(panels.values())))
    page = Page(len(panels) * (side + _GAP) + _GAP, _LABEL_HEIGHT + side + _GAP)
    for number, (label, pixels) in enumerate(panels.items()):
        left = _GAP + number * (side + _GAP)
        page.text(left, 4, label)
        page.panel(pixels, left, _LABEL_HEIGHT, factor)
    return page


PICTURES = {
    "overview": draw_overview,
    "mask": draw_mask,
    "graph": draw_graph,
    "boundary": draw_boundary,
    "flip": draw_flip,
    "crop": draw_crop,
}


def draw_all(store: Store, folder: Path) -> list[Path]:
    """Draw every picture of a store with the default options into a folder; the files."""
    patches = Patch.read(store, CAT), Patch.read(store, CUP)
    paths = []
    for name, draw in PICTURES.items():
        paths.append(folder / f"{name}.png")
        draw(*patches).image.save(paths[-1], optimize=True)
    return paths


def main(folder: Path) -> None:
    """Build the store and draw."""
    with tempfile.TemporaryDirectory() as place:
        out = f"{place}/store.zarr"
        ssl_data.build(ssl_data.BuildConfig(dataset="sample", out=out))
        for path in draw_all(ssl_data.open_store(out), folder):
            print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
