"""The site builds without a warning, holds every page, and fetches nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image

import ssl_data
import ssl_data.errors

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"


def build(config, folder):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", config, "--site-dir", folder]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="the site needs pip install 'ssl_data[docs]'")
    folder = tmp_path_factory.mktemp("site")
    result = build(ROOT / "mkdocs.yml", folder)
    assert result.returncode == 0, result.stderr
    return folder


def test_every_document_has_a_page(site):
    documents = [path.stem for path in (ROOT / "docs").glob("*.md")]
    assert len(documents) > 10
    for name in [*documents, "format", "benchmarks", "changelog", "contributing", "decisions"]:
        assert (site / name / "index.html").exists(), name
    assert "Self-similarity Loss" in (site / "index.html").read_text(encoding="utf-8")


def test_files_outside_of_the_documents_are_linked_as_pages(site):
    training = (site / "training" / "index.html").read_text(encoding="utf-8")
    assert 'href="../files/examples/train_tiny_sr.py/"' in training
    page = (site / "files" / "examples" / "train_tiny_sr.py" / "index.html").read_text(encoding="utf-8")
    assert "TinySR" in page


def test_every_link_within_the_site_leads_to_a_file(site):
    missing = set()
    pages = [page for page in site.rglob("*.html") if page.name != "404.html"]  # its links begin at the root
    for page in pages:
        for link in re.findall(r"""(?:href|src)=["']?([^"'\s>]+)""", page.read_text(encoding="utf-8")):
            parts = urlsplit(link)
            target = page.parent / unquote(parts.path)
            if parts.path and not (parts.scheme or parts.netloc):
                is_there = (target / "index.html").exists() if target.is_dir() else target.exists()
                missing.update([] if is_there else [f"{page.relative_to(site)}: {link}"])
    assert not missing


def test_a_link_to_nowhere_is_noticed(site, tmp_path):
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# Start\n\n[gone](gone.md)\n", encoding="utf-8")
    plain = re.sub(r"^(hooks|docs_dir|extra_css):.*\n|^nav:\n(?: .*\n)+", "", config, flags=re.MULTILINE)
    (tmp_path / "mkdocs.yml").write_text(plain, encoding="utf-8")
    result = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert result.returncode != 0
    assert "gone.md" in result.stderr


def test_nothing_is_fetched_from_elsewhere(site):
    fetched = re.compile(
        r"""<(?:script|img|iframe|source)[^>]*\ssrc=["']?(?:https?:)?//|<link[^>]*\shref=["']?https?://"""
    )
    imported = re.compile(r"(?:@import|url\()\s*['\"]?(?:https?:)?//")
    for page in site.rglob("*.html"):
        assert not fetched.search(page.read_text(encoding="utf-8")), page
    for sheet in site.rglob("*.css"):
        assert not imported.search(sheet.read_text(encoding="utf-8")), sheet


def test_the_reference_names_every_public_name_and_no_other():
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    errors = {"SSLDataError", *ssl_data.errors.__all__} - {"Problem"}  # all of them in one section
    listed = re.findall(r"^::: ssl_data\.(\w+)$", page, re.MULTILINE)
    assert sorted(listed) == sorted({*ssl_data.__all__, "errors"} - errors)


@pytest.fixture(scope="module")
def drawn(photographs, tmp_path_factory):
    """The pictures, drawn anew."""
    folder = tmp_path_factory.mktemp("pictures")
    command = [sys.executable, PICTURES / "draw.py", folder]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return folder


def test_pictures_are_those_that_the_script_draws(drawn):
    names = {path.name for path in PICTURES.glob("*.png")}
    assert names == {path.name for path in drawn.iterdir()}
    for name in names:
        committed, anew = (np.asarray(Image.open(folder / name), dtype=float) for folder in (PICTURES, drawn))
        assert committed.shape == anew.shape
        assert np.abs(committed - anew).mean() < 1, name  # letters differ a little between versions of Pillow


def test_pictures_are_small():
    assert sum(path.stat().st_size for path in PICTURES.glob("*.png")) < 600_000
