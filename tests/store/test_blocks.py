"""Block tables, and reading single blocks of chunks with them."""

import os

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs.blosc import compress, decompress

from ssl_data.errors import StoreCorruptError
from ssl_data.geometry.positions import Dihedral
from ssl_data.kernels.turn import turned_columns
from ssl_data.store import extension
from ssl_data.store.blocks import _block_table_numpy, block_table, table_bytes
from ssl_data.store.codec import chunk_codec
from ssl_data.store.local import LocalFile
from ssl_data.store.shard import Gather, ShardReader, ShardWriter, gather_all
from ssl_data.testing import tiny_store

CODEC = chunk_codec("fast", array="ssg")
CHUNK_ROWS, NUM_COLUMNS, NUM_CHUNKS = 42, 625, 6
CHUNK_BYTES = CHUNK_ROWS * NUM_COLUMNS
BLOCK_BYTES = 2500
NUM_BLOCKS = 11
WRITTEN = (0, 2, 3, 4)
NOISE = 4
"""The chunk that Blosc cannot make smaller."""

needs_crc32c = pytest.mark.skipif(not extension.has_crc32c(), reason="not compiled, or another processor")


def values(chunk):
    random = np.random.default_rng(chunk)
    if chunk == NOISE:
        return random.integers(0, 256, (CHUNK_ROWS, NUM_COLUMNS), dtype=np.uint8)
    steps = random.integers(0, 2, (CHUNK_ROWS, NUM_COLUMNS)) * random.integers(0, 3, (CHUNK_ROWS, 1))
    return np.ascontiguousarray(steps.cumsum(axis=1)).astype(np.uint8)


def write_shard(path, chunks=WRITTEN, codec=CODEC):
    with path.open("wb") as file:
        writer = ShardWriter(file, NUM_CHUNKS, codec)
        for chunk in chunks:
            writer.write(chunk, values(chunk))
        writer.finish()


def open_shard(path):
    return ShardReader(LocalFile(path), NUM_CHUNKS, CODEC, CHUNK_BYTES)


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "shard"
    write_shard(path)
    return path


@pytest.fixture(scope="module")
def shared_shard(tmp_path_factory):
    path = tmp_path_factory.mktemp("shard") / "shard"
    write_shard(path)
    return path


@needs_crc32c
@given(content=st.binary(max_size=40), size=st.integers(0, 3000), offset=st.integers(0, 70))
def test_the_checksum_is_that_of_the_library(content, size, offset):
    filled = np.resize(np.frombuffer(content + b"\x01", dtype=np.uint8), size + offset)[offset:]
    assert extension.native.crc32c(filled) == google_crc32c.value(filled)


def test_a_table_says_where_blocks_end_and_what_their_checksums_are():
    encoded = CODEC.encode(values(0))
    table = np.frombuffer(block_table(encoded, CHUNK_BYTES, BLOCK_BYTES)[:-4], dtype="<u4").reshape(-1, 2)
    assert len(table) == NUM_BLOCKS
    begin, decoded = 16 + 4 * NUM_BLOCKS, b""
    for place, (end, checksum) in enumerate(table.tolist()):
        block = encoded[begin:end]
        assert google_crc32c.value(block) == checksum
        size = min(BLOCK_BYTES, CHUNK_BYTES - BLOCK_BYTES * place)
        words = [size, size, 20 + len(block), 20]
        decoded += decompress(bytes([2, 1, encoded[2], 32]) + np.array(words, dtype="<u4").tobytes() + block)
        begin = end
    assert begin == len(encoded) - 4
    assert decoded == values(0).tobytes()


@needs_crc32c
@given(seed=st.integers(0, 10**6), rows=st.integers(7, 90), spread=st.sampled_from([1, 3, 30, 256]))
def test_compiled_tables_are_those_of_numpy(seed, rows, spread):
    chunk = np.random.default_rng(seed).integers(0, spread, (rows, NUM_COLUMNS), dtype=np.uint8)
    encoded = CODEC.encode(chunk)
    table = block_table(encoded, chunk.nbytes, BLOCK_BYTES)
    assert table == _block_table_numpy(np.frombuffer(encoded[:-4], dtype=np.uint8), BLOCK_BYTES)
    assert len(table) == table_bytes(chunk.nbytes, BLOCK_BYTES)


def test_a_chunk_that_is_stored_as_it_is_has_an_empty_table():
    table = block_table(CODEC.encode(values(NOISE)), CHUNK_BYTES, BLOCK_BYTES)
    assert table[:-4] == bytes(len(table) - 4)
    assert table[-4:] == google_crc32c.value(table[:-4]).to_bytes(4, "little")


def test_other_chunks_have_no_table():
    assert table_bytes(BLOCK_BYTES - 1, BLOCK_BYTES) == 0
    assert table_bytes(10**6, None) == 0
    assert block_table(b"whatever", 10**6, chunk_codec("balanced", array="ssg").part_bytes) == b""


def test_chunks_with_tables_are_read_whole_as_ever(shard):
    outs = [np.empty((CHUNK_ROWS, NUM_COLUMNS), dtype=np.uint8) for _ in range(2)]
    open_shard(shard).read(range(3, 5), outs)
    assert [out.tolist() for out in outs] == [values(3).tolist(), values(4).tolist()]


TURNS = [Dihedral(hflip=h, vflip=v, transpose=t) for h in (False, True) for v in (False, True) for t in (False, True)]


@needs_crc32c
@given(
    chunks=st.sampled_from([range(1), range(2, 4), range(3, 4), range(3, 5), range(NOISE, NOISE + 1)]),
    wanted=st.sets(st.integers(0, 2 * CHUNK_ROWS - 1), max_size=60),
    turn=st.sampled_from(TURNS),
    seed=st.integers(0, 1000),
)
def test_rows_go_where_they_are_wanted(shared_shard, chunks, wanted, turn, seed):
    rows = np.array(sorted(row for row in wanted if row < len(chunks) * CHUNK_ROWS), dtype=np.int32)
    places = np.random.default_rng(seed).permutation(len(rows) + 5)[: len(rows)].astype(np.int32)
    out = np.full((len(rows) + 5, NUM_COLUMNS), 7, dtype=np.uint8)
    columns = turned_columns(turn, NUM_COLUMNS)
    assert open_shard(shared_shard).prepare_gather(chunks, rows, out, places, columns)()
    expected = np.full_like(out, 7)
    expected[places] = turn.graphs(np.concatenate([values(chunk) for chunk in chunks])[rows])
    assert (out == expected).all()


@needs_crc32c
@given(first=st.integers(0, 2 * CHUNK_ROWS - 1), count=st.integers(1, 2 * CHUNK_ROWS), before=st.integers(0, 3))
def test_runs_of_rows_go_where_they_are_wanted_and_nowhere_else(shared_shard, first, count, before):
    rows = np.arange(first, min(first + count, 2 * CHUNK_ROWS), dtype=np.int32)
    out = np.full((before + len(rows) + 3, NUM_COLUMNS), 7, dtype=np.uint8)
    places = np.arange(before, before + len(rows), dtype=np.int32)
    assert open_shard(shared_shard).prepare_gather(range(2, 4), rows, out, places, None)()
    assert (out[places] == np.concatenate([values(2), values(3)])[rows]).all()
    assert (np.delete(out, places, axis=0) == 7).all()


@needs_crc32c
@settings(max_examples=200)
@given(
    num_columns=st.sampled_from([1, 9, 25, 49, 81, 289]),
    seed=st.integers(0, 10**6),
    offset=st.integers(0, 70),
    density=st.sampled_from([0.1, 0.7, 1.0]),
    turn=st.sampled_from(TURNS),
)
def test_graphs_of_all_sizes_go_where_they_are_wanted(tmp_path_factory, num_columns, seed, offset, density, turn):
    """Also where graphs are smaller than a line of the cache, lie across blocks, or begin anywhere in a line."""
    random = np.random.default_rng(seed)
    chunk_rows = 4 * BLOCK_BYTES // num_columns
    chunks = random.integers(0, 3, (2 * chunk_rows, num_columns), dtype=np.uint8).cumsum(axis=0, dtype=np.uint8) // 9
    path = tmp_path_factory.getbasetemp() / "sizes"
    with path.open("wb") as file:
        writer = ShardWriter(file, 2, CODEC)
        for chunk in range(2):
            writer.write(chunk, chunks[chunk * chunk_rows : (chunk + 1) * chunk_rows])
        writer.finish()
    reader = ShardReader(LocalFile(path), 2, CODEC, chunk_rows * num_columns)
    rows = np.flatnonzero(random.random(len(chunks)) < density).astype(np.int32)
    columns = turned_columns(turn, num_columns)
    out = np.full(offset + (len(rows) + 2) * num_columns, 7, dtype=np.uint8)[offset:].reshape(-1, num_columns)
    assert reader.prepare_gather(range(2), rows, out, np.arange(1, len(rows) + 1, dtype=np.int32), columns)()
    assert (out[1:-1] == (chunks[rows] if columns is None else chunks[rows][:, columns])).all()
    assert (out[[0, -1]] == 7).all()


def gather(path, chunks, rows):
    out = np.full((len(rows), NUM_COLUMNS), 7, dtype=np.uint8)
    places = np.arange(len(rows), dtype=np.int32)
    done = open_shard(path).prepare_gather(chunks, np.array(rows, dtype=np.int32), out, places, None)()
    return out if done else None


class OtherBlocks:
    """As the codec, but for the size of blocks: chunks that it encodes have an empty table."""

    part_bytes = BLOCK_BYTES

    def encode(self, chunk):
        frame = compress(chunk.tobytes(), b"lz4", clevel=5, shuffle=0, blocksize=2 * BLOCK_BYTES)
        return frame + google_crc32c.value(frame).to_bytes(4, "little")


@needs_crc32c
def test_chunks_that_are_divided_otherwise_are_left_to_others(tmp_path):
    path = tmp_path / "shard"
    write_shard(path, range(3), OtherBlocks())
    assert gather(path, range(1, 3), [0, CHUNK_ROWS + 3]) is None
    (out,) = outs = [np.empty((CHUNK_ROWS, NUM_COLUMNS), dtype=np.uint8)]
    open_shard(path).read(range(2, 3), outs)
    assert (out == values(2)).all()


def test_without_compiled_code_nothing_is_done(shard, monkeypatch):
    monkeypatch.setattr(extension, "native", None)
    assert gather(shard, range(2, 3), [0]) is None


def gathers_of(reader, chunks, out):
    rows = np.arange(0, len(chunks) * CHUNK_ROWS, 5, dtype=np.int32)
    return reader.prepare_gather(chunks, rows, out, np.arange(len(rows), dtype=np.int32), None)


@needs_crc32c
def test_some_readings_are_carried_out_whatever_becomes_of_the_others(shard, tmp_path):
    other = tmp_path / "other"
    write_shard(other, [0], OtherBlocks())
    readers = [open_shard(shard), open_shard(other), open_shard(shard), open_shard(other)]
    chunks = [range(3, 4), range(1), range(NOISE, NOISE + 1), range(1)]
    outs = [np.full((9, NUM_COLUMNS), 7, dtype=np.uint8) for _ in chunks]
    gathers = [gathers_of(*each) for each in zip(readers, chunks, outs, strict=True)]
    assert gather_all([Gather(), *gathers, Gather(is_done=True)]) == [False, True, False, True, False, True]
    assert (outs[0] == values(3)[::5]).all()
    assert (outs[2] == values(NOISE)[::5]).all()


@needs_crc32c
def test_the_reading_that_fails_names_its_own_file_and_chunk(shard, tmp_path):
    content, index = chunk_places(shard)
    content[int(index[3, 0]) + 16 + 4 * NUM_BLOCKS + 4] ^= 1
    altered = tmp_path / "altered"
    altered.write_bytes(content)
    outs = [np.full((17, NUM_COLUMNS), 7, dtype=np.uint8) for _ in range(2)]
    gathers = [gathers_of(open_shard(path), range(2, 4), out) for path, out in zip((shard, altered), outs, strict=True)]
    with pytest.raises(StoreCorruptError, match=r"chunk 3 of .*altered: a block's CRC-32C does not match"):
        gather_all(gathers)
    assert (outs[0] == np.concatenate([values(2), values(3)])[::5]).all()


@needs_crc32c
def test_the_reading_that_the_system_refuses_names_its_file(shard, tmp_path):
    closed = tmp_path / "closed"
    closed.write_bytes(shard.read_bytes())
    readers = [open_shard(path) for path in (shard, closed, shard)]
    outs = [np.full((9, NUM_COLUMNS), 7, dtype=np.uint8) for _ in readers]
    gathers = [gathers_of(reader, range(3, 4), out) for reader, out in zip(readers, outs, strict=True)]
    readers[1].close()
    with pytest.raises(OSError, match=r"Bad file descriptor: .*closed"):
        gather_all(gathers)


@needs_crc32c
def test_columns_may_change_after_a_reading_was_prepared(shard):
    columns = turned_columns(TURNS[1], NUM_COLUMNS).copy()
    out = np.empty((CHUNK_ROWS, NUM_COLUMNS), dtype=np.uint8)
    rows = np.arange(CHUNK_ROWS, dtype=np.int32)
    prepared = open_shard(shard).prepare_gather(range(3, 4), rows, out, rows, columns)
    columns[:] = 2**16 - 1
    assert prepared()
    assert (out == TURNS[1].graphs(values(3))).all()


@needs_crc32c
def test_a_chunk_never_written_is_an_error(shard):
    with pytest.raises(StoreCorruptError, match="chunk 1 of .* was never written"):
        gather(shard, range(3), [0, 100])


@needs_crc32c
@settings(max_examples=300)
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed_or_does_not_matter(shared_shard, tmp_path_factory, place, bit):
    content = bytearray(shared_shard.read_bytes())
    content[place % len(content)] ^= 1 << bit
    altered = tmp_path_factory.getbasetemp() / "altered"
    altered.write_bytes(content)
    rows = [0, 1, 39, 47, 79, 2 * CHUNK_ROWS + 7]
    try:
        found = gather(altered, range(2, 5), rows)
    except StoreCorruptError:
        return
    assert (found == np.concatenate([values(2), values(3), values(NOISE)])[rows]).all()


def chunk_places(path):
    content = path.read_bytes()
    index = np.frombuffer(content[-4 - 16 * NUM_CHUNKS : -4], dtype="<u8").reshape(NUM_CHUNKS, 2)
    return bytearray(content), index


@needs_crc32c
@pytest.mark.parametrize("row", range(0, CHUNK_ROWS, 3))
def test_every_block_that_is_used_is_checked(shard, row):
    content, index = chunk_places(shard)
    table = np.frombuffer(block_table(CODEC.encode(values(3)), CHUNK_BYTES, BLOCK_BYTES)[:-4], dtype="<u4")
    block = row * NUM_COLUMNS // BLOCK_BYTES
    begin = int(table[2 * block - 2]) if block else 16 + 4 * NUM_BLOCKS
    content[int(index[3, 0]) + begin + 4] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StoreCorruptError, match=r"chunk 3 of .*: a block's CRC-32C does not match; run"):
        gather(shard, range(2, 4), [5, CHUNK_ROWS + row])


@needs_crc32c
@pytest.mark.parametrize("row", [0, CHUNK_ROWS - 1])
def test_a_chunk_that_is_stored_as_it_is_is_checked_as_a_whole(shard, row):
    content, index = chunk_places(shard)
    content[int(index[NOISE, 0]) + 16 + 20 * NUM_COLUMNS] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StoreCorruptError, match=r"chunk 4 of .*: its CRC-32C does not match; run"):
        gather(shard, range(3, 5), [5, CHUNK_ROWS + row])


@needs_crc32c
def test_an_altered_table_is_named(shard):
    content, index = chunk_places(shard)
    first_table = int(index[NOISE].sum())
    content[first_table + table_bytes(CHUNK_BYTES, BLOCK_BYTES) + 9] ^= 1  # of the second chunk that was written
    shard.write_bytes(content)
    with pytest.raises(StoreCorruptError, match="chunk 2 of .*: its block table was altered"):
        gather(shard, range(2, 4), [5, CHUNK_ROWS])


@needs_crc32c
@pytest.mark.parametrize("size", [0, 20, 2000])
def test_a_file_cut_off_after_it_was_opened(shard, size):
    reader = open_shard(shard)
    os.truncate(shard, size)
    out = np.empty((1, NUM_COLUMNS), dtype=np.uint8)
    with pytest.raises(StoreCorruptError, match="chunk 2 of .*: the file ends before it does"):
        reader.prepare_gather(range(2, 3), np.array([3], dtype=np.int32), out, np.array([0], dtype=np.int32), None)()


@needs_crc32c
def test_a_table_that_its_checksum_fits_but_not_its_frame_is_refused(shard):
    """Whatever stands in a table, nothing is read or written outside of what belongs to the chunk."""
    content, index = chunk_places(shard)
    size = table_bytes(CHUNK_BYTES, BLOCK_BYTES)
    first = int(index[NOISE].sum()) + 1 * size
    for end in (1, 40, 10**4, 2**32 - 1):
        table = bytearray(content[first : first + size])
        table[8 * 2 : 8 * 2 + 4] = np.uint32(end).tobytes()
        table[-4:] = google_crc32c.value(bytes(table[:-4])).to_bytes(4, "little")
        altered = content[:first] + table + content[first + size :]
        shard.write_bytes(altered)
        with pytest.raises(StoreCorruptError, match="its block table was altered"):
            gather(shard, range(2, 3), [20])


@needs_crc32c
@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"rows": [5, 4]}, "rows must ascend"),
        ({"rows": [4, 4]}, "rows must ascend"),
        ({"rows": [-1, 4]}, "rows must ascend"),
        ({"rows": [0, CHUNK_ROWS]}, "lie in the chunks"),
        ({"shift": -1}, "rows must ascend"),
        ({"shift": CHUNK_ROWS - 1}, "lie in the chunks"),
        ({"rows": [-(2**31), 2**31 - 1]}, "rows must ascend"),
        ({"chunk_rows": 2**60}, "must not be that large"),
        ({"places": [0, 2]}, "places must lie in out"),
        ({"places": [0, -1]}, "places must lie in out"),
        ({"places": [0]}, "rows and places must match"),
        ({"columns": [0, 1]}, "one entry per column"),
        ({"columns": [NUM_COLUMNS] * NUM_COLUMNS}, "columns must lie in out"),
    ],
)
def test_what_does_not_fit_is_refused(shard, changes, rule):
    types = {"rows": np.int32, "places": np.int32, "columns": np.uint16}
    options = {"rows": [0, 1], "places": [0, 1], "columns": None, "shift": 0, "chunk_rows": CHUNK_ROWS} | changes
    for name, dtype in types.items():
        options[name] = None if options[name] is None else np.array(options[name], dtype=dtype)
    _, index = chunk_places(shard)
    with pytest.raises(ValueError, match=rule):
        extension.native.GatherRequest(
            chunks=index[2:3].astype(np.uint64),
            tables=0,
            block_bytes=BLOCK_BYTES,
            out=np.empty((2, NUM_COLUMNS), dtype=np.uint8),
            **options,
        )


@needs_crc32c
def test_a_closed_file_is_an_error_of_the_system(shard):
    reader = open_shard(shard)
    reader.close()
    out = np.empty((1, NUM_COLUMNS), dtype=np.uint8)
    with pytest.raises(OSError, match="Bad file descriptor"):
        reader.prepare_gather(range(2, 3), np.array([3], dtype=np.int32), out, np.array([0], dtype=np.int32), None)()


def test_a_store_gives_the_same_codes_either_way(tmp_path):
    store = tiny_store(tmp_path, sizes=[(96, 128)], patch_size=64, step=32)
    for index in range(store.num_patches):
        rows = np.flatnonzero(np.random.default_rng(index).random(store.counts[index]) < 0.4).astype(np.int32)
        codes = np.zeros((len(rows), 625), dtype=np.uint8)
        assert (
            store.prepare_gather(index, rows, codes, np.arange(len(rows), dtype=np.int32))() == extension.has_crc32c()
        )
        expected = store.read_codes(index)[rows]
        assert not extension.has_crc32c() or (codes == expected).all()
        found = [block[rows_of_block] for _, rows_of_block, block in store.code_blocks(index, rows)]
        assert (np.concatenate(found) == expected).all()
