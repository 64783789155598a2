"""Stores of real photographs against what the authors' preparation scripts made of the same files."""

import hashlib
import json

import numpy as np
import pytest

from ssl_data import BuildConfig, EdgeSpec, MultiscaleSpec, PatchSpec, build, open_store
from ssl_data.geometry.scales import ORIGINAL, scaled_sizes
from ssl_data.pipeline.decode import decode_image
from ssl_data.pipeline.job import resized_copy
from ssl_data.store.layout import PATCHES_PATH
from ssl_data.store.manifest import PATCH_SCHEMA, read_table


def sha256(array):
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


@pytest.fixture(scope="module")
def prep(shared_golden):
    return shared_golden / "prep"


@pytest.fixture(scope="module")
def recorded(prep):
    return json.loads((prep / "prep.json").read_text())


def build_store(images, out, *, threshold=20.0, **specs):
    """A store of which only the patches and masks matter: few edge pixels get a graph."""
    config = BuildConfig(dataset=str(images), out=str(out), edge=EdgeSpec(threshold=threshold, edge_stride=64), **specs)
    assert build(config).rejected == ()
    store = open_store(out)
    return store, read_table(store.source, PATCHES_PATH, PATCH_SCHEMA).to_pylist()


def file_of(patch):
    """The authors' name of the image of that size."""
    stem, suffix = patch["source"].rsplit(".", 1)
    return f"{stem}.{suffix}" if patch["scale"] == ORIGINAL else f"{stem}{patch['scale']}.png"


GAN = MultiscaleSpec(variant="gan")
VARIANTS = {
    "A_default": ("subimages_512_256", "masks_thr20", 20.0, GAN, PatchSpec(patch_size=512, step=256)),
    "C_raw_128_64": ("subimages", "masks_thr20", 20.0, None, PatchSpec(patch_size=128, step=64)),
    "D_raw_128_64_thresh48": ("subimages", None, 20.0, None, PatchSpec(patch_size=128, step=64, tail_threshold=48)),
    "E_raw_200_120_mask_thr35": ("subimages", "masks_thr35", 35.0, None, PatchSpec(patch_size=200, step=120)),
}


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_names_positions_pixels_and_masks_equal_the_authors(prep, recorded, tmp_path, variant):
    crops, masks, threshold, multiscale, patch = VARIANTS[variant]
    store, patches = build_store(
        prep / "input", tmp_path / "store", threshold=threshold, multiscale=multiscale, patch=patch
    )
    made = {(p["author_name"], file_of(p), p["row"], p["col"], p["gt_sha256"]) for p in patches}
    expected = {
        (crop["name"].removesuffix(".png"), crop["source"], crop["top"], crop["left"], crop["sha256"])
        for crop in recorded[variant][crops]
    }
    assert len(patches) == len(recorded[variant][crops])
    assert made == expected
    assert {crop["width"] for crop in recorded[variant][crops]} == {patch.patch_size} == {store.patch_size}
    # What the manifest says of the pixels holds for the stored ones.
    assert [sha256(store.read_gt(index)) for index in range(len(store))] == [p["gt_sha256"] for p in patches]
    if masks is None:
        return
    stored_masks = {}
    for index, row in enumerate(patches):
        mask = store.read_edge_mask(index)
        stored_masks[row["author_name"]] = (row["num_edge_pixels"], int(mask.sum()), sha256(mask.astype(np.uint8)))
    assert stored_masks == {
        mask["name"]: (mask["ones"], mask["ones"], mask["sha256_u8"]) for mask in recorded[variant][masks]
    }


@pytest.mark.parametrize(("variant", "shortest_edge"), [("A_default", 512), ("B_shortest_edge_256", 256)])
def test_copies_equal_the_authors_pixel_by_pixel(prep, recorded, variant, shortest_edge):
    made = {}
    for entry in recorded["input"]:
        image = decode_image((prep / "input" / entry["name"]).read_bytes(), entry["name"])
        for size in scaled_sizes(*image.shape[:2], MultiscaleSpec(variant="gan", shortest_edge=shortest_edge)):
            name = entry["name"] if size.label == ORIGINAL else entry["name"].replace(".png", f"{size.label}.png")
            made[name] = sha256(resized_copy(image, size))
    assert made == {image["name"]: image["sha256"] for image in recorded[variant]["multiscale"]}


def test_the_diffusion_variant_makes_the_same_pixels_under_its_own_names(prep, recorded, tmp_path):
    multiscale = MultiscaleSpec(variant="diffusion")
    _, patches = build_store(prep / "input", tmp_path / "store", multiscale=multiscale)
    by_place = {(file_of(p).replace("T3.png", "S.png"), p["row"], p["col"]): p for p in patches}
    for crop in recorded["A_default"]["subimages_512_256"]:
        patch = by_place.pop((crop["source"], crop["top"], crop["left"]))
        assert patch["gt_sha256"] == crop["sha256"]
        smallest = patch["scale"] == "T3"
        assert patch["author_name"] == crop["name"].removesuffix(".png").replace("S_s", "T3_s" if smallest else "S_s")
    assert by_place == {}  # nothing more: the other copies are smaller than a patch


def test_names_sizes_and_positions_of_a_jpeg_equal_the_authors(prep, recorded, tmp_path):
    expected = recorded["F_jpeg"]["subimages_512_256"]
    _, patches = build_store(prep / "input_jpeg", tmp_path / "store", multiscale=GAN)
    assert {(p["author_name"], file_of(p), p["row"], p["col"]) for p in patches} == {
        (crop["name"].rsplit(".", 1)[0], crop["source"], crop["top"], crop["left"]) for crop in expected
    }
    assert len(patches) == len(expected)


def test_our_names_are_unique_where_the_authors_collide(tmp_path):
    from ssl_data.testing import write_images

    images = write_images(tmp_path / "images", [(96, 64)])
    (images / "image-0.png").rename(images / "fox2.png")
    for name in ("fo.png", "fox8.png", "fo.bmp"):
        (images / name).write_bytes((images / "fox2.png").read_bytes())
    _, patches = build_store(images, tmp_path / "store", patch=PatchSpec(patch_size=64, step=32))
    assert len(patches) == 8
    assert {p["author_name"] for p in patches} == {"fo_s001", "fo_s002"}
    assert len({p["patch_id"] for p in patches}) == 8
