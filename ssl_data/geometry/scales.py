"""Sizes of the copies of an image: the authors' multi-scale preparation, and enlargement of small images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssl_data.config import MultiscaleSpec

__all__ = ["COPIES", "ORIGINAL", "ScaledSize", "enlarged_size", "scaled_sizes"]

ORIGINAL = "1"
"""Label of the image itself."""

_FACTORS = {"T0": 0.75, "T1": 0.6, "T2": 1 / 3}
_SMALLEST = {"gan": "S", "diffusion": "T3"}
"""Label of the copy whose shorter side is ``shortest_edge``."""
COPIES = frozenset({*_FACTORS, *_SMALLEST.values()})
"""Labels of copies, which the authors append to the names of their files."""


@dataclass(frozen=True, kw_only=True)
class ScaledSize:
    """One of the sizes in which an image is used."""

    label: str
    """`ORIGINAL`; one of `COPIES`; or, for an image that was enlarged, the factor as a fraction, such as "512/300"."""
    height: int
    width: int


def scaled_sizes(height: int, width: int, spec: MultiscaleSpec) -> list[ScaledSize]:
    """The sizes in which an image is used, see `MultiscaleSpec`.

    Sides are cut off to whole pixels, as the authors' scripts do, and copies without a pixel are left out. The copy
    whose shorter side is ``shortest_edge`` is an enlargement of a smaller image.

    Examples
    --------
    >>> from ssl_data.config import MultiscaleSpec
    >>> [(s.label, s.height, s.width) for s in scaled_sizes(877, 1201, MultiscaleSpec(variant="gan"))]
    [('1', 877, 1201), ('T0', 657, 900), ('T1', 526, 720), ('S', 512, 701)]
    """
    original = ScaledSize(label=ORIGINAL, height=height, width=width)
    if spec.variant == "none":
        return [original]
    least = {"gan": spec.shortest_edge, "diffusion": 1}[spec.variant]
    copies = [
        ScaledSize(label=label, height=int(height * factor), width=int(width * factor))
        for label, factor in _FACTORS.items()
    ]
    sizes = [original] if min(height, width) >= spec.shortest_edge else []
    sizes += [copy for copy in copies if min(copy.height, copy.width) >= least]
    return [*sizes, _smallest(height, width, spec)]


def _smallest(height: int, width: int, spec: MultiscaleSpec) -> ScaledSize:
    """The copy whose shorter side is ``shortest_edge``; ratio before product, rounded as the authors' script rounds."""
    edge = spec.shortest_edge
    label = _SMALLEST[spec.variant]
    if width < height:
        return ScaledSize(label=label, height=int(edge * (height / width)), width=edge)
    return ScaledSize(label=label, height=edge, width=int(edge * (width / height)))


def enlarged_size(height: int, width: int, shortest_side: int) -> ScaledSize:
    """The size of a small image that is enlarged until its shortest side has a length.

    Examples
    --------
    >>> enlarged_size(300, 450, 512)
    ScaledSize(label='512/300', height=512, width=768)
    """
    shortest = min(height, width)
    rounded = [(2 * side * shortest_side + shortest) // (2 * shortest) for side in (height, width)]
    return ScaledSize(label=f"{shortest_side}/{shortest}", height=rounded[0], width=rounded[1])
