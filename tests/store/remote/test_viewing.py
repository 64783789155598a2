"""`ssl-data view` and `report` of a store at a URL."""

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import pytest

from ssl_data import open_store
from ssl_data.report.page import render_report
from ssl_data.view.server import ViewServer


@pytest.fixture
def served(url):
    """The address of a page that shows the remote store."""
    with ViewServer(open_store(url), host="127.0.0.1", port=0) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()


def fetch(address, **headers):
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:  # noqa: S310
        return answer.read()


def test_parts_of_its_files_come_through_at_the_same_time(store, served):
    files = [store.root / name for name in ("gt/c/0/0/0/0", "ssg/c/0/0", "edge_mask/c/0/0/0")] * 6

    def last_bytes(file):
        return fetch(f"{served}store/{file.relative_to(store.root)}", Range="bytes=-1000")

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(last_bytes, files)) == [file.read_bytes()[-1000:] for file in files]


def test_graphs_are_computed_from_its_patches(store, served):
    patch = store.read(1)
    row, col = patch["pixels"][4].tolist()
    graph = json.loads(fetch(f"{served}api/patches/1/graph?row={row}&col={col}"))
    assert graph["codes"] == patch["ssg"][4].tolist()


def test_a_report_is_that_of_the_folder_but_for_the_place(store, url):
    assert render_report(open_store(url)).replace(url, store.url) == render_report(store)
