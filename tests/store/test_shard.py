"""One shard file."""

import hashlib
import pickle

import numpy as np
import pytest

from ssl_data.errors import StoreCorruptError
from ssl_data.store.codec import chunk_codec
from ssl_data.store.local import LocalFile
from ssl_data.store.shard import ShardReader, ShardWriter

NUM_CHUNKS = 6
CHUNK_BYTES = 20
WRITTEN = (0, 1, 3, 4)


def values(chunk):
    return np.full((4, 5), chunk + 1, dtype=np.uint8)


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "shard"
    with path.open("wb") as file:
        writer = ShardWriter(file, NUM_CHUNKS, chunk_codec("balanced"))
        for chunk in WRITTEN:
            writer.write(chunk, values(chunk))
        writer.finish()
    return path


def open_shard(path):
    return ShardReader(LocalFile(path), NUM_CHUNKS, chunk_codec("balanced"), CHUNK_BYTES)


def test_a_run_of_chunks_is_read_at_once(shard):
    outs = [np.empty((4, 5), dtype=np.uint8) for _ in range(2)]
    open_shard(shard).read(range(3, 5), outs)
    assert [out.tolist() for out in outs] == [values(3).tolist(), values(4).tolist()]


def test_the_returned_hash_is_that_of_the_file(tmp_path):
    path = tmp_path / "shard"
    with path.open("wb") as file:
        writer = ShardWriter(file, 1, chunk_codec("fast"))
        writer.write(0, values(0))
        digest = writer.finish()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert path.stat().st_size == writer.num_bytes


def test_chunks_are_written_in_ascending_order(tmp_path):
    with (tmp_path / "shard").open("wb") as file:
        writer = ShardWriter(file, NUM_CHUNKS, chunk_codec("balanced"))
        writer.write(3, values(3))
        with pytest.raises(ValueError, match="ascending"):
            writer.write(3, values(3))


def test_a_chunk_never_written_is_an_error_and_not_zeros(shard):
    with pytest.raises(StoreCorruptError, match="chunk 2 of .* was never written"):
        open_shard(shard).read(range(1, 3), [np.empty((4, 5), dtype=np.uint8)] * 2)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StoreCorruptError, match="nowhere is missing") as caught:
        open_shard(tmp_path / "nowhere")
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - made here; as a worker hands it to its parent
    assert str(copy) == str(caught.value)


@pytest.mark.parametrize("size", [0, 1, 99, -1])
def test_a_truncated_file_is_refused(shard, size):
    shard.write_bytes(shard.read_bytes()[:size])
    with pytest.raises(StoreCorruptError, match="truncated"):
        open_shard(shard)


def test_a_flipped_byte_never_changes_a_value(shard):
    content = shard.read_bytes()
    noticed = 0
    for place in range(len(content)):
        altered = bytearray(content)
        altered[place] ^= 0x10
        shard.write_bytes(altered)
        try:
            reader = open_shard(shard)
            for chunk in WRITTEN:
                out = np.empty((4, 5), dtype=np.uint8)
                reader.read(range(chunk, chunk + 1), [out])
                assert (out == values(chunk)).all(), f"byte {place} altered unnoticed"
        except StoreCorruptError:
            noticed += 1
    assert noticed > 0.9 * len(content)  # the rest are header bits of Zstandard that mean nothing
