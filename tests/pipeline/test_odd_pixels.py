"""The pixels of real odd files, against what their formats say."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from ssl_data.pipeline.decode import decode_image, image_size


def read(shared_images, name):
    return (shared_images / "odd" / name).read_bytes()


def opened(content):
    return Image.open(io.BytesIO(content))


def test_sizes_are_those_of_the_upright_images(shared_images):
    index = (shared_images / "INDEX.tsv").read_text(encoding="utf-8").splitlines()
    names = index[0].split("\t")
    checked = 0
    for line in index[1:]:
        entry = dict(zip(names, line.split("\t"), strict=True))
        if entry["width"] == "-":
            continue
        sides = int(entry["height"]), int(entry["width"])
        turned = entry["exif_orientation"] in {"5", "6", "7", "8"}
        size = image_size((shared_images / entry["path"]).read_bytes(), entry["path"])
        assert size == (sides[::-1] if turned else sides), entry["path"]
        checked += 1
    assert checked > 60


def test_eight_orientations_of_one_photograph_are_one_image(shared_images):
    upright = [
        decode_image(read(shared_images, f"exif-orientation/sharp-small_Landscape_{n}.jpg"), "x").astype(int)
        for n in range(1, 9)
    ]
    for image in upright[1:]:
        assert image.shape == (450, 600, 3)
        assert np.abs(image - upright[0]).mean() < 7  # JPEG: they were compressed after turning
        for wrong in (image[::-1], image[:, ::-1], image[::-1, ::-1]):
            assert np.abs(wrong - upright[0]).mean() > 20


def test_a_profile_of_gamma_1_8_explains_why_copies_of_one_photograph_differ(shared_images):
    contents = [read(shared_images, f"exif-orientation/sharp-small_Landscape_{n}.jpg") for n in range(1, 9)]
    plain = [np.asarray(ImageOps.exif_transpose(opened(content)).convert("RGB")).astype(int) for content in contents]
    converted = [decode_image(content, "x").astype(int) for content in contents]
    assert (plain[0] == converted[0]).all()  # the only one without a profile
    for ours, theirs in zip(converted[1:], plain[1:], strict=True):
        assert 4 < np.abs(ours - plain[0]).mean() < 6
        assert 13.5 < np.abs(theirs - plain[0]).mean() < 15


@pytest.mark.parametrize(
    "name", ["Issue 473 (Java).webp", "Samsung GT-I9000 (Galaxy S).jpg", "pillow_exif_imagemagick_orientation.png"]
)
def test_orientation_in_every_place_that_may_hold_it(shared_images, name):
    content = read(shared_images, f"exif-orientation/{name}")
    with opened(content) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        assert image.getexif()[0x0112] != 1
    assert (decode_image(content, "x") == expected).all()


def unfiltered_rows(content):
    """Samples of a PNG that is not interlaced, by the specification: uint16 (H, W, C)."""
    place, data = 8, b""
    while place < len(content):
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        body = content[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", body)
            assert (depth, colour, interlaced) == (16, 2, 0)
        data += body if kind == b"IDAT" else b""
        place += 12 + length
    lines = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, 1 + 6 * width)
    above, result = np.zeros(6 * width, np.uint8), []
    for line in lines:
        above = unfilter(int(line[0]), line[1:].tolist(), above.tolist())
        result.append(above)
    return np.stack(result).view(">u2").reshape(height, width, 3).astype(int)


def unfilter(kind, line, above):
    for i, value in enumerate(line):
        left, upper_left = (line[i - 6], above[i - 6]) if i >= 6 else (0, 0)
        estimate = left + above[i] - upper_left
        nearest = min((left, above[i], upper_left), key=lambda candidate: abs(candidate - estimate))
        line[i] = (value + (0, left, above[i], (left + above[i]) // 2, nearest)[kind]) & 255
    return np.array(line, np.uint8)


def without_profile(content):
    start = content.index(b"iCCP") - 4
    length = struct.unpack(">I", content[start : start + 4])[0]
    return content[:start] + content[start + 12 + length :]


@pytest.mark.parametrize("name", ["libjxl_a2d1un_nkitzmiller_2020_g1.png", "libjxl_hdr_room.png"])
def test_16_bit_photographs_are_rounded_and_then_converted(shared_images, name):
    content = read(shared_images, f"depth16/{name}")
    rounded = np.floor(unfiltered_rows(content) * 255 / 65535 + 0.5).astype(np.uint8)
    assert (decode_image(without_profile(content), "x") == rounded).all()
    with opened(content) as image:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
    expected = ImageCms.profileToProfile(Image.fromarray(rounded), profile, ImageCms.createProfile("sRGB"))
    assert (decode_image(content, "x") == np.asarray(expected)).all()
    assert np.abs(np.asarray(expected).astype(int) - rounded).mean() > 5


def test_16_bit_interlaced_grey(shared_images):
    content = read(shared_images, "depth16/pngsuite_basi0g16.png")
    with opened(content) as image:
        wide = np.asarray(image).astype(int)
    assert wide.max() > 255
    assert (decode_image(content, "x") == np.floor(wide * 255 / 65535 + 0.5)[..., None]).all()


@pytest.mark.parametrize("folder", ["gray", "onebit"])
def test_grey_and_1_bit_have_three_equal_channels(shared_images, folder):
    for path in sorted((shared_images / "odd" / folder).iterdir()):
        decoded = decode_image(path.read_bytes(), path.name)
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L"))
            assert image.mode in {"L", "LA", "1"}
        assert (decoded == grey[..., None]).all()
        assert folder != "onebit" or set(np.unique(decoded)) == {0, 255}


def test_palettes_are_looked_up(shared_images):
    for path in sorted((shared_images / "odd" / "palette").iterdir()):
        with Image.open(path) as image:
            assert image.mode == "P"
            colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
            expected = colours[np.asarray(image)]
        assert (decode_image(path.read_bytes(), path.name) == expected).all()


def test_alpha_is_dropped(shared_images):
    for path in sorted((shared_images / "odd" / "rgba").iterdir()):
        with Image.open(path) as image:
            rgba = np.asarray(image)
        assert rgba.shape[2] == 4
        assert (rgba[..., 3] < 255).any()
        assert (decode_image(path.read_bytes(), path.name) == rgba[..., :3]).all()


def test_cmyk_without_a_profile(shared_images):
    content = read(shared_images, "cmyk/pillow_pil_sample_cmyk.jpg")
    with opened(content) as image:
        ink = np.asarray(image).astype(int)
    light = (255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255
    assert np.abs(decode_image(content, "x") - light).max() <= 1


@pytest.mark.parametrize("name", ["apng_ball.png", "sharp_rotating-squares.gif", "sharp_rotating-squares.webp"])
def test_of_animations_the_first_frame_is_taken(shared_images, name):
    content = read(shared_images, f"animated/{name}")
    decoded = decode_image(content, "x")
    with opened(content) as image:
        assert image.n_frames > 1
        frames = []
        for number in (0, image.n_frames // 2):
            image.seek(number)
            frames.append(np.asarray(image.convert("RGBA"))[..., :3])
    assert (decoded == frames[0]).all()
    assert (decoded != frames[1]).any()
