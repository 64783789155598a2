"""`ssl-data build --log` and `ssl-data status` as a user meets them."""

import json
import subprocess
import sys

from ssl_data.testing import write_images

COMMAND = [sys.executable, "-W", "error", "-c", "from ssl_data.cli.app import main; main()"]
FAILING = [
    sys.executable,
    "-c",
    """
import errno, ssl_data.pipeline.job as job
def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")
job.reduce_bicubic = full
from ssl_data.cli.app import main
main()
""",
]


def run(command, *arguments):
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_failures_are_a_line_on_the_screen_and_a_traceback_in_the_log(tmp_path):
    images, log = write_images(tmp_path / "images", [(96, 64)]), tmp_path / "build.jsonl"
    build = ("build", "--dataset", images, "--out", tmp_path / "store", "--patch-size", 64, "--lq-scale", 4)
    failed = run(FAILING, *build, "--log", log, "--retries", 1)
    assert failed.returncode == 1
    full = "No space left on device (the disk is full: make room, and the same command goes on)"
    problem = f"shard 0, image image-0.png: {tmp_path / 'store'}: {full}"
    lines = [line for line in failed.stderr.splitlines() if "image-0.png" in line]
    assert lines == [f"ssl-data: warning: {problem}", f"ssl-data: error: {problem} (in attempt 2, the last)"]
    assert "Traceback" not in failed.stderr
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry["event"] for entry in entries] == ["start", "shard-failed", "shard-failed", "stopped"]
    assert (entries[2]["shard"], entries[2]["image"], entries[2]["level"]) == (0, "image-0.png", "error")
    assert "Traceback (most recent call last)" in entries[2]["traceback"]
    assert all(entry["time"].endswith("+00:00") for entry in entries)
    status = run(COMMAND, "status", tmp_path / "store")
    assert "stopped, 0 of 1 shard done" in status.stdout
    assert f"failed       {problem} (attempt 2)" in status.stdout
    assert run(COMMAND, *build, "--log", log).returncode == 0
    assert [json.loads(line)["event"] for line in log.read_text().splitlines()[4:]] == ["start", "shard-made", "end"]
    done = json.loads(run(COMMAND, "status", tmp_path / "store", "--json").stdout)
    assert (done["state"], done["num_done"], done["num_shards"], done["failed"]) == ("complete", 1, 1, [])
    missing = run(COMMAND, "status", tmp_path / "nowhere")
    assert missing.returncode == 1
    assert "is no store" in missing.stderr
