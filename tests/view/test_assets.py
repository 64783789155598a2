"""The page in the package is what a build of web/src gives."""

import shutil
import subprocess
from pathlib import Path

import pytest

WEB = Path(__file__).resolve().parents[2] / "web"


@pytest.fixture(scope="module")
def node():
    program = shutil.which("node")
    if program is None:
        pytest.skip("Node.js is not installed")
    if not (WEB / "node_modules" / "esbuild").is_dir():
        pytest.skip("web/node_modules is not there: run `npm ci` in web/")
    return program


def run(*arguments, **options):
    return subprocess.run(arguments, cwd=WEB, capture_output=True, text=True, check=False, **options)


def test_the_assets_are_those_of_the_sources(node):
    done = run(node, "build.mjs", "--check")
    assert done.returncode == 0, done.stderr


def test_the_comparison_can_fail(node, tmp_path):
    copy = tmp_path / "web"
    shutil.copytree(WEB, copy, ignore=shutil.ignore_patterns("node_modules"))
    (copy / "node_modules").symlink_to(WEB / "node_modules")
    shutil.copytree(WEB.parent / "ssl_data" / "view" / "assets", tmp_path / "ssl_data" / "view" / "assets")
    (copy / "src" / "view.css").write_text("/* another */")
    done = subprocess.run([node, "build.mjs", "--check"], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ssl_data/view/assets/view.css differs" in done.stderr


def test_the_sources_have_the_right_types(node):
    done = run(node, "node_modules/typescript/bin/tsc", "--noEmit")
    assert done.returncode == 0, done.stdout


def test_the_lock_file_names_no_registry():
    assert "resolved" not in (WEB / "package-lock.json").read_text()
