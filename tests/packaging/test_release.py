"""What is published: the version, the source distribution, wheels and how they are built."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from importlib import metadata
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

import ssl_data

ROOT = Path(__file__).parents[2]
SMOKE = Path(__file__).with_name("smoke.py")
NOT_PUBLISHED = {".ci", ".github", ".gitignore"}
"""What only a checkout needs."""
MADE = {"PKG-INFO", "setup.cfg"}
NO_COMPILER = {"CC": "/bin/false", "CXX": "/bin/false"}


def tool(name, *arguments, **options):
    command = [Path(sys.executable).with_name(name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, **options).stdout


@pytest.fixture(scope="module")
def tracked():
    """Relative names of the files of the project."""
    if not (ROOT / ".git").exists():
        pytest.skip("only a checkout knows which files belong to the project")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.split("\0") if name and (ROOT / name).exists()}


@pytest.fixture(scope="module")
def checkout(tracked, tmp_path_factory):
    """These files in a folder of their own, where nothing else lies about."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in tracked:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def test_the_version_is_in_one_place():
    assert metadata.version("ssl_data") == ssl_data.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "ssl_data.__version__"}


def test_the_changelog_has_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## [{ssl_data.__version__}] - " in changelog or f"\nTo become {ssl_data.__version__}.\n" in changelog


def test_the_source_distribution_has_the_files_of_the_project_and_no_others(checkout, tracked, tmp_path):
    (checkout / "ssl_data" / "leftover.so").touch()
    (checkout / "tests" / "__pycache__").mkdir(exist_ok=True)
    (checkout / "tests" / "__pycache__" / "leftover.pyc").touch()
    tool("python", "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, cwd=checkout)
    (path,) = tmp_path.glob("*.tar.gz")
    assert path.name == f"ssl_data-{ssl_data.__version__}.tar.gz"
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    published = {name for name in tracked if name.split("/")[0] not in NOT_PUBLISHED}
    assert {name for name in names if not name.startswith("ssl_data.egg-info/")} - MADE == published
    assert "PASSED" in tool("twine", "check", "--strict", path)


def test_cibuildwheel_makes_wheels_for_both_architectures():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    schema = json.loads(files("cibuildwheel").joinpath("resources/cibuildwheel.schema.json").read_text("utf-8"))
    jsonschema.validate(project["tool"]["cibuildwheel"], schema)
    options = ["--platform", "linux", "--archs", "x86_64,aarch64", "--print-build-identifiers"]
    listed = set(tool("cibuildwheel", *options, cwd=ROOT).split())
    pythons = [name.rpartition(" ")[2] for name in project["project"]["classifiers"] if "Python :: 3." in name]
    assert listed == {
        f"cp{python.replace('.', '')}-manylinux_{arch}" for python in pythons for arch in ("x86_64", "aarch64")
    }


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*")), ids=lambda path: path.name)
def test_workflows_are_valid(path):
    tool("check-jsonschema", "--builtin-schema", "github-workflows", path)


def install(folder, what, *arguments, **environment):
    """Make an environment of its own, with a path that leads to nothing else, and install into it."""
    venv.create(folder, with_pip=True)
    surroundings = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    surroundings |= {"PATH": str(folder / "bin"), **environment}
    command = [folder / "bin" / "pip", "install", "--quiet", *arguments, what]
    subprocess.run(list(map(str, command)), env=surroundings, check=True, cwd=folder)

    def run(*words):
        command = [folder / "bin" / "python", *words]
        done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False, cwd=folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_what_is_published_can_be_installed(checkout, tmp_path):
    """As ``python -m build`` makes it, in environments of their own; prints the sizes, with ``-s``."""
    tool("python", "-m", "build", "--outdir", tmp_path / "dist", cwd=checkout)
    (sdist,), (wheel,) = (tmp_path / "dist").glob("*.tar.gz"), (tmp_path / "dist").glob("*.whl")
    assert tool("twine", "check", "--strict", sdist, wheel).count("PASSED") == 2
    print({path.name: path.stat().st_size for path in (sdist, wheel)})  # noqa: T201
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert tops == {"ssl_data", f"ssl_data-{ssl_data.__version__}.dist-info"}
    from_wheel = install(tmp_path / "wheel", wheel, **NO_COMPILER)
    print(from_wheel(SMOKE))  # noqa: T201
    from_sdist = install(tmp_path / "sdist", sdist, PATH=f"{tmp_path / 'sdist' / 'bin'}:{os.environ['PATH']}")
    print(from_sdist(SMOKE))  # noqa: T201
    slow = install(tmp_path / "slow", sdist, **NO_COMPILER)
    assert slow("-c", "import ssl_data; print(*ssl_data.available_backends())") == "numpy\n"
