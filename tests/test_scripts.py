"""The shell scripts of the project, wherever they are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACES = ["*", ".ci/*", "docker/*", "manifests/cluster/*/*", "tests/*/*"]


def is_shell_script(path):
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(2) == b"#!" and b"sh" in file.readline()


SCRIPTS = sorted(path for place in PLACES for path in ROOT.glob(place) if is_shell_script(path))


def shellcheck(path):
    made_at_run_time = "SC1091"  # a script that is sourced
    command = [Path(sys.executable).with_name("shellcheck"), "--exclude", made_at_run_time, path]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_scripts_are_found():
    assert {"check", "part.sbatch", "sanitize.sh", "stand-in"} <= {path.name for path in SCRIPTS}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_shellcheck_has_no_complaint(path):
    assert shellcheck(path) == ""
    assert path.suffix == ".sbatch" or os.access(path, os.X_OK)  # sbatch reads its scripts


def test_shellcheck_would_complain(tmp_path):
    (tmp_path / "script").write_text("#!/bin/sh\nrm -rf $1\n")
    assert "SC2086" in shellcheck(tmp_path / "script")
