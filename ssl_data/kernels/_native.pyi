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
