"""The manifest: what was planned, what each shard holds, and the size and hash of every file.

Tables are Parquet. A shard's record is written after all its files; it is the commit of the shard.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from ssl_data.config import canonical_json
from ssl_data.errors import StoreCorruptError
from ssl_data.store.layout import PATCHES_PATH, record_path, stays_inside

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ssl_data.store.source import ByteSource

__all__ = [
    "FILE_SCHEMA",
    "FILTERS",
    "PATCH_SCHEMA",
    "REJECTED_SCHEMA",
    "SOURCE_SCHEMA",
    "FileRecord",
    "Filter",
    "PatchRecord",
    "RejectedRecord",
    "ShardRecord",
    "decode_record",
    "decode_table",
    "encode_table",
    "read_record",
    "read_stored_patches",
    "read_table",
]

PATCH_SCHEMA = pa.schema(
    [
        pa.field("slot", pa.int64(), nullable=False),
        pa.field("patch_id", pa.string(), nullable=False),
        pa.field("author_name", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_sha256", pa.string(), nullable=False),
        pa.field("scale", pa.string(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("col", pa.int32(), nullable=False),
        pa.field("num_edge_pixels", pa.int32(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("count", pa.int32(), nullable=False),
        pa.field("gt_sha256", pa.string()),
        pa.field("filtered", pa.string()),
        pa.field("duplicate_of", pa.string()),
        pa.field("rejected", pa.string()),
        pa.field("reason_code", pa.string()),
    ]
)
FILE_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("num_bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
    ]
)
SOURCE_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("num_bytes", pa.int64(), nullable=False),
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("mask_sha256", pa.string()),
        pa.field("rejected", pa.string()),
        pa.field("reason_code", pa.string()),
    ]
)
REJECTED_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("reason_code", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)

Filter = Literal["rejected-image", "edge-density", "duplicate"]
FILTERS: tuple[Filter, ...] = get_args(Filter)
"""Why a planned patch is not stored: its image is broken, it has too few edge pixels, an earlier one has its pixels."""

_KEY = b"ssl_data"


@dataclass(frozen=True, kw_only=True)
class PatchRecord:
    """One patch slot of a store."""

    slot: int
    patch_id: str
    """Unique in the store."""
    author_name: str
    """What the authors' scripts call the patch, without suffix; not always unique."""
    source: str
    source_sha256: str
    scale: str
    """Size of the image that the patch is cut from, see `ssl_data.geometry.scales`."""
    row: int
    col: int
    num_edge_pixels: int
    """Edge pixels of the full mask, before edge_stride."""
    start: int
    """First row in ``ssg``; -1 where the slot is empty."""
    count: int
    """Rows in ``ssg``."""
    gt_sha256: str | None
    """Hash of the pixels (H, W, 3) in C order; None where the image is broken."""
    filtered: Filter | None
    """Why the slot is empty; None where the patch is stored."""
    duplicate_of: str | None = None
    """The patch with the same pixels that is stored instead, by its `patch_id`."""
    rejected: str | None = None
    """What is wrong with the image, where that is why."""
    reason_code: str | None = None
    """What kind of reason that is."""


@dataclass(frozen=True, kw_only=True, order=True)
class RejectedRecord:
    """An image that is not in the store."""

    source: str
    reason_code: str
    """What kind of reason, see `ssl_data.errors.ReasonCode`."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """One file of the store, by its path relative to the store."""

    path: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """The commit record of a shard."""

    shard: int
    fingerprint: str
    files: tuple[FileRecord, ...]
    patches: tuple[PatchRecord, ...]

    def encode(self) -> bytes:
        """As a Parquet file: patches as rows, the rest as metadata."""
        header = {
            "shard": self.shard,
            "fingerprint": self.fingerprint,
            "files": [asdict(file) for file in self.files],
        }
        return encode_table(PATCH_SCHEMA, self.patches, metadata={_KEY: canonical_json(header).encode()})


def encode_table(schema: pa.Schema, rows: Sequence[Any], metadata: dict[bytes, bytes] | None = None) -> bytes:
    """A Parquet file of dataclass instances or dictionaries; equal rows give equal bytes."""
    records = [row if isinstance(row, dict) else asdict(row) for row in rows]
    table = pa.Table.from_pylist(records, schema=schema.with_metadata(metadata))
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def decode_table(content: bytes, schema: pa.Schema, name: str | Path) -> pa.Table:
    """A table of the manifest from the content of its file; `name` is the file's, for messages.

    Raises
    ------
    StoreCorruptError
        If it does not decode, or has other columns.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        table = file.read(use_threads=False)  # a process that ends just after Arrow started its threads may abort
        is_expected, names = table.schema.equals(schema), table.schema.names
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreCorruptError(f"{name} does not decode ({error}); run `ssl-data verify` on the store") from error
    if not is_expected:
        raise StoreCorruptError(f"{name} has columns {names} instead of {schema.names}")
    if schema is FILE_SCHEMA:
        _refuse_outside(table["path"].to_pylist(), name)
    return table


def _refuse_outside(paths: Iterable[str], name: str | Path) -> None:
    """A store from elsewhere must not have other files read, linked or replaced."""
    for path in paths:
        if not stays_inside(path):
            raise StoreCorruptError(f"{name} names a file outside of the store, {path!r}; do not use this store")


def read_table(source: ByteSource, path: str, schema: pa.Schema) -> pa.Table:
    """Read a table of the manifest.

    Raises
    ------
    StoreCorruptError
        If the file is missing, does not decode, or has other columns.
    StoreError
        If it cannot be reached.
    """
    return decode_table(source.read_all(path), schema, source.name(path))


def read_stored_patches(source: ByteSource) -> pa.Table:
    """The rows of the patches that are in a complete store, in the order of its indices; errors as of `read_table`."""
    table = read_table(source, PATCHES_PATH, PATCH_SCHEMA)
    return table.filter(table["filtered"].is_null())


def read_record(source: ByteSource, shard: int) -> ShardRecord:
    """Read the commit record of a shard.

    Raises
    ------
    StoreCorruptError
        If it is missing or broken.
    """
    path = record_path(shard)
    return decode_record(source.read_all(path), source.name(path))


def decode_record(content: bytes, name: str | Path) -> ShardRecord:
    """The commit record with this content.

    Raises
    ------
    StoreCorruptError
        If it is broken.
    """
    table = decode_table(content, PATCH_SCHEMA, name)
    try:
        header = json.loads(table.schema.metadata[_KEY])
        _refuse_outside((file["path"] for file in header["files"]), name)
        return ShardRecord(
            shard=header["shard"],
            fingerprint=header["fingerprint"],
            files=tuple(FileRecord(**file) for file in header["files"]),
            patches=tuple(PatchRecord(**row) for row in table.to_pylist()),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreCorruptError(f"{name} lacks its description ({error!r})") from error
