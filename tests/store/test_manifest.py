"""Tables of the manifest."""

import pytest

from ssl_data.errors import StoreCorruptError
from ssl_data.store.layout import record_path
from ssl_data.store.local import LocalSource
from ssl_data.store.manifest import (
    FILE_SCHEMA,
    REJECTED_SCHEMA,
    FileRecord,
    PatchRecord,
    ShardRecord,
    encode_table,
    read_record,
    read_table,
)


def make_record():
    patch = PatchRecord(
        slot=7,
        patch_id="ü ber/a#1.png:0,64",
        author_name="a#1_s002",
        source="ü ber/a#1.png",
        source_sha256="ab" * 32,
        scale="1",
        row=0,
        col=64,
        num_edge_pixels=12,
        start=4096,
        count=4,
        gt_sha256="01" * 32,
        filtered=None,
    )
    file = FileRecord(path="gt/c/1/0/0/0", num_bytes=123, sha256="cd" * 32)
    return ShardRecord(shard=1, fingerprint="ef" * 32, files=(file,), patches=(patch,))


@pytest.fixture
def root(tmp_path):
    path = tmp_path / record_path(1)
    path.parent.mkdir()
    path.write_bytes(make_record().encode())
    return tmp_path


def test_a_record_is_read_as_it_was_written(root):
    assert read_record(LocalSource(root), 1) == make_record()


def test_equal_records_are_equal_bytes():
    assert make_record().encode() == make_record().encode()


def test_a_missing_record_is_named(root):
    with pytest.raises(StoreCorruptError, match=r"shard-00002\.parquet is missing"):
        read_record(LocalSource(root), 2)


def test_altered_tables_are_refused_or_harmless(root):
    path = root / record_path(1)
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        altered = bytearray(content)
        altered[place] ^= 0x20
        path.write_bytes(altered)
        try:
            record = read_record(LocalSource(root), 1)
        except StoreCorruptError:
            continue
        # Parquet's footer has no checksum of its own; the record's SHA-256 in files.parquet covers it.
        assert len(record.patches) == 1


def test_a_table_with_other_columns_is_refused(tmp_path):
    path = tmp_path / "files.parquet"
    path.write_bytes(encode_table(REJECTED_SCHEMA, []))
    with pytest.raises(StoreCorruptError, match="has columns"):
        read_table(LocalSource(tmp_path), path.name, FILE_SCHEMA)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not a table at all"])
def test_files_that_are_no_tables_are_refused(tmp_path, content):
    path = tmp_path / "files.parquet"
    path.write_bytes(content)
    with pytest.raises(StoreCorruptError, match="does not decode"):
        read_table(LocalSource(tmp_path), path.name, FILE_SCHEMA)
