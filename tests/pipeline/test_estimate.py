"""Estimates against real builds: exact where everything is looked at, and honest where it is not."""

import os
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_data import BuildConfig, PatchSpec, SSLCachedDataset, build, edge_mask
from ssl_data.config import EdgeSpec, FilterSpec, MultiscaleSpec, StoreSpec
from ssl_data.errors import BuildError, ConfigError
from ssl_data.pipeline.codec_trial import COMPRESSIONS
from ssl_data.pipeline.crops import Crop
from ssl_data.pipeline.estimate import Loading
from ssl_data.pipeline.measure import measure_images
from ssl_data.pipeline.preview import estimate_build
from ssl_data.pipeline.rates import measure_rates
from ssl_data.pipeline.run import make_build_plan
from ssl_data.pipeline.sampling import draw_sample
from ssl_data.store import extension
from ssl_data.store.local import LocalFile
from ssl_data.testing import write_images

SIZES = [(150, 190), (128, 96), (64, 64), (200, 130)]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("dataset") / "images", SIZES)


def configure(images, tmp_path, **changes):
    usual = {"patch": PatchSpec(patch_size=64, step=48), "store": StoreSpec(chunk_rows=256, patches_per_shard=4)}
    return BuildConfig(dataset=str(images), out=str(tmp_path / "store.zarr"), workers=1, **(usual | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"multiscale": MultiscaleSpec(variant="gan", shortest_edge=64)},
        {"filter": FilterSpec(min_edge_density=0.11), "edge": EdgeSpec(edge_stride=3)},
        {"store": StoreSpec(lq_scale=4, compression="small", patches_per_shard=3)},
        {"store": StoreSpec(compression="balanced"), "patch": PatchSpec(patch_size=128, step=20, edge_patches="drop")},
    ],
)
def test_an_estimate_of_all_patches_is_the_build(images, tmp_path, changes):
    config = configure(images, tmp_path, **changes)
    estimate = estimate_build(config, num_images=200)
    assert not Path(config.out).exists()
    built = build(config)
    compression = config.store.compression
    assert estimate.work.num_patches == built.num_patches_planned
    assert estimate.work.num_shards == built.num_shards
    for found, real in (
        (estimate.num_patches, built.num_patches),
        (estimate.num_edge_pixels, built.num_edge_pixels),
        (estimate.num_graphs, built.num_graphs),
    ):
        assert found.value == pytest.approx(real)
        assert found.error == 0
    assert estimate.total_bytes(compression).value == pytest.approx(built.num_bytes, rel=0.1)


def test_with_every_chunk_encoded_the_size_is_exact(images, tmp_path):
    config = configure(images, tmp_path, store=StoreSpec(lq_scale=2, patches_per_shard=4))
    estimate, built = estimate_build(config, num_images=200), build(config)
    assert estimate.num_patches_measured == built.num_patches
    total = estimate.total_bytes("fast")
    assert total.value == pytest.approx(built.num_bytes, abs=1)
    assert total.error == 0
    sizes = {
        name: sum(path.stat().st_size for path in (Path(config.out) / name / "c").rglob("*") if path.is_file())
        for name in estimate.num_bytes["fast"]
    }
    assert {name: figure.value for name, figure in estimate.num_bytes["fast"].items()} == pytest.approx(sizes)


def test_given_masks_are_counted_as_they_are(images, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    for path in images.iterdir():
        mask = edge_mask(np.asarray(Image.open(path)))
        mask[::2] = False
        Image.fromarray(mask.astype(np.uint8) * 255).save(masks / path.name)
    config = configure(images, tmp_path, masks=str(masks))
    assert estimate_build(config).num_edge_pixels.value == pytest.approx(build(config).num_edge_pixels)


def test_a_part_of_the_images_tells_about_all_within_its_error(tmp_path):
    sizes = [(150 + 7 * number, 140) for number in range(30)]
    config = configure(write_images(tmp_path / "images", sizes), tmp_path)
    real = estimate_build(config, num_images=30)
    deviations = []
    for seed in range(6):
        part = estimate_build(config, num_images=8, seed=seed)
        assert part.num_images_sampled == 8
        assert part.num_graphs.error > 0
        deviations.append((part.num_graphs.value - real.num_graphs.value) / part.num_graphs.error)
    assert np.abs(deviations).mean() < 2.5  # eight images say little about their own spread
    assert part == replace(estimate_build(config, num_images=8, seed=5), **timings(part))


def timings(estimate):
    names = ("stages", "encode_seconds", "kernel_ns", "decode_ns", "loading")
    return {name: getattr(estimate, name) for name in names}


def test_the_budget_ends_the_sample_but_two_images_are_always_looked_at(images, tmp_path):
    assert estimate_build(configure(images, tmp_path), seconds=0).num_images_sampled == 2


def test_broken_pixels_count_as_no_patches(images, tmp_path):
    folder = write_images(tmp_path / "images", SIZES)
    content = (folder / "image-3.png").read_bytes()
    (folder / "image-3.png").write_bytes(content[: len(content) // 2])
    (folder / "note.png").write_bytes(b"no image")
    config = configure(folder, tmp_path)
    estimate, built = estimate_build(config), build(config)
    assert estimate.num_patches.value == pytest.approx(built.num_patches)
    assert [image.reason_code for image in estimate.rejected] == ["not_an_image"]
    assert estimate.num_sources == built.num_sources == 5


def test_images_without_edges_take_no_graphs(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (200, 100)).save(tmp_path / "images" / "black.png")
    estimate = estimate_build(configure(tmp_path / "images", tmp_path))
    assert estimate.num_graphs.value == 0
    assert estimate.loading.num_graphs == 0
    assert estimate.seconds("ray", 4, "fast").value > 0


def test_nothing_to_build_is_the_error_of_a_build(tmp_path):
    config = configure(write_images(tmp_path / "images", [(20, 20)]), tmp_path)
    with pytest.raises(BuildError, match="none of the 1 images can be used"):
        estimate_build(config)


@pytest.mark.parametrize("size", [12, 65])
def test_a_crop_that_does_not_fit_is_refused(images, tmp_path, size):
    with pytest.raises(ConfigError, match="crop_size must lie in 13 .. 64"):
        estimate_build(configure(images, tmp_path), crop=Crop(size=size, edge_stride=1))


def test_more_workers_are_faster_until_the_shards_run_out(images, tmp_path):
    estimate = estimate_build(configure(images, tmp_path))
    shards = estimate.work.num_shards
    one = estimate.core_seconds("fast")
    for executor in ("serial", "ray"):
        times = [estimate.seconds(executor, number, "fast").value for number in (1, 2, 4, shards, 10 * shards)]
        assert times[0] == pytest.approx(one)
        assert times == sorted(times, reverse=True)
        assert times[1] >= one / 2
    assert estimate.seconds("ray", 10 * shards, "fast").value >= (one - estimate.stages["list"]) / shards


def test_a_build_pays_when_its_time_is_saved():
    loading = Loading(
        crop_size=64,
        num_graphs=100.0,
        num_computed=0.0,
        num_bytes={"fast": 1.0},
        read_seconds={"fast": 1.0, "small": 3.0},
        compute_seconds=3.0,
    )
    assert loading.break_even_epochs("fast", build_seconds=100.0, num_patches=10) == 5.0
    assert loading.break_even_epochs("small", build_seconds=100.0, num_patches=10) is None


@pytest.mark.parametrize("size", [None, 32])
def test_a_sample_reads_as_many_bytes_as_the_dataset_does(images, tmp_path, monkeypatch, size):
    monkeypatch.setattr(extension, "has_crc32c", lambda: False)  # whole chunks, as from an object store
    config = configure(images, tmp_path, store=StoreSpec(chunk_rows=64, lq_scale=2, patches_per_shard=4))
    crop = None if size is None else Crop(size=size, edge_stride=1)
    loading = estimate_build(config, crop=crop, num_images=200).loading
    build(config)
    dataset = SSLCachedDataset(config.out, crop_size=size, border="exact", seed=3)
    dataset[0]
    counts = {"bytes": 0}
    read_into = LocalFile.read_into

    def counted(self, offset, out):
        counts["bytes"] += len(out)
        return read_into(self, offset, out)

    num_graphs, num_epochs = 0, 8 if size else 1
    for index in range(len(dataset)):
        dataset[index]  # opens all shards: indices are read once, and not for every sample
    monkeypatch.setattr(LocalFile, "read_into", counted)
    for epoch in range(num_epochs):
        dataset.set_epoch(epoch)
        num_graphs += sum(len(dataset[index]["ssg"]) for index in range(len(dataset)))
    samples = num_epochs * len(dataset)
    assert loading.num_graphs == pytest.approx(num_graphs / samples, rel=1e-9 if size is None else 0.2)
    assert loading.num_bytes["fast"] == pytest.approx(counts["bytes"] / samples, rel=0.05 if size is None else 0.2)
    assert (loading.num_computed > 0) == (size is not None)


@pytest.mark.parametrize("asked", COMPRESSIONS)
def test_what_is_measured_is_above_zero(images, tmp_path, asked):
    rates = measure_rates()
    assert 0 < rates.hash_seconds_per_byte < 1e-6
    assert 0 < rates.write_seconds_per_byte < 1e-6
    plan = make_build_plan(configure(images, tmp_path, store=StoreSpec(compression=asked)), hashed=False)
    cuts = [list(group) for _, group in groupby(plan.cuts, key=lambda cut: cut.source.name)]
    sizes = [sum(len(cut.corners) for cut in group) for group in cuts]
    draws = draw_sample(sizes, num_images=9, num_counted=9, num_measured=9, seed=0)
    crop = Crop(size=64, edge_stride=1)
    measured = measure_images(cuts, draws, plan.store.spec, crop=crop, seed=0, seconds=60)
    assert [image.index for image in measured] == [0, 1, 2, 3]
    patches = [patch for image in measured for patch in image.patches]
    for patch in patches:
        assert patch.seconds["kernel"] > 0
        for array in patch.arrays.values():
            assert array.keys() == set(COMPRESSIONS)
            assert all(min(form.num_bytes, form.encode_seconds, form.decode_seconds) > 0 for form in array.values())


def test_looking_at_headers_reads_little(tmp_path, monkeypatch):
    folder = tmp_path / "images"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    os.truncate(folder / "noise.png", (folder / "noise.png").stat().st_size - 1000)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail(f"{self} was read as a whole"))
    (source,) = make_build_plan(configure(folder, tmp_path), hashed=False).sources
    assert (source.height, source.width, source.sha256) == (1200, 1000, "")


FOLDERS = [
    ("df2k-like", 512, 256),
    ("bench-small", 256, 128),
    ("photo-small-permissive", 128, 64),
    ("div8k-like", 192, 192),
]


@pytest.mark.parametrize(("folder", "patch_size", "step"), FOLDERS)
def test_sizes_of_photographs_are_right_within_15_percent(shared_images, tmp_path, folder, patch_size, step):
    patch = PatchSpec(patch_size=patch_size, step=step)
    config = configure(shared_images / folder, tmp_path, patch=patch, store=StoreSpec())
    estimate, built = estimate_build(config, seconds=600), build(config)  # every image, however busy the machine
    assert estimate.total_bytes("fast").value == pytest.approx(built.num_bytes, rel=0.15)
    assert estimate.num_graphs.value == pytest.approx(built.num_graphs, rel=0.15)


@pytest.mark.parametrize("seed", range(3))
def test_some_of_the_photographs_tell_about_all_within_their_error(shared_images, tmp_path, seed):
    config = configure(shared_images / "bench-small", tmp_path, patch=PatchSpec(patch_size=128, step=128))
    part, whole = (estimate_build(config, num_images=number, seconds=600, seed=seed) for number in (6, 99))
    for name in ("num_edge_pixels", "num_graphs"):
        found, real = getattr(part, name), getattr(whole, name)
        assert abs(found.value - real.value) < 4 * found.error
        assert 0 < found.error < 0.6 * real.value
