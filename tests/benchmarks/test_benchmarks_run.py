"""Every benchmark runs in its tiny mode and gives the figures that it is for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_data import available_backends

COMMAND = Path(sys.executable).with_name("ssl-data")


def run(name, *options):
    result = subprocess.run(
        [COMMAND, "bench", name, "--tiny", "--json", *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def rows(report, table):
    return {next(iter(row.values())): row for row in report["tables"][table]}


def test_build():
    report = run("build", "--lq-scale", "4")
    builds = rows(report, "builds, 64")
    assert builds["serial, 1 thread"]["patches/s"] > 0
    parts = rows(report, "parts, 64")
    assert {"decode", "mask", "resize", "kernel", "encode", "hash"} < set(parts)
    whole, _ = parts.pop("whole build")["s"], parts.pop("allowed")
    total = parts.pop("sum of the parts")["s"]
    assert total == pytest.approx(sum(part["s"] for part in parts.values()))
    assert 0 < total < 2 * whole  # parts that add up to more than the whole would not be its parts
    assert 0 < rows(report, "memory of a worker, dense noise")["64"]["of allowed"] < 1
    assert report["tables"]["plainly, 64"][0]["times a whole build"] > 1
    assert report["machine"]["cpu"]


@pytest.mark.slow
def test_build_with_ray():
    pytest.importorskip("ray")
    report = run("build", "--ray")
    builds = rows(report, "builds, 64")
    assert builds["Ray, 1 worker"]["speed-up"] == 1
    assert builds["Ray, 2 workers"]["patches/s"] > 0


def test_plan():
    figures = rows(run("plan"), "figures")
    assert figures["graphs"]["ratio"] == 1  # one image, all of its patches
    assert figures["MB"]["ratio"] == pytest.approx(1, abs=0.15)
    assert figures["s, by the clock"]["estimate"] == figures["s, of the processor"]["estimate"] > 0


def test_load():
    report = run("load")
    near = rows(report, "bound")
    exact, interior = near["patch 64, crop 32, exact"], near["patch 64, crop 32, interior"]
    assert exact["graphs"] > interior["graphs"]
    assert exact["computed"] > interior["computed"] == 0
    assert 0 < exact["of bound"] < 1  # more would mean that the bound does not bound
    assert exact["1 worker/s"] > 0
    assert rows(report, "graphs")["patch 48"]["reading : computing"] > 0
    assert rows(report, "files")["patch 48: PNG, masks as PNG"]["times faster"] == 1
    memory = rows(report, "memory")
    assert list(memory) == ["small", "huge"]
    assert min(row["filling again, ms/MB"] for row in memory.values()) > 0
    assert set(rows(report, "reads")) == {"pieces", "shard"}


def test_codec():
    codecs = rows(run("codec"), "codecs")
    fast, balanced = codecs["preset fast"], codecs["preset balanced"]
    assert balanced["bytes/entry"] < fast["bytes/entry"] < 1
    assert balanced["bytes/entry"] == codecs["zstd 1"]["bytes/entry"]
    assert min(fast["encode ns/entry"], fast["decode ns/entry"]) > 0
    assert codecs["MED, zstd 1"]["bytes/entry"] < codecs["gradient, zstd 1"]["bytes/entry"] < balanced["bytes/entry"]
    assert codecs["12 bits, preset fast"]["bytes/entry"] > fast["bytes/entry"]


def test_fidelity():
    report = run("fidelity")
    assert all(row["of allowed"] < 1 for row in report["tables"]["bounds"])
    coding = rows(report, "coding, 1 thread")
    assert coding["sqrt12"]["times sqrt8"] > coding["sqrt8"]["times sqrt8"] == 1


def test_kernel():
    report = run("kernel")
    measured = rows(report, "backends, ns per entry, median")
    assert {"numpy", *available_backends()} - {"native"} == set(measured)
    assert all(figure > 0 for row in measured.values() for figure in list(row.values())[1:])
    others = rows(report, "other ways, plain sums, boundary image")
    ours = next(iter(others.values()))
    assert ours["times ours"] == 1
    assert {"numpy (oracle)", "box filter, numpy", "unfold, torch"} < set(others)
    if len(available_backends()) > 1:
        assert rows(report, "threads")["1"]["speed-up"] == 1


def test_kernel_without_the_extension():
    """It measures what is there, and says what is missing and how to get it."""
    hidden = "import sys; sys.modules['ssl_data.kernels._native'] = None"
    start = f"{hidden}; from ssl_data.benchmarks.kernel import main; main(['--tiny'])"
    result = subprocess.run([sys.executable, "-c", start], check=False, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "extension: missing" in result.stdout
    assert "C++17 compiler" in result.stdout
    assert "numpy" in result.stdout
    assert "native" not in result.stdout.split("extension: missing")[0]


def test_loss():
    report = run("loss")
    time, memory = rows(report, "time"), rows(report, "peak memory")
    plain, ours = "unfold + autograd, 1 x 32^2", "ssl_data, 1 x 32^2"
    assert (time[plain]["times faster"], memory[plain]["times less per edge pixel"]) == (1, 1)
    assert time[ours]["ns/entry"] > 0
    assert 0 < memory[ours]["kB/edge pixel"] < memory[plain]["kB/edge pixel"]
    assert report["notes"]["command"] == "ssl-data bench loss --tiny --json"
