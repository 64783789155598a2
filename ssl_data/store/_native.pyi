import numpy as np
from numpy.typing import NDArray

has_crc32c: bool

def crc32c(data: NDArray[np.uint8]) -> int: ...
def restore(graphs: NDArray[np.uint8], side: int) -> None: ...
def encode_graphs(
    graphs: NDArray[np.uint8], block_bytes: int, item_bytes: int, portable: bool = ...
) -> bytes | None: ...
def decode_rows(frame: NDArray[np.uint8], rows: NDArray[np.int32], out: NDArray[np.uint8]) -> bool: ...
def decode_mask(frame: NDArray[np.uint8], out: NDArray[np.uint8]) -> bool: ...
def block_table(frame: NDArray[np.uint8], block_bytes: int) -> bytes: ...

class GatherRequest:
    def __init__(
        self,
        chunks: NDArray[np.uint64],
        tables: int,
        chunk_rows: int,
        block_bytes: int,
        shift: int,
        rows: NDArray[np.int32],
        places: NDArray[np.int32],
        columns: NDArray[np.uint16] | None,
        out: NDArray[np.uint8],
    ) -> None: ...

def gather(files: list[int], requests: list[GatherRequest]) -> tuple[int, tuple[int, str, int]]: ...
def read_bits(file: int, chunks: NDArray[np.uint64], out: NDArray[np.uint8]) -> tuple[int, str, int]: ...
def read_tiles(
    file: int,
    chunks: NDArray[np.uint64],
    first: int,
    per_row: int,
    side: int,
    top: int,
    left: int,
    out: NDArray[np.uint8],
) -> tuple[int, str, int]: ...
