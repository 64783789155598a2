import numpy as np
from numpy.typing import NDArray

def backends() -> tuple[str, ...]: ...
def ssd(
    padded: NDArray[np.uint8],
    pixels: NDArray[np.int32],
    search_size: int,
    window_size: int,
    search_stride: int,
    zero_outside: bool,
    num_threads: int,
    backend: str,
) -> NDArray[np.int32]: ...
def codes(
    padded: NDArray[np.uint8],
    pixels: NDArray[np.int32],
    search_size: int,
    window_size: int,
    search_stride: int,
    zero_outside: bool,
    num_threads: int,
    backend: str,
    ssd_scale: float,
    shift: int,
    first: NDArray[np.uint8],
    thresholds: NDArray[np.int32],
) -> NDArray[np.uint8]: ...
def normalized(
    padded: NDArray[np.uint8],
    pixels: NDArray[np.int32],
    search_size: int,
    window_size: int,
    search_stride: int,
    zero_outside: bool,
    num_threads: int,
    backend: str,
    ssd_scale: float,
) -> NDArray[np.float32]: ...
def encode(
    ssd: NDArray[np.int32],
    backend: str,
    ssd_scale: float,
    shift: int,
    first: NDArray[np.uint8],
    thresholds: NDArray[np.int32],
) -> NDArray[np.uint8]: ...
def turn_graphs(
    graphs: NDArray[np.uint8],
    rows: NDArray[np.int32],
    places: NDArray[np.int32],
    columns: NDArray[np.uint16] | None,
    out: NDArray[np.uint8],
    portable: bool,
) -> None: ...
def unit_range(
    image: NDArray[np.uint8], hflip: bool, vflip: bool, transpose: bool, out: NDArray[np.float32]
) -> None: ...
def sample_pixels(
    edge_mask: NDArray[np.bool_],
    stored_stride: int,
    crop: tuple[int, ...],
    taken: tuple[int, ...],
    stored: tuple[int, ...],
    hflip: bool,
    vflip: bool,
    transpose: bool,
    edge_stride: int,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], int]: ...
