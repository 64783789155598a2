from typing import Any

import numpy as np
from numpy.typing import NDArray

def backends() -> tuple[str, ...]: ...

class Kernel:
    def __init__(
        self,
        backend: str,
        search_size: int,
        window_size: int,
        search_stride: int,
        zero_outside: bool,
        ssd_scale: float,
        shift: int,
        first: NDArray[np.uint8],
        thresholds: NDArray[np.int32],
    ) -> None: ...
    def ssd(
        self,
        image: NDArray[np.uint8],
        pixels: NDArray[np.int32],
        rows: NDArray[np.int64] | None,
        result: NDArray[np.int32],
        num_threads: int,
    ) -> None: ...
    def codes(
        self,
        image: NDArray[np.uint8],
        pixels: NDArray[np.int32],
        rows: NDArray[np.int64] | None,
        result: NDArray[np.uint8],
        num_threads: int,
    ) -> None: ...
    def normalized(
        self,
        image: NDArray[np.uint8],
        pixels: NDArray[np.int32],
        rows: NDArray[np.int64] | None,
        result: NDArray[np.float32],
        num_threads: int,
    ) -> None: ...
    def encode(self, ssd: NDArray[np.int32]) -> NDArray[np.uint8]: ...

def turn_graphs(
    graphs: NDArray[np.unsignedinteger[Any]],
    rows: NDArray[np.int32],
    places: NDArray[np.int32],
    columns: NDArray[np.uint16] | None,
    out: NDArray[np.unsignedinteger[Any]],
    portable: bool,
) -> None: ...
def unit_range(
    image: NDArray[np.uint8], hflip: bool, vflip: bool, transpose: bool, out: NDArray[np.float32], portable: bool
) -> None: ...
def sample_pixels(
    edge_bits: NDArray[np.uint8],
    stored_stride: int,
    crop: tuple[int, ...],
    taken: tuple[int, ...],
    stored: tuple[int, ...],
    hflip: bool,
    vflip: bool,
    transpose: bool,
    edge_stride: int,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], int]: ...
def mark_pixels(row: NDArray[np.int32], col: NDArray[np.int32], out: NDArray[np.float32]) -> None: ...
