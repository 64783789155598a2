"""What becomes of the files in real folders: the table in docs/inputs.md against builds."""

import io
import os
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageCms

from ssl_data import BuildConfig, EdgeSpec, PatchSpec, build, open_store
from ssl_data.errors import ReasonCode
from ssl_data.pipeline.sources import IMAGE_SUFFIXES
from ssl_data.testing import synthetic_image, write_images

DOCUMENT = Path(__file__).parents[2] / "docs" / "inputs.md"
RGB = synthetic_image(40, 60)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One kind of input."""

    outcome: str
    real: tuple[str, ...]
    made: tuple[str, ...]


def rows():
    text = DOCUMENT.read_text(encoding="utf-8")
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [
        Row(
            outcome=cells[2].strip("`"),
            real=tuple(re.findall(r"`([^`]+)`", cells[3])),
            made=tuple(re.findall(r"\*([^*]+)\*", cells[3])),
        )
        for cells in lines
        if len(cells) == 4 and cells[0] != "input"
    ]


def encode(image, file_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options)
    return buffer.getvalue()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, depth, colour_type, rows_of_bytes):
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows_of_bytes))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tiff(values, **options):
    tifffile = pytest.importorskip("tifffile", reason="comes with scikit-image: pip install 'ssl_data[sample]'")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def oriented(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def with_alpha(image):
    image = image.copy()
    image.putalpha(9)
    return image


def adobe_like_profile():
    """sRGB's profile with the columns of red and green exchanged: surely not sRGB."""
    content = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return content.replace(b"rXYZ", b"tmp!").replace(b"gXYZ", b"rXYZ").replace(b"tmp!", b"gXYZ")


def files():
    """Content of each example that is a single file, by the example's name in the document and the file's own."""
    image = Image.fromarray(RGB)
    grey = image.convert("L")
    palette = image.quantize(16)
    wide = RGB.astype(np.uint16) * 257
    jpeg, webp, lzw = encode(image, "JPEG"), encode(image, "WEBP"), encode(image, "TIFF", compression="tiff_lzw")
    plain, noise = encode(image), encode(Image.effect_noise((200, 200), 99))
    frame = jpeg.index(b"\xff\xc0") + 4
    return {
        "plain PNG": ("a.png", plain),
        "plain JPEG": ("a.jpg", jpeg),
        "plain WebP": ("a.webp", webp),
        "plain TIFF": ("a.tif", encode(image, "TIFF")),
        "plain BMP": ("a.bmp", encode(image, "BMP")),
        "plain GIF": ("a.gif", encode(image, "GIF")),
        "plain PPM": ("a.ppm", encode(image, "PPM")),
        "turned": ("a.jpg", encode(image, "JPEG", exif=oriented(6))),
        "16-bit PNG": ("a.png", png(60, 40, 16, 2, [row.astype(">u2").tobytes() for row in wide])),
        "16-bit TIFF": ("a.tiff", tiff(wide, photometric="rgb")),
        "grey": ("a.png", encode(grey)),
        "grey with alpha": ("a.png", encode(with_alpha(grey))),
        "1 bit": ("a.png", encode(grey.convert("1"))),
        "palette": ("a.png", encode(palette)),
        "transparent palette": ("a.png", encode(palette, transparency=3)),
        "alpha": ("a.png", encode(with_alpha(image))),
        "CMYK": ("a.jpg", encode(image.convert("CMYK"), "JPEG")),
        "wide gamut": ("a.png", encode(image, icc_profile=adobe_like_profile())),
        "animation": ("a.gif", encode(image, "GIF", save_all=True, append_images=[grey.convert("RGB")])),
        "PNG called .jpg": ("a.jpg", plain),
        "progressive": ("a.JPEG", encode(image, "JPEG", progressive=True)),
        "small": ("a.png", encode(image.resize((31, 200)))),
        "bomb": ("a.png", png(60_000, 60_000, 8, 2, [])),
        "cut PNG": ("a.png", plain[:-100]),
        "cut JPEG": ("a.jpg", jpeg[:-100]),
        "cut WebP": ("a.webp", webp[:-100]),
        "cut TIFF": ("a.tif", lzw[:-100]),
        "damaged": ("a.png", noise[:9_000] + bytes(500) + noise[9_500:]),
        "damaged header": ("a.png", plain[:20] + bytes(9) + plain[29:]),
        "empty": ("a.png", b""),
        "LFS pointer": ("a.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
        "HTML page": ("a.jpg", b"\n<!doctype html><title>404 Not Found</title>"),
        "text": ("a.png", b"this is no image"),
        "HEIC": ("a.HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
        "SVG": ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"),
        "EPS": ("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\nshowpage\n"),
        "camera raw": ("a.dng", tiff(RGB, photometric="rgb", subfiletype=1)),
        "12-bit JPEG": ("a.jpg", jpeg[:frame] + b"\x0c" + jpeg[frame + 1 :]),
        "floating point": ("a.tif", tiff(RGB[..., 0].astype(np.float32), photometric="minisblack")),
        "16-bit planes": ("a.tif", tiff(wide.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")),
        "not UTF-8": (os.fsdecode(b"caf\xe9.png"), plain),
    }


def make_examples(folder, odd_names):
    """Every example in italics, in a folder of its name."""
    for example, (name, content) in files().items():
        (folder / example).mkdir(parents=True)
        (folder / example / name).write_bytes(content)
    for name in odd_names:
        (folder / "odd names").mkdir(exist_ok=True)
        (folder / "odd names" / name).write_bytes(encode(Image.fromarray(RGB)))
    for place in ("a", "b"):
        write_images(folder / "same name twice" / place, [(40, 60)], seed=ord(place))
    write_images(folder / "circle", [(40, 60)])
    (folder / "circle" / "again").symlink_to(folder / "circle", target_is_directory=True)
    (folder / "link to nowhere").mkdir()
    (folder / "link to nowhere" / "a.png").symlink_to(folder / "nowhere.png")
    (folder / "pipe").mkdir()
    os.mkfifo(folder / "pipe" / "a.png")
    return folder


def outcomes(folder, tmp_path):
    """What a build made of each file."""
    patch = PatchSpec(patch_size=32, step=256, tail_threshold=256)
    edge = EdgeSpec(threshold=250, edge_stride=16)  # few graphs: only what becomes of the files is of interest
    config = BuildConfig(dataset=str(folder), out=str(tmp_path / "store"), patch=patch, edge=edge)
    report = build(config)
    sources = pq.read_table(tmp_path / "store" / "manifest" / "sources.parquet")["source"].to_pylist()
    rejected = {image.source: image.reason_code for image in report.rejected}
    store = open_store(tmp_path / "store")
    used = {store.patch_id(index).rpartition(":")[0] for index in range(store.num_patches)}
    assert used | rejected.keys() == set(sources)
    assert not used & rejected.keys()
    assert len(sources) == report.num_sources == report.num_sources_used + len(report.rejected)
    return {name: rejected.get(name, "used") for name in sources}


@pytest.fixture(scope="module")
def made(odd_names, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return outcomes(make_examples(folder / "images", odd_names), folder)


@pytest.mark.parametrize(("example", "outcome"), [(name, row.outcome) for row in rows() for name in row.made])
def test_made_examples_end_as_the_document_says(made, example, outcome):
    assert {found for name, found in made.items() if name.startswith(f"{example}/")} == {outcome}


def test_made_examples_and_the_document_name_the_same(made, odd_names):
    assert {name.split("/")[0] for name in made} == {name for row in rows() for name in row.made}
    assert {name for name in made if name.startswith(("circle", "same name"))} == {
        "circle/image-0.png",
        "same name twice/a/image-0.png",
        "same name twice/b/image-0.png",
    }
    assert {name for name in made if name.startswith("odd names/")} == {f"odd names/{name}" for name in odd_names}
    assert r"not UTF-8/caf\udce9.png" in made


@pytest.fixture(scope="module")
def real(shared_images, tmp_path_factory):
    return outcomes(shared_images / "odd", tmp_path_factory.mktemp("real"))


@pytest.mark.parametrize(("example", "outcome"), [(name, row.outcome) for row in rows() for name in row.real])
def test_real_files_end_as_the_document_says(real, example, outcome):
    assert real[example] == outcome


def test_the_document_names_every_real_odd_file(real, shared_images):
    in_folder = {
        path.relative_to(shared_images / "odd").as_posix()
        for path in (shared_images / "odd").rglob("*")
        if path.is_file()
    }
    assert in_folder == real.keys() == {name for row in rows() for name in row.real}


def test_the_document_explains_every_reason_code_and_shows_each_by_an_example():
    text = DOCUMENT.read_text(encoding="utf-8")
    table = text[text.index("| reason code |") :].splitlines()
    explained = [
        code for line in table if line.startswith("| `") for code in re.findall(r"`(\w+)`", line.split("|")[1])
    ]
    assert sorted(explained) == sorted(get_args(ReasonCode))
    about_images = set(get_args(ReasonCode)) - {"no_mask", "bad_mask"}  # masks: test_masks.py
    assert {row.outcome for row in rows() if row.made} == {"used", *about_images}


def test_the_document_lists_the_endings_that_are_looked_at():
    text = DOCUMENT.read_text(encoding="utf-8")
    section = text[text.index("## Which files") : text.index("## What becomes")]
    assert set(re.findall(r"(?<![\w/])\.[a-z0-9]+", section)) == IMAGE_SUFFIXES
