"""The screenshots of docs/view.md, taken in Chromium from a store of the sample photographs.

``python docs/screenshots/take.py [FOLDER]`` builds that store in a folder that is removed again, and writes the
pictures beside this file, or into the folder that is given. It needs the package ``playwright``, and Chromium (from the
path, or where ``SSL_DATA_CHROMIUM`` says). Letters differ between machines, so that the pictures do, too.

The photograph shown is chelsea.png (S. van der Walt), CC0.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from PIL import Image
from playwright.sync_api import sync_playwright

import ssl_data
from ssl_data.report.page import render_report
from ssl_data.view.server import ViewServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from ssl_data import Store

CAT, WHISKER, OFFSET = "skimage/chelsea.png:0,0", (216, 85), (-3, 7)
"""The patch, an edge pixel of it, and the offset that is pointed at."""
_SIZE = (1280, 800)
_COLOURS = 256


def take_page(browser: Browser, store: Store) -> bytes:
    """One patch in the page of `ssl-data view`, with the graph of an edge pixel."""
    index = next(index for index in range(store.num_patches) if store.patch_id(index) == CAT)
    row, col = WHISKER
    with ViewServer(store, host="127.0.0.1", port=0) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page(viewport={"width": _SIZE[0], "height": _SIZE[1]})
        page.goto(f"{server.url}#/patch/{index}/pixel/{row},{col}")
        page.get_by_text("codes are equal").wait_for()
        page.keyboard.press("m")
        for key in "z--":  # go to the pixel, and a little back
            page.keyboard.press(key)
        box = page.locator(".map canvas").nth(1).bounding_box()
        if box is None:
            raise RuntimeError("the graph is not shown")
        side = box["width"] / store.spec.search_size
        centre = store.spec.search_radius + 0.5
        page.mouse.move(box["x"] + (OFFSET[1] + centre) * side, box["y"] + (OFFSET[0] + centre) * side)
        page.wait_for_timeout(500)
        shot = page.screenshot()
        server.shutdown()
    return shot


def take_report(browser: Browser, store: Store, folder: Path) -> bytes:
    """The beginning of a report."""
    html = folder / "report.html"
    html.write_text(render_report(store).replace(store.url, "store.zarr"), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1100, "height": 620})
    page.goto(html.as_uri())
    return page.screenshot()


def take_all(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every screenshot, by name."""
    out = folder / "store.zarr"
    ssl_data.build(
        ssl_data.BuildConfig(dataset="sample", out=str(out), patch=ssl_data.PatchSpec(patch_size=256, step=128))
    )
    store = ssl_data.open_store(out)
    program = os.environ.get("SSL_DATA_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield "view.png", take_page(browser, store)
        yield "report.png", take_report(browser, store, folder)
        browser.close()


def main(target: Path) -> None:
    """Take all screenshots, with few colours, which takes a third of the room."""
    with tempfile.TemporaryDirectory() as folder:
        for name, shot in take_all(Path(folder)):
            picture = Image.open(io.BytesIO(shot)).convert("RGB").quantize(_COLOURS, Image.Quantize.MAXCOVERAGE)
            picture.save(target / name, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
