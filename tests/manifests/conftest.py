"""Images, a store made of them at one go, and Slurm."""

import os
import re
import subprocess
import sys
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
        replaced = [re.sub(r"/images|/stores", lambda found: places[found[0]], word) for word in arguments]
        return CliRunner().invoke(app, replaced, env=variables, catch_exceptions=False)

    return run
