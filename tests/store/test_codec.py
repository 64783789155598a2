"""Compression of one chunk."""

from typing import get_args

import numpy as np
import pytest

from ssl_data.config import Compression
from ssl_data.errors import StoreCorruptError, StoreError
from ssl_data.store.codec import chunk_codec, codec_from_metadata

PRESETS = get_args(Compression)


@pytest.fixture(params=[np.uint8, np.uint16], ids=["one byte", "two bytes"])
def chunk(request):
    random = np.random.default_rng(0)
    values = random.normal(-10, 20, size=(64, 625)).clip(0, 255)
    return (values if request.param == np.uint8 else 16 * values).astype(request.param)


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
