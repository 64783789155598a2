"""Every benchmark runs in its tiny mode and gives the figures that it is for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(name, *options):
    script = BENCHMARKS / f"{name}.py"
    if not script.exists():
        pytest.skip(f"there is no {script.name}")
    source = script.read_text(encoding="utf-8")
    if "--tiny" not in source and "benchmark_parser" not in source:
        pytest.skip(f"{script.name} has no --tiny")
    result = subprocess.run(
        [sys.executable, script, "--tiny", "--json", *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def rows(report, table):
    return {next(iter(row.values())): row for row in report["tables"][table]}


def test_build():
    report = run("build")
    builds = rows(report, "builds")
    assert builds["serial, 1 thread"]["patches/s"] > 0
    parts = rows(report, "parts")
    assert {"decode", "mask", "kernel", "encode", "hash"} < set(parts)
    whole = parts.pop("whole build")["s"]
    total = parts.pop("sum of the parts")["s"]
    assert total == pytest.approx(sum(part["s"] for part in parts.values()))
    assert 0 < total < 2 * whole  # parts that add up to more than the whole would not be its parts
    assert 0 < report["notes"]["bytes per SSG entry on disk"] < 1
    assert report["machine"]["cpu"]


@pytest.mark.slow
def test_build_with_ray():
    pytest.importorskip("ray")
    report = run("build", "--ray")
    assert rows(report, "builds")["Ray, 2 workers"]["patches/s"] > 0
    assert report["notes"]["start of Ray, s"] > 0


def test_load():
    samples = rows(run("load"), "samples per second")
    assert {"whole patch", "crop 128, exact", "crop 128, interior", "crop 128, cached"} < set(samples)
    exact, interior = samples["crop 128, exact"], samples["crop 128, interior"]
    assert exact["graphs/sample"] > interior["graphs/sample"]
    assert 0 < exact["of bound"] < 1.5  # more would mean that the bound does not bound
    assert exact["2 workers/s"] > 0


def test_codec():
    codecs = rows(run("codec"), "codecs")
    fast, balanced = codecs["preset fast"], codecs["preset balanced"]
    assert balanced["bytes/entry"] < fast["bytes/entry"] < 1
    assert balanced["bytes/entry"] == codecs["zstd 1"]["bytes/entry"]
    assert min(fast["encode ns/entry"], fast["decode ns/entry"]) > 0


@pytest.mark.parametrize("name", ["kernel", "loss"])
def test_others(name):
    report = run(name)
    assert report
