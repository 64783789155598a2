"""What can be said of the container files without building them; `docker/check` builds and runs them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILES = [ROOT / "docker" / "Dockerfile", ROOT / "docker" / "Dockerfile.train"]


def tool(name, *arguments):
    command = [Path(sys.executable).with_name(name), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_has_no_complaint(path):
    assert tool("hadolint", path).stdout == ""


def test_hadolint_would_complain(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN apt-get install g++\n")
    assert "DL3008" in tool("hadolint", tmp_path / "Dockerfile").stdout


def test_compose_knows_all_fields(tmp_path):
    checked = ["--builtin-schema", "compose-spec"]
    done = tool("check-jsonschema", *checked, "docker/compose.yaml")
    assert done.returncode == 0, done.stdout
    wrong = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
    wrong["services"]["build"]["comand"] = []
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(wrong))
    assert tool("check-jsonschema", *checked, tmp_path / "compose.yaml").returncode == 1


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_run_as_a_numbered_user_behind_an_init(path):
    last_stage = path.read_text(encoding="utf-8").split("\nFROM ")[-1]
    assert re.findall(r"^USER (\S+)", last_stage, re.MULTILINE)[-1] == "10001:10001"
    assert '\nENTRYPOINT ["/usr/bin/tini", "--"' in last_stage


def test_what_the_package_is_made_of_reaches_the_images():
    kept = set(re.findall(r"^!/(\S+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))
    grafted = set(re.findall(r"^graft (\S+)$", (ROOT / "MANIFEST.in").read_text(encoding="utf-8"), re.MULTILINE))
    assert grafted - kept == {"docker", "docs", "tests", "web"}
    assert {"pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"} <= kept
    assert all((ROOT / name).exists() for name in kept)
