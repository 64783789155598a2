"""Reading rows of Blosc frames, compared with what numcodecs makes of whole ones."""

import contextlib

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numcodecs.blosc import Blosc, decompress
from skimage import data

from ssl_data import SSGSpec, edge_mask, edge_pixels, self_similarity_graph
from ssl_data.errors import StoreCorruptError
from ssl_data.store import extension
from ssl_data.store.blosc import decode_mask, decode_rows
from ssl_data.store.codec import chunk_codec, crc32c

pytestmark = pytest.mark.skipif(not extension.is_compiled(), reason="not compiled")

HEADER_BYTES = 16
BLOCK_BYTES = 2500
WORD = np.dtype("<u4")


def frame_of(chunk, *, block_bytes=BLOCK_BYTES, level=9, item_bytes=20, name="lz4", shuffle=Blosc.NOSHUFFLE):
    codec = Blosc(cname=name, clevel=level, shuffle=shuffle, blocksize=block_bytes, typesize=item_bytes)
    return bytes(codec.encode(np.ascontiguousarray(chunk)))


def _graphs():
    image = data.astronaut()[40:200, 150:310].copy()
    return self_similarity_graph(image, edge_pixels(edge_mask(image))[:700], SSGSpec(), output="codes")


GRAPHS = _graphs()


def graphs(count):
    return GRAPHS[:count]


def rows_of(numbers):
    return np.array(sorted(numbers), dtype=np.int32)


def lz4_block(draw):
    """An LZ4 block made by hand, and what it stands for: any lengths and distances, whatever an encoder would do."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lengths = st.one_of(st.integers(0, 40), st.integers(200, 600))
    encoded, decoded = bytearray(), bytearray()
    for _ in range(draw(st.integers(0, 40))):
        literals = random.bytes(draw(lengths) if decoded else max(1, draw(lengths)))
        distance = draw(st.one_of(st.integers(1, 40), st.integers(1, 5000)))
        distance = min(distance, len(decoded) + len(literals))
        match = 4 + draw(lengths)
        encoded += _sequence(literals, match - 4) + distance.to_bytes(2, "little") + _rest(match - 4)
        decoded += literals
        for _ in range(match):
            decoded.append(decoded[-distance])
    literals = random.bytes(12 + draw(lengths))  # an encoder ends a block so
    encoded += _sequence(literals, 0)
    assume(len(encoded) != len(decoded) + len(literals))  # such a block counts as stored as it is
    return bytes(encoded), bytes(decoded + literals)


def _sequence(literals, match):
    return bytes([min(len(literals), 15) << 4 | min(match, 15)]) + _rest(len(literals)) + literals


def _rest(length):
    return bytes([255] * ((length - 15) // 255) + [(length - 15) % 255]) if length >= 15 else b""


def frame_of_block(encoded, num_bytes):
    """A frame of a single block."""
    words = [num_bytes, num_bytes, HEADER_BYTES + 8 + len(encoded), HEADER_BYTES + 4, len(encoded)]
    return bytes([2, 1, 0x30, 32]) + np.array(words, dtype=WORD).tobytes() + encoded


@st.composite
def blocks(draw):
    return lz4_block(draw)


@pytest.mark.parametrize("block_bytes", [260, BLOCK_BYTES, 4096, 10_000, 1 << 20])
def test_all_rows_of_graphs_are_what_numcodecs_reads(block_bytes):
    chunk = graphs(700)
    out = np.full_like(chunk, 7)
    assert decode_rows(memoryview(frame_of(chunk, block_bytes=block_bytes)), rows_of(range(700)), out)
    assert (out == chunk).all()


@given(wanted=st.sets(st.integers(0, 299), max_size=40), block_bytes=st.integers(1000, 9000))
def test_some_rows_of_graphs(wanted, block_bytes):
    chunk, rows = graphs(300), rows_of(wanted)
    out = np.full_like(chunk, 7)
    assert decode_rows(memoryview(frame_of(chunk, block_bytes=block_bytes)), rows, out)
    assert (out[rows] == chunk[rows]).all()


def test_blocks_without_wanted_rows_are_left_alone():
    chunk = graphs(300)
    out = np.full_like(chunk, 7)
    assert decode_rows(memoryview(frame_of(chunk)), rows_of({150}), out)
    touched = np.flatnonzero((out != 7).any(axis=1))
    assert 150 in touched
    assert touched.min() >= 150 - 8
    assert touched.max() <= 150 + 8


@given(block=blocks(), data=st.data())
def test_any_sequences(block, data):
    encoded, decoded = block
    frame = frame_of_block(encoded, len(decoded))
    assert bytes(decompress(frame)) == decoded
    out = np.full((len(decoded), 1), 7, dtype=np.uint8)
    assert decode_rows(memoryview(frame), rows_of(range(len(decoded))), out)
    assert out.tobytes() == decoded
    wanted = data.draw(st.integers(0, len(decoded) - 1))
    out[:] = 7
    assert decode_rows(memoryview(frame), rows_of({wanted}), out)
    assert out.tobytes()[: wanted + 1] == decoded[: wanted + 1]


@given(values=st.binary(min_size=1, max_size=3000), level=st.integers(0, 9), columns=st.integers(1, 3))
def test_frames_of_anything(values, level, columns):
    chunk = np.frombuffer(values * columns, dtype=np.uint8).reshape(-1, columns)
    out = np.zeros_like(chunk)
    frame = frame_of(chunk, level=level, block_bytes=512)
    assert decode_rows(memoryview(frame), rows_of(range(len(chunk))), out)
    assert (out == chunk).all()


@pytest.mark.parametrize(
    "options",
    [{"name": "zstd"}, {"shuffle": Blosc.SHUFFLE, "item_bytes": 2}, {"shuffle": Blosc.BITSHUFFLE, "item_bytes": 1}],
)
def test_other_frames_are_left_to_the_library(options):
    chunk = graphs(100)
    out = np.full_like(chunk, 7)
    assert not decode_rows(memoryview(frame_of(chunk, **options)), rows_of({5}), out)
    assert (out == 7).all()


@given(place=st.integers(0, 10**6), value=st.integers(0, 255), length=st.one_of(st.none(), st.integers(0, 10**6)))
def test_altered_frames_are_refused_or_read_within_their_bounds(place, value, length):
    chunk = graphs(60)
    frame = bytearray(frame_of(chunk))
    frame[place % len(frame)] = value
    frame = frame[: None if length is None else length % len(frame)]
    guarded = np.full((3, *chunk.shape), 7, dtype=np.uint8)
    with contextlib.suppress(RuntimeError):
        decode_rows(memoryview(frame), rows_of(range(0, 60, 3)), guarded[1])
    assert (guarded[[0, 2]] == 7).all()


@given(behind=st.binary(min_size=8, max_size=8))
def test_what_lies_behind_a_block_that_is_cut_off_is_not_read_as_its_own(behind):
    """The match's distance lies behind the end."""
    encoded = b"\x4fabcd"
    frame = bytes([2, 1, 0x30, 20]) + np.array([40, 20, 24 + 4 + len(encoded) + 8, 24, 24], dtype=WORD).tobytes()
    frame += np.array([len(encoded)], dtype=WORD).tobytes() + encoded + behind
    with pytest.raises(RuntimeError, match="not a frame"):
        decode_rows(memoryview(frame), rows_of({0}), np.empty((4, 10), dtype=np.uint8))


@given(block=blocks(), place=st.integers(0, 10**6), value=st.integers(0, 255), wanted=st.integers(0, 10**6))
def test_altered_blocks_are_refused_or_read_within_their_bounds(block, place, value, wanted):
    encoded, decoded = block
    frame = bytearray(frame_of_block(encoded, len(decoded)))
    begin = HEADER_BYTES + 8
    frame[begin + place % (len(frame) - begin)] = value
    guarded = np.full((3, len(decoded), 1), 7, dtype=np.uint8)
    with contextlib.suppress(RuntimeError):
        decode_rows(memoryview(frame), rows_of({wanted % len(decoded)}), guarded[1])
    assert (guarded[[0, 2]] == 7).all()


def mask_frame(mask, name="lz4"):
    return memoryview(frame_of(mask, block_bytes=0, item_bytes=1, name=name, shuffle=Blosc.BITSHUFFLE))


@given(side=st.integers(1, 40), density=st.sampled_from([0.0, 0.01, 0.2, 1.0]), seed=st.integers(0, 1000))
def test_masks_come_from_their_bits(side, density, seed):
    mask = np.random.default_rng(seed).random((8, side, side)) < density
    out = np.ones_like(mask)
    frame = mask_frame(mask)
    assert frame[2] & 2 or decode_mask(frame, out)  # 2: stored as it is
    assert frame[2] & 2 or (out == mask).all()


def test_a_large_mask_of_several_blocks():
    mask = np.random.default_rng(0).random((1024, 1024)) < 0.1
    out = np.ones_like(mask)
    assert decode_mask(mask_frame(mask), out)
    assert (out == mask).all()


@pytest.mark.parametrize("values", [np.full(4096, 2, dtype=np.uint8), np.zeros(4001, dtype=np.uint8)])
def test_what_is_no_mask_of_bits_is_left_to_the_library(values):
    assert not decode_mask(mask_frame(values), np.empty_like(values))


def test_other_codecs_are_left_to_the_library():
    mask = np.zeros(4096, dtype=np.uint8)
    assert not decode_mask(mask_frame(mask, "zstd"), np.empty_like(mask))
    assert not decode_mask(memoryview(frame_of(mask)), np.empty_like(mask))


@given(place=st.integers(0, 10**6), value=st.integers(0, 255))
def test_altered_masks_are_refused_or_read_within_their_bounds(place, value):
    mask = np.random.default_rng(0).random(4096) < 0.1
    frame = bytearray(mask_frame(mask))
    frame[place % len(frame)] = value
    guarded = np.full((3, 4096), 7, dtype=np.uint8)
    with contextlib.suppress(RuntimeError):
        decode_mask(memoryview(frame), guarded[1])
    assert (guarded[[0, 2]] == 7).all()


def test_a_frame_of_another_size_is_refused():
    chunk = graphs(60)
    with pytest.raises(RuntimeError, match="not a frame of this size"):
        decode_rows(memoryview(frame_of(chunk)), rows_of({5}), np.empty((61, 625), dtype=np.uint8))


@pytest.mark.parametrize("rows", [[-1], [60]])
def test_rows_outside_of_the_chunk_are_refused(rows):
    chunk = graphs(60)
    with pytest.raises(ValueError, match="rows must lie in out"):
        decode_rows(memoryview(frame_of(chunk)), np.array(rows, dtype=np.int32), np.empty_like(chunk))


def test_what_the_checksum_does_not_cover_is_refused_by_the_codec():
    chunk, codec = graphs(60), chunk_codec("fast", array="ssg")
    frame = bytearray(codec.encode(chunk)[:-4])
    frame[HEADER_BYTES : HEADER_BYTES + 4] = b"\xff" * 4  # the first block begins outside of the frame
    with pytest.raises(StoreCorruptError, match="Blosc frame does not decode"):
        codec.decode_into(bytes(frame) + crc32c(bytes(frame)), np.empty_like(chunk), rows_of({0}))
