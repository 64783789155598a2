"""Every image file is used or rejected, and both are counted and listed."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ssl_data import BuildConfig, ImageSpec, PatchSpec, Problem, build, open_store
from ssl_data.testing import synthetic_image, write_images

COMMAND = [sys.executable, "-W", "error", "-c", "from ssl_data.cli.app import main; main()"]


def configure(images, out, **image):
    patch = PatchSpec(patch_size=32, step=32, tail_threshold=32)
    return BuildConfig(dataset=str(images), out=str(out), image=ImageSpec(**image), patch=patch)


def run(*arguments):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.mark.timeout(900)
def test_a_build_of_all_real_images_accounts_for_each_of_them(shared_images, tmp_path):
    options = ("--patch-size", 128, "--step", 256, "--edge-threshold", 60, "--edge-stride", 3, "--json")
    command = ("build", "--dataset", shared_images, "--out", tmp_path / "store", *options)
    first = run(*command)
    assert first.returncode == 3, first.stderr
    report = json.loads(first.stdout)
    paths = [path.relative_to(shared_images).as_posix() for path in shared_images.rglob("*") if path.is_file()]
    images = {path for path in paths if path != "INDEX.tsv"}
    sources = pq.read_table(tmp_path / "store" / "manifest" / "sources.parquet").to_pylist()
    assert {source["source"] for source in sources} == images
    assert report["num_sources"] == len(images) == report["num_sources_used"] + len(report["rejected"])
    planned, stored, filtered = (report[name] for name in ("num_patches_planned", "num_patches", "num_filtered"))
    rejected = sum(filtered.values())
    assert planned == stored + rejected
    assert rejected > 0
    assert sum(report["num_rejected_by_reason"].values()) == len(report["rejected"])
    table = pq.read_table(tmp_path / "store" / "manifest" / "rejected.parquet").to_pylist()
    assert table == report["rejected"]
    patches = pq.read_table(tmp_path / "store" / "manifest" / "patches.parquet").to_pylist()
    assert len(patches) == planned
    used = {patch["source"] for patch in patches if patch["rejected"] is None}
    assert used == images - {image["source"] for image in table}
    assert {patch["source"] for patch in patches} - used <= {image["source"] for image in table}
    assert run(*command, "--max-bad", len(table)).returncode == 0
    assert run(*command, "--max-bad", len(table) - 1).returncode == 3


def test_no_name_breaks_a_line(odd_names, tmp_path):
    for name in odd_names:
        (tmp_path / "images" / "broken").mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / "broken" / name).write_bytes(b"no image")
        Image.fromarray(synthetic_image(40, 60)).save(tmp_path / "images" / name, format="PNG")
    command = ("build", "--dataset", tmp_path / "images", "--out", tmp_path / "store", "--patch-size", 32)
    done = run(*command)
    listed = [line for line in done.stderr.split("\n") if line.startswith("rejected ")]
    assert len(listed) == len(odd_names)
    assert all(line.endswith(": not an image in a supported format") for line in listed)
    assert r"rejected broken/line\nbreak\r.png: " in done.stderr
    assert all(text.replace("\n", "").isprintable() for text in (done.stdout, done.stderr))
    summary = next(line for line in done.stdout.splitlines() if line.startswith("    not_an_image"))
    assert summary.split()[1] == str(len(odd_names))
    assert summary.endswith(", ...")
    report = json.loads(run(*command, "--json").stdout)
    assert [image["source"] for image in report["rejected"]] == sorted(f"broken/{name}" for name in odd_names)
    Image.fromarray(synthetic_image(50, 60)).save(tmp_path / "images" / "line\nbreak\r.png")
    refused = run(*command)
    assert refused.returncode == 1
    assert r"sources: 1 changed (line\nbreak\r.png)" in refused.stderr
    assert run("inspect", tmp_path / "store").stdout.count("\nrejected broken/") == len(odd_names)


def test_problems_and_lists_of_a_store_are_lines_too(tmp_path):
    (tmp_path / "images").mkdir()
    Image.fromarray(synthetic_image(40, 60)).save(tmp_path / "images" / "line\nbreak.png")
    build(configure(tmp_path / "images", tmp_path / "store"))
    assert open_store(tmp_path / "store").patch_id(0) == "line\nbreak.png:0,0"
    problem = Problem(where="line\nbreak.png:0,0", kind="corrupt", message="a chunk is missing")
    assert str(problem) == r"line\nbreak.png:0,0: a chunk is missing"


AS_NOBODY = """
import json, os, sys, tempfile
from pathlib import Path
from ssl_data import BuildConfig, PatchSpec, SSLDataError, build
from ssl_data.testing import tiny_store
with tempfile.TemporaryDirectory() as folder:
    tiny_store(Path(folder))  # loads every module, which nobody might not be allowed to read
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    report = build(BuildConfig(dataset=sys.argv[1], out=sys.argv[2], patch=PatchSpec(patch_size=32, step=32)))
    print(json.dumps(report.to_dict()))
except SSLDataError as error:
    print(error)
"""


@pytest.fixture
def common_folder():
    """A folder that every user of this machine may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o777)
        yield Path(name)


def build_as_nobody(images, store):
    command = [sys.executable, "-W", "error", "-c", AS_NOBODY, str(images), str(store)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "os.set" in done.stderr and "PermissionError" in done.stderr:
        pytest.skip("root may not become another user here")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_without_permission_is_rejected(common_folder):
    images = write_images(common_folder / "images", [(40, 60), (40, 60), (40, 60)])
    (images / "image-1.png").chmod(0)
    report = json.loads(build_as_nobody(images, common_folder / "store"))
    reason = {"source": "image-1.png", "reason_code": "unreadable", "reason": "cannot be read (Permission denied)"}
    assert report["rejected"] == [reason]
    assert report["num_sources_used"] == 2


def test_a_folder_without_permission_is_an_error(common_folder):
    images = write_images(common_folder / "images", [(40, 60)])
    closed = write_images(images / "closed", [(40, 60)])
    closed.chmod(0)
    said = build_as_nobody(images, common_folder / "store")
    closed.chmod(0o755)
    assert f"{closed} cannot be listed (Permission denied); check its permissions" in said


def test_small_images_are_enlarged_when_asked_for(tmp_path):
    write_images(tmp_path / "images", [(20, 30), (40, 60), (5, 5)])
    report = build(configure(tmp_path / "images", tmp_path / "store", small_images="upscale"))
    assert (report.num_sources_used, report.rejected) == (3, ())
    store = open_store(tmp_path / "store")
    with Image.open(tmp_path / "images" / "image-0.png") as image:
        expected = np.asarray(image.resize((48, 32), Image.Resampling.LANCZOS))
    assert (store.read_gt(0) == expected[:, :32]).all()
    patches = pq.read_table(tmp_path / "store" / "manifest" / "patches.parquet").to_pylist()
    assert [patch["scale"] for patch in patches] == ["32/20", "1", "32/5"]
    sources = pq.read_table(tmp_path / "store" / "manifest" / "sources.parquet").to_pylist()
    assert [(source["height"], source["width"]) for source in sources] == [(20, 30), (40, 60), (5, 5)]
    rejecting = build(configure(tmp_path / "images", tmp_path / "rejecting"))
    assert [image.reason_code for image in rejecting.rejected] == ["too_small", "too_small"]
    assert rejecting.fingerprint != report.fingerprint


def test_an_image_that_would_be_enlarged_beyond_the_limit_is_rejected(tmp_path):
    write_images(tmp_path / "images", [(1, 60), (40, 60)])
    report = build(configure(tmp_path / "images", tmp_path / "store", small_images="upscale", max_pixels=32 * 60 * 31))
    assert [(image.reason_code, image.reason) for image in report.rejected] == [
        ("too_large", "1x60, enlarged to 32x1920, is more than 59520 pixels")
    ]


def test_the_limit_of_pixels_is_an_option(tmp_path):
    images = write_images(tmp_path / "images", [(40, 60), (50, 60)])
    done = run(
        "build", "--dataset", images, "--out", tmp_path / "s", "--patch-size", 32, "--max-pixels", 2500, "--json"
    )
    assert done.returncode == 3
    assert json.loads(done.stdout)["num_rejected_by_reason"] == {"too_large": 1}
