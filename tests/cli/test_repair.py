"""`ssl-data verify` and `repair` as a user meets them."""

import json
import shutil
import subprocess
import sys

import pytest

from ssl_data.testing import tiny_store, write_images

COMMAND = [sys.executable, "-W", "error", "-c", "from ssl_data.cli.app import main; main()"]


def run(*arguments):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def damaged(tmp_path):
    """A store that lacks a file, and its images."""
    store = tiny_store(tmp_path).root
    shutil.copytree(store, tmp_path / "original")
    (store / "ssg" / "c" / "1" / "0").unlink()
    return store, tmp_path / "images"


def test_damage_is_found_repaired_and_gone(damaged):
    store, images = damaged
    found = run("verify", store)
    assert found.returncode == 1
    assert "ssg/c/1/0: the file does not exist (shard 1)" in found.stderr
    assert f"ssl-data repair {store} --dataset" in found.stderr
    without = run("repair", store)
    assert without.returncode == 1
    assert "must be made anew from the images: say where they are with --dataset" in without.stderr
    done = run("repair", store, "--dataset", images)
    assert done.returncode == 0
    assert "repaired ssg/c/1/0: the file does not exist" in done.stderr
    assert "repaired, 1 shard made anew" in done.stdout
    assert subprocess.run(["diff", "-r", store, store.parent / "original"], check=False).returncode == 0
    again = run("repair", store, "--json")
    assert json.loads(again.stdout)["nothing_to_do"] is True
    deep = run("verify", store, "--deep", "--share", "0.5", "--seed", "3", "--json")
    assert deep.returncode == 0
    assert json.loads(deep.stdout)["problems"] == []


def test_other_images_are_refused(damaged, tmp_path):
    store, _ = damaged
    others = write_images(tmp_path / "others", [(96, 128), (64, 64)], seed=9)
    done = run("repair", store, "--dataset", others)
    assert done.returncode == 1
    assert "not those that the store was made from" in done.stderr
    assert "sources: 1 changed (image-0.png)" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["verify", "x", "--share", "0.5"], 2, "--share needs --deep"),
        (["verify", "x", "--deep", "--share", "0"], 2, "above 0"),
        (["repair", "x", "--root", "y"], 2, "need --dataset"),
        (["repair", "nowhere"], 1, "is not a store, not even a damaged one"),
        (["repair", "ftp://bucket/store"], 2, "give a folder or one of s3://"),
    ],
)
def test_mistakes_are_explained(arguments, code, message):
    done = run(*arguments)
    assert done.returncode == code
    assert message in " ".join(done.stderr.replace("│", " ").split())
