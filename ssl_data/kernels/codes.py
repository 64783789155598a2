"""Graphs as a store holds them: codes of either quantization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_data.config import CODE_TYPES
from ssl_data.kernels.quantize import code_table, codes_from_table
from ssl_data.kernels.ssg import self_similarity_graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ssl_data.config import Quantization, SSGSpec

__all__ = ["graph_codes"]

_BLOCK = 512
"""Edge pixels whose ssd are held at once, 1.3 MB."""


def graph_codes(
    image: NDArray[np.uint8],
    pixels: NDArray[np.integer[Any]],
    spec: SSGSpec,
    quantization: Quantization,
    *,
    num_threads: int = 1,
    out: NDArray[Any] | None = None,
    rows: NDArray[np.integer[Any]] | None = None,
) -> NDArray[Any]:
    """Compute the codes of the graphs of edge pixels, exactly equal on every machine.

    Parameters
    ----------
    image, pixels, spec, num_threads, out, rows
        See `self_similarity_graph`; `out` is uint8 or uint16 as the quantization asks for.
    quantization : {"sqrt8", "sqrt12"}

    Returns
    -------
    uint8 or uint16 (N, K)
        `out` itself, if given.

    Notes
    -----
    "sqrt8" comes straight from the backend. For "sqrt12" NumPy looks the ssd up in a table, in one thread, which takes
    longer than computing them (``ssl-data bench fidelity``).
    """
    if quantization == "sqrt8":
        return self_similarity_graph(image, pixels, spec, output="codes", num_threads=num_threads, out=out, rows=rows)
    table = code_table(spec, quantization)
    if out is None:
        out = np.empty((len(pixels), spec.num_positions), dtype=CODE_TYPES[quantization])
    for first in range(0, len(pixels), _BLOCK):
        block = slice(first, first + _BLOCK)
        ssd = self_similarity_graph(image, pixels[block], spec, output="ssd", num_threads=num_threads)
        if rows is None:
            codes_from_table(ssd, table, out[block])
        else:
            codes = np.empty(ssd.shape, dtype=out.dtype)
            codes_from_table(ssd, table, codes)
            out[rows[block]] = codes
    return out
