"""Masks that come with the images, and masks written for the authors' programs."""

import io
import shutil
import sys

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from ssl_data import BuildConfig, EdgeSpec, PatchSpec, build, edge_mask, open_store, verify_store
from ssl_data.errors import DatasetError, MissingDependencyError, SourceError, StoreMismatchError
from ssl_data.pipeline.export import export_masks
from ssl_data.pipeline.masks import decode_mask, encode_mask
from ssl_data.store.layout import PATCHES_PATH
from ssl_data.store.manifest import PATCH_SCHEMA, read_table
from ssl_data.testing import synthetic_image, write_images

some_masks = npst.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)))
SMALL = PatchSpec(patch_size=64, step=64)


@pytest.mark.parametrize("form", ["png", "mat"])
@given(mask=some_masks)
def test_masks_survive_files(form, mask):
    assert np.array_equal(decode_mask(encode_mask(mask, form), "a", mask.shape), mask)


def test_masks_in_files_are_those_of_the_authors():
    mask = edge_mask(synthetic_image(32, 40))
    read = scipy.io.loadmat(io.BytesIO(encode_mask(mask, "mat")))["mat"]  # the line of their training code
    assert read.dtype == np.int64
    assert np.array_equal(read, mask.astype(np.int64))
    png = np.asarray(Image.open(io.BytesIO(encode_mask(mask, "png"))))
    assert np.array_equal(png, mask * np.uint8(255))


def test_a_mask_of_the_authors_script_is_read():
    mask = edge_mask(synthetic_image(32, 40))
    file = io.BytesIO()
    scipy.io.savemat(file, {"mat": mask.astype(int)}, do_compression=True)
    assert np.array_equal(decode_mask(file.getvalue(), "a", (32, 40)), mask)


def test_files_of_equal_masks_are_equal_whenever_they_are_written(monkeypatch):
    mask = edge_mask(synthetic_image(32, 40))
    first = encode_mask(mask, "mat")
    monkeypatch.setattr("time.asctime", lambda *_: "at another time")
    assert encode_mask(mask, "mat") == first


def mat(**variables):
    file = io.BytesIO()
    scipy.io.savemat(file, variables)
    return file.getvalue()


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (mat(mat=np.zeros((8, 9))), "it is 8x9, the image 8x8"),
        (png(np.zeros((9, 8), dtype=np.uint8)), "it is 9x8, the image 8x8"),
        (mat(mat=np.zeros((8, 8, 2))), "it is 8x8x2, the image 8x8"),
        (mat(mask=np.zeros((8, 8))), "it has no variable 'mat', only mask"),
        (png(np.zeros((8, 8, 3), dtype=np.uint8)), "a mask has one channel of 1 or 8 bits, this image is RGB"),
        (png(np.arange(64, dtype=np.uint8).reshape(8, 8)), "it has 64 values, not 0 and one other"),
        (mat(mat=np.full((8, 8), 1) + np.eye(8)), "it has 2 values, not 0 and one other"),
        (b"no mask", "its edge mask cannot be used"),
        (b"", "its edge mask cannot be used"),
        (encode_mask(np.zeros((8, 8), dtype=bool), "png")[:40], "its edge mask cannot be used"),
    ],
)
def test_what_is_no_mask_of_the_image_is_refused_with_the_reason(content, reason):
    with pytest.raises(SourceError) as caught:
        decode_mask(content, "a.png", (8, 8))
    assert reason in caught.value.reason


def test_scipy_is_asked_for_only_where_it_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    monkeypatch.delitem(sys.modules, "scipy", raising=False)
    mask = np.eye(8, dtype=bool)
    assert np.array_equal(decode_mask(encode_mask(mask, "png"), "a", (8, 8)), mask)
    with pytest.raises(MissingDependencyError, match=r"pip install 'ssl_data\[mat\]'"):
        encode_mask(mask, "mat")


# --- masks given to a build


def other_mask(shape, seed):
    """A mask that no threshold would give."""
    return np.random.default_rng(seed).random(shape) < 0.1


@pytest.fixture
def prepared(tmp_path):
    """Four sub-images, two of them below, with masks in every place and form that is looked at."""
    images = write_images(tmp_path / "sub", [(64, 64)] * 2)
    write_images(tmp_path / "sub" / "deep er", [(64, 64)] * 2, seed=5)
    masks = {}
    places = ("mat/image-0.mat", "image-1.png", "deep er/image-0.mat", "png/deep er/image-1.png")
    for seed, place in enumerate(places):
        path = tmp_path / "masks" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        mask = other_mask((64, 64), seed)
        path.write_bytes(encode_mask(mask, place.rsplit(".", 1)[1]))
        masks[place.removeprefix("mat/").removeprefix("png/").rsplit(".", 1)[0] + ".png:0,0"] = mask
    return images, tmp_path / "masks", masks


def configure(images, masks, out, **changes):
    options = {"patch": SMALL, "edge": EdgeSpec(edge_stride=3), **changes}
    return BuildConfig(dataset=str(images), masks=str(masks), out=str(out), **options)


def test_given_masks_are_used_as_they_are(prepared, tmp_path):
    images, folder, masks = prepared
    report = build(configure(images, folder, tmp_path / "store"))
    assert (report.num_patches, report.rejected) == (4, ())
    store = open_store(tmp_path / "store")
    for index in range(4):
        patch = store.read(index)
        mask = masks[patch["patch_id"]]
        assert np.array_equal(patch["edge_mask"], mask)
        assert np.array_equal(patch["pixels"], [(row, col) for row, col in np.argwhere(mask) if row % 3 == col % 3])
    assert store.build_spec.edge.masks == "given"
    assert verify_store(tmp_path / "store", deep=True) == []


def test_an_imported_sub_image_keeps_its_name(prepared, tmp_path):
    images, folder, _ = prepared
    build(configure(images, folder, tmp_path / "store"))
    table = read_table(open_store(tmp_path / "store").source, PATCHES_PATH, PATCH_SCHEMA)
    assert table["author_name"].to_pylist() == ["image-0", "image-1", "image-0", "image-1"]
    assert export_masks(open_store(tmp_path / "store"), tmp_path / "out", form="mat", by_folder=True) == 4
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.mat")) == [
        "deep er/image-0.mat",
        "deep er/image-1.mat",
        "image-0.mat",
        "image-1.mat",
    ]


def test_missing_and_unfit_masks_reject_their_images_one_by_one(prepared, tmp_path):
    images, folder, _ = prepared
    (folder / "image-1.png").unlink()
    (folder / "mat" / "image-0.mat").write_bytes(encode_mask(other_mask((64, 63), 1), "mat"))
    report = build(configure(images, folder, tmp_path / "store"))
    assert {image.source: image.reason_code for image in report.rejected} == {
        "image-0.png": "bad_mask",
        "image-1.png": "no_mask",
    }
    reasons = {image.source: image.reason for image in report.rejected}
    assert reasons["image-0.png"] == "its edge mask cannot be used: it is 64x63, the image 64x64"
    assert reasons["image-1.png"] == (
        "no edge mask: none of image-1.mat, mat/image-1.mat, image-1.png, png/image-1.png is in the mask folder"
    )
    assert (report.num_patches, report.num_patches_planned, report.num_filtered["rejected-image"]) == (2, 3, 1)


def test_masks_that_are_put_right_are_tried_again(prepared, tmp_path):
    images, folder, masks = prepared
    (folder / "image-1.png").rename(folder / "elsewhere")
    (folder / "mat" / "image-0.mat").write_bytes(b"")
    assert len(build(configure(images, folder, tmp_path / "store")).rejected) == 2
    (folder / "elsewhere").rename(folder / "image-1.png")
    (folder / "mat" / "image-0.mat").write_bytes(encode_mask(masks["image-0.png:0,0"], "mat"))
    report = build(configure(images, folder, tmp_path / "store"), retry_failed=True)
    assert (report.num_patches, report.rejected) == (4, ())
    store = open_store(tmp_path / "store")
    assert all(np.array_equal(store.read_edge_mask(index), masks[store.patch_id(index)]) for index in range(4))


def test_larger_images_are_cut_together_with_their_masks(tmp_path):
    images = write_images(tmp_path / "images", [(100, 130)])
    mask = other_mask((100, 130), 3)
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "image-0.png").write_bytes(encode_mask(mask, "png"))
    build(configure(images, tmp_path / "masks", tmp_path / "store"))
    store = open_store(tmp_path / "store")
    assert len(store) == 6
    for index in range(len(store)):
        row, col = map(int, store.patch_id(index).rsplit(":", 1)[1].split(","))
        assert np.array_equal(store.read_edge_mask(index), mask[row : row + 64, col : col + 64])


def test_another_mask_is_another_store(prepared, tmp_path):
    images, folder, _ = prepared
    build(configure(images, folder, tmp_path / "store"))
    (folder / "image-1.png").write_bytes(encode_mask(other_mask((64, 64), 9), "png"))
    with pytest.raises(StoreMismatchError, match=r"sources: 1 changed \(image-1\.png\)"):
        build(configure(images, folder, tmp_path / "store"))
    with pytest.raises(StoreMismatchError, match=r"edge\.masks: the store has 'given', asked for 'computed'"):
        build(BuildConfig(dataset=str(images), out=str(tmp_path / "store"), patch=SMALL, edge=EdgeSpec(edge_stride=3)))


def test_a_folder_that_is_not_there_is_named(prepared, tmp_path):
    with pytest.raises(DatasetError, match="--masks .*nowhere is not a folder"):
        build(configure(prepared[0], tmp_path / "nowhere", tmp_path / "store"))


def test_masks_go_out_and_come_in_again(shared_golden, tmp_path):
    """The whole way on real photographs: prepare, export, and import the sub-images as the authors' users have them."""
    source = BuildConfig(
        dataset=str(shared_golden / "prep" / "input"),
        out=str(tmp_path / "store"),
        patch=PatchSpec(patch_size=256, step=256),
        edge=EdgeSpec(edge_stride=32),
    )
    build(source)
    store = open_store(tmp_path / "store")
    (tmp_path / "sub").mkdir()
    names = read_table(store.source, PATCHES_PATH, PATCH_SCHEMA)["author_name"].to_pylist()
    for index, name in enumerate(names):
        Image.fromarray(store.read_gt(index)).save(tmp_path / "sub" / f"{name}.png")
    assert export_masks(store, tmp_path / "masks", form="mat") == len(names) > 10
    imported = BuildConfig(
        dataset=str(tmp_path / "sub"),
        masks=str(tmp_path / "masks"),
        out=str(tmp_path / "again"),
        patch=PatchSpec(patch_size=256, step=256),
        edge=EdgeSpec(edge_stride=32),
    )
    assert build(imported).rejected == ()
    again = open_store(tmp_path / "again")
    by_name = {again.patch_id(index).removesuffix(".png:0,0"): index for index in range(len(again))}
    for index, name in enumerate(names):
        one, other = store.read(index), again.read(by_name[name])
        assert all(np.array_equal(one[key], other[key]) for key in ("gt", "edge_mask", "pixels", "ssg"))


# --- export


def test_names_that_collide_are_refused_and_nothing_is_written(tmp_path):
    images = write_images(tmp_path / "images" / "a", [(64, 64)])
    shutil.copytree(images, tmp_path / "images" / "b")
    build(BuildConfig(dataset=str(tmp_path / "images"), out=str(tmp_path / "store"), patch=SMALL))
    store = open_store(tmp_path / "store")
    with pytest.raises(DatasetError, match=r"image-0: a/image-0\.png:0,0, b/image-0\.png:0,0.*--by-folder"):
        export_masks(store, tmp_path / "masks")
    assert not (tmp_path / "masks").exists()
    assert export_masks(store, tmp_path / "masks", by_folder=True) == 2
    mask = np.asarray(Image.open(tmp_path / "masks" / "a" / "image-0.png"))
    assert np.array_equal(mask != 0, store.read_edge_mask(0))


def test_a_store_cannot_name_files_outside_of_the_folder(tmp_path, monkeypatch):
    write_images(tmp_path / "images", [(64, 64)])
    monkeypatch.setattr("ssl_data.pipeline.plan.author_name", lambda *_, **__: "../outside")
    build(BuildConfig(dataset=str(tmp_path / "images"), out=str(tmp_path / "store"), patch=SMALL))
    with pytest.raises(DatasetError, match="outside of the folder"):
        export_masks(open_store(tmp_path / "store"), tmp_path / "masks")
