"""What crops ask of a store."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_data.config import BuildSpec, PatchSpec, StoreSpec
from ssl_data.geometry.positions import Window
from ssl_data.pipeline.crops import Crop, crop_cost

BLOCK_BYTES = {"sqrt8": 2500, "sqrt12": None}  # FORMAT.md: graphs of two bytes have no small blocks


@pytest.mark.parametrize("chunk_rows", [1, 4, 100])
@pytest.mark.parametrize("quantization", ["sqrt8", "sqrt12"])
@given(seed=st.integers(0, 1000), density=st.sampled_from([0.0, 0.01, 0.2]), top=st.integers(0, 64))
def test_what_is_decoded_is_counted_byte_by_byte(quantization, chunk_rows, seed, density, top):
    random = np.random.default_rng(seed)
    mask = random.random((128, 128)) < density
    store = StoreSpec(chunk_rows=chunk_rows, quantization=quantization)
    spec = BuildSpec(patch=PatchSpec(patch_size=128, step=128), store=store)
    window = Window(top=top, left=32, bottom=top + 64, right=96)
    cost = crop_cost(mask, window, Crop(size=64, edge_stride=1), spec)

    pad = spec.ssg.pad
    rows = range(top + pad if top else 0, top + 64 - pad if top < 64 else 128)
    cols = range(32 + pad, 96 - pad)
    graph_bytes = 625 * (1 if quantization == "sqrt8" else 2)
    chunk_bytes = chunk_rows * graph_bytes
    block_bytes = BLOCK_BYTES[quantization] or chunk_bytes
    chunks, blocks = set(), set()
    for number, (row, col) in enumerate(np.argwhere(mask)):
        if row in rows and col in cols:
            chunk, first = divmod(number * graph_bytes, chunk_bytes)
            chunks.add(chunk)
            places = range(first // block_bytes, (first + graph_bytes - 1) // block_bytes + 1)
            blocks.update((chunk, place) for place in places)
    decoded = sum(min(block_bytes, chunk_bytes - place * block_bytes) for _, place in blocks)
    assert cost.chunks_decoded["fast"] == pytest.approx(decoded / chunk_bytes)
    assert cost.chunks_decoded["fast"] <= len(chunks)
    assert cost.chunks_decoded["balanced"] == cost.chunks_decoded["small"] == len(chunks)
    assert cost.num_chunks_read == (max(chunks) - min(chunks) + 1 if chunks else 0)
