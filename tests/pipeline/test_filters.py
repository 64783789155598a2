"""Patches that are left out: which, in what order, and how they are recorded."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ssl_data import (
    BuildConfig,
    EdgeSpec,
    FilterSpec,
    MultiscaleSpec,
    PatchSpec,
    StoreSpec,
    build,
    open_store,
    verify_store,
)
from ssl_data.pipeline.executors import RayExecutor, SerialExecutor
from ssl_data.store.layout import PATCHES_PATH
from ssl_data.store.manifest import PATCH_SCHEMA, read_table
from ssl_data.store.summary import summarize_store
from ssl_data.testing import synthetic_image, write_images

PATCH = PatchSpec(patch_size=64, step=32)


@pytest.fixture
def images(tmp_path):
    """Three photographs, a copy of the first under an earlier name, a flat one, and one that breaks off."""
    folder = write_images(tmp_path / "images", [(96, 96), (64, 128), (100, 70)])
    shutil.copy(folder / "image-0.png", folder / "copy.png")
    Image.fromarray(np.full((64, 96, 3), 90, dtype=np.uint8)).save(folder / "flat.png")
    content = (folder / "image-1.png").read_bytes()
    (folder / "short.png").write_bytes(content[: len(content) // 2])
    return folder


def configure(images, out, **filters):
    return BuildConfig(
        dataset=str(images),
        out=str(out),
        patch=PATCH,
        edge=EdgeSpec(edge_stride=3),
        filter=FilterSpec(**filters),
        store=StoreSpec(patches_per_shard=2, chunk_rows=128, lq_scale=4),
    )


def rows_of(store):
    return read_table(store.source, PATCHES_PATH, PATCH_SCHEMA).to_pylist()


def test_every_planned_patch_is_stored_or_filtered_for_one_reason(images, tmp_path):
    report = build(configure(images, tmp_path / "store", min_edge_density=0.02, drop_duplicates=True))
    store = open_store(tmp_path / "store")
    rows = rows_of(store)
    assert report.num_filtered == {"rejected-image": 3, "edge-density": 2, "duplicate": 4}
    assert report.num_patches_planned == len(rows) == 4 + 4 + 3 + 6 + 2 + 3
    assert report.num_patches_planned == report.num_patches + sum(report.num_filtered.values())
    for reason, number in report.num_filtered.items():
        assert sum(row["filtered"] == reason for row in rows) == number
    for row in rows:
        assert (row["start"] == -1) == (row["filtered"] is not None)
        assert (row["duplicate_of"] is not None) == (row["filtered"] == "duplicate")
        assert (row["rejected"] is not None) == (row["filtered"] == "rejected-image") == (row["gt_sha256"] is None)
    assert report.num_sources == 6
    assert [image.source for image in report.rejected] == ["short.png"]
    summary = summarize_store(store)
    assert summary.num_filtered == report.num_filtered
    assert summary.num_patches_planned == report.num_patches_planned
    assert summary.num_sources + summary.num_rejected == report.num_sources
    assert verify_store(tmp_path / "store", deep=True) == []


def test_the_first_of_equal_patches_in_the_order_of_the_plan_stays(images, tmp_path):
    build(configure(images, tmp_path / "store", drop_duplicates=True))
    rows = {row["patch_id"]: row for row in rows_of(open_store(tmp_path / "store"))}
    for corner in ("0,0", "0,32", "32,0", "32,32"):
        assert rows[f"copy.png:{corner}"]["filtered"] is None
        assert rows[f"image-0.png:{corner}"]["duplicate_of"] == f"copy.png:{corner}"
    # Within one image, too: both patches of the flat one are the same.
    assert rows["flat.png:0,0"]["filtered"] is None
    assert rows["flat.png:0,32"]["duplicate_of"] == "flat.png:0,0"


def test_what_stays_is_exactly_what_a_store_without_filters_has(images, tmp_path):
    build(configure(images, tmp_path / "all"))
    build(configure(images, tmp_path / "some", min_edge_density=0.02, drop_duplicates=True))
    everything, some = open_store(tmp_path / "all"), open_store(tmp_path / "some")
    index_of = {everything.patch_id(index): index for index in range(len(everything))}
    seen = set()
    for index in range(len(some)):
        patch = some.read(index)
        whole = everything.read(index_of.pop(patch["patch_id"]))
        assert patch.keys() == whole.keys()
        assert all(np.array_equal(patch[name], whole[name]) for name in patch)
        seen.add(patch["gt"].tobytes())
    assert len(seen) == len(some)
    for patch_id, index in index_of.items():  # and what does not stay has a reason
        gt, mask = everything.read_gt(index), everything.read_edge_mask(index)
        assert mask.mean() < 0.02 or gt.tobytes() in seen, patch_id


def test_the_density_decides_before_edge_stride(tmp_path):
    images = write_images(tmp_path / "images", [(96, 96), (64, 128)])
    build(configure(images, tmp_path / "all"))
    everything = open_store(tmp_path / "all")
    densities = [float(everything.read_edge_mask(index).mean()) for index in range(len(everything))]
    for number, limit in enumerate(sorted(densities)[1::2]):
        build(configure(images, tmp_path / f"store-{number}", min_edge_density=limit))
        store = open_store(tmp_path / f"store-{number}")
        assert [store.patch_id(index) for index in range(len(store))] == [
            everything.patch_id(index) for index, density in enumerate(densities) if density >= limit
        ]
        assert 0 < len(store) < len(everything)


def test_a_patch_whose_density_is_the_limit_stays(tmp_path):
    images = write_images(tmp_path / "images", [(64, 64)])
    build(configure(images, tmp_path / "all"))
    density = float(open_store(tmp_path / "all").read_edge_mask(0).mean())
    assert build(configure(images, tmp_path / "at", min_edge_density=density)).num_patches == 1
    assert build(configure(images, tmp_path / "above", min_edge_density=density + 1e-9)).num_patches == 0


def files_of(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_filtered_stores_do_not_depend_on_executor_order_or_interruption(images, tmp_path):
    options = {"min_edge_density": 0.02, "drop_duplicates": True}

    class Backwards(SerialExecutor):
        def run(self, function, jobs):
            return super().run(function, jobs[::-1])

    class Interrupted(SerialExecutor):
        def run(self, function, jobs):
            yield from super().run(function, jobs[1:4])
            raise KeyboardInterrupt

    build(configure(images, tmp_path / "serial", **options))
    build(configure(images, tmp_path / "ray", **options), executor=RayExecutor(2))
    build(configure(images, tmp_path / "backwards", **options), executor=Backwards(1))
    with pytest.raises(Exception, match="interrupted"):
        build(configure(images, tmp_path / "resumed", **options), executor=Interrupted(1))
    build(configure(images, tmp_path / "resumed", **options))
    expected = files_of(tmp_path / "serial")
    assert all(files_of(tmp_path / name) == expected for name in ("ray", "backwards", "resumed"))


@pytest.mark.parametrize("kept", [900, 0], ids=["slots kept", "slots lost"])
@pytest.mark.parametrize("variant", ["none", "gan"])
def test_repaired_images_give_the_bytes_of_a_fresh_build_filters_or_not(images, tmp_path, variant, kept):
    """A repaired image may have the pixels of a later one, which then is the duplicate, or those of an earlier one."""
    options = {"min_edge_density": 0.0, "drop_duplicates": True}  # half of the flat image's patches are duplicates
    multiscale = MultiscaleSpec() if variant == "none" else MultiscaleSpec(variant="gan", shortest_edge=64)
    config = replace(configure(images, tmp_path / "store", **options), multiscale=multiscale)
    (images / "before.png").write_bytes((images / "image-2.png").read_bytes()[:kept])
    build(config)
    (images / "before.png").write_bytes((images / "image-2.png").read_bytes())
    (images / "short.png").write_bytes((images / "image-1.png").read_bytes())
    report = build(config, retry_failed=True)
    assert report.rejected == ()
    rows = {row["patch_id"]: row for row in rows_of(open_store(tmp_path / "store"))}
    assert rows["image-2.png:0,0"]["duplicate_of"] == "before.png:0,0"
    assert rows["short.png:0,0"]["duplicate_of"] == "image-1.png:0,0"
    build(replace(config, out=str(tmp_path / "fresh")))
    assert files_of(tmp_path / "store") == files_of(tmp_path / "fresh")


def test_copies_in_other_sizes_are_no_duplicates_but_equal_ones_are(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(synthetic_image(64, 64)).save(images / "a.png")
    config = BuildConfig(
        dataset=str(images),
        out=str(tmp_path / "store"),
        multiscale=MultiscaleSpec(variant="gan", shortest_edge=64),
        patch=PATCH,
        filter=FilterSpec(drop_duplicates=True),
    )
    report = build(config)
    rows = rows_of(open_store(tmp_path / "store"))
    assert [(row["patch_id"], row["filtered"], row["duplicate_of"]) for row in rows] == [
        ("a.png:0,0", None, None),
        ("a.png@S:0,0", "duplicate", "a.png:0,0"),  # the copy has the image's own size here
    ]
    assert report.num_filtered["duplicate"] == 1


def test_altered_counts_of_filtered_patches_are_found(images, tmp_path):
    build(configure(images, tmp_path / "store", drop_duplicates=True))
    path = tmp_path / "store" / "zarr.json"
    path.write_text(path.read_text().replace('"duplicate": 5', '"duplicate": 6'))
    (problem,) = verify_store(tmp_path / "store")
    assert "num_filtered" in problem.message
