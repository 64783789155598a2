"""Decoded images of any mode to RGB with 8 bits a channel."""

from __future__ import annotations

import io
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageCms, ImageFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["UnsupportedPixelsError", "to_rgb"]

_OTHER_BYTE = {";16L": ";16B", ";16B": ";16L", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}
"""Pillow keeps one byte of a 16-bit channel, the one that the byte order says is high. Asked for the opposite order, it
keeps the other."""
_COLOUR_16 = ("RGB", "RGBA", "RGBX")
_ROWS_AT_ONCE = 64

_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_PLANES = 258, 262, 284
_WHITE_IS_ZERO, _SEPARATE = 0, 2

_SRGB_TOLERANCE = 2
"""Levels by which a profile may move a colour and still count as sRGB: such images keep their values exactly."""


class UnsupportedPixelsError(ValueError):
    """The pixels are of a kind that has no defined 8-bit form here; the message is the reason."""


def to_rgb(image: ImageFile.ImageFile, reopen: Callable[[], ImageFile.ImageFile]) -> NDArray[np.uint8]:
    """The pixels as RGB, as they lie in the file or as Pillow's reader turns them.

    Parameters
    ----------
    image : Image
        Just opened, not yet loaded.
    reopen : callable
        Opens the same content once more.

    Returns
    -------
    uint8 (H, W, 3)

    Raises
    ------
    UnsupportedPixelsError
        For pixels without a defined 8-bit form.
    Exception
        Whatever Pillow's decoders raise about broken content.
    """
    _refuse_unsupported(image)
    if image.mode.startswith("I"):
        return _grey_16(image)
    profile = image.info.get("icc_profile")
    if _has_16_bits(image):
        plain = Image.fromarray(_colour_16(image, reopen()))
    elif image.mode == "CMYK" and profile:
        plain = _through_profile(image, profile).convert("RGB")
    else:
        transparent_palette = image.mode == "P" and "transparency" in image.info
        plain = (image.convert("RGBA") if transparent_palette else image).convert("RGB")
    return np.asarray(_through_profile(plain, profile) if profile else plain)


def _rawmode(args: object) -> str:
    """How a tile's pixels lie in the file, in Pillow's words; its arguments are that alone, or begin with it."""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _refuse_unsupported(image: Image.Image) -> None:
    wide_ppm = image.mode == "I" and image.format == "PPM"  # Pillow scales it to 16 bits
    if image.mode in {"I", "F"} and not wide_ppm:
        raise UnsupportedPixelsError("signed, 32-bit or floating-point pixels have no fixed white level")
    if 16 in _tiff_tag(image, _TIFF_BITS) and _tiff_tag(image, _TIFF_PLANES) == (_SEPARATE,):
        raise UnsupportedPixelsError(
            "a TIFF with 16-bit channels in separate planes, which Pillow takes for 8-bit ones"
        )


def _tiff_tag(image: Image.Image, tag: int) -> tuple[int, ...]:
    value = getattr(image, "tag_v2", {}).get(tag, ())
    return value if isinstance(value, tuple) else (value,)


def _grey_16(image: Image.Image) -> NDArray[np.uint8]:
    white = 2**12 - 1 if _tiff_tag(image, _TIFF_BITS) == (12,) else 2**16 - 1
    grey = _to_8_bits(np.asarray(image), white)
    if _tiff_tag(image, _TIFF_PHOTOMETRIC) == (_WHITE_IS_ZERO,):
        grey = 255 - grey
    return np.repeat(grey[..., None], 3, axis=2)


def _to_8_bits(wide: NDArray[np.integer[Any]], white: int) -> NDArray[np.uint8]:
    """The nearest 8-bit values, looked up a few rows at a time: NumPy makes eight bytes of each index."""
    levels = np.minimum(np.arange(2**16), white)
    table = ((levels * 255 + white // 2) // white).astype(np.uint8)
    narrow = np.empty(wide.shape, dtype=np.uint8)
    for first in range(0, len(wide), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        narrow[rows] = table[wide[rows]]
    return narrow


def _has_16_bits(image: ImageFile.ImageFile) -> bool:
    rawmodes = [_rawmode(args) for _, _, _, args in image.tile]
    return bool(rawmodes) and all(
        name == "LA;16B" or (name[:-4] in _COLOUR_16 and name[-4:] in _OTHER_BYTE) for name in rawmodes
    )


def _colour_16(image: ImageFile.ImageFile, twin: ImageFile.ImageFile) -> NDArray[np.uint8]:
    """RGB from 16-bit channels, rounded, with the help of a second, unloaded image; Pillow alone cuts low bytes off."""
    if _rawmode(image.tile[0][3]) == "LA;16B":
        twin.tile = [tile._replace(args="RGBA") for tile in twin.tile]  # two bytes of grey, two of alpha
        high, low = (np.asarray(twin)[..., byte, None] for byte in (0, 1))
    else:
        twin.tile = [tile._replace(args=_for_other_byte(tile.args)) for tile in twin.tile]
        high, low = (np.asarray(half)[..., :3] for half in (image, twin))
    rgb = _to_8_bits(high.astype(np.uint16) << 8 | low, 2**16 - 1)
    return rgb if rgb.shape[2] == 3 else np.repeat(rgb, 3, axis=2)


def _for_other_byte(args: object) -> str | tuple[object, ...]:
    name = _rawmode(args)
    other = name[:-4] + _OTHER_BYTE[name[-4:]]
    return (other, *args[1:]) if isinstance(args, tuple) else other


def _through_profile(image: Image.Image, content: bytes) -> Image.Image:
    """The image in sRGB, through its embedded profile; as it is, where that is broken or for other kinds of pixels."""
    transform = _transform(content, image.mode)
    if transform is None:
        return image
    converted = ImageCms.applyTransform(image, transform)
    return image if converted is None else converted


@lru_cache(maxsize=16)
def _transform(content: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What the profile does to pixels of this mode, or None where it cannot, or does nothing."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        if profile.profile.xcolor_space.strip() != mode:
            return None
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
        return None if mode == "RGB" and _changes_nothing(transform) else transform
    except (ImageCms.PyCMSError, OSError):
        return None


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(81, 9, 3)
    moved = ImageCms.applyTransform(Image.fromarray(colours), transform)
    return bool(np.abs(np.asarray(moved).astype(int) - colours).max() <= _SRGB_TOLERANCE)
