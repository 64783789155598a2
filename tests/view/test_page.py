"""The page in Chromium, compared with what `Store.read` says."""

import base64
import re
import time

import numpy as np
import pytest

from ssl_data import BuildConfig, PatchSpec, build, decode_codes, open_store, self_similarity_graph
from ssl_data.testing import tiny_store, write_images

MINUS = "\N{MINUS SIGN}"


@pytest.fixture
def open_page(browser):
    """Open an address; what the page asks for and what goes wrong in it is collected."""
    contexts = []

    def open_address(url, place="", **options):
        context = browser.new_context(viewport={"width": 1280, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.errors, page.asked = [], []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda message: message.type == "error" and page.errors.append(message.text))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(url + place)
        page.wait_for_selector("[data-ready]")
        return page

    yield open_address
    for context in contexts:
        context.close()


def until(page, expression, argument=None):
    """Wait for an expression in the page to be true. (Playwright's own way needs the page to allow ``eval``.)"""
    end = time.monotonic() + 15
    while not page.evaluate(expression, argument):
        assert time.monotonic() < end, f"not within 15 seconds: {expression}"
        page.wait_for_timeout(20)


def wait_until_drawn(page):
    """What has been asked for is drawn in the next frame; this waits for the one after it."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def tiles(page):
    return page.locator(".tile")


def wait_for_pictures(page):
    until(page, "document.querySelector('.tile') && !document.querySelector('.tile canvas:not([data-drawn])')")


def wait_for_graph(page, row, col):
    """Until the graph of this edge pixel is shown, and compared with the one of the server."""
    until(page, "title => document.getElementById('graph-title').textContent === title", f"Edge pixel {row}, {col}")
    until(page, "/codes are equal/.test(document.getElementById('graph-verdict').textContent)")


def chosen_pixel(page):
    """Row and column of the edge pixel that the address names."""
    until(page, "/pixel/.test(location.hash)")
    return tuple(map(int, re.search(r"/pixel/(\d+),(\d+)$", page.url).groups()))


def wait_for_patch(page):
    page.wait_for_selector("#patch-facts dd")


def shown_values(page, kind):
    """The table of all values of the graph that is shown."""
    page.evaluate("document.getElementById('all-values').open = true")
    page.select_option("#all-values-kind", kind)
    texts = page.eval_on_selector_all("#all-values-table td", "cells => cells.map(cell => cell.textContent)")
    return np.array([float(text.replace(MINUS, "-")) for text in texts])


def place_of(page, store, pixel):
    """Where on the screen a pixel of a patch is that is shown as a whole."""
    box = page.locator("#picture").bounding_box()
    zoom = min(box["width"], box["height"]) / store.patch_size
    left = box["x"] + (box["width"] - store.patch_size * zoom) / 2
    top = box["y"] + (box["height"] - store.patch_size * zoom) / 2
    return left + (pixel[1] + 0.5) * zoom, top + (pixel[0] + 0.5) * zoom


def picture_of(page, store):
    """Colours on the screen at the middle of every pixel of the patch: (H, W, 3)."""
    wait_until_drawn(page)
    values = page.evaluate(
        """(side) => {
            const canvas = document.getElementById("picture"), zoom = Math.min(canvas.width, canvas.height) / side;
            const left = (canvas.width - side * zoom) / 2, top = (canvas.height - side * zoom) / 2;
            const all = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            let found = "";
            for (let row = 0; row < side; row++)
                for (let col = 0; col < side; col++) {
                    const y = Math.floor(top + (row + 0.5) * zoom), x = Math.floor(left + (col + 0.5) * zoom);
                    const place = 4 * (y * canvas.width + x);
                    found += String.fromCharCode(all[place], all[place + 1], all[place + 2]);
                }
            return btoa(found);
        }""",
        store.patch_size,
    )
    return np.frombuffer(base64.b64decode(values), dtype=np.uint8).reshape(store.patch_size, store.patch_size, 3)


def failure(page):
    page.wait_for_selector("#failure:not([hidden])")
    return page.inner_text("#failure")


def test_all_patches_are_shown_with_their_pictures(store, url, open_page):
    page = open_page(url)
    assert tiles(page).count() == store.num_patches
    wait_for_pictures(page)
    assert page.inner_text("#found") == f"{store.num_patches} patches"
    assert "image-0.png" in tiles(page).first.inner_text()
    assert page.errors == []


def test_the_page_asks_nobody_but_its_server(url, open_page):
    page = open_page(url)
    wait_for_pictures(page)
    page.keyboard.press("Enter")
    wait_for_patch(page)
    page.keyboard.press("ArrowRight")
    wait_for_graph(page, *chosen_pixel(page))
    assert len(page.asked) > 10
    assert [address for address in page.asked if not address.startswith(url)] == ["data:,"] * page.asked.count("data:,")
    assert page.errors == []


def test_a_click_shows_the_numbers_of_the_store(any_form, serve, open_page):
    store = any_form
    index = store.num_patches - 1
    patch = store.read(index)
    with serve(store) as url:
        page = open_page(url, f"#/patch/{index}")
        wait_for_patch(page)
        for number in (0, len(patch["pixels"]) // 2, len(patch["pixels"]) - 1):
            row, col = patch["pixels"][number].tolist()
            page.mouse.click(*place_of(page, store, (row, col)))
            wait_for_graph(page, row, col)
            codes = patch["ssg"][number]
            graph = decode_codes(codes[None])[0]
            assert page.inner_text("#graph-verdict").startswith(f"{len(codes)} of {len(codes)} codes are equal")
            assert np.array_equal(shown_values(page, "codes"), codes)
            assert np.allclose(shown_values(page, "stored"), graph, rtol=5e-3, atol=1e-12)
            exact = self_similarity_graph(patch["gt"], patch["pixels"][number : number + 1], store.spec)[0]
            assert np.allclose(shown_values(page, "computed"), exact, rtol=5e-3, atol=1e-12)
            assert np.allclose(shown_values(page, "difference"), graph - exact, rtol=5e-3, atol=1e-7)
            assert f"/pixel/{row},{col}" in page.url
        assert page.errors == []


def test_the_picture_and_its_mask_are_those_of_the_store(any_form, serve, open_page):
    store = any_form
    patch = store.read(0)
    with serve(store) as url:
        page = open_page(url, "#/patch/0")
        wait_for_patch(page)
        assert np.array_equal(picture_of(page, store), patch["gt"])
        page.keyboard.press("m")
        changed = (picture_of(page, store) != patch["gt"]).any(axis=2)
        assert np.array_equal(changed, patch["edge_mask"])


def test_pointing_at_an_edge_pixel_shows_its_graph_until_the_pointer_leaves(store, url, open_page):
    page = open_page(url, "#/patch/1")
    wait_for_patch(page)
    row, col = store.read_pixels(1)[10].tolist()
    page.mouse.move(*place_of(page, store, (row, col)))
    wait_for_graph(page, row, col)
    assert "/pixel/" not in page.url
    page.mouse.move(5, 5)
    page.wait_for_selector("#graph", state="hidden")


def test_pointing_into_a_graph_shows_the_numbers_there(store, url, open_page):
    row, col = store.read_pixels(0)[7].tolist()
    page = open_page(url, f"#/patch/0/pixel/{row},{col}")
    wait_for_graph(page, row, col)
    codes = store.read_codes(0, 7, 8)[0].reshape(25, 25)
    for dy, dx in ((0, 0), (-12, 12), (3, -5)):
        box = page.locator(".map canvas").nth(1).bounding_box()
        page.mouse.move(
            box["x"] + (dx + 12.5) * box["width"] / 25,
            box["y"] + (dy + 12.5) * box["height"] / 25,
        )
        until(
            page,
            "text => document.getElementById('numbers-caption').textContent.includes(text)",
            f": pixel {row + dy}, {col + dx}".replace("-", MINUS),
        )
        cells = page.locator("#numbers tbody tr").nth(2).locator("td").all_inner_texts()
        assert cells == [str(codes[dy + 12, dx + 12])] * 2 + ["0"]


def test_everything_can_be_reached_with_keys(store, url, open_page):
    page = open_page(url)
    wait_for_pictures(page)
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    assert page.locator(".tile[aria-selected=true]").get_attribute("data-index") == "1"
    page.keyboard.press("Enter")
    wait_for_patch(page)
    page.keyboard.press("ArrowDown")
    first = chosen_pixel(page)
    wait_for_graph(page, *first)
    edge_pixels = {tuple(pixel) for pixel in store.read_pixels(1).tolist()}
    assert first in edge_pixels
    page.keyboard.press("ArrowDown")
    until(page, "hash => location.hash !== hash", f"#/patch/1/pixel/{first[0]},{first[1]}")
    row, col = chosen_pixel(page)
    assert row > first[0]
    assert (row, col) in edge_pixels
    page.focus("#maps")
    wait_for_graph(page, row, col)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#numbers-caption") == f"Offset {MINUS}1, +1: pixel {row - 1}, {col + 1}"
    page.keyboard.press("Escape")
    page.wait_for_selector("#graph", state="hidden")
    page.keyboard.press("]")
    until(page, "location.hash === '#/patch/2'")
    page.keyboard.press("Escape")
    page.wait_for_selector("#browse:not([hidden])")
    assert page.locator(".tile[aria-selected=true]").get_attribute("data-index") == "2"
    page.keyboard.press("/")
    page.keyboard.type("image-1")
    assert page.inner_text("#found").endswith(f"of {store.num_patches} patches")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.wait_for_selector("#help[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#help:not([open])", state="attached")
    assert page.errors == []


def test_keys_may_come_faster_than_pages_are_shown(url, open_page):
    page = open_page(url, "#/patch/1")
    wait_for_patch(page)
    page.evaluate(
        """for (const key of ["]", "Escape"])
            document.getElementById("picture").dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));"""
    )
    page.wait_for_selector("#browse:not([hidden])")
    assert page.locator(".tile[aria-selected=true]").get_attribute("data-index") == "2"
    assert page.errors == []


def test_zooming_shows_fewer_pixels_and_fitting_all_again(store, url, open_page):
    page = open_page(url, "#/patch/0")
    wait_for_patch(page)

    def zoom():
        wait_until_drawn(page)
        return int(page.inner_text("#zoom-shown").split()[0])

    fitted = zoom()
    page.keyboard.press("+")
    assert zoom() == pytest.approx(1.5 * fitted, rel=0.01)
    page.mouse.move(400, 400)
    page.mouse.wheel(0, -400)
    assert zoom() == pytest.approx(1.5 * fitted * np.e, rel=0.01)
    page.keyboard.press("0")
    assert zoom() == fitted
    assert np.array_equal(picture_of(page, store), store.read_gt(0))


def test_filters_find_what_the_table_says(tmp_path, serve, open_page):
    store = tiny_store(tmp_path, sizes=[(96, 128), (128, 96), (64, 64)])
    names = [store.patch_id(index).split(":")[0] for index in range(store.num_patches)]
    density = store.num_edge_pixels / store.patch_size**2

    def found(page):
        return sorted(
            int(value) for value in page.eval_on_selector_all(".tile", "all => all.map(t => t.dataset.index)")
        )

    with serve(store) as url:
        page = open_page(url)
        page.fill("#filter-text", "IMAGE-1")
        assert found(page) == [index for index, name in enumerate(names) if name == "image-1.png"]
        page.fill("#filter-text", "")
        page.evaluate(
            """() => {
                const slider = document.getElementById("density-min");
                slider.value = 70;
                slider.dispatchEvent(new Event("input", { bubbles: true }));
            }"""
        )
        assert found(page) == np.flatnonzero(density >= 0.7 * density.max()).tolist()
        assert 0 < len(found(page)) < store.num_patches
        page.click("#filter-reset")
        until(page, f"document.querySelectorAll('.tile').length === {store.num_patches}")
        page.select_option("#filter-order", "most")
        order = page.eval_on_selector_all(
            ".tile", "all => all.sort((a, b) => a.dataset.position - b.dataset.position).map(t => +t.dataset.index)"
        )
        assert order == np.argsort(-density, kind="stable").tolist()


def test_a_hundred_thousand_patches(large_store, serve, open_page):
    store = large_store
    assert store.num_patches >= 100_000
    with serve(store) as url:
        page = open_page(url)
        assert page.inner_text("#found") == f"{store.num_patches:,} patches"
        wait_for_pictures(page)
        assert tiles(page).count() < 200
        page.mouse.move(700, 400)
        page.mouse.wheel(0, 5000)
        until(page, "!document.querySelector('[data-position=\"0\"]')")
        wait_for_pictures(page)
        assert tiles(page).count() < 200
        page.keyboard.press("End")
        page.wait_for_selector(f"[data-index='{store.num_patches - 1}']")
        wait_for_pictures(page)
        assert tiles(page).count() < 200
        page.select_option("#filter-folder", "00350")
        until(page, "document.querySelectorAll('.tile').length <= 256")
        assert page.inner_text("#found") == f"256 of {store.num_patches:,} patches"
        page.select_option("#filter-folder", index=0)
        page.select_option("#filter-order", "most")
        assert int(tiles(page).first.get_attribute("data-index")) in np.flatnonzero(
            store.num_edge_pixels == store.num_edge_pixels.max()
        )
        row, col = store.read_pixels(store.num_patches - 2)[5].tolist()
        page.goto(f"{url}#/patch/{store.num_patches - 2}/pixel/{row},{col}")
        wait_for_graph(page, row, col)
        assert np.array_equal(shown_values(page, "codes"), store.read_codes(store.num_patches - 2, 5, 6)[0])
        assert page.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_the_button(url, open_page, scheme):
    page = open_page(url, color_scheme=scheme)

    def brightness():
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return np.mean([int(value) for value in re.findall(r"\d+", colour)])

    assert (brightness() > 128) == (scheme == "light")
    page.keyboard.press("t")
    assert brightness() > 128
    page.keyboard.press("t")
    assert brightness() < 128


def alter(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("compression", ["fast", "balanced"])
@pytest.mark.parametrize("name", ["gt/c/0/0/0/0", "edge_mask/c/0/0/0", "ssg/c/0/0"])
@pytest.mark.parametrize("damage", [alter, lambda path: path.unlink()], ids=["altered", "missing"])
def test_damage_is_said_and_not_shown(tmp_path, serve, open_page, compression, name, damage):
    # One patch, so that any byte altered is one of its bytes.
    store = tiny_store(tmp_path, sizes=[(64, 64)], patches_per_shard=1, compression=compression, chunk_rows=4096)
    row, col = store.read_pixels(0)[0].tolist()
    damage(store.root / name)
    with serve(store) as url:
        page = open_page(url, f"#/patch/0/pixel/{row},{col}")
        assert re.search("does not match|is missing|ends in the middle|beyond its end|invalid|outside", failure(page))
        assert page.is_hidden("#graph")


def test_a_store_without_patches_says_so(tmp_path, serve, open_page):
    with serve(tiny_store(tmp_path, min_edge_density=1.0)) as url:
        page = open_page(url)
        assert page.inner_text("#found") == "0 patches"
        page.keyboard.press("Enter")
        assert page.errors == []


def test_names_are_text(tmp_path, serve, open_page):
    write_images(tmp_path / "images", [(64, 64)])
    name = "<img src=x onerror=alert(1)>&amp;.png"
    (tmp_path / "images" / "image-0.png").rename(tmp_path / "images" / name)
    store = tiny_store_of(tmp_path)
    with serve(store) as url:
        page = open_page(url)
        wait_for_pictures(page)
        assert name in page.inner_text("#grid-space")
        page.keyboard.press("Enter")
        wait_for_patch(page)
        assert name in page.inner_text("#patch-title")
        assert page.locator("img").count() == 0
        assert page.errors == []


def tiny_store_of(folder):
    """A store of the images that are in the folder."""
    out = folder / "named.zarr"
    build(BuildConfig(dataset=str(folder / "images"), out=str(out), patch=PatchSpec(patch_size=64, step=32)))
    return open_store(out)
