"""What a dataset is, where it is looked for, and what is said when it is not there."""

import hashlib
import re
from pathlib import Path, PurePosixPath

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ssl_data.config import MultiscaleSpec, PatchSpec
from ssl_data.errors import DatasetError
from ssl_data.pipeline.datasets import DatasetWarning, describe_dataset, draw_subset, list_datasets, load_dataset
from ssl_data.pipeline.descriptions import Subset, parse_description
from ssl_data.pipeline.sources import find_files
from ssl_data.testing import write_images


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "images", [(32, 32), (40, 30)])


def write_dataset(path, text):
    path.write_text(text)
    return str(path)


def names(dataset):
    return [name for name, _ in find_files(dataset)]


# --- the bundled datasets

NUM_IMAGES = {
    "DIV2K": 800,
    "Flickr2K": 2650,
    "OST": 10_324,
    "DF2K": 3450,
    "DF2K_OST": 13_774,
    "DIV8K": 1500,
    "FFHQ": 10_000,
    "sample": 6,
}


def test_the_datasets_of_the_paper_are_bundled_with_their_sizes():
    assert {name: describe_dataset(name).num_images for name in list_datasets()} == NUM_IMAGES


@pytest.mark.parametrize("name", list_datasets())
def test_bundled_datasets_are_described_for_a_person(name):
    description = describe_dataset(name)
    assert description.name == name
    assert description.title
    assert description.home.startswith("https://")
    assert description.licence
    assert all(part.home and part.licence for part in description.parts)
    assert description.obtain or name == "sample"
    assert all(len(part.paths) >= 4 for part in description.parts) or name == "sample"


def test_the_table_in_the_documentation_is_true():
    text = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+).*? \| (\w+) \|", text, re.MULTILINE)
    assert {(name, int(number.replace(",", "")), copies) for name, number, copies in rows} == {
        (name, describe_dataset(name).num_images, describe_dataset(name).multiscale.variant) for name in list_datasets()
    }


@pytest.mark.parametrize(
    ("name", "variant"), [("DF2K_OST", "gan"), ("DIV2K", "gan"), ("DIV8K", "diffusion"), ("FFHQ", "diffusion")]
)
def test_bundled_datasets_are_cut_as_the_authors_do(name, variant):
    description = describe_dataset(name)
    assert description.patch == PatchSpec(patch_size=512, step=256)
    assert description.multiscale == MultiscaleSpec(variant=variant)


LAYOUTS = [
    (name, path) for name in ("DIV2K", "Flickr2K", "OST", "DIV8K") for path in describe_dataset(name).folders[0].paths
]


@pytest.mark.parametrize(("name", "path"), LAYOUTS)
@pytest.mark.parametrize("nested", ["", "below/"])
def test_every_known_layout_is_found(tmp_path, name, path, nested):
    write_images(tmp_path / path / nested, [(8, 8)])
    dataset = load_dataset(name, str(tmp_path))
    assert [folder.path for folder in dataset.folders] == [tmp_path / path]
    with pytest.warns(DatasetWarning):
        assert names(dataset) == [f"{name}/{nested}image-0.png"]


def test_low_resolution_images_beside_the_originals_are_not_taken(tmp_path):
    for folder in ("Flickr2K/Flickr2K_HR", "Flickr2K/Flickr2K_LR_bicubic/X4", "DIV2K/DIV2K_train_HR"):
        write_images(tmp_path / folder, [(8, 8)])
    for folder in ("DIV2K/DIV2K_train_LR_bicubic/X4", "DIV2K/DIV2K_valid_HR"):
        write_images(tmp_path / folder, [(8, 8)])
    with pytest.warns(DatasetWarning):
        assert names(load_dataset("DF2K", str(tmp_path))) == ["DIV2K/image-0.png", "Flickr2K/image-0.png"]


def test_a_dataset_of_parts_is_put_together(tmp_path):
    for folder in ("DIV2K/DIV2K_train_HR", "Flickr2K_HR", "OutdoorSceneTrain_v2/animal", "OutdoorSceneTrain_v2/sky"):
        write_images(tmp_path / folder, [(8, 8)])
    with pytest.warns(DatasetWarning) as caught:
        found = names(load_dataset("DF2K_OST", str(tmp_path)))
    assert found == [
        "DIV2K/image-0.png",
        "Flickr2K/image-0.png",
        "OST/animal/image-0.png",
        "OST/sky/image-0.png",
    ]
    assert [str(warning.message) for warning in caught] == [
        f"{tmp_path / place} holds {found} images, expected are {expected}; the store is made of what is there"
        for place, found, expected in (
            ("DIV2K/DIV2K_train_HR", 1, 800),
            ("Flickr2K_HR", 1, 2650),
            ("OutdoorSceneTrain_v2", 2, 10_324),
        )
    ]


def test_a_merged_folder_stands_for_the_parts_unless_these_are_there(tmp_path):
    write_images(tmp_path / "DF2K" / "DF2K_HR", [(8, 8)])
    write_images(tmp_path / "DIV2K_train_HR", [(8, 8)])
    with pytest.warns(DatasetWarning, match="expected are 3450"):
        assert names(load_dataset("DF2K", str(tmp_path))) == ["DF2K/image-0.png"]
    write_images(tmp_path / "Flickr2K_HR", [(8, 8)])
    with pytest.warns(DatasetWarning) as caught:
        assert names(load_dataset("DF2K", str(tmp_path))) == ["DIV2K/image-0.png", "Flickr2K/image-0.png"]
    assert [str(warning.message).split(", ")[1].split(";")[0] for warning in caught] == [
        "expected are 800",
        "expected are 2650",
    ]


def test_a_merged_folder_may_be_a_part_itself(tmp_path):
    for folder in ("DF2K/DF2K_HR", "OST/sky"):
        write_images(tmp_path / folder, [(8, 8)])
    with pytest.warns(DatasetWarning):
        assert names(load_dataset("DF2K_OST", str(tmp_path))) == ["DF2K/image-0.png", "OST/sky/image-0.png"]


def test_a_missing_folder_is_reported_with_what_was_looked_for_where_and_how_to_get_it(tmp_path):
    write_images(tmp_path / "DIV2K" / "DIV2K_train_HR", [(8, 8)])
    with pytest.raises(DatasetError) as caught:
        load_dataset("DF2K_OST", str(tmp_path))
    message = str(caught.value)
    for part in ("Flickr2K", "OST"):
        description = describe_dataset(part)
        assert f"  {part}: none of these is a folder" in message
        for path in description.folders[0].paths:
            assert str(tmp_path / path) in message
        assert description.home in message
        assert description.obtain in message
    assert "--root" in message
    assert "SSL_DATA_ROOT" in message
    assert f"or all of DF2K in one of:\n    {tmp_path / 'DF2K/DF2K_HR'}" in message
    assert f"or all of DF2K_OST in one of:\n    {tmp_path / 'DF2K_OST'}" in message
    assert "DIV2K: none" not in message  # that one is there


def test_another_number_of_images_is_an_error_when_strict(tmp_path):
    write_images(tmp_path / "DIV2K_train_HR", [(8, 8)] * 3)
    dataset = load_dataset("DIV2K", str(tmp_path))
    with pytest.raises(DatasetError, match=r"DIV2K_train_HR holds 3 images, expected are 800\n.*without --strict"):
        find_files(dataset, strict=True)


def test_a_complete_folder_is_no_surprise(images, tmp_path):
    text = "folders: [{name: a, path: images, expected_images: 2}]"
    assert len(find_files(load_dataset(write_dataset(tmp_path / "mine.yaml", text)), strict=True)) == 2


# --- subsets

stems = st.lists(st.text(alphabet="abc019", min_size=1, max_size=6), unique=True, max_size=40)


@given(stems=stems, num_images=st.integers(1, 20), seed=st.integers(0, 5), random=st.randoms(use_true_random=False))
def test_a_subset_depends_on_seed_and_names_alone(stems, num_images, seed, random):
    subset = Subset(num_images=num_images, seed=seed)
    drawn = draw_subset([f"{stem}.png" for stem in stems], subset)
    assert len(drawn) == min(num_images, len(stems))
    assert drawn == sorted(set(drawn))
    elsewhere = [f"{random.randint(0, 9)}/{stem}.jpg" for stem in random.sample(stems, len(stems))]
    moved = draw_subset(elsewhere, subset)
    assert {PurePosixPath(name).stem for name in moved} == {PurePosixPath(name).stem for name in drawn}


def test_a_subset_is_the_same_everywhere_and_for_ever():
    faces = [f"{number // 1000 * 1000:05}/{number:05}.png" for number in range(70_000)]
    drawn = draw_subset(faces, describe_dataset("FFHQ").folders[0].subset)
    assert len(drawn) == 10_000
    assert [PurePosixPath(name).stem for name in drawn[:5]] == ["00001", "00012", "00019", "00036", "00039"]
    digest = hashlib.sha256("\n".join(drawn).encode()).hexdigest()
    assert digest == "a3b479c907fbd1c9c1834d811d8d8f7251c0a7af0ac72950fabf5ef9fde31fe8"
    # Uniform: each tenth of the faces has about a tenth of the subset (standard deviation: 28).
    tenths = [sum(int(PurePosixPath(name).stem) // 7000 == tenth for name in drawn) for tenth in range(10)]
    assert all(abs(count - 1000) < 150 for count in tenths)
    other = draw_subset(faces, Subset(num_images=10_000, seed=1))
    assert len(set(other) & set(drawn)) < 2000


def test_a_subset_of_a_folder_is_used_and_counted_before_drawing(images, tmp_path):
    text = "folders: [{name: a, path: images, expected_images: 2, subset: {num_images: 1, seed: 3}}]"
    (name,) = names(load_dataset(write_dataset(tmp_path / "mine.yaml", text)))
    assert name in {"a/image-0.png", "a/image-1.png"}


# --- dataset files of users


def test_a_dataset_file_names_folders_relative_to_itself(images, tmp_path):
    text = "name: mine\npatch: {patch_size: 32, step: 16}\nfolders: [{name: a, path: images}, {name: b, path: images}]"
    dataset = load_dataset(write_dataset(tmp_path / "mine.yaml", text))
    assert dataset.patch == PatchSpec(patch_size=32, step=16)
    assert names(dataset) == ["a/image-0.png", "a/image-1.png", "b/image-0.png", "b/image-1.png"]


def test_the_root_says_where_folders_lie(images, tmp_path, monkeypatch):
    path = write_dataset(tmp_path / "mine.yaml", "folders: [{path: images}]")
    with pytest.raises(DatasetError, match="none of these is a folder"):
        load_dataset(path, str(tmp_path / "other"))
    monkeypatch.setenv("SSL_DATA_ROOT", str(images.parent))
    assert load_dataset(path).folders[0].path == images


def test_a_dataset_file_may_include_bundled_datasets_and_name_alternatives(images, tmp_path):
    write_images(tmp_path / "DIV2K_train_HR", [(8, 8)])
    text = yaml.safe_dump(
        {
            "includes": ["DIV2K"],
            "multiscale": {"variant": "diffusion", "shortest_edge": 256},
            "folders": [{"name": "own", "paths": ["nowhere", "images"], "home": "https://example.org"}],
        }
    )
    dataset = load_dataset(write_dataset(tmp_path / "mine.yaml", text))
    assert dataset.name == "mine"
    assert dataset.multiscale == MultiscaleSpec(variant="diffusion", shortest_edge=256)
    with pytest.warns(DatasetWarning):
        assert names(dataset) == ["DIV2K/image-0.png", "own/image-0.png", "own/image-1.png"]


def test_the_datasets_of_diffusion_models_are_put_together_in_two_lines():
    text = "includes: [DF2K_OST, DIV8K, FFHQ]\nmultiscale: {variant: diffusion}"
    description = parse_description(text, "mine.yaml")
    assert [part.name for part in description.parts] == ["DIV2K", "Flickr2K", "OST", "DIV8K", "FFHQ"]
    assert description.num_images == 800 + 2650 + 10_324 + 1500 + 10_000


def test_all_mistakes_of_a_dataset_file_are_listed_at_once():
    text = """
nmae: x
title: 7
patch: {patch_size: 0}
multiscale: {variant: all, colour: red}
includes: [DIV2K, DIV3K]
folders:
  - {path: nowhere}
  - {paht: x}
  - {path: nowhere, only: []}
  - {name: a, paths: [x, y], path: z}
  - {paths: [x, y]}
  - {name: DIV2K, path: q, expected_images: 0, subset: {seed: -1}}
  - {name: DIV2K, path: q, files: a.png, subset: {seed: 1}}
  - {name: DIV2K, path: q}
  - {name: DIV2K, path: r}
  - text
merged: {path: [m]}
"""
    with pytest.raises(DatasetError) as caught:
        parse_description(text, "mine.yaml")
    found = str(caught.value).splitlines()
    expected = [
        "nmae: unknown; known are folders, home, includes, licence, merged, multiscale, name, obtain, patch, title",
        "title must be a non-empty text, got 7",
        "patch: PatchSpec.patch_size must be an integer >= 1, got 0",
        "multiscale: MultiscaleSpec has no field colour; known: shortest_edge, variant",
        "includes: there is no dataset 'DIV3K'",
        "folders[2].paht: unknown",
        "folders[3].only: unknown",
        "folders[4] must have either a 'path' or a list 'paths'",
        "folders[5] must have a 'name', because it has several 'paths'",
        "folders[6].expected_images must be an integer >= 1, got 0",
        "folders[6].subset.seed must be an integer >= 0, got -1",
        "folders[7].files must be a non-empty list of paths that stay in the folder, got 'a.png'",
        "folders[7].subset.num_images is missing",
        "folders[10] must be a mapping with a 'path', got 'text'",
        "merged.path must be a non-empty text, got ['m']",
        "folder name 'DIV2K' is used twice",
    ]
    for mistake in expected:
        assert sum(mistake in line for line in found) == 1, mistake
    assert len(found) == 1 + len(expected)
    assert found[0] == "mine.yaml:"


@pytest.mark.parametrize(
    "text", ["", "just text", "folders: []", "folders: {a: b}", "a: [unclosed", "{}", "includes: []"]
)
def test_files_that_are_no_datasets_are_refused(tmp_path, text):
    with pytest.raises(DatasetError, match=r"mine\.yaml"):
        load_dataset(write_dataset(tmp_path / "mine.yaml", text))


def test_a_dataset_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(DatasetError, match=r"mine\.yaml is not a text in UTF-8"):
        load_dataset(str(tmp_path / "mine.yaml"))


def test_a_missing_package_is_named(tmp_path):
    text = "folders: [{name: a, package: no_such_package, path: data}]"
    with pytest.raises(DatasetError, match="the Python package no_such_package is not installed"):
        load_dataset(write_dataset(tmp_path / "mine.yaml", text))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(DatasetError, match="one of the datasets: .*DF2K_OST.*sample"):
        load_dataset("nonsense")
