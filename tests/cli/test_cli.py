"""The command line as a user meets it."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys

import pytest

from ssl_data import available_backends, open_store
from ssl_data.testing import write_images

COMMAND = [sys.executable, "-W", "error", "-c", "from ssl_data.cli.app import main; main()"]
SMALL = ["--patch-size", "64", "--step", "32"]


def run(*arguments, **options):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, **options)


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "images", [(96, 64), (100, 130)])


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    images = write_images(folder / "images", [(96, 64), (100, 130)])
    done = run("build", "--dataset", images, "--out", folder / "store.zarr", *SMALL)
    assert done.returncode == 0, done.stderr
    return done, folder / "store.zarr"


def test_build_says_what_was_built_and_what_to_do_next(built):
    done, store = built
    assert f"Built {store}: 14 patches from 2 images" in done.stdout
    assert f"ssl-data inspect {store}" in done.stdout
    assert "SSLCachedDataset" in done.stdout
    assert "scan 2/2" in done.stderr
    assert "build 1/1: 14 patches" in done.stderr


def test_the_next_step_works_as_printed(built):
    done, _ = built
    (line,) = [line for line in done.stdout.splitlines() if "SSLCachedDataset" in line]
    shown = subprocess.run(
        ["bash", "-c", line.replace("python", sys.executable, 1)], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert "['gt', 'gt_mask', 'ssg', 'patch_id']" in shown.stdout


def test_a_second_build_has_nothing_to_do(built):
    done = run("build", "--dataset", built[1].parent / "images", "--out", built[1], *SMALL)
    assert done.returncode == 0
    assert "is complete already" in done.stdout


def test_the_quantization_is_chosen_shown_and_part_of_the_fingerprint(images, tmp_path):
    arguments = ["build", "--dataset", images, "--out", tmp_path / "store.zarr", *SMALL]
    assert run(*arguments, "--quantization", "sqrt12").returncode == 0
    shown = run("inspect", tmp_path / "store.zarr").stdout
    assert "quantization=sqrt12" in shown
    assert "uint16" in shown
    other = run(*arguments)
    assert other.returncode == 1
    assert "quantization" in other.stderr


def test_json_is_one_document(built, images, tmp_path):
    done = run("build", "--dataset", images, "--out", tmp_path / "store", *SMALL, "--json")
    report = json.loads(done.stdout)
    assert (report["num_patches"], report["rejected"], report["nothing_to_do"]) == (14, [], False)
    summary = json.loads(run("inspect", built[1], "--json").stdout)
    assert summary["num_patches"] == 14
    assert summary["fingerprint"] == report["fingerprint"]
    assert {array["name"] for array in summary["arrays"]} == {"gt", "edge_mask", "ssg"}
    assert json.loads(run("verify", built[1], "--json").stdout)["problems"] == []


def test_inspect_shows_sources_density_sizes_and_specs(built):
    shown = run("inspect", built[1])
    assert shown.returncode == 0
    for text in ("2 images", "14 of 64x64", "edge density  min", "mean", "max", "bytes/value", "ssg", "search_size=25"):
        assert text in shown.stdout


def test_rejected_images_are_listed_with_exit_code_3(images, tmp_path):
    (images / "broken one.png").write_bytes(b"no image")
    build = ("build", "--dataset", images, "--out", tmp_path / "store", *SMALL)
    done = run(*build)
    assert done.returncode == 3
    assert "rejected broken one.png: not an image in a supported format" in done.stderr
    assert "14 patches from 2 images" in done.stdout
    assert run(*build, "--max-bad", "1").returncode == 0
    assert "rejected broken one.png" in run("inspect", tmp_path / "store").stdout


def test_another_configuration_is_refused_with_the_differing_fields(built):
    done = run("build", "--dataset", built[1].parent / "images", "--out", built[1], *SMALL, "--boundary", "image")
    assert done.returncode == 1
    assert "ssg.boundary: the store has 'zero', asked for 'image'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["build", "--dataset", "nonsense", "--out", "x"], 1, "neither a directory, nor a .yaml file"),
        (["build", "--dataset", "sample"], 2, "--out"),
        (["build", "--dataset", "sample", "--out", "x", "--boundary", "round"], 2, "--boundary"),
        (["build", "--dataset", "sample", "--out", "x", "--patch-size", "0"], 2, "--patch-size"),
        (["build", "--dataset", "sample", "--out", "x", "--patch-size", "12"], 2, "must be at least 13"),
        (
            ["build", "--dataset", "sample", "--out", "x", "--patch-size", "66", "--lq-scale", "4"],
            2,
            "multiple of lq_scale",
        ),
        (["build", "--dataset", "sample", "--out", "x", "--ray-address", "auto"], 2, "--executor ray"),
        (["inspect", "nowhere"], 1, "nowhere is not a store"),
        (["verify", "nowhere"], 1, "nowhere is not a store"),
        (["datasets", "nonsense"], 1, "one of the datasets"),
        (["nonsense"], 2, "No such command"),
        (["build", "--dataset", "sample", "--out", "x", "--shortest-edge", "9"], 2, "where the variant is 'none'"),
        (["build", "--dataset", "sample", "--out", "x", "--min-edge-density", "2"], 2, "--min-edge-density"),
        (["build", "--dataset", "sample", "--out", "x", "--masks", "nowhere"], 1, "--masks nowhere is not a folder"),
        (["export-masks", "nowhere", "x"], 1, "nowhere is not a store"),
        (["build", "--dataset", "sample", "--out", ""], 2, "BuildConfig.out must be a non-empty string"),
        (["build", "--dataset", "sample", "--out", "ftp://host/x"], 2, "give a folder or one of s3://"),
    ],
)
def test_mistakes_are_explained_without_a_traceback(arguments, code, message, tmp_path):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == code
    # Boxes around usage errors break lines.
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_verify_finds_damage(images, tmp_path):
    run("build", "--dataset", images, "--out", tmp_path / "store", *SMALL)
    path = tmp_path / "store" / "ssg" / "c" / "0" / "0"
    path.write_bytes(path.read_bytes()[:-1])
    done = run("verify", tmp_path / "store")
    assert done.returncode == 1
    assert "ssg/c/0/0: the file has" in done.stderr


def test_an_unwritable_place_is_named(images):
    done = run("build", "--dataset", images, "--out", "/proc/store", *SMALL)
    assert done.returncode == 1
    assert "/proc/store" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_termination_signal_leaves_a_build_that_resumes(photographs, tmp_path):
    options = ("--dataset", "sample", "--out", str(tmp_path / "store"), "--workers", "1", "--compression", "small")
    process = subprocess.Popen([*COMMAND, "build", *options], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while not list((tmp_path / "store").glob("manifest/shard-*.parquet")):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 4
    assert "the same command goes on" in errors
    assert "Traceback" not in errors
    assert list((tmp_path / "store" / ".build").iterdir()) == [tmp_path / "store" / ".build" / "lock"]


def test_progress_on_a_terminal_is_a_bar(images, tmp_path):
    primary, secondary = pty.openpty()
    done = subprocess.Popen(
        [*COMMAND, "build", "--dataset", images, "--out", tmp_path / "store", *SMALL],
        stderr=secondary,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(secondary)
    shown = b""
    while True:
        try:
            piece = os.read(primary, 4096)
        except OSError:  # the terminal is gone: the command has ended
            break
        if not piece:
            break
        shown += piece
    os.close(primary)
    assert done.wait(30) == 0
    assert b"scan" in shown
    assert "━".encode() in shown


HEAVY = ("torch", "ray", "zarr", "cv2", "pyarrow")


@pytest.mark.parametrize("statement", ["import ssl_data", "import sys; sys.argv = ['ssl-data', '--help']; HELP"])
def test_starting_loads_nothing_heavy(statement):
    help_code = "\ntry:\n    from ssl_data.cli.app import main; main()\nexcept SystemExit:\n    pass"
    code = statement.replace("HELP", help_code) + "\nimport sys\n"
    code += f"print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", ["torch", "zarr"])
def test_the_test_for_heavy_imports_can_fail(name):
    code = f"import ssl_data, {name}, sys\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert name in done.stdout


def test_the_version_is_printed():
    assert run("--version").stdout.startswith("ssl-data 0.")


def test_datasets_are_listed_and_explained(photographs):
    listed = run("datasets").stdout
    assert {"DIV2K", "Flickr2K", "OST", "DF2K", "DF2K_OST", "DIV8K", "FFHQ", "sample"} <= set(listed.split())
    explained = run("datasets", "sample").stdout
    assert "256x256" in explained
    assert f"found     {photographs}, 6 images" in explained


def test_a_dataset_that_is_not_there_is_explained_all_the_same(tmp_path):
    write_images(tmp_path / "Flickr2K" / "Flickr2K_HR", [(8, 8)])
    done = run("datasets", "DF2K_OST", "--root", tmp_path)
    assert done.returncode == 0
    shown = " ".join(done.stdout.split())
    for text in (
        "parts DIV2K, Flickr2K, OST",
        "images 13774",
        "copies gan, the smallest with a shorter side of 512",
        "512x512 every 256 pixels",
        "DIV2K: 800 images",
        "academic research only",
        f"not at {tmp_path}/DIV2K/DIV2K_train_HR",
        f"found {tmp_path}/Flickr2K/Flickr2K_HR, 1 image",
        "https://github.com/xinntao/SFTGAN",
        "or DF2K in one folder: 3450 images",
        "or DF2K_OST in one folder: 13774 images",
        f"not at {tmp_path}/DF2K_OST",
    ):
        assert text in shown, text
    drawn = run("datasets", "FFHQ", env={**os.environ, "SSL_DATA_ROOT": str(tmp_path)}).stdout
    assert "10000 images, drawn from 70000 by name, seed 0" in drawn
    assert f"not at    {tmp_path}/ffhq-dataset/images1024x1024" in drawn


def test_a_directory_or_a_file_of_ones_own_is_explained_too(images, tmp_path):
    assert f"found     {images}, 2 images" in run("datasets", images).stdout
    (tmp_path / "mine.yaml").write_text("title: Mine\nfolders: [{path: images}]")
    assert "mine: Mine" in run("datasets", tmp_path / "mine.yaml").stdout


def test_a_dataset_that_is_not_complete_is_built_with_a_warning_or_not_at_all(tmp_path):
    images = write_images(tmp_path / "DIV2K_train_HR", [(96, 64), (100, 130)])
    build = ("build", "--dataset", "DIV2K", "--root", tmp_path, *SMALL, "--multiscale", "none")
    refused = run(*build, "--out", tmp_path / "store", "--strict")
    assert refused.returncode == 1
    assert f"{images} holds 2 images, expected are 800" in refused.stderr
    assert not (tmp_path / "store").exists()
    done = subprocess.run(  # without -W error, as users run it
        ["ssl-data", *map(str, build), "--out", tmp_path / "store"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert f"ssl-data: warning: {images} holds 2 images, expected are 800" in done.stderr
    missing = run("build", "--dataset", "OST", "--root", tmp_path, "--out", tmp_path / "other")
    assert missing.returncode == 1
    assert f"{tmp_path}/OutdoorSceneTrain_v2" in missing.stderr
    assert "https://github.com/xinntao/SFTGAN" in missing.stderr


def test_filtered_patches_are_counted_where_the_store_is_made_and_shown(images, tmp_path):
    shutil.copy(images / "image-0.png", images / "same.png")
    build = ("build", "--dataset", images, "--out", tmp_path / "store", *SMALL, "--drop-duplicates")
    shown = run(*build).stdout
    assert "14 patches from 3 images" in shown
    assert "planned      16 patches, left out 2 by duplicate" in shown
    assert "left out      2 by duplicate of 16 planned patches" in run("inspect", tmp_path / "store").stdout
    report = json.loads(run(*build, "--json").stdout)
    assert (report["num_patches_planned"], report["num_patches"]) == (16, 14)
    assert report["num_filtered"] == {"rejected-image": 0, "edge-density": 0, "duplicate": 2}
    summary = json.loads(run("inspect", tmp_path / "store", "--json").stdout)
    assert (summary["num_patches_planned"], summary["num_filtered"]) == (16, report["num_filtered"])


def test_a_datasets_own_way_of_cutting_is_changed_option_by_option(images, tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text(
        "patch: {patch_size: 64, step: 48, edge_patches: min-overlap}\n"
        "multiscale: {variant: gan, shortest_edge: 70}\nfolders: [{path: images}]"
    )

    def specs(*options):
        done = run("build", "--dataset", own, "--out", tmp_path / "-".join(["store", *options]), *options, "--json")
        assert done.returncode == 0, done.stderr
        shown = run("inspect", json.loads(done.stdout)["out"], "--json")
        return json.loads(shown.stdout)["spec"]

    usual = specs()
    assert usual["multiscale"] == {"variant": "gan", "shortest_edge": 70}
    assert usual["patch"] == {"patch_size": 64, "step": 48, "tail_threshold": 0, "edge_patches": "min-overlap"}
    assert specs("--multiscale", "diffusion")["multiscale"] == {"variant": "diffusion", "shortest_edge": 70}
    assert specs("--multiscale", "none")["multiscale"] == {"variant": "none", "shortest_edge": 512}
    assert specs("--shortest-edge", "64")["multiscale"] == {"variant": "gan", "shortest_edge": 64}
    assert specs("--edge-patches", "drop")["patch"] == {**usual["patch"], "edge_patches": "drop"}
    assert specs("--patch-size", "32")["patch"] == {**usual["patch"], "patch_size": 32, "step": 32}


def test_masks_are_taken_and_exported(images, tmp_path):
    options = ("--patch-size", "64", "--step", "64", "--edge-patches", "drop")
    assert run("build", "--dataset", images, "--out", tmp_path / "store", *options).returncode == 0
    done = run("export-masks", tmp_path / "store", tmp_path / "masks", "--format", "mat")
    assert done.stdout == f"Wrote 3 masks to {tmp_path / 'masks'}\n"
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == [
        "image-0_s001.mat",
        "image-1_s001.mat",
        "image-1_s002.mat",
    ]
    again = run("export-masks", tmp_path / "store", tmp_path / "masks")
    assert again.returncode == 1
    assert "is not an empty folder" in again.stderr
    given = run("build", "--dataset", images, "--out", tmp_path / "given", *options, "--masks", tmp_path / "masks")
    assert given.returncode == 1
    assert "no edge mask: none of image-0.mat, mat/image-0.mat, image-0.png, png/image-0.png" in given.stderr


def test_backends_are_known():
    assert available_backends()[-1] == "numpy"


def options_of(command):
    return set(re.findall(r"--[a-z][a-z-]+", run(command, "--help", env={**os.environ, "COLUMNS": "200"}).stdout))


def test_plan_takes_the_options_of_build():
    only_about_running = {"--log", "--metrics", "--part", "--retries", "--retry-failed"}
    assert options_of("build") - only_about_running <= options_of("plan")


def test_plan_writes_nothing_and_foretells_the_build(images, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    done = run("plan", "--dataset", images, *SMALL, "--lq-scale", "4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(tmp_path.rglob("*")) == before
    for text in ("14 patches of 64x64 in 1 shard", "edge_mask", "lq_x4", "balanced", "16 cores", "--step 64", "entry"):
        assert text in done.stdout


def test_plan_prints_one_document_of_figures(images, built):
    plan = json.loads(run("plan", "--dataset", images, *SMALL, "--json").stdout)
    attributes = open_store(built[1]).attributes
    assert plan["work"]["num_patches"] == 14
    assert plan["num_edge_pixels"]["value"] == pytest.approx(attributes["num_edge_pixels"])
    assert plan["num_graphs"] == {"value": pytest.approx(attributes["num_graphs"]), "error": 0}
    assert set(plan["total_bytes"]) == {"fast", "balanced", "small"}
    assert plan["seconds"]["serial"]["1"] == pytest.approx(plan["core_seconds"]["fast"])
    assert plan["overlap"]["saved_share"] > 0


def test_plan_says_what_a_recipe_needs(images):
    large = ("plan", "--dataset", images, "--patch-size", "96", "--step", "96", "--recipe", "ESRGAN-SSL")
    done = run(*large)
    assert done.returncode == 2
    assert "crop_size must lie in 13 .. 96" in done.stderr
    done = run("plan", "--dataset", "sample", "--patch-size", "256", "--recipe", "ESRGAN-SSL", "--budget", "0")
    assert done.returncode == 0, done.stderr
    assert "step of 64 samples, 128x128" in done.stdout
    assert "ESRGAN-SSL needs another store: no low-quality patches" in done.stdout


def test_plan_lists_images_that_cannot_be_used(images):
    (images / "broken one.png").write_bytes(b"no image")
    done = run("plan", "--dataset", images, *SMALL)
    assert done.returncode == 3
    assert "rejected broken one.png: not an image in a supported format" in done.stderr
    assert "3 images found, 2 usable, 1 rejected" in done.stdout
    assert run("plan", "--dataset", images, *SMALL, "--max-bad", "1").returncode == 0
