"""`ssl-data build --metrics`, and the report that lies beside a store."""

import json
import re
import subprocess
import sys

import pytest

from ssl_data import BuildConfig, PatchSpec, StoreSpec, build, open_store
from ssl_data.pipeline.executors import RayExecutor
from ssl_data.pipeline.metrics import METRICS, BuildNumbers
from ssl_data.testing import write_images

COMMAND = [sys.executable, "-W", "error", "-c", "from ssl_data.cli.app import main; main()"]
SMALL = ("--patch-size", 64, "--step", 64)
LINE = re.compile(r'(\w+)\{store="((?:[^"\\]|\\.)*)",part="([^"]*)"\} (\S+)')
"""A sample, in Prometheus' text format."""


def run(*arguments):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False)


def read(path):
    """The samples of a file by name; every other line must explain one."""
    lines = path.read_text().splitlines()
    samples = [LINE.fullmatch(line) for line in lines if not line.startswith("#")]
    names = [sample[1] for sample in samples]
    kinds = dict(line.split(" ")[2:4] for line in lines if line.startswith("# TYPE "))
    assert list(kinds) == names == [line.split(" ")[2] for line in lines if line.startswith("# HELP ")]
    assert {name for name, kind in kinds.items() if kind == "counter"} == {n for n in names if n.endswith("_total")}
    return {sample[1].removeprefix("ssl_data_build_"): float(sample[4]) for sample in samples}


def test_the_numbers_of_a_build_are_those_of_its_store(tmp_path):
    images, store = write_images(tmp_path / "images", [(128, 64), (64, 64)]), tmp_path / "store"
    folder = tmp_path / "metrics"
    folder.mkdir()
    done = run("build", "--dataset", images, "--out", store, *SMALL, "--metrics", folder / "build.prom")
    assert done.returncode == 0
    numbers, made = read(folder / "build.prom"), open_store(store)
    assert (numbers["running"], numbers["succeeded"], numbers["shard_failures_total"]) == (0, 1, 0)
    assert numbers["shards"] == numbers["shards_made_total"] == made.attributes["num_shards"]
    assert numbers["patches_total"] == made.num_patches == 3
    assert numbers["graphs_total"] == made.attributes["num_graphs"]
    assert numbers["last_shard_timestamp_seconds"] >= numbers["start_timestamp_seconds"] > 1.6e9
    assert [path.name for path in folder.iterdir()] == ["build.prom"]
    assert (folder / "build.prom").stat().st_mode & 0o777 == 0o644
    (images / "image-1.png").unlink()
    assert run("build", "--dataset", images, "--out", store, *SMALL, "--metrics", folder / "build.prom").returncode == 1
    assert (read(folder / "build.prom")["running"], read(folder / "build.prom")["succeeded"]) == (0, 0)
    refused = run("build", "--dataset", images, "--out", store, *SMALL, "--metrics", tmp_path / "nowhere" / "x.prom")
    assert refused.returncode == 1
    assert f"--metrics {tmp_path}/nowhere/x.prom cannot be written" in refused.stderr


def test_labels_of_any_text():
    text = BuildNumbers().render({"store": 'a"b\\c\nd', "part": ""})
    assert len(text.splitlines()) == 3 * len(METRICS)
    assert LINE.fullmatch(text.splitlines()[2])[2] == r"a\"b\\c\nd"


def test_the_report_about_a_build_lies_beside_the_store(tmp_path):
    images, store = write_images(tmp_path / "images", [(128, 64), (64, 64)]), tmp_path / "store.zarr"
    (images / "text.png").write_text("no image")
    done = run("build", "--dataset", images, "--out", store, *SMALL, "--json")
    assert done.returncode == 3
    (place,) = (tmp_path / "store.zarr.reports").iterdir()
    assert f"report: {place}" in done.stderr
    report, printed, made = json.loads(place.read_text()), json.loads(done.stdout), open_store(store)
    assert {name: report[name] for name in printed} == printed
    assert report["num_rejected_by_reason"] == {"not_an_image": 1}
    assert report["rates"]["patches_per_second"] * report["seconds"] == pytest.approx(3)
    assert report["compression"]["gt"]["num_values"] == 3 * 64 * 64 * 3
    assert report["compression"]["ssg"]["num_values"] == 625 * made.attributes["num_graphs"]
    assert sum(array["num_bytes"] for array in report["compression"].values()) >= report["num_bytes"]
    assert report["spec"] == made.build_spec.to_dict()
    assert run("build", "--dataset", images, "--out", store, *SMALL).returncode == 3
    assert len(list((tmp_path / "store.zarr.reports").iterdir())) == 1  # nothing was made


def test_ray_is_given_the_numbers_too(tmp_path):
    """What its exporter makes of them needs Ray's own optional packages."""
    images = write_images(tmp_path / "images", [(64, 64 * 4)])
    specs = {"patch": PatchSpec(patch_size=64, step=64), "store": StoreSpec(patches_per_shard=1)}
    config = BuildConfig(dataset=str(images), out=str(tmp_path / "store"), **specs)
    executor, given = RayExecutor(1), []
    build(config, executor=executor, progress=lambda _: given.append(dict(executor.metrics.shown)))
    at_end = given[-1]
    assert set(at_end) == set(METRICS)
    assert (at_end["ssl_data_build_shards"], at_end["ssl_data_build_shards_made_total"]) == (4, 4)
    assert at_end["ssl_data_build_graphs_total"] == open_store(config.out).attributes["num_graphs"]
