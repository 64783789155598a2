"""What a file is that cannot be opened as an image: users can act on "an HTML page", not on "cannot identify"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ssl_data.errors import ReasonCode

__all__ = ["explain_unopened"]

_SUPPORTED = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"RIFF": "WebP",
}
_UNSUPPORTED = {
    b"%!PS": "an EPS",
    b"%PDF": "a PDF",
    b"8BPS": "a Photoshop",
    b"\xff\x0a": "a JPEG XL",
    b"\0\0\0\x0cJXL ": "a JPEG XL",
    b"\0\0\0\x0cjP  ": "a JPEG 2000",
    b"\xff\x4f\xff\x51": "a JPEG 2000",
    b"\0\0\1\0": "an icon",
    b"v/1\1": "an OpenEXR",
    b"#?RADIANCE": "a Radiance HDR",
    b"FUJIFILMCCD-RAW": "a camera raw",
    b"IIRO": "a camera raw",
    b"IIU\0": "a camera raw",
}
_BRANDS = {b"avif": "an AVIF", b"avis": "an AVIF", b"crx ": "a camera raw"}
"""Of the container that begins with ``ftyp``; the others are HEIC and its relatives."""
_REMEDY = "which is not read; convert it to PNG"

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Second bytes of the JPEG markers that begin a frame's header."""


def explain_unopened(content: bytes) -> tuple[ReasonCode, str]:
    """Code and sentence for a file that no supported reader can open."""
    return (
        _instead_of_an_image(content)
        or _other_format(content)
        or _broken_header(content)
        or ("not_an_image", "not an image in a supported format")
    )


def _instead_of_an_image(content: bytes) -> tuple[ReasonCode, str] | None:
    """What servers and programs leave where an image was asked for."""
    head = _text_head(content)
    if not content:
        return "empty_file", "empty file"
    if head.startswith(b"version https://git-lfs"):
        return "git_lfs_pointer", "a Git LFS pointer, not the image itself: run `git lfs pull`"
    if head.startswith((b"<!doctype html", b"<html")):
        return "html_page", "an HTML page, not an image: download it again"
    return None


def _text_head(content: bytes) -> bytes:
    return content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()


def _other_format(content: bytes) -> tuple[ReasonCode, str] | None:
    kind = next((kind for magic, kind in _UNSUPPORTED.items() if content.startswith(magic)), None)
    if content[4:8] == b"ftyp":
        kind = _BRANDS.get(content[8:12], "a HEIC")
    elif _text_head(content).startswith((b"<svg", b"<?xml")) and b"<svg" in content[:4096]:
        kind = "an SVG"
    if kind is not None:
        return "unsupported", f"{kind} file, {_REMEDY}"
    bits = _jpeg_bits(content)
    if bits not in {None, 8}:
        return "unsupported", f"a JPEG with {bits} bits a channel, {_REMEDY}"
    return None


def _broken_header(content: bytes) -> tuple[ReasonCode, str] | None:
    kind = next((kind for magic, kind in _SUPPORTED.items() if content.startswith(magic)), None)
    if kind is None or (kind == "WebP" and content[8:12] != b"WEBP"):
        return None
    announced = _announced_bytes(content, kind)
    if announced > len(content):
        return "truncated", f"truncated (a {kind} file of {len(content)} bytes that announces at least {announced})"
    return "broken_header", f"broken header (it begins like a {kind} file, but is damaged or of a rare kind)"


def _announced_bytes(content: bytes, kind: str) -> int:
    """How long the file is at least, as far as its header tells."""
    if kind == "WebP":
        return int.from_bytes(content[4:8], "little") + 8
    if kind == "TIFF":
        order: Literal["little", "big"] = "little" if content.startswith(b"I") else "big"
        directory = int.from_bytes(content[4:8], order)
        num_entries = int.from_bytes(content[directory : directory + 2], order)
        return directory + 2 + 12 * num_entries + 4
    return 0


def _jpeg_bits(content: bytes) -> int | None:
    """Bits of a channel as a JPEG's frame header tells them, or None where there is no such header."""
    if not content.startswith(b"\xff\xd8\xff"):
        return None
    place = 2
    while place + 5 <= len(content) and content[place] == 0xFF:
        if content[place + 1] in _JPEG_FRAMES:
            return content[place + 4]
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return None
