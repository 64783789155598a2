"""Image files of any kind to RGB uint8, or a reason why not."""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from ssl_data.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["MAX_PIXELS", "decode_image", "image_size", "read_file"]

MAX_PIXELS = 512_000_000
"""Images that announce more pixels than this are rejected before anything is decoded."""

_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
"""What is tried, by content and not by file name. No format here can refer to other files."""

_EXIF_ORIENTATION = 0x0112
_SWAPPED_ORIENTATIONS = (5, 6, 7, 8)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PNG_EXIF_MARKS = (b"eXIf", b"Raw profile type")


_pillow_lock = threading.RLock()


@contextlib.contextmanager
def _our_rules() -> Iterator[None]:
    """Let `MAX_PIXELS` decide about sizes, and nobody warn of broken metadata, for which no image should be lost.

    Pillow's own limit and the filters of warnings are global and belong to the user's program: they are put back, and
    one thread at a time may change them.
    """
    with _pillow_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        users_limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = users_limit


def _open(content: bytes, name: str) -> Image.Image:
    try:
        with _our_rules():
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
    except UnidentifiedImageError:
        raise SourceError(name, _not_an_image(content)) from None
    except (OSError, SyntaxError, ValueError) as error:
        raise SourceError(name, f"broken header ({error})") from error
    if image.width * image.height > MAX_PIXELS:
        raise SourceError(name, f"{image.width}x{image.height} is more than {MAX_PIXELS} pixels")
    return image


def _not_an_image(content: bytes) -> str:
    if not content:
        return "empty file"
    head = content[:256].lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the image itself: run `git lfs pull`"
    if head.startswith((b"<!doctype html", b"<html")):
        return "an HTML page, not an image"
    return "not an image in a supported format"


def image_size(content: bytes, name: str) -> tuple[int, int]:
    """Height and width as `decode_image` will return them, from the header alone.

    Raises
    ------
    SourceError
        If the content is no image, its header is broken, or it is too large.
    """
    image = _open(content, name)
    width, height = image.size
    with _our_rules():
        swapped = _orientation(image, content) in _SWAPPED_ORIENTATIONS
    return (width, height) if swapped else (height, width)


def _orientation(image: Image.Image, content: bytes) -> int:
    """The EXIF orientation that is still to be applied: 1 to 8."""
    if image.format == "TIFF":
        return 1  # Pillow's TIFF reader applies it
    if image.format == "PNG" and not any(mark in content for mark in _PNG_EXIF_MARKS):
        return 1  # without this, asking for EXIF would decode the pixels, because PNG may keep it behind them
    try:
        orientation: int = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - broken metadata of whatever kind must not cost the image
        return 1
    return orientation


def decode_image(content: bytes, name: str) -> NDArray[np.uint8]:
    """Decode the first frame of an image file.

    EXIF orientation is applied, 16-bit grey is scaled to 8 bits, palettes and grey are expanded, alpha is dropped (not
    blended), CMYK is converted through its embedded profile where there is one.

    Parameters
    ----------
    content : bytes
        The whole file.
    name : str
        How errors name it.

    Returns
    -------
    uint8 (H, W, 3)
        RGB, C-contiguous.

    Raises
    ------
    SourceError
        With the reason, if it cannot be decoded completely.
    """
    image = _open(content, name)
    try:
        with _our_rules():
            turn = _UPRIGHT.get(_orientation(image, content))
            image.load()
            return np.ascontiguousarray(_to_rgb(image if turn is None else image.transpose(turn)))
    except MemoryError:
        raise
    except Exception as error:  # decoders of broken files raise whatever they stumble over
        raise SourceError(name, f"truncated or corrupt ({error})") from error


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        grey = ((wide * 255 + 32767) // 65535).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in {"I", "F"}:
        raise ValueError(f"{image.mode!r} pixels (32 bits a channel) have no fixed white level")
    if image.mode == "CMYK" and image.info.get("icc_profile"):
        image = _through_profile(image)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB"))


def _through_profile(image: Image.Image) -> Image.Image:
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image
    return image if converted is None else converted


def read_file(path: Path, name: str) -> bytes:
    """The content of an image file.

    Raises
    ------
    SourceError
        If it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(name, f"cannot be read ({error.strerror or error})") from error
