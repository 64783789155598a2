"""Images in an object store make the same store as the same images in a folder."""

import itertools
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ssl_data import BuildConfig, PatchSpec, StoreSpec, build
from ssl_data.errors import BuildError, DatasetError
from ssl_data.pipeline.datasets import load_dataset
from ssl_data.pipeline.parts import Part, build_part
from ssl_data.pipeline.remote_path import RemotePath
from ssl_data.pipeline.repair import RepairSources, repair_store
from ssl_data.pipeline.run import make_build_plan
from ssl_data.store.locate import open_target
from ssl_data.testing import write_images

SECRET = "a-secret-that-must-never-be-shown"  # noqa: S105 - of nothing; as in conftest.py
SPECS = {"patch": PatchSpec(patch_size=64, step=32), "store": StoreSpec(patches_per_shard=2, chunk_rows=128)}
serial = itertools.count()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with what real folders hold."""
    folder = tmp_path_factory.mktemp("images") / "images"
    write_images(folder / "b c" / "ü #1%20", [(96, 64)])
    write_images(folder, [(100, 130), (64, 64)])
    (folder / "a.PNG").write_bytes((folder / "image-0.png").read_bytes())
    (folder / "broken.jpg").write_bytes((folder / "image-0.png").read_bytes()[:2000])
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_text("not looked at")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "image.png").write_text("not looked at")
    return folder


@pytest.fixture
def bucket_folder(images, environment):
    """The same below a URL."""
    url = f"s3://bucket/images/{os.getpid()}/folder-{next(serial)}"
    upload(images, url)
    return url


def upload(folder, url):
    target = open_target(url)
    for path in folder.rglob("*"):
        if path.is_file():
            target.put(str(path.relative_to(folder)), path.read_bytes())


def contents_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def built(dataset, out, **options):
    report = build(BuildConfig(dataset=str(dataset), out=str(out), workers=2, **SPECS), **options)
    return contents_of(out), report.rejected


def test_the_store_is_that_of_the_folder(images, bucket_folder, tmp_path):
    expected, rejected = built(images, tmp_path / "expected")
    assert {image.source for image in rejected} == {"broken.jpg", "empty.png"}
    assert built(bucket_folder, tmp_path / "found") == (expected, rejected)
    assert built(bucket_folder + "/", tmp_path / "slash") == (expected, rejected)
    (tmp_path / "found" / "gt" / "c" / "1" / "0" / "0" / "0").unlink()
    repair_store(tmp_path / "found", RepairSources(dataset=bucket_folder))
    assert contents_of(tmp_path / "found") == expected


def test_a_dataset_s_folders_are_found_below_a_root(images, bucket_folder, tmp_path):
    description = tmp_path / "mine.yaml"
    description.write_text(
        "name: mine\nfolders:\n  - name: sub\n    path: 'b c'\n"
        "  - name: some\n    path: .\n    files: [a.PNG, image-1.png]\n"
    )
    config = BuildConfig(dataset=str(description), root=str(images), out=str(tmp_path / "x"), **SPECS)
    local = make_build_plan(config)
    remote = make_build_plan(replace(config, root=bucket_folder))
    assert [image.name for image in remote.sources] == ["some/a.PNG", "some/image-1.png", "sub/ü #1%20/image-0.png"]
    assert remote.store == local.store
    assert make_build_plan(replace(config, root=bucket_folder), hashed=False).store.num_slots == local.store.num_slots
    with pytest.raises(DatasetError, match=rf"none of these is a folder.*\n    {bucket_folder}/nowhere/b c"):
        load_dataset(str(description), bucket_folder + "/nowhere")


def test_headers_are_read_without_the_rest(images, bucket_folder, proxy):
    proxy.reset()
    config = BuildConfig(dataset=bucket_folder, out="x", **SPECS)
    plan = make_build_plan(config, hashed=False)
    assert plan.store.num_slots > 0
    assert all(
        "bytes=" in request for request in proxy.requests if request.startswith("GET") and "list-type" not in request
    )


def test_an_object_that_vanishes_is_no_property_of_the_image(bucket_folder, tmp_path):
    """As in a folder: gone before it is planned, it is rejected or not there; gone in the midst, the build is ended."""

    def remove(progress):
        if progress.phase == "scan" and progress.done == progress.total:
            open_target(bucket_folder).remove("image-1.png")

    config = BuildConfig(dataset=bucket_folder, out=str(tmp_path / "store"), workers=1, **SPECS)
    with pytest.raises(BuildError, match=rf"{bucket_folder}/image-1.png could be read a moment ago: cannot be read"):
        build(config, progress=remove, retries=0)
    path = RemotePath.parse(bucket_folder) / "image-1.png"
    assert not path.is_file()
    with pytest.raises(FileNotFoundError, match="No such object"):
        path.read_bytes()


@pytest.mark.parametrize("fault", ["reset", "503", "truncate", "stall"])
def test_passing_faults_cost_no_image(images, bucket_folder, proxy, tmp_path, fault):
    expected = built(images, tmp_path / "expected")
    proxy.faults.extend([None, fault, None, None, fault])
    assert built(bucket_folder, tmp_path / "found") == expected
    assert not proxy.faults


def test_a_server_that_fails_ends_the_build_instead_of_losing_images(bucket_folder, proxy, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_DATA_REMOTE_RETRIES", "1")
    config = BuildConfig(dataset=bucket_folder, out=str(tmp_path / "store"), workers=1, **SPECS)

    def fail(progress):
        if progress.phase == "scan" and progress.done == 2:
            proxy.every_fault = "500"

    with pytest.raises(DatasetError, match=rf"{bucket_folder}/.* could not be read \(500") as caught:
        build(config, progress=fail)
    assert SECRET not in repr(caught.value)
    proxy.every_fault = "403"
    with pytest.raises(DatasetError, match=r"access to .* was refused \(403"):
        build(config)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("s3://bucket/no/such/folder", "there are no objects below it"),
        ("https://host/images", "servers cannot be listed"),
        (f"s3://key:{SECRET}@bucket/images", "the URL at bucket holds a user, a password"),
        ("ftp://host/images", "ftp:// is not supported"),
        ("s3://", "names no bucket"),
    ],
)
def test_where_there_are_no_images(environment, dataset, message):
    with pytest.raises(DatasetError, match=message) as caught:
        load_dataset(dataset)
    assert SECRET not in str(caught.value)


def test_parts_on_machines_of_which_some_have_the_images(images, bucket_folder, tmp_path):
    """Where the images lie is no part of the plan."""
    expected, _ = built(images, tmp_path / "expected")
    for index, dataset in enumerate((bucket_folder, str(images))):
        config = BuildConfig(dataset=dataset, out=str(tmp_path / "store"), workers=1, **SPECS)
        build_part(config, Part(index=index, num_parts=2))
    build(config)
    shutil.rmtree(tmp_path / "store" / ".build", ignore_errors=True)
    assert contents_of(tmp_path / "store") == expected
