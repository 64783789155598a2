"""Verification finds every kind of damage and names the file."""

import shutil

import pytest

from ssl_data import verify_store
from ssl_data.errors import StoreMismatchError, StoreNotFoundError
from ssl_data.kernels.codes import graph_codes
from ssl_data.pipeline import job
from ssl_data.testing import tiny_store


@pytest.fixture
def copy(store, tmp_path):
    return shutil.copytree(store.root, tmp_path / "copy.zarr")


@pytest.mark.parametrize("deep", [False, True])
def test_an_intact_store_has_no_problems(store, deep):
    assert verify_store(store.root, deep=deep) == []


def files_of(root):
    return sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())


def test_every_missing_file_is_found(store, copy):
    for relative in files_of(store.root):
        if relative.name == "zarr.json" and len(relative.parts) == 1:
            continue  # without it there is no store
        (copy / relative).unlink()
        wheres = {problem.where for problem in verify_store(copy)}
        assert str(relative) in wheres, relative
        shutil.copyfile(store.root / relative, copy / relative)
    assert verify_store(copy) == []


def test_a_flipped_bit_in_any_file_is_found(store, copy):
    for relative in files_of(store.root):
        content = bytearray((store.root / relative).read_bytes())
        if relative.name == "zarr.json" and len(relative.parts) == 1:
            place = content.index(b'"files_sha256": "') + 20
        else:
            place = len(content) // 2
        content[place] ^= 1
        (copy / relative).write_bytes(content)
        assert verify_store(copy), relative
        shutil.copyfile(store.root / relative, copy / relative)


def test_a_truncated_file_is_found(copy):
    path = copy / "gt" / "c" / "0" / "0" / "0" / "0"
    path.write_bytes(path.read_bytes()[:-1])
    (problem,) = verify_store(copy)
    assert (problem.kind, problem.where) == ("wrong-size", "gt/c/0/0/0/0")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"bandwidth": 0.004', '"bandwidth": 0.04'),
        ('"num_edge_pixels": ', '"num_edge_pixels": 1'),
        ('"edge_stride": 1', '"edge_stride": 2'),
    ],
)
def test_altered_root_attributes_are_found(copy, old, new):
    path = copy / "zarr.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    (problem,) = verify_store(copy)
    assert (problem.where, problem.kind) == ("zarr.json", "altered")
    assert old.split('"')[1] in problem.message or "spec" in problem.message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"dataset": "directory"', '"dataset": "directors"'),
        ('"files_sha256": "', '"files_sha256": "0'),
        ('"format_version": 6', '"format_version": 7'),
        ('"ssl_data": ', '"ssm_data": '),
        ('"node_type": "group"', '"node_type": "grove"'),
        ('"zarr_format": 3', '"zarr_format":  3'),
        ("{", ""),
    ],
)
def test_any_alteration_of_the_root_metadata_is_blamed_on_it_alone(copy, old, new):
    path = copy / "zarr.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert {problem.where for problem in verify_store(copy)} == {"zarr.json"}


def test_files_and_folders_that_do_not_belong_to_the_store_are_found(copy):
    (copy / "gt" / "c" / "99" / "0" / "0").mkdir(parents=True)
    (copy / "gt" / "c" / "99" / "0" / "0" / "0").write_bytes(b"x")
    (copy / "manifest" / "shard-00099.parquet").write_bytes(b"x")
    (copy / "empty").mkdir()
    (copy / "link").symlink_to(copy / "gt")
    (copy / ".build").mkdir()
    problems = verify_store(copy)
    assert {problem.kind for problem in problems} == {"unexpected-file"}
    assert [problem.where for problem in problems] == [
        ".build",
        "empty",
        "gt/c/99/0/0/0",
        "link",
        "manifest/shard-00099.parquet",
    ]


def test_a_store_of_another_version_is_no_damaged_one(copy):
    for name in ("zarr.json", "manifest/plan.json"):
        path = copy / name
        text = path.read_text().replace('"format_version": 6', '"format_version": 7')
        path.write_text(text.replace('"format_version":6', '"format_version":7'))
    with pytest.raises(StoreMismatchError, match="format_version 7"):
        verify_store(copy)


def test_the_shard_is_named(copy):
    (copy / "ssg" / "c" / "1" / "0").unlink()
    (problem,) = verify_store(copy)
    assert (problem.shard, str(problem)) == (1, "ssg/c/1/0: the file does not exist (shard 1)")


@pytest.mark.parametrize(("place", "code"), [(312, 4094), (5, 4096)])
def test_codes_that_cannot_be_are_found(tmp_path, monkeypatch, place, code):
    def wrong(*arguments, **options):
        codes = graph_codes(*arguments, **options)
        codes[-1, place] = code
        return codes

    monkeypatch.setattr(job, "graph_codes", wrong)
    store = tiny_store(tmp_path, sizes=[(64, 64)], quantization="sqrt12")
    assert verify_store(store.root) == []
    assert [problem.kind for problem in verify_store(store.root, deep=True)] == ["wrong-codes"]


def test_nothing_to_verify(tmp_path):
    with pytest.raises(StoreNotFoundError):
        verify_store(tmp_path)
