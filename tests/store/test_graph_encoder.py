"""Encoding graphs: what any reader of Blosc reads, the same bytes with and without compiled code, in few sequences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numcodecs.blosc import Blosc, decompress
from skimage import data

from ssl_data import SSGSpec, edge_mask, edge_pixels, self_similarity_graph
from ssl_data.store import extension
from ssl_data.store.codec import chunk_codec
from ssl_data.store.graph_encoder import _encode_graphs_numpy, encode_graphs
from ssl_data.testing import tiny_store

needs_compiled = pytest.mark.skipif(not extension.is_compiled(), reason="not compiled")

CODEC = chunk_codec("fast", array="ssg")
HEADER_BYTES, BLOCK_BYTES, ITEM_BYTES = 16, 2500, 20
WORD = np.dtype("<u4")


def _graphs():
    image = data.astronaut()[40:200, 150:310].copy()
    return self_similarity_graph(image, edge_pixels(edge_mask(image))[:400], SSGSpec(), output="codes")


GRAPHS = _graphs()


def num_sequences(encoded):
    """How many sequences an LZ4 block has; the last one has no match."""

    def length_from(nibble):
        nonlocal place
        length, more = nibble, 255
        while nibble == 15 and more == 255:
            more, place = encoded[place], place + 1
            length += more
        return length

    place = count = 0
    while place < len(encoded):
        token, place, count = encoded[place], place + 1, count + 1
        literals = length_from(token >> 4)
        place += literals
        if place < len(encoded):
            place += 2
            length_from(token & 15)
    return count


def blocks_of(frame):
    """The blocks of a frame, encoded."""
    num_bytes, block_bytes = np.frombuffer(frame, WORD, count=2, offset=4).tolist()
    starts = np.frombuffer(frame, WORD, count=-(-num_bytes // block_bytes), offset=HEADER_BYTES).tolist()
    sizes = [int.from_bytes(frame[start : start + 4], "little") for start in starts]
    return [frame[start + 4 : start + 4 + size] for start, size in zip(starts, sizes, strict=True)]


@st.composite
def chunks(draw):
    """Graphs in which more or less is repeated."""
    columns = draw(st.sampled_from([1, 3, 9, 25, 81, 625]))
    shape = (draw(st.integers(1, 3 + 3000 // columns)), columns)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    chunk = random.integers(0, draw(st.sampled_from([1, 2, 3, 40, 256])), shape, dtype=np.uint8)
    if draw(st.booleans()):
        chunk = np.maximum.accumulate(chunk, axis=draw(st.integers(0, 1)))
    return chunk


@given(chunk=chunks(), block_bytes=st.one_of(st.integers(1, 700), st.sampled_from([1000, BLOCK_BYTES, 4096])))
def test_any_chunk_comes_back_from_the_library(chunk, block_bytes):
    frame = _encode_graphs_numpy(chunk, block_bytes, ITEM_BYTES)
    assert frame is None or len(frame) < HEADER_BYTES + chunk.nbytes
    assert frame is None or bytes(decompress(frame)) == chunk.tobytes()


@needs_compiled
@given(chunk=chunks(), block_bytes=st.one_of(st.integers(1, 700), st.sampled_from([1000, BLOCK_BYTES, 4096])))
def test_compiled_code_makes_the_same_bytes(chunk, block_bytes):
    expected = _encode_graphs_numpy(chunk, block_bytes, ITEM_BYTES)
    for portable in (False, True):
        assert extension.native.encode_graphs(chunk, block_bytes, ITEM_BYTES, portable) == expected


@needs_compiled
def test_compiled_code_makes_the_same_bytes_of_graphs_of_a_photograph():
    assert encode_graphs(GRAPHS, BLOCK_BYTES, ITEM_BYTES) == _encode_graphs_numpy(GRAPHS, BLOCK_BYTES, ITEM_BYTES)


def test_graphs_are_encoded_as_small_as_by_the_library_and_in_fewer_sequences():
    library = Blosc(cname="lz4", clevel=9, shuffle=Blosc.NOSHUFFLE, blocksize=BLOCK_BYTES, typesize=ITEM_BYTES)
    frame, usual = encode_graphs(GRAPHS, BLOCK_BYTES, ITEM_BYTES), bytes(library.encode(GRAPHS))
    assert len(frame) < 1.05 * len(usual)
    ours, theirs = (
        sum(num_sequences(block) for block in blocks_of(each) if len(block) < BLOCK_BYTES) for each in (frame, usual)
    )
    assert ours < 0.7 * theirs


def test_what_does_not_become_smaller_is_left_to_the_library():
    noise = np.random.default_rng(0).integers(0, 256, (20, 625), dtype=np.uint8)
    assert encode_graphs(noise, BLOCK_BYTES, ITEM_BYTES) is None
    out = np.empty_like(noise)
    CODEC.decode_into(CODEC.encode(noise), out)
    assert (out == noise).all()


@needs_compiled
def test_a_store_has_the_same_bytes_without_compiled_code(tmp_path, monkeypatch):
    stores = []
    for name in ("compiled", "plain"):
        if name == "plain":
            monkeypatch.setattr(extension, "native", None)
        store = tiny_store(tmp_path / name, sizes=[(96, 128)], patch_size=64, step=32)
        files = sorted(path for path in store.root.rglob("*") if path.is_file())
        stores.append({path.relative_to(store.root): path.read_bytes() for path in files})
    assert any("ssg" in path.parts for path in stores[0])
    assert stores[0] == stores[1]
