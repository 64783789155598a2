"""`ssl-data inspect` and `verify`, and `verify_store`, given a URL."""

import json
import subprocess
import sys

import pytest

from ssl_data import verify_store
from ssl_data.errors import StoreNotFoundError, StoreUnreachableError

COMMAND = [sys.executable, "-W", "error", "-c", "from ssl_data.cli.app import main; main()"]


def run(*arguments):
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("deep", [False, True])
def test_an_intact_store_has_no_problems(url, deep, tmp_path):
    assert verify_store(url, deep=deep) == []
    assert not (tmp_path / "cache").exists()  # it is the objects that are verified


def test_damage_is_found_and_named(damage):
    damage("gt/c/0/0/0/0", "missing")
    damage("edge_mask/c/1/0/0", "truncated")
    damage("ssg/c/1/0", "altered")
    problems = verify_store(damage.url)
    assert {(problem.where, problem.kind) for problem in problems} == {
        ("gt/c/0/0/0/0", "missing-file"),
        ("edge_mask/c/1/0/0", "wrong-size"),
        ("ssg/c/1/0", "altered"),
    }


def test_what_cannot_be_reached_is_not_called_damaged(url, proxy):
    with pytest.raises(StoreNotFoundError):
        verify_store(url + "/nothing")
    proxy.every_fault = "403"
    with pytest.raises(StoreUnreachableError, match="refused"):
        verify_store(url)


def test_inspect_and_verify_take_urls(url, store):
    inspected = run("inspect", url, "--json")
    assert inspected.returncode == 0, inspected.stderr
    summary = json.loads(inspected.stdout)
    assert (summary["path"], summary["num_patches"]) == (url, store.num_patches)
    verified = run("verify", url)
    assert (verified.returncode, verified.stdout) == (0, f"{url}: all is well\n")


def test_an_error_is_one_line(url):
    done = run("inspect", url + "-none")
    assert done.returncode == 1
    assert done.stderr == f"ssl-data: error: {url}-none is not a store: {url}-none/zarr.json does not exist\n"
