"""Compression of one chunk."""

import subprocess
import sys
from typing import get_args

import numpy as np
import pytest

from ssl_data.config import Compression
from ssl_data.errors import StoreCorruptError, StoreError
from ssl_data.store import extension
from ssl_data.store.codec import chunk_codec, codec_from_metadata

PRESETS = get_args(Compression)


@pytest.fixture(params=[np.uint8, np.uint16], ids=["one byte", "two bytes"])
def chunk(request):
    chunk = values(64)
    return chunk if request.param == np.uint8 else 16 * chunk.astype(np.uint16)


def values(rows):
    """Such a chunk, of one byte per value."""
    return np.random.default_rng(0).normal(-10, 20, size=(rows, 625)).clip(0, 255).astype(np.uint8)


compiled = pytest.param(True, marks=pytest.mark.skipif(not extension.is_compiled(), reason="not compiled"))
both = pytest.mark.parametrize("is_compiled", [compiled, False], ids=["C++", "numcodecs"])


def codec_for(preset, chunk):
    return chunk_codec(preset, chunk.itemsize)


@pytest.mark.parametrize("preset", PRESETS)
def test_round_trip(preset, chunk):
    codec = codec_for(preset, chunk)
    out = np.empty_like(chunk)
    codec.decode_into(codec.encode(chunk), out)
    assert (out == chunk).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_compresses(preset, chunk):
    assert len(codec_for(preset, chunk).encode(chunk)) < 0.95 * chunk.nbytes


@pytest.mark.parametrize("preset", PRESETS)
def test_the_same_chunk_gives_the_same_bytes(preset, chunk):
    assert codec_for(preset, chunk).encode(chunk) == codec_for(preset, chunk).encode(chunk.copy())


@pytest.mark.parametrize("preset", PRESETS)
def test_every_flipped_bit_is_noticed(preset, chunk):
    codec = codec_for(preset, chunk)
    encoded = codec.encode(chunk)
    random = np.random.default_rng(1)
    places = {0, 1, 2, 3, 4, 5, 6, 7, 8, len(encoded) - 1, *random.integers(len(encoded), size=200).tolist()}
    for place in places:
        altered = bytearray(encoded)
        altered[place] ^= 1 << int(random.integers(8))
        out = np.empty_like(chunk)
        try:
            codec.decode_into(bytes(altered), out)
        except StoreCorruptError:
            continue
        # A few header bits of Zstandard carry no information; all that matters is that no value changes.
        assert (out == chunk).all(), f"byte {place} altered unnoticed"


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("length", [0, 3, 100, -1])
def test_truncated_chunks_are_noticed(preset, length, chunk):
    codec = codec_for(preset, chunk)
    with pytest.raises(StoreCorruptError):
        codec.decode_into(codec.encode(chunk)[:length], np.empty_like(chunk))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("rows", [63, 65])
def test_chunks_of_another_size_are_noticed(preset, rows, chunk):
    codec = codec_for(preset, chunk)
    with pytest.raises(StoreCorruptError):
        codec.decode_into(codec.encode(chunk), np.empty((rows, 625), dtype=chunk.dtype))


@pytest.mark.parametrize("preset", PRESETS)
def test_metadata_names_the_codec(preset):
    codec = chunk_codec(preset)
    assert codec_from_metadata([{"name": "bytes"}, *codec.metadata]) == codec
    codec = chunk_codec(preset, 2)
    little_endian = {"name": "bytes", "configuration": {"endian": "little"}}
    assert codec_from_metadata([little_endian, *codec.metadata], 2) == codec
    big_endian = {"name": "bytes", "configuration": {"endian": "big"}}
    with pytest.raises(StoreError, match="codec"):
        codec_from_metadata([big_endian, *codec.metadata], 2)


@pytest.mark.parametrize(
    "codecs",
    [
        [],
        [{"name": "bytes"}],
        [{"name": "bytes"}, {"name": "gzip", "configuration": {"level": 5}}],
        [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 1, "checksum": False}}],
    ],
)
def test_codecs_without_a_checksum_or_unknown_are_refused(codecs):
    with pytest.raises(StoreError, match="codec"):
        codec_from_metadata(codecs)


@pytest.mark.parametrize("compression", ["fast", "balanced", "small"])
@both
def test_the_codec_fills_wanted_rows(compression, is_compiled, monkeypatch):
    if not is_compiled:
        monkeypatch.setattr(extension, "native", None)
    chunk, codec, rows = values(300), chunk_codec(compression, array="ssg"), np.arange(20, 300, 17, dtype=np.int32)
    out = np.full_like(chunk, 7)
    codec.decode_into(codec.encode(chunk), out, rows)
    assert (out[rows] == chunk[rows]).all()


@both
@pytest.mark.parametrize("side", [25, 64])
def test_the_codec_of_masks(side, is_compiled, monkeypatch):
    if not is_compiled:
        monkeypatch.setattr(extension, "native", None)
    mask, codec = np.random.default_rng(0).random((side, side)) < 0.1, chunk_codec("fast", array="edge_mask")
    out = np.ones_like(mask)
    codec.decode_into(codec.encode(mask), out)
    assert (out == mask).all()


def test_a_view_that_is_not_contiguous_is_not_filled_in_vain():
    codec, chunk = chunk_codec("fast", array="ssg"), values(64)
    with pytest.raises(ValueError, match="contiguous"):
        codec.decode_into(codec.encode(chunk), np.empty((128, 625), dtype=np.uint8)[::2], np.arange(3, dtype=np.int32))


def test_the_same_bytes_also_where_nothing_else_has_told_blosc_to_do_without_threads():
    script = """
import numpy as np
from ssl_data.store.codec import chunk_codec
chunk = np.random.default_rng(0).normal(-10, 20, size=(1024, 625)).clip(0, 255).astype(np.uint8)
codec = chunk_codec("fast", array="ssg")
print(len({codec.encode(chunk) for _ in range(50)}))
"""
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "1"
