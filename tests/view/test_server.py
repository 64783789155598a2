"""The server as a client without a browser meets it."""

import gzip
import http.client
import json
import socket
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssl_data import decode_codes, open_store, self_similarity_graph
from ssl_data.errors import ViewError
from ssl_data.testing import tiny_store
from ssl_data.view.server import ViewServer


def request(url, path, *, method="GET", **headers):
    """Status, headers and body, without anything that tidies up the path on the way."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


def document(url, path):
    status, _, body = request(url, path)
    assert status == 200, body
    return json.loads(body)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.data())
def test_every_part_of_every_file_is_served(store, url, data):
    name = data.draw(st.sampled_from(["gt/zarr.json", "gt/c/0/0/0/0", "ssg/c/0/0", "edge_mask/c/1/0/0", "count/c/0"]))
    content = (store.root / name).read_bytes()
    first = data.draw(st.integers(0, len(content) - 1))
    num_bytes = data.draw(st.integers(1, len(content) - first))
    status, headers, body = request(url, f"/store/{name}", Range=f"bytes={first}-{first + num_bytes - 1}")
    assert (status, body) == (206, content[first : first + num_bytes])
    assert headers["Content-Range"] == f"bytes {first}-{first + num_bytes - 1}/{len(content)}"
    assert request(url, f"/store/{name}", Range=f"bytes=-{num_bytes}")[2] == content[-num_bytes:]
    assert request(url, f"/store/{name}")[::2] == (200, content)


def test_an_answer_to_head_has_no_body(store, url):
    status, headers, body = request(url, "/store/ssg/c/0/0", method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) == (store.root / "ssg/c/0/0").stat().st_size


def test_bytes_that_are_not_there_are_refused(store, url):
    num_bytes = (store.root / "gt/zarr.json").stat().st_size
    status, headers, _ = request(url, "/store/gt/zarr.json", Range=f"bytes={num_bytes}-")
    assert (status, headers["Content-Range"]) == (416, f"bytes */{num_bytes}")


def test_large_files_come_whole(tmp_path, serve):
    store = tiny_store(tmp_path, sizes=[(320, 320)], patches_per_shard=128)
    content = (store.root / "ssg/c/0/0").read_bytes()
    assert len(content) > 2 << 20  # more than two pieces
    with serve(store) as url:
        assert request(url, "/store/ssg/c/0/0")[2] == content


HIDDEN = """
    /store/ /store/../images/image-0.png /store/%2e%2e/images/image-0.png /store/gt/../../images/image-0.png
    /store//etc/passwd /store/%2Fetc%2Fpasswd /store/gt /store/.build/lock /store/gt/zarr.json%00 /store/gt\\zarr.json
    /../server.py /assets/../server.py /server.py /..%2fserver.py /LICENSES.txt //etc/passwd /nothing
    /api/ /api/patches/x /api/patches/99999 /api/patches/-1
"""
PARTS = [*["..", ".", "gt", "store", "images", "zarr.json", "%2e%2e", "image-0.png"], ""]


@pytest.mark.parametrize("path", HIDDEN.split())
def test_nothing_but_the_page_and_the_store_is_served(url, path):
    status, headers, body = request(url, path)
    assert status == 404
    assert set(json.loads(body)) == {"error"}
    assert "Content-Security-Policy" in headers


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["..", ".", "gt", "store", "images", "zarr.json", "", "%2e%2e", "image-0.png"]), max_size=8
    )
)
def test_no_path_leads_out_of_the_store(store, url, parts):
    status, _, body = request(url, "/store/" + "/".join(parts))
    if status == 200:
        assert body == (store.root / "/".join(parts)).read_bytes()
        assert "/".join(parts) in {"gt/zarr.json", "zarr.json"}
    else:
        assert status == 404


def test_links_out_of_the_store_are_not_followed(tmp_path, serve):
    store = tiny_store(tmp_path)
    (tmp_path / "secret").write_text("secret")
    (store.root / "gt/zarr.json").unlink()
    (store.root / "gt/zarr.json").symlink_to(tmp_path / "secret")
    with serve(store) as url:
        status, _, body = request(url, "/store/gt/zarr.json")
    assert status == 404
    assert "leads out of the store" in json.loads(body)["error"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", ""])
def test_other_names_of_the_server_are_refused(url, host):
    for path in ("/", "/store/gt/zarr.json", "/api/store"):
        assert request(url, path, Host=host)[0] == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_the_server_is_only_read(url, method):
    assert request(url, "/api/store", method=method)[0] == 501


def test_the_page_may_talk_to_nobody_else(url):
    for path in ("/", "/view.js", "/view.css", "/api/store", "/store/gt/zarr.json", "/nothing"):
        policy = request(url, path)[1]["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "connect-src 'self'" in policy
        assert "unsafe" not in policy


def test_documents_say_what_the_store_says(store, url):
    assert document(url, "/api/store")["num_patches"] == store.num_patches
    columns = json.loads(gzip.decompress(request(url, "/api/patches")[2]))
    assert columns["count"] == store.counts.tolist()
    assert columns["num_edge_pixels"] == store.num_edge_pixels.tolist()
    for index in range(store.num_patches):
        patch = document(url, f"/api/patches/{index}")
        assert patch["patch_id"] == store.patch_id(index)
        assert columns["sources"][columns["source"][index]] == patch["source"]
        assert [columns[name][index] for name in ("slot", "row", "col", "start")] == [
            patch[name] for name in ("slot", "row", "col", "start")
        ]


def test_graphs_computed_now_equal_those_of_the_store(any_form, serve):
    store = any_form
    with serve(store) as url:
        for index in range(0, store.num_patches, 3):
            patch = store.read(index)
            number = len(patch["pixels"]) // 2
            row, col = patch["pixels"][number].tolist()
            graph = document(url, f"/api/patches/{index}/graph?row={row}&col={col}")
            assert graph["codes"] == patch["ssg"][number].tolist()
            exact = self_similarity_graph(
                patch["gt"], patch["pixels"][number : number + 1], store.spec, backend="numpy"
            )
            assert np.allclose(graph["normalized"], exact[0], atol=1e-6)
            assert np.allclose(graph["normalized"], decode_codes(patch["ssg"][number : number + 1])[0], atol=5e-3)


@pytest.mark.parametrize(
    "query", ["", "?row=1", "?row=1&col=x", "?row=1&col=-1", "?row=64&col=1", "?row=1&row=2&col=3"]
)
def test_pixels_that_are_none_are_refused(url, query):
    status, _, body = request(url, f"/api/patches/0/graph{query}")
    assert status == 400
    assert set(json.loads(body)) == {"error"}


def test_damage_is_said_in_a_sentence(tmp_path, serve):
    store = tiny_store(tmp_path)
    shard = store.root / "gt/c/0/0/0/0"
    shard.write_bytes(bytes(100) + shard.read_bytes()[100:])
    with serve(open_store(store.url)) as url:
        status, _, body = request(url, "/api/patches/0/graph?row=3&col=3")
    assert status == 500
    assert "gt/c/0/0/0/0" in json.loads(body)["error"]


def test_a_port_that_is_taken_is_named_with_a_remedy(store):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ViewError, match=rf"port {port} .*--port 0 for any free one"):
            ViewServer(store, host="127.0.0.1", port=port)
