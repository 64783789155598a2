"""Embedded profiles, against colours computed here from their definition."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from ssl_data.pipeline.decode import decode_image
from ssl_data.testing import synthetic_image

RGB = synthetic_image(40, 60)
P3_TO_XYZ = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
"""Display P3's primaries in the profile connection space (D50)."""
SRGB_TO_XYZ = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def fixed(value):
    return struct.pack(">i", round(value * 65536))


def xyz(values):
    return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))


def profile(space, connection_space, tags):
    """The bytes of an ICC profile of version 2."""
    offset = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        padded = content + b"\0" * (-len(content) % 4)
        table += name.encode() + struct.pack(">II", offset + len(data), len(content))
        data += padded
    header = struct.pack(">I4xI4s4s4s12x4s", offset + len(data), 0x02400000, b"mntr", space, connection_space, b"acsp")
    header = header.ljust(68, b"\0") + b"".join(map(fixed, (0.9642, 1.0, 0.8249)))
    return header.ljust(128, b"\0") + table + data


def matrix_profile(to_xyz, gamma):
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    tags = {"wtpt": xyz((0.9642, 1.0, 0.8249))}
    for column, channel in enumerate("rgb"):
        tags |= {f"{channel}XYZ": xyz(to_xyz[:, column]), f"{channel}TRC": curve}
    return profile(b"RGB ", b"XYZ ", tags)


def cmyk_profile():
    """Every ink alone halves the lightness, black takes all of it, and nothing has a hue."""
    ramp = bytes(range(256))
    grid = np.indices((2, 2, 2, 2)).reshape(4, 16)
    lightness = np.where(grid[3] == 1, 0, 255 >> grid[:3].sum(axis=0))
    lattice = np.stack([lightness, np.full(16, 128), np.full(16, 128)], axis=1).astype(np.uint8).tobytes()
    identity = b"".join(map(fixed, np.eye(3).ravel()))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + 4 * ramp + lattice + 3 * ramp
    return profile(b"CMYK", b"Lab ", {"wtpt": xyz((0.9642, 1.0, 0.8249)), "A2B0": table})


def encode(image, file_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options)
    return buffer.getvalue()


def to_srgb(values, to_xyz, gamma):
    """What the profile means, in sRGB, without a colour library."""
    linear = (values / 255) ** gamma @ to_xyz.T @ np.linalg.inv(SRGB_TO_XYZ).T
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
def test_wide_gamut_colours_are_converted(file_format):
    options = {"icc_profile": matrix_profile(P3_TO_XYZ, 2.2)} | ({"lossless": True} if file_format == "WEBP" else {})
    decoded = decode_image(encode(Image.fromarray(RGB), file_format, **options), "x")
    expected = to_srgb(RGB, P3_TO_XYZ, 2.2)
    assert np.abs(decoded - expected).max() < 2
    assert np.abs(decoded.astype(int) - RGB).max() > 20


def test_another_tone_curve_is_converted():
    decoded = decode_image(encode(Image.fromarray(RGB), icc_profile=matrix_profile(SRGB_TO_XYZ, 1.8)), "x")
    assert np.abs(decoded - to_srgb(RGB, SRGB_TO_XYZ, 1.8)).max() < 2
    assert np.abs(decoded.astype(int) - RGB).max() > 10


def test_srgb_profiles_leave_every_value_as_it_is():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert (decode_image(encode(Image.fromarray(RGB), icc_profile=srgb), "x") == RGB).all()


def test_alpha_and_palettes_have_their_profile_applied_too():
    icc = matrix_profile(P3_TO_XYZ, 2.2)
    expected = decode_image(encode(Image.fromarray(RGB), icc_profile=icc), "x")
    transparent = Image.fromarray(RGB)
    transparent.putalpha(7)
    assert (decode_image(encode(transparent, icc_profile=icc), "x") == expected).all()
    palette = Image.fromarray(RGB).quantize(16)
    expanded = decode_image(encode(palette.convert("RGB"), icc_profile=icc), "x")
    assert (decode_image(encode(palette, icc_profile=icc), "x") == expanded).all()


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_goes_through_its_profile(file_format):
    inks = np.zeros((32, 64, 4), np.uint8)
    inks[:, 16:32, 0] = 255  # cyan
    inks[:, 32:48, 3] = 255  # black
    inks[:, 48:, :2] = 255  # cyan and magenta
    image = Image.fromarray(inks, "CMYK")
    with_profile = decode_image(encode(image, file_format, icc_profile=cmyk_profile()), "x")[16, 8::16].astype(int)
    lightness = np.array([255, 127, 0, 63]) / 255 * 100
    y = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    expected = 255 * np.where(y <= 0.0031308, 12.92 * y, 1.055 * y ** (1 / 2.4) - 0.055)
    assert np.abs(with_profile - expected[:, None]).max() <= 4
    without = decode_image(encode(image, file_format), "x")[16, 8::16].astype(int)
    assert np.abs(without - [[255, 255, 255], [0, 255, 255], [0, 0, 0], [0, 0, 255]]).max() <= 4


@pytest.mark.parametrize("icc", [b"no profile", matrix_profile(P3_TO_XYZ, 2.2)[:200], cmyk_profile()])
def test_a_broken_or_foreign_profile_costs_no_image(icc):
    assert (decode_image(encode(Image.fromarray(RGB), icc_profile=icc), "x") == RGB).all()


def test_a_grey_image_is_expanded_whatever_its_profile():
    grey = Image.fromarray(RGB).convert("L")
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(1.8 * 256))
    icc = profile(b"GRAY", b"XYZ ", {"wtpt": xyz((0.9642, 1.0, 0.8249)), "kTRC": curve})
    assert (decode_image(encode(grey, icc_profile=icc), "x") == np.asarray(grey)[..., None]).all()


def test_a_real_photograph_in_adobe_rgb(shared_images):
    content = (shared_images / "photo-small-permissive" / "skimage_rocket.jpg").read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        plain = np.asarray(image)
    adobe_to_xyz = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
    assert np.abs(decode_image(content, "x") - to_srgb(plain, adobe_to_xyz, 2.2)).mean() < 1
    assert np.abs(decode_image(content, "x").astype(int) - plain).mean() > 1
