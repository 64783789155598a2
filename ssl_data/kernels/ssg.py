"""Self-similarity graphs of edge pixels: the public, checked entry to the backends.

Backends differ in speed only. ``ssd`` and ``codes`` are bit-equal between them; ``normalized`` agrees to 1e-6.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ssl_data.config import SSGSpec
from ssl_data.errors import InputError
from ssl_data.kernels.edges import check_image
from ssl_data.kernels.quantize import code_table, codes_from_ssd
from ssl_data.kernels.reference import normalized_from_ssd, ssd_numpy

try:
    from ssl_data.kernels import _native
except ImportError:  # the extension is optional: without a compiler everything works, only slower
    _native = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "BACKEND_VARIABLE",
    "Output",
    "SlowBackendWarning",
    "available_backends",
    "self_similarity_graph",
    "warn_if_slow",
]

Output = Literal["normalized", "codes", "ssd"]
BACKEND_VARIABLE = "SSL_DATA_BACKEND"
"""Environment variable that replaces "auto" by another backend."""
_MAX_THREADS = 4096


class SlowBackendWarning(UserWarning):
    """The compiled extension is missing; graphs are computed by plain NumPy."""


def available_backends() -> tuple[str, ...]:
    """The backends this machine can run, fastest first.

    "native" is the compiled extension with the widest instructions this processor has, i.e. the same as the first of
    "native-avx512", "native-avx2" and "native-portable" that follows it; "numpy" is the plain reference.
    """
    return ("numpy",) if _native is None else ("native", *_native.backends(), "numpy")


def warn_if_slow() -> None:
    """Say once in this process that the compiled extension is missing, if it is, and how to get it."""
    if available_backends() == ("numpy",):
        _warn_slow()


@cache
def _warn_slow() -> None:
    warnings.warn(
        "the compiled extension of ssl_data is missing: graphs are computed by plain NumPy, some hundred times slower. "
        "Install a C++17 compiler (Debian/Ubuntu: apt install g++) and reinstall ssl_data",
        SlowBackendWarning,
        stacklevel=5,
    )


def _choose_backend(backend: str) -> str:
    if backend == "auto":
        backend = os.environ.get(BACKEND_VARIABLE, "auto")
    available = available_backends()
    if backend == "auto":
        warn_if_slow()
        return available[0]
    if backend not in available:
        raise InputError(f"backend must be 'auto' or one of {', '.join(available)} on this machine, got {backend!r}")
    return backend


def _check_pixels(pixels: NDArray[Any], height: int, width: int) -> NDArray[np.int32]:
    if not isinstance(pixels, np.ndarray) or not np.issubdtype(pixels.dtype, np.integer):
        raise InputError(f"pixels must be an integer array, got {getattr(pixels, 'dtype', type(pixels).__name__)}")
    if pixels.ndim != 2 or pixels.shape[1] != 2:
        raise InputError(f"pixels must have shape (N, 2), got {pixels.shape}")
    rows, cols = pixels[:, 0], pixels[:, 1]
    outside = (rows < 0) | (rows >= height) | (cols < 0) | (cols >= width)
    if outside.any():
        index = int(np.flatnonzero(outside)[0])
        row, col = pixels[index].tolist()
        raise InputError(f"pixel {index} (row {row}, col {col}) lies outside the image of {height}x{width}")
    return np.ascontiguousarray(pixels, dtype=np.int32)


def self_similarity_graph(
    image: NDArray[np.uint8],
    pixels: NDArray[np.integer[Any]],
    spec: SSGSpec = SSGSpec(),  # noqa: B008 - frozen
    *,
    output: Output = "normalized",
    num_threads: int = 1,
    backend: str = "auto",
) -> NDArray[Any]:
    """Compute the self-similarity graphs of edge pixels (paper sections 3.1 and 3.3, Eq. 1, 2 and 4).

    Parameters
    ----------
    image : uint8 (H, W, 3)
        RGB, both sides at least ``spec.min_side`` (13 for the defaults); continued by reflection where a search area
        leaves it.
    pixels : int (N, 2)
        Row and column of each edge pixel, see `edge_pixels`.
    spec : SSGSpec
        Sizes, bandwidth and border rule.
    output : {"normalized", "codes", "ssd"}
        Normalised graphs, their uint8 codes (``round(255 sqrt(S))``, see `decode_codes`), or the plain sums of squared
        differences of the uint8 intensities.
    num_threads : int
        Threads among which the native backend divides the pixels.
    backend : str
        "auto" (the fastest, or the one named by the environment variable ``SSL_DATA_BACKEND``), or one of
        `available_backends`.

    Returns
    -------
    float32, uint8 or int32 (N, K)
        Row i belongs to ``pixels[i]``; columns are the search positions in row-major order of (dy, dx).

    Raises
    ------
    InputError
        For a wrong dtype or shape, an image too small to be reflected, pixels outside the image, or an unknown output
        or backend.

    Notes
    -----
    Cost: N * K * window_size^2 multiplications per channel. ssd and codes are exact and equal on every machine.
    """
    check_image(image, min_side=spec.min_side)
    pixels = _check_pixels(pixels, *image.shape[:2])
    if output not in get_args(Output):
        raise InputError(f"output must be one of {', '.join(get_args(Output))}, got {output!r}")
    if type(num_threads) is not int or not 1 <= num_threads <= _MAX_THREADS:
        raise InputError(f"num_threads must be an integer in 1 .. {_MAX_THREADS}, got {num_threads!r}")
    chosen = _choose_backend(backend)
    if chosen == "numpy":
        return _numpy(image, pixels, spec, output)
    return _call_native(image, pixels, spec, output, num_threads=num_threads, backend=chosen)


def _numpy(image: NDArray[np.uint8], pixels: NDArray[np.int32], spec: SSGSpec, output: Output) -> NDArray[Any]:
    ssd = ssd_numpy(image, pixels, spec)
    if output == "codes":
        return codes_from_ssd(ssd, spec)
    return ssd if output == "ssd" else normalized_from_ssd(ssd, spec).astype(np.float32)


def _call_native(
    image: NDArray[np.uint8],
    pixels: NDArray[np.int32],
    spec: SSGSpec,
    output: Output,
    *,
    num_threads: int,
    backend: str,
) -> NDArray[Any]:
    padded = np.pad(image, ((spec.pad, spec.pad), (spec.pad, spec.pad), (0, 0)), mode="reflect")
    sizes = (spec.search_size, spec.window_size, spec.search_stride, spec.boundary == "zero")
    if output == "ssd":
        return _native.ssd(padded, pixels, *sizes, num_threads, backend)
    scale = spec.ssd_scale / 255**2
    if output == "codes":
        table = code_table(spec)
        return _native.codes(
            padded, pixels, *sizes, num_threads, backend, scale, table.shift, table.first, table.thresholds
        )
    return _native.normalized(padded, pixels, *sizes, num_threads, backend, scale)
