"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import shutil
import signal

# What a shell starts in the background ignores Ctrl-C, and so would the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: its threads and loader workers would fight for cores

from importlib.util import find_spec
from pathlib import Path

import hypothesis
import pytest

from ssl_data.testing import repeated_store, tiny_store

# Speed belongs to benchmarks: a machine that is busy for a moment must not fail a test.
hypothesis.settings.register_profile("ssl_data", deadline=None)
hypothesis.settings.load_profile("ssl_data")

SHARED = Path(os.environ.get("SSL_DATA_SHARED", Path(__file__).resolve().parents[2] / "shared"))
"""Golden values and photographs that lie beside the project, not in it."""


def _shared(folder: str) -> Path:
    path = SHARED / folder
    if not path.is_dir():
        pytest.skip(f"{folder} of the shared folder is not here; SSL_DATA_SHARED names another place")
    return path


@pytest.fixture(scope="session")
def shared_images() -> Path:
    """Real photographs, and the odd files that real folders contain."""
    return _shared("images")


@pytest.fixture(scope="session")
def shared_golden() -> Path:
    """Outputs of the authors' programs."""
    return _shared("golden")


@pytest.fixture(scope="session")
def photographs() -> Path:
    """The folder with the photographs in the scikit-image wheel."""
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("scikit-image is not installed: pip install 'ssl_data[sample]'")
    return Path(next(iter(spec.submodule_search_locations))) / "data"


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """A small store with low-quality patches, to be read only."""
    return tiny_store(tmp_path_factory.mktemp("store"), lq_scale=4)


@pytest.fixture(scope="session")
def large_store(tmp_path_factory):
    """More than 100 000 patches, each readable."""
    folder = tmp_path_factory.mktemp("large")
    small = tiny_store(folder, sizes=[(544, 544)], patches_per_shard=256)
    yield repeated_store(small, folder / "large.zarr", 391)
    shutil.rmtree(folder)  # thousands of files, which pytest would keep


@pytest.fixture(scope="session")
def browser():
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = os.environ.get("SSL_DATA_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium here (Debian/Ubuntu: apt install chromium); SSL_DATA_CHROMIUM names one elsewhere")
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=[*options, "--disable-sync", "--no-first-run"])
        yield chromium
        chromium.close()
