"""The batch scripts for Slurm, run by a stand-in for it, make real stores."""

import contextlib
import json
import subprocess
from pathlib import Path

import pytest

SLURM = Path(__file__).parents[2] / "manifests" / "cluster" / "slurm"


def difference(left, right):
    return subprocess.run(["diff", "-r", left, right], capture_output=True, text=True, check=False).stdout


def log(slurm, task):
    return (slurm.state / f"{task}.log").read_text()


def exit_codes(slurm):
    return json.loads((slurm.state / "jobs.json").read_text())


def stop(slurm, task, store):
    """Let the time of a task be over when the store has one more shard."""
    (slurm.state / "stop.json").write_text(json.dumps({"task": task, "store": str(store)}))


def test_an_array_job_and_its_completion_make_the_store_of_one_build(slurm, dataset, single_build, tmp_path):
    store = tmp_path / "store with a space"
    stop(slurm, "1000_1", store)
    done = slurm(SLURM / "submit", 3, store, *dataset, SSL_DATA_BACKEND="numpy")  # slow enough to be stopped in time
    assert (done.returncode, done.stderr) == (0, ""), log(slurm, "1000_1")
    assert exit_codes(slurm) == {"1000": {"2": 0, "1": 0, "0": 0}, "1001": {"None": 0}}
    assert "part 1/3 was interrupted" in log(slurm, "1000_1")
    assert "Part 1/3" in log(slurm, "1000_1")
    assert "interrupted" not in log(slurm, "1000_0")
    assert difference(single_build, store) == ""


def test_no_completion_follows_a_part_that_failed(slurm, tmp_path):
    done = slurm(SLURM / "submit", 2, tmp_path / "store", "--dataset", tmp_path / "nowhere")
    assert exit_codes(slurm) == {"1000": {"1": 1, "0": 1}}
    assert "will never run" in done.stderr


def test_a_task_that_is_always_stopped_ends_some_day(slurm, tmp_path):
    tool = tmp_path / "tools" / "ssl-data"
    tool.write_text("#!/bin/sh\nexit 4\n")
    tool.chmod(0o755)
    slurm(SLURM / "submit", 1, tmp_path / "store", "--dataset", "x", MAX_RESTARTS="2")
    assert exit_codes(slurm) == {"1000": {"0": 4}}


@pytest.mark.parametrize("arguments", [[], [2, "store"], ["two", "store", "--dataset"], [0, "store", "--dataset"]])
def test_wrong_usage_explains_itself(slurm, arguments):
    done = slurm(SLURM / "submit", *arguments)
    assert done.returncode == 2
    assert "submit PARTS STORE BUILD-OPTION..." in done.stderr
    assert not (slurm.state / "jobs.json").exists()


@pytest.mark.slow
def test_ray_on_two_nodes_makes_the_same_store(slurm, dataset, single_build, tmp_path):
    """Real Ray: a head on 127.0.0.2 and a worker on 127.0.0.3, started by the script."""
    pytest.importorskip("ray")
    store = tmp_path / "store"
    done = slurm("sbatch", "--cpus-per-task=1", "--nodes=2", SLURM / "ray.sbatch", store, *dataset)
    assert (done.returncode, exit_codes(slurm)) == (0, {"1000": {"None": 0}}), log(slurm, "1000")
    assert log(slurm, "1000").count("Ray runtime started.") == 2
    assert difference(single_build, store) == ""
    assert [line for line in command_lines() if "ssl-data-slurm-10000-node" in line] == []
    assert list(Path("/tmp").glob("ssl-data-slurm-10000-*")) == []  # noqa: S108


def command_lines():
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
