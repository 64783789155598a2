"""Stores of all kinds, served."""

from contextlib import contextmanager
from threading import Thread

import pytest

from ssl_data.testing import tiny_store
from ssl_data.view.server import ViewServer

FORMS = {
    "fast-sqrt8": {},
    "balanced-sqrt8-stride-3": {"compression": "balanced", "edge_stride": 3, "lq_scale": 4},
    "small-sqrt12-image": {"compression": "small", "quantization": "sqrt12", "boundary": "image"},
    "fast-sqrt12-stride-3": {"quantization": "sqrt12", "edge_stride": 3},
    "balanced-sqrt12-every-third-offset": {"compression": "balanced", "quantization": "sqrt12", "search_stride": 3},
    "small-sqrt8-tiles": {"compression": "small", "patch_size": 256, "step": 256, "sizes": [(256, 256)]},
}
"""Every compression with either quantization, either edge stride, one tile per patch or several."""


@contextmanager
def serving(store):
    """The address of a server of its own."""
    with ViewServer(store, host="127.0.0.1", port=0) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def serve():
    """Serve a store for as long as a context lasts."""
    return serving


@pytest.fixture(scope="session")
def url(store):
    """Where the small store of all tests is served."""
    with serving(store) as address:
        yield address


@pytest.fixture(scope="session", params=FORMS)
def any_form(request, tmp_path_factory):
    """A store of each form."""
    return tiny_store(tmp_path_factory.mktemp(request.param), **FORMS[request.param])
