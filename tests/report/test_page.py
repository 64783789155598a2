"""The report as a file: complete, alone, and safe to open."""

import base64
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from ssl_data import BuildConfig, PatchSpec, build, open_store
from ssl_data.report.page import render_report
from ssl_data.report.samples import draw_sample
from ssl_data.testing import tiny_store, write_images

COMMAND = [sys.executable, "-W", "error", "-c", "from ssl_data.cli.app import main; main()"]
BAD_NAME = "<img src=x onerror=alert(1)> & \"quoted\" 'name'.png"


class Page(HTMLParser):
    """Tags, addresses and texts of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in {"src", "href", "srcset", "data", "action"}]
        self.handlers = [name for name, _ in attributes if name.startswith("on")]
        assert not self.handlers

    def handle_data(self, data):
        self.text += data


def test_the_page_needs_nothing_else(store):
    text = render_report(store)
    page = Page(text)
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert "http" not in re.sub(r"http-equiv", "", text)


def test_the_same_store_gives_the_same_report(store):
    assert render_report(store) == render_report(open_store(store.url))


def test_figures_specs_and_provenance_are_shown(store):
    page = Page(render_report(store))
    for name in ("Edge density by source", "Edge pixels per patch", "Bytes per entry", "Rates", "Rejects by reason"):
        assert name in page.text
    assert page.tags.count("svg") == 4
    assert f"{store.counts.sum():,}" in page.text
    for fields in store.build_spec.to_dict().values():
        for name, value in fields.items():
            assert f"{name} {value}" in page.text
    for name in ("fingerprint", "sources", "files_sha256"):
        assert store.attributes[name] in page.text


def test_the_histogram_counts_every_patch(large_store):
    text = render_report(large_store, num_samples=2)
    drawing = re.search(r'aria-label="Patches by their edge pixels".*?</svg>', text, re.DOTALL)[0]
    counts = [
        int(count.replace(",", "")) for count in re.findall(r"<title>[\d,]+ to [\d,]+: ([\d,]+)</title>", drawing)
    ]
    assert sum(counts) == large_store.num_patches
    assert len(text) < 1_000_000
    assert "The 12 smoothest and the 12 busiest of 391 images" in text


def test_samples_show_the_patch_and_its_mask(store):
    index = int(np.argmax(store.num_edge_pixels))
    sample = draw_sample(store, index)

    def decoded(uri):
        return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))

    shown = np.asarray(decoded(sample.image).convert("RGB"), dtype=int)
    assert np.abs(shown - store.read_gt(index)).mean() < 12
    alpha = np.asarray(decoded(sample.mask).convert("RGBA"))[..., 3]
    assert np.array_equal(alpha > 0, store.read_edge_mask(index))
    assert sample.density == store.read_edge_mask(index).mean()


@pytest.fixture
def messy(tmp_path):
    """A store from a folder with a broken image and an image of a bad name."""
    images = write_images(tmp_path / "images", [(64, 64), (96, 64)])
    (images / "image-0.png").rename(images / BAD_NAME)
    (images / f"broken {BAD_NAME}").write_bytes(b"no image")
    (images / "empty.png").write_bytes(b"")
    (images / "image-2.png").write_bytes(b"no image either")
    config = BuildConfig(dataset=str(images), out=str(tmp_path / "store.zarr"), patch=PatchSpec(patch_size=64, step=32))
    build(config)
    return open_store(config.out)


def test_rejected_images_are_counted_by_reason_and_listed(messy):
    text = render_report(messy)
    assert "<title>not_an_image: 2</title>" in text
    assert "<title>empty_file: 1</title>" in text
    assert "All 3 rejected images" in Page(text).text
    assert "empty.png" in Page(text).text


def test_names_are_text(messy):
    text = render_report(messy)
    assert BAD_NAME in Page(text).text
    assert f"broken {BAD_NAME}" in Page(text).text
    assert "<img src=x" not in text


def run(*arguments):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_the_command_takes_the_rates_from_the_log_of_the_build(tmp_path):
    images = write_images(tmp_path / "images", [(96, 64), (100, 130)])
    store, log, html = tmp_path / "store.zarr", tmp_path / "log.jsonl", tmp_path / "report.html"
    built = run("build", "--dataset", images, "--out", store, "--patch-size", 64, "--step", 32, "--log", log)
    assert built.returncode == 0, built.stderr
    done = run("report", store, "--html", html, "--log", log)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Wrote {html} (")
    events = [json.loads(line) for line in log.read_text().splitlines()]
    (made,) = [event for event in events if event["event"] == "shard-made"]
    assert f"{made['num_graphs'] / made['seconds'] / 1000:.3g} k graphs" in html.read_text()
    assert "Graphs per second by shard" in html.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere", "--html", "x.html"], 1, "nowhere is not a store"),
        (["STORE"], 2, "--html"),
        (["STORE", "--html", "nowhere/x.html"], 1, "nowhere/x.html"),
        (["STORE", "--html", "x.html", "--log", "nowhere"], 1, "nowhere"),
        (["STORE", "--html", "x.html", "--samples", "-1"], 2, "--samples"),
    ],
)
def test_mistakes_are_explained_without_a_traceback(store, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    done = run("report", *(store.url if argument == "STORE" else argument for argument in arguments))
    assert done.returncode == code
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_store_without_patches_has_a_report(tmp_path):
    store = tiny_store(tmp_path, min_edge_density=1.0)
    assert store.num_patches == 0
    assert "The store holds no patches." in render_report(store)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_without_asking_anybody(store, tmp_path, browser, scheme):
    html = tmp_path / "report.html"
    html.write_text(render_report(store))
    page = browser.new_page(color_scheme=scheme)
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: errors.append(message.text))
    page.goto(html.as_uri())
    assert [address for address in asked if not address.startswith("data:")] == [html.as_uri()]
    widths = page.eval_on_selector_all("img", "images => images.map(image => image.naturalWidth)")
    assert widths == [64] * 2 * store.num_patches
    mask = page.locator(".mask").first
    assert float(mask.evaluate("mask => getComputedStyle(mask).opacity")) > 0
    page.click("label[for=masks]")
    assert float(mask.evaluate("mask => getComputedStyle(mask).opacity")) == 0
    assert errors == []
    page.close()
