"""Image files of all kinds to RGB, or a reason."""

import io

import numpy as np
import pytest
from PIL import Image

from ssl_data.errors import SourceError
from ssl_data.pipeline.decode import decode_image, image_size
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


def test_16_bit_grey_is_scaled_and_not_clipped():
    wide = np.array([[0, 128, 257, 65535]], dtype=np.uint16)
    assert decode_image(encode(Image.fromarray(wide)), "x")[0, :, 0].tolist() == [0, 0, 1, 255]


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
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><p>not found", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS pointer"),
        (b"plain text", "not an image"),
    ],
)
def test_what_is_no_image_is_named(content, reason):
    with pytest.raises(SourceError, match=f"^name: .*{reason}"):
        image_size(content, "name")


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


def test_the_header_of_a_png_is_read_without_its_pixels(monkeypatch):
    content = encode(Image.fromarray(RGB))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    assert image_size(content, "x") == (20, 30)


def test_decompression_bombs_are_rejected_by_header(shared_images):
    content = (shared_images / "odd" / "bomb" / "pillow_decompression_bomb.gif").read_bytes()
    with pytest.raises(SourceError, match="is more than 512000000 pixels"):
        image_size(content, "x")


def test_pillows_own_limit_is_left_alone():
    limit = Image.MAX_IMAGE_PIXELS
    image_size(encode(Image.fromarray(RGB)), "x")
    assert limit == Image.MAX_IMAGE_PIXELS


def test_every_odd_file_decodes_to_its_announced_size_or_gives_a_reason(shared_images):
    outcomes = {}
    for path in sorted((shared_images / "odd").rglob("*.*")):
        content, name = path.read_bytes(), path.name
        try:
            size = image_size(content, name)
            decoded = decode_image(content, name)
        except SourceError as error:
            outcomes[name] = error.reason
        else:
            assert decoded.shape == (*size, 3)
            assert decoded.dtype == np.uint8
    assert all(outcomes.values())
    folders = {path.name: path.parent.name for path in (shared_images / "odd").rglob("*.*")}
    assert {folders[name] for name in outcomes} == {"bomb", "corrupt"}
    assert len(outcomes) == len([name for name, folder in folders.items() if folder in {"bomb", "corrupt"}])
