"""Images, a store made of them at one go, and Slurm."""

import http.client
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ssl_data.cli.app import app
from ssl_data.testing import write_images

COMMAND = Path(sys.executable).with_name("ssl-data")
STAND_IN = Path(__file__).with_name("slurm_stand_in.py")
OPTIONS = ["--patch-size", "64", "--step", "32"]


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Twelve small shards."""
    return write_images(tmp_path_factory.mktemp("cluster") / "images", [(160, 160)] * 12)


@pytest.fixture(scope="session")
def dataset(images):
    """The options of a build of them."""
    return ["--dataset", str(images), *OPTIONS]


@pytest.fixture(scope="session")
def single_build(images, dataset):
    """The store of one ordinary build."""
    store = images.parent / "single"
    subprocess.run([COMMAND, "build", *dataset, "--out", store], check=True, capture_output=True)
    return store


@pytest.fixture
def slurm(tmp_path):
    """Run a script of manifests/cluster/slurm, or a command of Slurm, where Slurm is this machine."""
    tools, state = tmp_path / "tools", tmp_path / "state"
    tools.mkdir()
    state.mkdir()
    for name in ("sbatch", "srun", "scontrol", "hostname"):
        program = tools / name
        program.write_text(f"#!{sys.executable}\n{STAND_IN.read_text(encoding='utf-8')}", encoding="utf-8")
        program.chmod(0o755)
    path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"

    def run(command, *arguments, **variables):
        environment = {**os.environ, "PATH": path, "SLURM_STAND_IN": str(state), **variables}
        return subprocess.run(
            [command, *map(str, arguments)], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    run.state = state
    return run


@pytest.fixture
def in_place(images, tmp_path):
    """Run ``ssl-data`` in this process, with the places inside a container replaced by those of a test."""

    def run(arguments, **variables):
        places = {"/images": str(images), "/stores": str(tmp_path)}
        replaced = [re.sub(r"(?<!\w)(/images|/stores)", lambda found: places[found[0]], word) for word in arguments]
        return CliRunner().invoke(app, replaced, env=variables, catch_exceptions=False)

    return run


@pytest.fixture(scope="session")
def s3_environment(images, tmp_path_factory):
    """Variables as the secret sets them, for a server on this machine whose bucket holds the images."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "SSL_DATA_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            put(port, "/bucket")
            for path in images.iterdir():
                put(port, f"/bucket/images/{path.name}", path.read_bytes())
            yield variables
        finally:
            server.terminate()


def put(port, path, content=b""):
    """Make a bucket, or put an object; wait for the server if need be."""
    give_up = time.monotonic() + 30
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("PUT", path, content)
            assert connection.getresponse().status == 200
        except ConnectionRefusedError:
            assert time.monotonic() < give_up
            time.sleep(0.1)
        else:
            return
        finally:
            connection.close()
