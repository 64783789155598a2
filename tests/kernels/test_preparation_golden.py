"""Patches and masks against the authors' preparation scripts, on real photographs."""

import hashlib
import json

import numpy as np
import pytest

from ssl_data import PatchSpec, edge_mask
from ssl_data.geometry.patches import patch_grid
from ssl_data.pipeline.decode import decode_image


def sha256(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.mark.parametrize(
    ("variant", "masks", "spec", "threshold"),
    [
        ("C_raw_128_64", "masks_thr20", PatchSpec(patch_size=128, step=64), 20.0),
        ("E_raw_200_120_mask_thr35", "masks_thr35", PatchSpec(patch_size=200, step=120), 35.0),
    ],
)
def test_patches_and_masks_equal_the_authors(shared_golden, variant, masks, spec, threshold):
    recorded = json.loads((shared_golden / "prep" / "prep.json").read_text())
    made = []
    for source in recorded["input"]:
        path = shared_golden / "prep" / "input" / source["name"]
        image = decode_image(path.read_bytes(), source["name"])
        assert sha256(image) == source["sha256"]
        for row, col in patch_grid(*image.shape[:2], spec).tolist():
            patch = image[row : row + spec.patch_size, col : col + spec.patch_size]
            mask = edge_mask(patch, threshold=threshold)
            made.append((source["name"], row, col, sha256(patch), int(mask.sum()), sha256(mask.astype(np.uint8))))
    by_name = {mask["name"]: mask for mask in recorded[variant][masks]}
    expected = [
        (crop["source"], crop["top"], crop["left"], crop["sha256"], mask["ones"], mask["sha256_u8"])
        for crop in recorded[variant]["subimages"]
        for mask in [by_name[crop["name"].removesuffix(".png")]]
    ]
    assert sorted(made) == sorted(expected)
