"""Rectangles of images, read from their tiles in one call."""

import os

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs.blosc import Blosc

from ssl_data.errors import StoreCorruptError
from ssl_data.geometry.positions import Window
from ssl_data.store import extension
from ssl_data.store.codec import chunk_codec
from ssl_data.store.local import LocalFile
from ssl_data.store.reader import open_store
from ssl_data.store.shard import ShardReader, ShardWriter
from ssl_data.testing import tiny_store

SIDE, PER_ROW, NUM_IMAGES = 16, 3, 2
IMAGE_SIDE, PER_IMAGE = SIDE * PER_ROW, PER_ROW**2

needs_crc32c = pytest.mark.skipif(not extension.has_crc32c(), reason="not compiled, or another processor")


def images(kind):
    """Of three colours, or a mask; tiles of the first are noise, which Blosc stores as it is."""
    random = np.random.default_rng(0)
    if kind == "edge_mask":
        return (random.random((NUM_IMAGES, IMAGE_SIDE, IMAGE_SIDE, 1)) < 0.2).astype(np.uint8)
    smooth = np.add.outer(np.arange(IMAGE_SIDE), np.arange(IMAGE_SIDE))[..., None] // 7 + np.arange(3)
    noise = random.integers(0, 256, (IMAGE_SIDE, IMAGE_SIDE, 3))
    return np.stack([noise, smooth]).astype(np.uint8)


def tiles(image):
    cut = image.reshape(PER_ROW, SIDE, PER_ROW, SIDE, -1).swapaxes(1, 2)
    return cut.reshape(PER_IMAGE, SIDE, SIDE, -1)


def write_shard(path, kind, codec=None):
    codec = codec or chunk_codec("fast", array=kind)
    with path.open("wb") as file:
        writer = ShardWriter(file, (NUM_IMAGES + 1) * PER_IMAGE, codec)
        for number, image in enumerate(images(kind)):
            for place, tile in enumerate(tiles(image)):
                writer.write(number * PER_IMAGE + place, np.ascontiguousarray(tile))
        writer.finish()
    return codec


def open_shard(path, kind, codec=None):
    chunk_bytes = SIDE * SIDE * (1 if kind == "edge_mask" else 3)
    codec = codec or chunk_codec("fast", array=kind)
    return ShardReader(LocalFile(path), (NUM_IMAGES + 1) * PER_IMAGE, codec, chunk_bytes)


def chunk_places(content):
    """Offset and size of each chunk of a shard."""
    return np.frombuffer(content[-4 - 16 * (NUM_IMAGES + 1) * PER_IMAGE : -4], dtype="<u8").reshape(-1, 2)


def read(reader, kind, number, window):
    shape = (window.bottom - window.top, window.right - window.left, 1 if kind == "edge_mask" else 3)
    out = np.full(shape, 7, dtype=np.uint8)
    done = reader.read_tiles(number * PER_IMAGE, PER_ROW, (window.top, window.left), SIDE, out)
    return out if done else None


def cut(image, window):
    return image[window.top : window.bottom, window.left : window.right]


WHOLE = Window(top=0, left=0, bottom=IMAGE_SIDE, right=IMAGE_SIDE)


@st.composite
def windows(draw):
    top, left = draw(st.integers(0, IMAGE_SIDE - 1)), draw(st.integers(0, IMAGE_SIDE - 1))
    bottom, right = draw(st.integers(top + 1, IMAGE_SIDE)), draw(st.integers(left + 1, IMAGE_SIDE))
    return Window(top=top, left=left, bottom=bottom, right=right)


@pytest.fixture(scope="module", params=["gt", "edge_mask"])
def shared(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("shard") / "shard"
    write_shard(path, request.param)
    return path, request.param


@needs_crc32c
@given(window=windows(), number=st.integers(0, NUM_IMAGES - 1))
def test_a_rectangle_is_what_was_written(shared, window, number):
    path, kind = shared
    assert (read(open_shard(path, kind), kind, number, window) == cut(images(kind)[number], window)).all()


class _Blocks:
    """Like the codec, but with frames of several blocks, or in other forms that Blosc knows."""

    def __init__(self, **options):
        self.options = {"cname": "lz4", "clevel": 9, "shuffle": Blosc.NOSHUFFLE, "typesize": 1} | options
        self.part_bytes, self.is_frame = None, True

    def encode(self, chunk):
        frame = Blosc(**self.options).encode(chunk)
        return frame + google_crc32c.value(frame).to_bytes(4, "little")


@needs_crc32c
@given(window=windows())
def test_frames_of_several_blocks(tmp_path_factory, window):
    path, codec = tmp_path_factory.getbasetemp() / "blocks", _Blocks(blocksize=200, typesize=20)
    write_shard(path, "gt", codec)
    content = path.read_bytes()
    first = int(chunk_places(content)[PER_IMAGE, 0])  # of the second image, which is not stored as it is
    num_bytes, block_bytes = np.frombuffer(content[first + 4 : first + 12], dtype="<u4").tolist()
    assert (num_bytes, block_bytes) == (SIDE * SIDE * 3, 200)
    assert (read(open_shard(path, "gt", codec), "gt", 1, window) == cut(images("gt")[1], window)).all()


@needs_crc32c
@pytest.mark.parametrize(
    "options", [{"cname": "zstd"}, {"shuffle": Blosc.SHUFFLE, "typesize": 4}, {"typesize": 4}, {"shuffle": 2}]
)
def test_other_frames_are_left_to_the_library(tmp_path, options):
    """The last are bit-shuffled and hold more than bits."""
    codec = _Blocks(**options)
    write_shard(tmp_path / "shard", "gt", codec)
    assert read(open_shard(tmp_path / "shard", "gt", codec), "gt", 1, WHOLE) is None


def test_what_is_no_frame_is_left_to_the_library(tmp_path):
    codec = write_shard(tmp_path / "shard", "gt", chunk_codec("balanced"))
    assert read(open_shard(tmp_path / "shard", "gt", codec), "gt", 1, WHOLE) is None


def test_without_compiled_code_nothing_is_done(shared, monkeypatch):
    path, kind = shared
    monkeypatch.setattr(extension, "native", None)
    assert read(open_shard(path, kind), kind, 0, WHOLE) is None


def test_tiles_never_written_are_left_to_the_longer_way(shared):
    path, kind = shared
    assert read(open_shard(path, kind), kind, NUM_IMAGES, WHOLE) is None


def test_a_missing_tile_matters_only_where_it_is_wanted(tmp_path):
    store = tiny_store(tmp_path, sizes=[(256, 256)], patch_size=256, step=256)
    expected = store.read_gt(0)
    path = tmp_path / "store.zarr" / "gt" / "c" / "0" / "0" / "0" / "0"
    content = bytearray(path.read_bytes())
    index = np.frombuffer(content[-4 - 16 * 4 * 2 : -4], dtype="<u8").copy()
    index[2:4] = 2**64 - 1
    content[-4 - 16 * 4 * 2 :] = index.tobytes() + google_crc32c.value(index.tobytes()).to_bytes(4, "little")
    path.write_bytes(content)
    store = open_store(tmp_path / "store.zarr")
    assert (store.read_gt(0, Window(top=0, left=0, bottom=256, right=100)) == expected[:, :100]).all()
    with pytest.raises(StoreCorruptError, match="chunk 1 of .* was never written"):
        store.read_gt(0)


@needs_crc32c
@pytest.mark.parametrize("tile", range(PER_IMAGE))
def test_every_tile_that_is_used_is_checked(shared, tmp_path, tile):
    path, kind = shared
    content = bytearray(path.read_bytes())
    index = chunk_places(content)
    content[int(index[PER_IMAGE + tile, 0]) + 18] ^= 1
    altered = tmp_path / "altered"
    altered.write_bytes(content)
    reader = open_shard(altered, kind)
    with pytest.raises(StoreCorruptError, match=f"chunk {PER_IMAGE + tile} of .*: its CRC-32C does not match; run"):
        read(reader, kind, 1, WHOLE)
    top, left = (SIDE * place for place in divmod((tile + 4) % PER_IMAGE, PER_ROW))
    other = Window(top=top, left=left, bottom=top + SIDE, right=left + SIDE)
    assert (read(reader, kind, 1, other) == cut(images(kind)[1], other)).all()


@needs_crc32c
@settings(max_examples=300)
@given(place=st.integers(0, 10**6), values=st.binary(min_size=1, max_size=4))
def test_a_frame_altered_together_with_its_checksum_harms_nothing(shared, tmp_path_factory, place, values):
    """Whatever stands in a frame, nothing is read or written outside of what belongs to it."""
    path, kind = shared
    content = bytearray(path.read_bytes())
    index = chunk_places(content)
    offset, size = index[PER_IMAGE].tolist()
    at = offset + place % (size - 4)
    content[at : at + len(values)] = values
    end = offset + size - 4
    content[end : end + 4] = google_crc32c.value(bytes(content[offset:end])).to_bytes(4, "little")
    altered = tmp_path_factory.getbasetemp() / "altered-frame"
    altered.write_bytes(content)
    try:
        found = read(open_shard(altered, kind), kind, 1, WHOLE)
    except StoreCorruptError as error:
        assert "chunk" in str(error)  # noqa: PT017 - some of these frames decode
    else:
        assert found is None or found.shape[:2] == (IMAGE_SIDE, IMAGE_SIDE)


@needs_crc32c
@pytest.mark.parametrize("tile", [0, 1, 5])
def test_a_file_cut_off_after_it_was_opened(shared, tmp_path, tile):
    path, kind = shared
    content = path.read_bytes()
    copy = tmp_path / "copy"
    copy.write_bytes(content)
    reader = open_shard(copy, kind)
    index = chunk_places(content)
    os.truncate(copy, int(index[tile, 0]) + 10)
    with pytest.raises(StoreCorruptError, match=f"chunk {tile} of .*: the file ends before it does"):
        read(reader, kind, 0, WHOLE)


@needs_crc32c
def test_a_closed_file_is_an_error_of_the_system(shared):
    path, kind = shared
    reader = open_shard(path, kind)
    reader.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        read(reader, kind, 0, WHOLE)


@needs_crc32c
@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"out": np.empty((4, 4), dtype=np.uint8)}, "out must be an image"),
        ({"out": np.empty((0, 4, 3), dtype=np.uint8)}, "not empty"),
        ({"left": IMAGE_SIDE - 3}, "out must lie in the image"),
        ({"side": 0}, "out must lie in the image"),
        ({"side": 2**32}, "tiles must not be that large"),
        ({"top": 2**64 - 2}, "out must lie in the image"),
        ({"first": 5}, "its tiles must be among the chunks"),
        ({"top": IMAGE_SIDE}, "its tiles must be among the chunks"),
        ({"chunks": np.zeros((4, 3), dtype=np.uint64)}, "chunks must have shape"),
    ],
)
def test_what_does_not_fit_is_refused(shared, changes, rule):
    path, _ = shared
    out, chunks = np.empty((4, 4, 3), dtype=np.uint8), np.zeros((PER_IMAGE, 2), dtype=np.uint64)
    tiling = {"first": 0, "per_row": PER_ROW, "side": SIDE, "top": 0, "left": 0}
    options = {"chunks": chunks, "out": out} | tiling | changes
    with path.open("rb") as file, pytest.raises(ValueError, match=rule):
        extension.native.read_tiles(file=file.fileno(), **options)


def test_windows_and_arrays_that_do_not_fit_are_refused(tmp_path):
    store = tiny_store(tmp_path, lq_scale=4)
    assert store.read_gt(0, Window(top=5, left=5, bottom=5, right=10)).shape == (0, 5, 3)
    for window in (Window(top=-1, left=0, bottom=9, right=9), Window(top=0, left=0, bottom=9, right=65)):
        with pytest.raises(IndexError, match="a window must lie in the image of 64 x 64"):
            store.read_gt(0, window)
    for out in (np.zeros((128, 128), bool), np.zeros((64, 64), np.uint8), np.zeros((64, 64), bool, order="F")):
        with pytest.raises(ValueError, match=r"out must be C-contiguous bool \(64, 64\)"):
            store.read_edge_mask(0, out=out)


def test_a_store_gives_the_same_images_either_way(tmp_path, monkeypatch):
    store = tiny_store(tmp_path, sizes=[(300, 280)], patch_size=256, step=128, lq_scale=4)
    window = Window(top=100, left=4, bottom=228, right=132)
    reads = [
        lambda: store.read_gt(0),
        lambda: store.read_gt(0, window),
        lambda: store.read_lq(0),
        lambda: store.read_lq(0, window),
        lambda: store.read_edge_mask(0),
        lambda: store.read_edge_bits(0),
    ]
    natively = [one() for one in reads]
    for name in ("read_tiles", "read_bits"):
        monkeypatch.setattr(ShardReader, name, lambda *_: False)
    for one, found in zip(reads, natively, strict=True):
        expected = one()
        assert found.dtype == expected.dtype
        assert (found == expected).all()


@pytest.mark.parametrize("compression", ["fast", "balanced"])
@pytest.mark.parametrize("patch_size", [48, 50, 64, 67])
def test_bits_are_those_of_the_mask(tmp_path, compression, patch_size):
    """Also where a row does not end with a byte."""
    store = tiny_store(tmp_path, sizes=[(160, 150)], patch_size=patch_size, step=patch_size, compression=compression)
    assert len(store) > 2
    for index in range(len(store)):
        mask = store.read_edge_mask(index)
        assert mask.any()
        assert (store.read_edge_bits(index) == np.packbits(mask, axis=1, bitorder="little")).all()


def test_a_mask_of_other_bytes_than_0_and_1_has_a_bit_for_each_that_is_not_0(tmp_path):
    """As a broken store may hold it."""
    store = tiny_store(tmp_path, patch_size=64, step=64)
    array, codec = store._arrays["edge_mask"], chunk_codec("fast", array="edge_mask")
    values = np.random.default_rng(0).choice(np.array([0, 2, 255], dtype=np.uint8), (64, 64))
    with (tmp_path / "shard").open("wb") as file:
        writer = ShardWriter(file, 1, codec)
        writer.write(0, values)
        writer.finish()
    array._open[0] = ShardReader(LocalFile(tmp_path / "shard"), 1, codec, values.size)
    assert (store.read_edge_bits(0) == np.packbits(values, axis=1, bitorder="little")).all()


@needs_crc32c
def test_bits_of_another_encoding_are_left_to_the_longer_way(tmp_path):
    codec = chunk_codec("balanced", array="edge_mask")
    path = tmp_path / "shard"
    write_shard(path, "edge_mask", codec)
    out = np.zeros((SIDE, SIDE // 8), dtype=np.uint8)
    assert not open_shard(path, "edge_mask", codec).read_bits(0, out)
    write_shard(path, "edge_mask")
    assert open_shard(path, "edge_mask").read_bits(1, out)
    assert (out == np.packbits(tiles(images("edge_mask")[0])[1, ..., 0], axis=1, bitorder="little")).all()


@needs_crc32c
def test_bits_of_an_altered_or_missing_chunk_are_refused_by_name(tmp_path):
    path = tmp_path / "shard"
    write_shard(path, "edge_mask")
    content = path.read_bytes()
    out = np.zeros((SIDE, SIDE // 8), dtype=np.uint8)
    offset, size = chunk_places(content)[1].tolist()
    for at in range(offset, offset + size):
        path.write_bytes(content[:at] + bytes([content[at] ^ 64]) + content[at + 1 :])
        with pytest.raises(StoreCorruptError, match=r"chunk 1 of .*shard: its CRC-32C does not match"):
            open_shard(path, "edge_mask").read_bits(1, out)
    path.write_bytes(content)
    with pytest.raises(StoreCorruptError, match=r"chunk 18 of .*shard was never written"):
        open_shard(path, "edge_mask").read_bits(2 * PER_IMAGE, out)


def outcome(read):
    try:
        return read()
    except StoreCorruptError as error:
        return str(error)


@needs_crc32c
@pytest.mark.parametrize("length", range(0, 60, 3))
def test_what_bytes_make_of_a_frame_so_do_bits(tmp_path, length):
    """Frames that begin as they should and go on with noise, under a right checksum."""
    path = tmp_path / "shard"
    write_shard(path, "edge_mask")
    content = bytearray(path.read_bytes())
    offset, size = chunk_places(content)[1].tolist()
    frame = content[offset : offset + min(length, size - 4)] + np.random.default_rng(length).bytes(size)
    content[offset : offset + size - 4] = frame[: size - 4]
    content[offset + size - 4 : offset + size] = google_crc32c.value(bytes(frame[: size - 4])).to_bytes(4, "little")
    path.write_bytes(content)
    tile, bits = np.zeros((SIDE, SIDE, 1), dtype=np.uint8), np.zeros((SIDE, SIDE // 8), dtype=np.uint8)
    whole = outcome(lambda: open_shard(path, "edge_mask").read_tiles(0, PER_ROW, (0, SIDE), SIDE, tile))
    packed = outcome(lambda: open_shard(path, "edge_mask").read_bits(1, bits))
    if whole is True:  # a frame that is stored as it is, or plain LZ4, has no bits
        assert packed is False or (bits == np.packbits(tile[..., 0], axis=1, bitorder="little")).all()
    else:
        assert packed == whole
