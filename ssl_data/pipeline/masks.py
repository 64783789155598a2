"""Edge masks that come with the images, and masks in the form that the authors' programs read.

Theirs are ``.mat`` files with a variable ``mat`` of zeros and ones, and PNG files of 0 and 255 beside them.
"""

from __future__ import annotations

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from ssl_data.errors import DatasetError, MissingDependencyError, SourceError
from ssl_data.pipeline.decode import read_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ssl_data.errors import ReasonCode
    from ssl_data.pipeline.sources import Source

__all__ = ["MaskFormat", "attach_masks", "decode_mask", "encode_mask"]

MaskFormat = Literal["png", "mat"]

_VARIABLE = "mat"
"""What the authors' programs call the mask in a ``.mat`` file."""
_PLACES = ("{}.mat", "mat/{}.mat", "{}.png", "png/{}.png")
"""Where the mask of an image may lie: beside the others, or as the authors' script writes them."""
_MAT_TEXT_BYTES = 116
"""Length of the free text at the beginning of a ``.mat`` file."""


def attach_masks(sources: Sequence[Source], folder: str, *, num_threads: int, hashed: bool = True) -> list[Source]:
    """The sources with their masks; those without one are rejected.

    Parameters
    ----------
    folder : str
        Masks by the names of the images in the dataset, with ``.mat`` or ``.png`` in place of their suffixes, in the
        folder itself or in its folders ``mat`` and ``png``. A ``.mat`` is preferred.
    hashed : bool
        Whether the masks are read and hashed; else they are only looked for, and ``mask_sha256`` stays None.

    Raises
    ------
    DatasetError
        If there is no such folder.
    MissingDependencyError
        If there are ``.mat`` files and SciPy is not installed.
    """
    root = Path(folder).absolute()
    if not root.is_dir():
        raise DatasetError(f"--masks {folder} is not a folder")
    with ThreadPoolExecutor(num_threads) as pool:
        attached = list(pool.map(lambda source: _attach(source, root, hashed=hashed), sources))
    if any(source.mask_path is not None and source.mask_path.suffix == ".mat" for source in attached):
        _import_scipy_io()
    return attached


def _attach(source: Source, root: Path, *, hashed: bool) -> Source:
    if source.rejected is not None:
        return source
    stem = source.name.rsplit(".", 1)[0]
    candidates = [place.format(stem) for place in _PLACES]
    path = next((root / place for place in candidates if (root / place).is_file()), None)
    if path is None:
        reason = f"no edge mask: none of {', '.join(candidates)} is in the mask folder"
        return _without_mask(source, reason, "no_mask")
    if not hashed:
        return replace(source, mask_path=path)
    try:
        mask_sha256 = hashlib.sha256(read_file(path, source.name)).hexdigest()
    except SourceError as error:
        return _without_mask(source, f"its edge mask {error.reason}", "bad_mask")
    return replace(source, mask_path=path, mask_sha256=mask_sha256)


def _without_mask(source: Source, reason: str, code: ReasonCode) -> Source:
    return replace(source, rejected=reason, reason_code=code, height=None, width=None)


def decode_mask(content: bytes, name: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Read an edge mask, by content a PNG or a ``.mat`` file.

    Parameters
    ----------
    name : str
        How errors name the image.
    shape : tuple
        Height and width of the image, which the mask must have.

    Returns
    -------
    bool (H, W)

    Raises
    ------
    SourceError
        If it is no mask, or one of another shape.
    """
    is_png = content.startswith(b"\x89PNG")
    try:
        values = _read_png(content, shape) if is_png else _read_mat(content, shape)
    except (MemoryError, MissingDependencyError):
        raise
    except Exception as error:  # decoders of broken files raise whatever they stumble over
        raise SourceError(name, f"its edge mask cannot be used: {error}", "bad_mask") from error
    levels = np.unique(values)
    if len(levels) > 2 or (len(levels) == 2 and levels[0] != 0):
        reason = f"its edge mask cannot be used: it has {len(levels)} values, not 0 and one other"
        raise SourceError(name, reason, "bad_mask")
    mask: NDArray[np.bool_] = values != 0
    return mask


def _read_png(content: bytes, shape: tuple[int, int]) -> NDArray[Any]:
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        _require_shape((image.height, image.width), shape)
        if image.mode not in {"1", "L"}:
            raise ValueError(f"a mask has one channel of 1 or 8 bits, this image is {image.mode}")
        return np.asarray(image)


def _read_mat(content: bytes, shape: tuple[int, int]) -> NDArray[Any]:
    scipy_io = _import_scipy_io()
    found = {name: tuple(sides) for name, sides, _ in scipy_io.whosmat(io.BytesIO(content))}
    if _VARIABLE not in found:
        raise ValueError(f"it has no variable {_VARIABLE!r}, only {', '.join(sorted(found)) or 'none'}")
    _require_shape(found[_VARIABLE], shape)
    values: NDArray[Any] = scipy_io.loadmat(io.BytesIO(content), variable_names=[_VARIABLE])[_VARIABLE]
    return values


def _require_shape(found: tuple[int, ...], wanted: tuple[int, int]) -> None:
    if found != wanted:
        raise ValueError(f"it is {'x'.join(map(str, found))}, the image {wanted[0]}x{wanted[1]}")


def encode_mask(mask: NDArray[np.bool_], form: MaskFormat) -> bytes:
    """An edge mask (H, W) as a file: the same mask gives the same bytes.

    Raises
    ------
    MissingDependencyError
        If a ``.mat`` file is asked for and SciPy is not installed.
    """
    file = io.BytesIO()
    if form == "png":
        Image.fromarray(mask.astype(np.uint8) * 255).save(file, "PNG")
        return file.getvalue()
    _import_scipy_io().savemat(file, {_VARIABLE: mask.astype(np.int64)}, do_compression=True)
    file.getbuffer()[:_MAT_TEXT_BYTES] = b"MATLAB 5.0 MAT-file, written by ssl_data".ljust(_MAT_TEXT_BYTES)  # no time
    return file.getvalue()


def _import_scipy_io() -> Any:  # noqa: ANN401 - a module that may be missing
    try:
        import scipy.io  # noqa: PLC0415 - only .mat files need it
    except ImportError as error:
        raise MissingDependencyError(".mat files need SciPy: pip install 'ssl_data[mat]'") from error
    return scipy.io
