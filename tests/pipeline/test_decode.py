"""Image files of all kinds to RGB, or a reason."""

import io
import os
import struct
import tracemalloc
import zlib
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ssl_data.errors import ReasonCode, SourceError, one_line
from ssl_data.pipeline.decode import decode_image, file_image_size, image_size, read_file
from ssl_data.testing import synthetic_image

RGB = synthetic_image(20, 30)


def encode(image, file_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("file_format", "options"),
    [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {}), ("WEBP", {"lossless": True})],
)
def test_lossless_formats_are_exact(file_format, options):
    assert (decode_image(encode(Image.fromarray(RGB), file_format, **options), "x") == RGB).all()


def test_jpeg_is_close():
    decoded = decode_image(encode(Image.fromarray(RGB), "JPEG", quality=95, subsampling=0), "x")
    assert np.abs(decoded.astype(int) - RGB).mean() < 3


def test_grey_and_palette_are_expanded_and_alpha_is_dropped():
    image = Image.fromarray(RGB)
    grey = image.convert("L")
    assert (decode_image(encode(grey), "x") == np.asarray(grey)[..., None]).all()
    palette = image.quantize(16)
    assert (decode_image(encode(palette), "x") == np.asarray(palette.convert("RGB"))).all()
    transparent = image.copy()
    transparent.putalpha(0)
    assert (decode_image(encode(transparent), "x") == RGB).all()
    one_bit = grey.convert("1")
    assert (decode_image(encode(one_bit), "x") == np.asarray(one_bit.convert("RGB"))).all()


def png_16(values):
    """A PNG of uint16 (H, W, C), 1 to 4 channels, written here because Pillow cannot."""
    height, width, channels = values.shape

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def nearest_8_bits(wide, white=65535):
    return np.floor(wide.astype(float) * 255 / white + 0.5).astype(np.uint8)


@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 9), width=st.integers(1, 9), channels=st.integers(1, 4))
def test_16_bit_png_is_rounded_to_the_nearest_8_bits(seed, height, width, channels):
    wide = np.random.default_rng(seed).integers(0, 65536, (height, width, channels), dtype=np.uint16)
    colours = wide[..., :1] if channels < 3 else wide[..., :3]
    assert (decode_image(png_16(wide), "x") == nearest_8_bits(colours)).all()


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_tiff_is_rounded_to_the_nearest_8_bits(channels, options, byteorder):
    wide = np.random.default_rng(0).integers(0, 65536, (150, 70, channels), dtype=np.uint16)
    kind = {"photometric": "rgb" if channels > 1 else "minisblack", "rowsperstrip": 16}
    kind |= {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    content = write_tiff(wide if channels > 1 else wide[..., 0], byteorder=byteorder, **kind, **options)
    assert (decode_image(content, "x") == nearest_8_bits(wide[..., : min(channels, 3)])).all()


def write_tiff(values, **options):
    tifffile = pytest.importorskip("tifffile", reason="comes with scikit-image: pip install 'ssl_data[sample]'")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def test_grey_tiffs_in_which_white_is_zero():
    wide = np.random.default_rng(0).integers(0, 65536, (20, 30), dtype=np.uint16)
    decoded = decode_image(write_tiff(wide, photometric="miniswhite"), "x")
    assert (decoded == nearest_8_bits(65535 - wide.astype(int))[..., None]).all()
    narrow = (wide >> 8).astype(np.uint8)
    decoded = decode_image(write_tiff(narrow, photometric="miniswhite"), "x")
    assert (decoded == 255 - narrow[..., None]).all()


def test_12_bit_grey_tiff_has_its_own_white():
    wide = np.array([[0, 16, 2048, 4095]], dtype=np.uint16)
    packed = bytes([0x00, 0x00, 0x10, 0x80, 0x0F, 0xFF])
    content = write_tiff(wide.astype(np.uint8), photometric="minisblack").replace(
        struct.pack("<HHII", 258, 3, 1, 8), struct.pack("<HHII", 258, 3, 1, 12)
    )
    (start,) = struct.unpack("<I", content[content.index(struct.pack("<HHI", 273, 4, 1)) + 8 :][:4])
    content = content[:start] + packed
    content = content.replace(struct.pack("<HHII", 279, 4, 1, 4), struct.pack("<HHII", 279, 4, 1, 6))
    assert decode_image(content, "x")[0, :, 0].tolist() == nearest_8_bits(wide, 4095)[0].tolist()


def test_16_bit_grey_pgm():
    wide = np.random.default_rng(0).integers(0, 65536, (5, 7), dtype=np.uint16)
    content = b"P5 7 5 65535\n" + wide.astype(">u2").tobytes()
    assert (decode_image(content, "x") == nearest_8_bits(wide)[..., None]).all()


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 5), np.float32), np.zeros((4, 5), np.int32), np.zeros((4, 5), np.int16)]
)
def test_pixels_without_a_white_level_are_rejected(pixels):
    with pytest.raises(SourceError, match="no fixed white level") as caught:
        decode_image(write_tiff(pixels, photometric="minisblack"), "x")
    assert caught.value.reason_code == "unsupported"


def test_16_bit_planes_which_pillow_takes_for_8_bits_are_rejected():
    planes = np.random.default_rng(0).integers(0, 65536, (3, 20, 30), dtype=np.uint16)
    for compression in (None, "zlib"):
        content = write_tiff(planes, photometric="rgb", planarconfig="separate", compression=compression)
        with pytest.raises(SourceError, match="separate planes"):
            decode_image(content, "x")
    narrow = write_tiff((planes >> 8).astype(np.uint8), photometric="rgb", planarconfig="separate")
    assert (decode_image(narrow, "x") == (planes >> 8).transpose(1, 2, 0)).all()


def test_transparent_palettes_keep_the_colours_below():
    palette = Image.fromarray(RGB).quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    assert (decode_image(encode(palette, transparency=0), "x") == expected).all()
    assert (decode_image(encode(palette, transparency=bytes(range(16))), "x") == expected).all()
    assert (decode_image(encode(palette, "GIF", transparency=0), "x") == expected).all()


@pytest.mark.parametrize(("file_format", "options"), [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True})])
def test_the_first_frame_of_an_animation_is_taken(file_format, options):
    colours = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    frames = [Image.new("RGB", (20, 30), colour) for colour in colours]
    content = encode(frames[0], file_format, save_all=True, append_images=frames[1:], duration=50, **options)
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames == 3
    assert (decode_image(content, "x") == (255, 0, 0)).all()


def test_the_first_page_of_a_tiff_is_taken():
    pages = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    assert (decode_image(encode(pages[0], "TIFF", save_all=True, append_images=pages[1:]), "x") == RGB).all()


def test_camera_raw_files_that_pillow_takes_for_their_thumbnail_are_rejected():
    thumbnail = write_tiff(RGB, photometric="rgb", subfiletype=1)
    dng = write_tiff(RGB, photometric="rgb", extratags=[(50706, "B", 4, b"\1\4\0\0", True)])
    for content in (thumbnail, dng):
        with pytest.raises(SourceError, match="camera raw") as caught:
            image_size(content, "x")
        assert caught.value.reason_code == "unsupported"


def test_progressive_jpegs_are_decoded():
    content = encode(Image.fromarray(RGB), "JPEG", quality=95, subsampling=0, progressive=True)
    assert np.abs(decode_image(content, "x").astype(int) - RGB).mean() < 3


def jpeg_12():
    """A JPEG that announces 12 bits a channel."""
    content = encode(Image.fromarray(RGB), "JPEG")
    frame = content.index(b"\xff\xc0")
    return content[: frame + 4] + b"\x0c" + content[frame + 5 :]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(Image.fromarray(RGB), exif=exif)
    turned = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.swapaxes(0, 1),
        6: RGB[::-1].swapaxes(0, 1),
        7: RGB[::-1, ::-1].swapaxes(0, 1),
        8: RGB[:, ::-1].swapaxes(0, 1),
    }[orientation]
    decoded = decode_image(content, "x")
    assert np.array_equal(decoded, turned)
    assert image_size(content, "x") == decoded.shape[:2]


@pytest.mark.parametrize(
    ("content", "code", "reason"),
    [
        (b"", "empty_file", "empty file"),
        (b"<!DOCTYPE html><p>not found", "html_page", "an HTML page"),
        (b"\xef\xbb\xbf\n <HTML><p>not found", "html_page", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git_lfs_pointer", "Git LFS pointer"),
        (b"plain text", "not_an_image", "not an image"),
        (b"RIFF\4\0\0\0WAVE", "not_an_image", "not an image"),
        (b"<?xml version='1.0'?><svg onload='x'/>", "unsupported", "an SVG file, which is not read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported", "an EPS file, which is not read"),
        (b"%PDF-1.7\n", "unsupported", "a PDF file, which is not read"),
        (b"8BPS\0\1", "unsupported", "a Photoshop file"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "unsupported", "a HEIC file"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "unsupported", "an AVIF file"),
        (b"\xff\x0a\xfa\x1f", "unsupported", "a JPEG XL file"),
        (jpeg_12(), "unsupported", "a JPEG with 12 bits a channel"),
        (encode(Image.fromarray(RGB), "WEBP", lossless=True)[:100], "truncated", "truncated .a WebP file of 100 bytes"),
        (encode(Image.fromarray(RGB), "TIFF", compression="tiff_lzw")[:9], "truncated", "truncated .a TIFF file of 9"),
        (encode(Image.fromarray(RGB))[:20] + bytes(50), "broken_header", "begins like a PNG file"),
        (encode(Image.fromarray(RGB), "JPEG")[:100], "truncated", "truncated"),
    ],
)
def test_what_cannot_be_opened_is_named(content, code, reason):
    with pytest.raises(SourceError, match=f"^name: .*{reason}") as caught:
        image_size(content, "name")
    assert caught.value.reason_code == code


def test_no_program_is_started_and_no_file_opened_for_what_images_may_contain(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a decoder reached outside")

    monkeypatch.setattr("subprocess.Popen", refuse)
    monkeypatch.setattr("os.open", refuse)
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(/etc/passwd) (r) file\nshowpage\n"
    drawing = b"<svg xmlns:x='http://www.w3.org/1999/xlink'><image x:href='file:///etc/passwd'/></svg>"
    for content in (postscript, drawing, b"%PDF-1.4\n", b"8BPS\0\1" + bytes(40)):
        with pytest.raises(SourceError, match="which is not read"):
            decode_image(content, "x")


def test_reasons_hold_no_addresses(monkeypatch):
    def fail(*_, **__):
        raise OSError(f"cannot read {io.BytesIO()!r}")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(SourceError) as caught:
        decode_image(encode(Image.fromarray(RGB)), "x")
    assert caught.value.reason == "corrupt (cannot read the file)"


def test_names_do_not_break_the_line_of_an_error():
    error = SourceError("a\nb\x1b[31m \u202e.png", "reason", "corrupt")
    assert str(error) == r"a\nb\x1b[31m \u202e.png: reason"


@given(st.text())
def test_any_name_is_one_line_and_plain_ones_are_left_alone(name):
    shown = one_line(name)
    assert len(shown.splitlines()) <= 1
    assert shown.isprintable()
    assert shown == name or not name.isprintable()


def test_what_is_not_a_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(SourceError, match="not a regular file"):
        read_file(tmp_path / "pipe.png", "pipe.png")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_truncated_images_are_rejected(file_format):
    content = encode(Image.fromarray(synthetic_image(100, 100)), file_format)
    with pytest.raises(SourceError):
        decode_image(content[: len(content) * 2 // 3], "x")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_announced_and_decoded_sizes_agree_in_every_format(file_format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(Image.fromarray(RGB), file_format, exif=exif)
    upright = RGB.shape[:2] if orientation < 5 else RGB.shape[1::-1]
    assert image_size(content, "x") == upright
    assert decode_image(content, "x").shape == (*upright, 3)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_broken_metadata_give_an_image_or_a_reason(file_format):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description of this image"
    content = encode(Image.fromarray(RGB), file_format, exif=exif)
    first = content.index(b"Exif" if file_format == "JPEG" else b"MM\0*" if b"MM\0*" in content else b"II*\0")
    random = np.random.default_rng(0)
    for _ in range(300):
        altered = bytearray(content)
        for place in random.integers(first, min(first + 90, len(content)), size=2):
            altered[place] = random.integers(256)
        try:
            size = image_size(bytes(altered), "x")
            shape = decode_image(bytes(altered), "x").shape
        except SourceError:
            continue
        assert shape == (*size, 3)


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("WEBP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("GIF", {}),
        ("BMP", {}),
        ("PPM", {}),
    ],
)
def test_any_damage_gives_an_image_or_a_reason(file_format, options):
    codes = set()
    random = np.random.default_rng(0)
    content = np.frombuffer(encode(Image.fromarray(RGB), file_format, **options), np.uint8)
    for _ in range(300):
        altered = content[: random.integers(1, len(content) + 1)].copy()
        places = random.integers(0, len(altered), size=3) % random.choice([100, len(altered)])
        altered[places] = random.integers(0, 256, size=3)
        try:
            image_size(altered.tobytes(), "x", max_pixels=1_000_000)
            decode_image(altered.tobytes(), "x", max_pixels=1_000_000)
        except SourceError as error:
            codes.add(error.reason_code)
    assert len(codes) > 1
    assert codes <= set(get_args(ReasonCode))


def test_the_header_of_a_png_is_read_without_its_pixels(monkeypatch):
    content = encode(Image.fromarray(RGB))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    assert image_size(content, "x") == (20, 30)


def test_decompression_bombs_are_rejected_by_header(shared_images):
    content = (shared_images / "odd" / "bomb" / "pillow_decompression_bomb.gif").read_bytes()
    with pytest.raises(SourceError, match="is more than 512000000 pixels"):
        image_size(content, "x")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM"])
def test_the_limit_of_pixels_is_kept_without_decoding(file_format, monkeypatch):
    content = encode(Image.fromarray(RGB), file_format)
    assert decode_image(content, "x", max_pixels=600).shape == (20, 30, 3)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    monkeypatch.setattr("PIL.WebPImagePlugin.WebPImageFile.load", None)
    for function in (image_size, decode_image):
        with pytest.raises(SourceError, match="20x30 is more than 599 pixels") as caught:
            function(content, "x", max_pixels=599)
        assert caught.value.reason_code == "too_large"


def test_a_bomb_costs_no_memory():
    header = encode(Image.fromarray(RGB))
    bomb = header[:16] + struct.pack(">II", 60_000, 60_000) + header[24:29]
    bomb += struct.pack(">I", zlib.crc32(bomb[12:29])) + header[33:]
    tracemalloc.start()
    with pytest.raises(SourceError, match="60000x60000 is more than"):
        decode_image(bomb, "x")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_pillows_own_limit_is_left_alone():
    limit = Image.MAX_IMAGE_PIXELS
    image_size(encode(Image.fromarray(RGB)), "x")
    assert limit == Image.MAX_IMAGE_PIXELS


def outcome(function, *arguments):
    try:
        return function(*arguments)
    except SourceError as error:
        return error.reason_code, error.reason


def test_the_header_of_a_file_tells_the_size_that_its_content_tells(shared_images):
    paths = [path for path in shared_images.rglob("*") if path.is_file() and path.suffix != ".tsv"]
    assert len(paths) > 40
    for path in paths:
        assert outcome(file_image_size, path, "x") == outcome(image_size, path.read_bytes(), "x"), path


@pytest.mark.parametrize("keyword", [b"", b"Raw profile type exif"])
def test_an_orientation_behind_the_pixels_of_a_png_is_found(tmp_path, keyword):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(np.zeros((30, 20, 3), dtype=np.uint8)).save(file, "PNG")
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    kind, content = b"eXIf", body
    if keyword:
        profile = exif.tobytes()
        kind = b"zTXt"
        content = keyword + b"\0\0" + zlib.compress(b"\nexif\n%8d\n%s\n" % (len(profile), profile.hex().encode()))
    chunk = len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
    png = file.getvalue()
    end = png.rindex(b"IEND") - 4
    path = tmp_path / "late.png"
    path.write_bytes(png[:end] + chunk + png[end:])
    assert file_image_size(path, "x") == (20, 30)
    assert decode_image(path.read_bytes(), "x").shape == (20, 30, 3)


@pytest.mark.parametrize("kind", ["folder", "pipe", "nothing"])
def test_a_header_that_cannot_be_read_has_the_reason_of_the_file(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    code, reason = outcome(file_image_size, path, "x")
    assert code == "unreadable"
    assert (code, reason) == outcome(read_file, path, "x")
