"""A first try of an installed package: build a store, verify it, compare its graphs with plain NumPy.

Needs nothing but the package itself and runs from any folder: ``python tests/packaging/smoke.py``.
"""

import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np

import ssl_data
from ssl_data.store import _native as _store_native  # noqa: F401 - compiled, and fast only if it is
from ssl_data.testing import write_images

COMMAND = Path(sys.executable).with_name("ssl-data")


def command(*arguments: object) -> str:
    done = subprocess.run([COMMAND, *map(str, arguments)], check=True, capture_output=True, text=True)
    return done.stdout


def main() -> None:
    version = metadata.version("ssl_data")
    assert ssl_data.__version__ == version
    assert command("--version") == f"ssl-data {version}\n"
    assert "DF2K" in command("datasets")
    assert "native" in ssl_data.available_backends(), "the package was installed without its compiled modules"
    for compression in ("fast", "small"):
        with tempfile.TemporaryDirectory() as folder:
            check_store(Path(folder), "--compression", compression)
    print(f"ssl_data {version}: {', '.join(ssl_data.available_backends())}")  # noqa: T201 - said to whoever runs it


def check_store(folder: Path, *options: str) -> None:
    images, out = write_images(folder / "images", [(96, 128), (64, 64)]), folder / "store.zarr"
    command("build", "--dataset", images, "--out", out, "--patch-size", "64", "--step", "32", *options)
    assert "all is well" in command("verify", out, "--deep")
    store = ssl_data.open_store(out)
    patch = store.read(0)
    plain = ssl_data.self_similarity_graph(patch["gt"], patch["pixels"], store.spec, output="codes", backend="numpy")
    assert len(plain) > 100
    assert np.array_equal(patch["ssg"], plain)


if __name__ == "__main__":
    main()
