"""Which files belong to a dataset."""

import shutil

import pytest

from ssl_data.config import PatchSpec
from ssl_data.errors import DatasetError
from ssl_data.pipeline.datasets import Dataset, Folder, load_dataset
from ssl_data.pipeline.sources import find_files, scan_sources, sources_fingerprint
from ssl_data.testing import write_images


def names(folder):
    dataset = Dataset(name="x", folders=(Folder(name="", path=folder),), patch=PatchSpec())
    return [name for name, _ in find_files(dataset)]


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "images", [(32, 32), (40, 30)])


def test_folders_are_searched_and_sorted(images):
    (images / "sub dir" / "ünder").mkdir(parents=True)
    shutil.copy(images / "image-0.png", images / "sub dir" / "ünder" / "a#'b\n.PNG")
    shutil.copy(images / "image-0.png", images / "sub dir" / "image-0.png")
    expected = ["image-0.png", "image-1.png", "sub dir/image-0.png", "sub dir/ünder/a#'b\n.PNG"]
    assert names(images) == expected


def test_other_and_hidden_files_are_not_looked_at(images):
    for name in ("notes.txt", ".hidden.png", "Thumbs.db"):
        (images / name).write_bytes(b"")
    (images / ".git").mkdir()
    shutil.copy(images / "image-0.png", images / ".git" / "image-0.png")
    assert names(images) == ["image-0.png", "image-1.png"]


def test_links_are_followed_but_not_in_circles(images):
    (images / "circle").symlink_to(images, target_is_directory=True)
    (images / "link.png").symlink_to(images / "image-0.png")
    assert names(images) == ["image-0.png", "image-1.png", "link.png"]


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="no image files below"):
        names(tmp_path)


def test_broken_files_carry_their_reason(images):
    (images / "broken.png").write_bytes(b"no image")
    (images / "gone.png").symlink_to(images / "nowhere")
    dataset = load_dataset(str(images))
    by_name = {source.name: source for source in scan_sources(find_files(dataset), num_threads=2)}
    assert by_name["image-1.png"].rejected is None
    assert (by_name["image-1.png"].height, by_name["image-1.png"].width) == (40, 30)
    assert by_name["broken.png"].rejected == "not an image in a supported format"
    assert by_name["gone.png"].rejected == "cannot be read (No such file or directory)"


def test_the_fingerprint_follows_names_and_contents_but_not_places(images, tmp_path):
    moved = shutil.copytree(images, tmp_path / "elsewhere")
    prints = [
        sources_fingerprint(scan_sources(find_files(load_dataset(str(folder))), num_threads=1))
        for folder in (images, moved)
    ]
    assert prints[0] == prints[1]
    (moved / "image-0.png").write_bytes((moved / "image-0.png").read_bytes() + b"\0")
    changed = sources_fingerprint(scan_sources(find_files(load_dataset(str(moved))), num_threads=1))
    assert changed != prints[0]


def test_listed_files_must_exist(images, tmp_path):
    (tmp_path / "mine.yaml").write_text("folders: [{path: images, files: [image-0.png, image-7.png]}]")
    with pytest.raises(DatasetError, match=r"lacks 1 listed files: image-7\.png"):
        find_files(load_dataset(str(tmp_path / "mine.yaml")))
