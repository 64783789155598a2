"""Image files of any kind to RGB uint8, or a reason why not."""

from __future__ import annotations

import contextlib
import io
import re
import stat
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFile

from ssl_data.config import MAX_PIXELS
from ssl_data.errors import SourceError
from ssl_data.pipeline.recognise import explain_unopened
from ssl_data.pipeline.remote_path import RemotePath
from ssl_data.pipeline.rgb import UnsupportedPixelsError, to_rgb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from numpy.typing import NDArray

    from ssl_data.errors import ReasonCode
    from ssl_data.pipeline.remote_path import ImagePath

__all__ = ["decode_image", "file_image_size", "image_size", "read_file"]

_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
"""What is tried, by content and not by file name. No format here can refer to other files or run programs."""

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
_PNG_SIGNATURE_BYTES, _PNG_CHECKSUM_BYTES = 8, 4
_PNG_TEXT, _PNG_EXIF_KEYWORD = (b"tEXt", b"zTXt", b"iTXt"), b"Raw profile type"
_TIFF_SUBFILE_TYPE, _TIFF_REDUCED, _TIFF_DNG_VERSION = 254, 1, 50706

_ADDRESS = re.compile(r"<[^<>]* at 0x[0-9a-f]+>")
"""In messages of Pillow: a reason is stored, and must not differ from run to run."""

_pillow_lock = threading.RLock()


@contextlib.contextmanager
def _our_rules() -> Iterator[None]:
    """Let our own limit decide about sizes, and nobody warn of broken metadata, for which no image should be lost.

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


def _open(file: BinaryIO, name: str, max_pixels: int) -> ImageFile.ImageFile:
    try:
        with _our_rules():
            image = Image.open(file, formats=_FORMATS)
    except MemoryError:
        raise
    except Exception as error:  # readers of broken headers raise whatever they stumble over
        if _is_cut(error):
            raise SourceError(name, f"truncated ({_plain(error)})", "truncated") from error
        file.seek(0)
        code, reason = explain_unopened(file.read())
        raise SourceError(name, reason, code) from error
    if image.width * image.height > max_pixels:
        raise SourceError(name, f"{image.height}x{image.width} is more than {max_pixels} pixels", "too_large")
    if image.format == "TIFF" and _begins_with_thumbnail(image):
        raise SourceError(name, "a camera raw file, which is not read; develop it to PNG or TIFF", "unsupported")
    return image


def _begins_with_thumbnail(image: Image.Image) -> bool:
    """Whether the first image of a TIFF is not the one the file is about, as in the raw formats that build on it."""
    tags = getattr(image, "tag_v2", {})
    subfile_type = tags.get(_TIFF_SUBFILE_TYPE)
    return _TIFF_DNG_VERSION in tags or (isinstance(subfile_type, int) and bool(subfile_type & _TIFF_REDUCED))


def _is_cut(error: Exception) -> bool:
    return "truncated" in str(error).lower()


def _plain(error: Exception) -> str:
    return _ADDRESS.sub("the file", str(error)) or type(error).__name__


def image_size(content: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Height and width as `decode_image` will return them, from the header alone.

    Raises
    ------
    SourceError
        If the content is no image, its header is broken, or it announces more than `max_pixels` pixels.
    """
    return _size(io.BytesIO(content), name, max_pixels)


def file_image_size(path: ImagePath, name: str, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """The same of a file, of which only the parts around the pixels are read.

    Raises
    ------
    SourceError
        Also if it cannot be read.
    """
    with _readable(path, name), path.open_header() if isinstance(path, RemotePath) else path.open("rb") as file:
        return _size(file, name, max_pixels)


def _size(file: BinaryIO, name: str, max_pixels: int) -> tuple[int, int]:
    image = _open(file, name, max_pixels)
    width, height = image.size
    with _our_rules():
        swapped = _orientation(image, file) in _SWAPPED_ORIENTATIONS
    return (width, height) if swapped else (height, width)


def _orientation(image: Image.Image, file: BinaryIO) -> int:
    """The EXIF orientation that is still to be applied: 1 to 8."""
    if image.format == "TIFF":
        return 1  # Pillow's TIFF reader applies it
    if image.format == "PNG" and not _png_may_hold_exif(file):
        return 1  # without this, asking for EXIF would decode the pixels, because PNG may keep it behind them
    try:
        orientation: int = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - broken metadata of whatever kind must not cost the image
        return 1
    return orientation


def _png_may_hold_exif(file: BinaryIO) -> bool:
    """Whether a PNG has a chunk of EXIF, before or behind the pixels, which are passed over. The file stays put."""
    began = file.tell()
    try:
        file.seek(_PNG_SIGNATURE_BYTES)
        while len(head := file.read(8)) == 8:
            num_bytes, kind, body = int.from_bytes(head[:4], "big"), head[4:], file.tell()
            if kind == b"eXIf" or (kind in _PNG_TEXT and file.read(len(_PNG_EXIF_KEYWORD)) == _PNG_EXIF_KEYWORD):
                return True
            file.seek(body + num_bytes + _PNG_CHECKSUM_BYTES)
        return False
    finally:
        file.seek(began)


def decode_image(content: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode the first frame of an image file.

    EXIF orientation is applied, 16 bits are scaled to 8, palettes and grey are expanded, alpha is dropped (not
    blended), colours are converted to sRGB through the embedded profile. docs/inputs.md lists all.

    Parameters
    ----------
    content : bytes
        The whole file.
    name : str
        How errors name it.
    max_pixels : int
        Images that announce more are rejected before anything is decoded.

    Returns
    -------
    uint8 (H, W, 3)
        RGB, C-contiguous.

    Raises
    ------
    SourceError
        With the reason, if it cannot be decoded completely.
    """
    image = _open(io.BytesIO(content), name, max_pixels)
    try:
        with _our_rules():
            rgb = to_rgb(image, lambda: _open(io.BytesIO(content), name, max_pixels))
            turn = _UPRIGHT.get(_orientation(image, io.BytesIO(content)))
            return np.ascontiguousarray(rgb if turn is None else Image.fromarray(rgb).transpose(turn))
    except MemoryError:
        raise
    except UnsupportedPixelsError as error:
        raise SourceError(name, str(error), "unsupported") from error
    except Exception as error:  # decoders of broken files raise whatever they stumble over
        code: ReasonCode = "truncated" if _is_cut(error) else "corrupt"
        raise SourceError(name, f"{code} ({_plain(error)})", code) from error


def read_file(path: ImagePath, name: str) -> bytes:
    """The content of an image file.

    Raises
    ------
    SourceError
        If it cannot be read.
    """
    with _readable(path, name):
        return path.read_bytes()


@contextlib.contextmanager
def _readable(path: ImagePath, name: str) -> Iterator[None]:
    """Say of a file that cannot be read why not."""
    try:
        if isinstance(path, Path) and not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for without end
            raise SourceError(name, "not a regular file", "unreadable")
        yield
    except OSError as error:
        raise SourceError(name, f"cannot be read ({error.strerror or error})", "unreadable") from error
