"""`ssl-data build --part` and `finalize` as a user meets them."""

import json
import signal
import subprocess
import sys

import pytest

from ssl_data.testing import write_images

COMMAND = [sys.executable, "-W", "error", "-c", "from ssl_data.cli.app import main; main()"]
SMALL = ["--patch-size", "64", "--step", "32"]


def run(*arguments):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "images", [(160, 160), (160, 160), (64, 64)])


def test_parts_and_completion(images, tmp_path):
    build = ("build", "--dataset", images, "--out", tmp_path / "store", *SMALL)
    first = run(*build, "--part", "0/2")
    assert first.returncode == 0
    assert "Part 0/2" in first.stdout
    assert "missing      1 shard of other parts" in first.stdout
    early = run("finalize", tmp_path / "store")
    assert early.returncode == 1
    assert early.stderr.count("\n") == 1
    assert "1 of 3 shards are missing: 1; run part 1/2 again" in early.stderr
    second = run(*build, "--part", "1/2", "--json")
    assert (second.returncode, json.loads(second.stdout)["num_shards_missing"]) == (0, 0)
    done = run("finalize", tmp_path / "store")
    assert done.returncode == 0
    assert f"Built {tmp_path / 'store'}: 33 patches from 3 images" in done.stdout
    again = run("finalize", tmp_path / "store", "--json")
    assert (again.returncode, json.loads(again.stdout)["nothing_to_do"]) == (0, True)


def test_the_number_of_a_part_may_come_from_a_variable(images, tmp_path, monkeypatch):
    monkeypatch.setenv("ARRAY_INDEX", "1")
    build = ("build", "--dataset", images, "--out", tmp_path / "store", *SMALL)
    made = run(*build, "--part", "$ARRAY_INDEX/3", "--json")
    assert (made.returncode, json.loads(made.stdout)["part"]) == (0, 1)
    unset = run(*build, "--part", "$ARRAY_INDICES/3")
    assert unset.returncode == 2
    assert "got '$ARRAY_INDICES/3'" in unset.stderr


def test_rejected_images_are_judged_by_the_completion(images, tmp_path):
    (images / "broken.png").write_bytes(b"no image")
    part = run("build", "--dataset", images, "--out", tmp_path / "store", *SMALL, "--part", "0/1")
    assert part.returncode == 0
    assert "rejected broken.png" in part.stderr
    done = run("finalize", tmp_path / "store")
    assert done.returncode == 3
    assert "rejected broken.png" in done.stderr
    assert run("finalize", tmp_path / "store", "--max-bad", "1").returncode == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--part", "2/2"], "numbered 0 to 1"),
        (["--part", "two"], "written I/N"),
        (["--part", "0/2", "--retry-failed"], "cannot be divided"),
    ],
)
def test_wrong_usage(images, tmp_path, options, message):
    done = run("build", "--dataset", images, "--out", tmp_path / "store", *SMALL, *options)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_part_that_goes_on_later(photographs, tmp_path, number):
    store = tmp_path / "store"
    options = ("--dataset", "sample", "--out", str(store), "--workers", "1", "--compression", "small", "--part", "0/1")
    process = subprocess.Popen([*COMMAND, "build", *options], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while not list(store.glob("manifest/shard-*.parquet")):
        assert process.poll() is None
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 4
    assert "part 0/1 was interrupted; the same command goes on" in errors
    assert [path.name for path in (store / ".build" / "part-0-of-1").iterdir()] == ["lock"]
