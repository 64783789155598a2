"""Self-similarity graphs of edge pixels: the public, checked entry to the backends.

Backends differ in speed only. ``ssd`` and ``codes`` are bit-equal between them; ``normalized`` agrees to 1e-6.
"""

from __future__ import annotations

import warnings
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ssl_data.config import SSGSpec
from ssl_data.errors import InputError
from ssl_data.kernels.edges import check_image
from ssl_data.kernels.extension import backend_of_environment, native
from ssl_data.kernels.quantize import code_table, codes_from_ssd
from ssl_data.kernels.reference import normalized_from_ssd, ssd_numpy

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Output",
    "SlowBackendWarning",
    "available_backends",
    "self_similarity_graph",
    "warn_if_slow",
]

Output = Literal["normalized", "codes", "ssd"]
_DTYPES: dict[Output, np.dtype[Any]] = {
    "normalized": np.dtype(np.float32),
    "codes": np.dtype(np.uint8),
    "ssd": np.dtype(np.int32),
}
_MAX_THREADS = 4096


class SlowBackendWarning(UserWarning):
    """The compiled extension is missing; graphs are computed by plain NumPy."""


def available_backends() -> tuple[str, ...]:
    """The backends this machine can run, fastest first.

    "native" is the compiled extension with the widest instructions this processor has, i.e. the same as the first of
    "native-avx512", "native-avx2" and "native-portable" that follows it; "numpy" is the plain reference.
    """
    return ("numpy",) if native is None else ("native", *_native_backends(), "numpy")


@cache
def _native_backends() -> tuple[str, ...]:
    return native.backends()


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
        backend = backend_of_environment()
    available = available_backends()
    if backend == "auto":
        warn_if_slow()
        return available[0]
    if backend not in available:
        raise InputError(f"backend must be 'auto' or one of {', '.join(available)} on this machine, got {backend!r}")
    return backend


def _check_arrays(
    pixels: NDArray[np.integer[Any]], rows: NDArray[np.integer[Any]] | None, out: NDArray[Any] | None
) -> None:
    """Types and numbers of dimensions; cheap, whatever the number of pixels."""
    if not isinstance(pixels, np.ndarray) or not np.issubdtype(pixels.dtype, np.integer):
        raise InputError(f"pixels must be an integer array, got {getattr(pixels, 'dtype', type(pixels).__name__)}")
    if pixels.ndim != 2 or pixels.shape[1] != 2:
        raise InputError(f"pixels must have shape (N, 2), got {pixels.shape}")
    if rows is None:
        return
    if out is None:
        raise InputError("rows say which rows of out to write: they need out")
    if not isinstance(rows, np.ndarray) or not np.issubdtype(rows.dtype, np.integer):
        raise InputError(f"rows must be an integer array, got {getattr(rows, 'dtype', type(rows).__name__)}")
    if rows.shape != pixels.shape[:1]:
        raise InputError(f"rows must have shape ({len(pixels)},), one row for each pixel, got {rows.shape}")


def _check_out(out: NDArray[Any], shape: tuple[int | None, int], dtype: np.dtype[Any]) -> None:
    """`shape` has None for a number of rows that is free."""
    if not isinstance(out, np.ndarray):
        raise InputError(f"out must be a NumPy array, got {type(out).__name__}")
    num_rows, num_positions = shape
    if out.dtype != dtype or out.ndim != 2 or out.shape[1] != num_positions or num_rows not in (None, len(out)):
        wanted = f"({'M' if num_rows is None else num_rows}, {num_positions})"
        raise InputError(f"out must be {dtype} of shape {wanted}, got {out.dtype} {out.shape}")
    if not out.flags.c_contiguous or not out.flags.writeable:
        raise InputError("out must be contiguous in C order and writeable")


def _check_values(
    image: NDArray[np.uint8],
    pixels: NDArray[np.integer[Any]],
    rows: NDArray[np.integer[Any]] | None,
    out: NDArray[Any],
) -> None:
    """What compiled code checks as well, faster; here with words."""
    height, width = image.shape[:2]
    y, x = pixels[:, 0], pixels[:, 1]
    outside = (y < 0) | (y >= height) | (x < 0) | (x >= width)
    if outside.any():
        index = int(np.flatnonzero(outside)[0])
        row, col = pixels[index].tolist()
        raise InputError(f"pixel {index} (row {row}, col {col}) lies outside the image of {height}x{width}")
    if rows is None:
        return
    outside = (rows < 0) | (rows >= len(out))
    if outside.any():
        index = int(np.flatnonzero(outside)[0])
        raise InputError(f"rows[{index}] is {rows[index]}, but out has rows 0 .. {len(out) - 1}")
    times = np.bincount(rows.astype(np.intp))
    if times.max(initial=0) > 1:
        raise InputError(f"rows must differ from one another, {int(np.flatnonzero(times > 1)[0])} comes more than once")


def self_similarity_graph(  # noqa: PLR0913 - the public contract: each is a choice of its own
    image: NDArray[np.uint8],
    pixels: NDArray[np.integer[Any]],
    spec: SSGSpec = SSGSpec(),  # noqa: B008 - frozen
    *,
    output: Output = "normalized",
    num_threads: int = 1,
    backend: str = "auto",
    out: NDArray[Any] | None = None,
    rows: NDArray[np.integer[Any]] | None = None,
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
    out : float32, uint8 or int32 (N, K), optional
        Where to write the graphs, instead of into a new array: contiguous, of the type of the output.
    rows : int (N,), optional
        With `out`, which may then have any number of rows: pixel i is written to row ``rows[i]``, other rows are left
        as they are. No row may come twice.

    Returns
    -------
    float32, uint8 or int32 (N, K)
        Row i (with `rows`, row ``rows[i]``) belongs to ``pixels[i]``; columns are the search positions in row-major
        order of (dy, dx). `out` itself, if given.

    Raises
    ------
    InputError
        For a wrong dtype or shape, an image too small to be reflected, pixels outside the image, rows outside `out`, or
        an unknown output or backend. Nothing has been written then.

    Notes
    -----
    Cost: N * K * window_size^2 multiplications per channel, and some microseconds for each call and for each row of the
    smallest rectangle that holds all pixels. ssd and codes are exact and equal on every machine.
    """
    check_image(image, min_side=spec.min_side)
    _check_arrays(pixels, rows, out)
    if output not in _DTYPES:
        raise InputError(f"output must be one of {', '.join(_DTYPES)}, got {output!r}")
    if type(num_threads) is not int or not 1 <= num_threads <= _MAX_THREADS:
        raise InputError(f"num_threads must be an integer in 1 .. {_MAX_THREADS}, got {num_threads!r}")
    chosen = _choose_backend(backend)
    if out is None:
        out = np.empty((len(pixels), spec.num_positions), dtype=_DTYPES[output])
    else:
        _check_out(out, (len(pixels) if rows is None else None, spec.num_positions), _DTYPES[output])
    if chosen == "numpy":
        _check_values(image, pixels, rows, out)
        out[slice(None) if rows is None else rows] = _numpy(image, pixels.astype(np.int32), spec, output)
    else:
        _call_native(image, pixels, spec, output, rows, out, num_threads=num_threads, backend=chosen)
    return out


def _numpy(image: NDArray[np.uint8], pixels: NDArray[np.int32], spec: SSGSpec, output: Output) -> NDArray[Any]:
    ssd = ssd_numpy(image, pixels, spec)
    if output == "codes":
        return codes_from_ssd(ssd, spec)
    return ssd if output == "ssd" else normalized_from_ssd(ssd, spec).astype(np.float32)


@lru_cache(maxsize=64)
def _kernel(spec: SSGSpec, backend: str) -> native.Kernel:
    """What compiled code needs to know of a spec."""
    sizes = (spec.search_size, spec.window_size, spec.search_stride, spec.boundary == "zero")
    table = code_table(spec)
    return native.Kernel(backend, *sizes, spec.ssd_scale / 255**2, table.shift, table.first, table.thresholds)


def _call_native(  # noqa: PLR0913 - passed on
    image: NDArray[np.uint8],
    pixels: NDArray[np.integer[Any]],
    spec: SSGSpec,
    output: Output,
    rows: NDArray[np.integer[Any]] | None,
    out: NDArray[Any],
    *,
    num_threads: int,
    backend: str,
) -> None:
    if pixels.dtype != np.int32:  # before a conversion that might wrap around
        _check_values(image, pixels, rows, out)
    to_rows = None if rows is None else np.ascontiguousarray(rows, dtype=np.int64)
    run = getattr(_kernel(spec, backend), output)
    try:
        run(np.ascontiguousarray(image), np.ascontiguousarray(pixels, dtype=np.int32), to_rows, out, num_threads)
    except IndexError:
        _check_values(image, pixels, rows, out)
        raise
