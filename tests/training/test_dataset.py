"""What comes out of `SSLCachedDataset`: always what computing it anew on the sample would give."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from torch.utils.data import DataLoader

from ssl_data import (
    EdgeSpec,
    SelfSimilarityLoss,
    SSGBatch,
    SSGSpec,
    SSLCachedDataset,
    StoreSpec,
    collate,
    edge_mask,
    edge_pixels,
)
from ssl_data.errors import ConfigError
from ssl_data.kernels.codes import graph_codes
from ssl_data.testing import tiny_store

LOSS_ERROR = {"sqrt8": 0.0015, "sqrt12": 5e-5}  # relative; on photographs codes cost 0.12 % and 1e-5 (bench fidelity)
GRADIENT_COSINE = 0.9998
FLIPS = list(itertools.product((0.0, 1.0), repeat=3))


@pytest.fixture(scope="module")
def photos(photograph_store, tmp_path_factory):
    """Real photographs, every edge pixel."""
    return photograph_store(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module", params=[("zero", 3, "sqrt8"), ("image", 1, "sqrt8"), ("zero", 1, "sqrt12")], ids=str)
def variants(request, photograph_store, tmp_path_factory):
    """The other boundary, a store of a third of the edge pixels, and one of twelve bits."""
    boundary, edge_stride, quantization = request.param
    folder = tmp_path_factory.mktemp("variants")
    return photograph_store(
        folder,
        ssg=SSGSpec(boundary=boundary),
        edge=EdgeSpec(edge_stride=edge_stride),
        store=StoreSpec(lq_scale=4, patches_per_shard=8, quantization=quantization),
    )


def image_of(sample):
    return (sample["gt"].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


def pixels_of(sample):
    return torch.stack([sample["ssg"].row, sample["ssg"].col], dim=1).numpy().astype(np.int32)


def recomputed(sample, store):
    return graph_codes(image_of(sample), pixels_of(sample), store.spec, store.quantization)


def degraded(gt):
    """A plausible super-resolved image: bicubic down and up by 4."""
    small = functional.interpolate(gt, scale_factor=0.25, mode="bicubic", antialias=True)
    return functional.interpolate(small, scale_factor=4, mode="bicubic").clamp(0, 1)


def assert_loss_and_gradient_agree(batch, store):
    spec = store.spec
    loss = SelfSimilarityLoss(spec)
    exact = SSGBatch.from_images(batch["gt"], batch["gt_mask"], spec)
    cached = batch["ssg"]
    assert len(exact) == len(cached)
    for name in ("image", "row", "col"):
        assert torch.equal(getattr(exact, name).long(), getattr(cached, name).long())
    totals, gradients = [], []
    for graphs in (cached, exact):
        sr = degraded(batch["gt"]).requires_grad_()
        total = loss(sr, graphs).total
        total.backward()
        totals.append(total.item())
        gradients.append(sr.grad.flatten())
    assert totals[0] == pytest.approx(totals[1], rel=LOSS_ERROR[store.quantization])
    assert functional.cosine_similarity(gradients[0], gradients[1], dim=0) >= GRADIENT_COSINE


def test_a_sample_has_the_documented_parts(photos):
    sample = SSLCachedDataset(photos)[3]
    assert set(sample) == {"gt", "gt_mask", "lq", "ssg", "patch_id"}
    assert (sample["gt"].shape, sample["gt"].dtype) == ((3, 128, 128), torch.float32)
    assert (sample["gt_mask"].shape, sample["gt_mask"].dtype) == ((1, 128, 128), torch.float32)
    assert (sample["lq"].shape, sample["lq"].dtype) == ((3, 32, 32), torch.float32)
    assert sample["patch_id"] == photos.patch_id(3)
    patch = photos.read(3)
    assert (image_of(sample) == patch["gt"]).all()
    assert torch.equal(sample["gt"], torch.from_numpy(patch["gt"].transpose(2, 0, 1) / np.float32(255)))
    assert (sample["gt_mask"][0].numpy() == patch["edge_mask"]).all()
    assert (sample["ssg"].codes.numpy() == patch["ssg"]).all()


@pytest.mark.parametrize("flips", FLIPS, ids=str)
def test_turned_patches_have_the_graph_of_the_turned_image(variants, flips):
    dataset = SSLCachedDataset(variants, hflip=flips[0], vflip=flips[1], transpose=flips[2])
    plain = SSLCachedDataset(variants)
    for index in (0, 7):
        sample = dataset[index]
        expected = plain[index]["gt"]
        expected = expected.flip(2) if flips[0] else expected
        expected = expected.flip(1) if flips[1] else expected
        expected = expected.transpose(1, 2) if flips[2] else expected
        assert torch.equal(sample["gt"], expected)
        pixels = pixels_of(sample)
        assert (pixels == np.argwhere(sample["gt_mask"][0].numpy())).all()
        if variants.edge_stride == 1:
            assert (pixels == edge_pixels(edge_mask(image_of(sample)))).all()
        assert (sample["ssg"].codes.numpy() == recomputed(sample, variants)).all()


@given(data=st.data())
def test_exact_crops_equal_computing_everything_on_the_crop(photos, data):
    sample = draw_sample(data, photos, "exact")
    assert (pixels_of(sample) == np.argwhere(sample["gt_mask"][0].numpy())).all()
    assert (sample["ssg"].codes.numpy() == recomputed(sample, photos)).all()


@given(data=st.data())
def test_interior_crops_equal_computing_everything_on_the_crop(variants, data):
    sample = draw_sample(data, variants, "interior")
    assert (sample["ssg"].codes.numpy() == recomputed(sample, variants)).all()


def draw_sample(data, store, border):
    dataset = SSLCachedDataset(
        store,
        crop_size=data.draw(st.sampled_from([32, 64, 100, 128])),
        border=border,
        hflip=True,
        vflip=True,
        transpose=True,
        seed=data.draw(st.integers(0, 1000)),
    )
    dataset.set_epoch(data.draw(st.integers(0, 1000)))
    return dataset[data.draw(st.integers(0, len(dataset) - 1))]


@pytest.mark.parametrize(("search_size", "window_size"), [(3, 3), (5, 3), (7, 5), (15, 9)])
@pytest.mark.parametrize("chunk_rows", [64, 1024])
@pytest.mark.parametrize("store_options", [{}, {"compression": "balanced"}, {"quantization": "sqrt12"}], ids=str)
def test_graphs_of_all_sizes_are_those_of_the_sample(tmp_path, search_size, window_size, chunk_rows, store_options):
    """Also those smaller than a line of the cache, of which a batch holds many in a row."""
    sizes = {"search_size": search_size, "window_size": window_size, "chunk_rows": chunk_rows}
    store = tiny_store(tmp_path, **sizes, **store_options)
    for options in ({}, {"crop_size": 48}, {"hflip": 1.0, "transpose": 1.0}):
        dataset = SSLCachedDataset(store, **options)
        for sample in dataset.__getitems__(range(len(dataset))):
            assert (sample["ssg"].codes.numpy() == recomputed(sample, store)).all()


def test_border_modes_differ_only_in_the_ring(photos):
    options = {"crop_size": 64, "seed": 5}
    borders = ("exact", "interior", "cached")
    exact, interior, cached = (SSLCachedDataset(photos, border=border, **options) for border in borders)
    for index in range(len(exact)):
        samples = exact[index], interior[index], cached[index]
        assert torch.equal(samples[0]["gt"], samples[1]["gt"])
        assert torch.equal(samples[0]["gt_mask"], samples[2]["gt_mask"])
        inner = [tuple(pixel) for pixel in pixels_of(samples[1]).tolist()]
        codes = [dict(zip(map(tuple, pixels_of(s).tolist()), s["ssg"].codes.numpy(), strict=True)) for s in samples]
        assert set(inner) <= set(codes[0]) == set(codes[2])
        assert all((codes[0][pixel] == codes[2][pixel]).all() for pixel in inner)
    assert any(not torch.equal(exact[i]["ssg"].codes, cached[i]["ssg"].codes) for i in range(len(exact)))


@pytest.mark.parametrize("flips", FLIPS, ids=str)
def test_edge_stride_at_load_is_counted_in_the_sample(photos, flips):
    turn = dict(zip(("hflip", "vflip", "transpose"), flips, strict=True))
    every = SSLCachedDataset(photos, crop_size=64, seed=1, **turn)[5]
    third = SSLCachedDataset(photos, crop_size=64, seed=1, edge_stride=3, **turn)[5]
    pixels = pixels_of(every)
    kept = pixels[:, 0] % 3 == pixels[:, 1] % 3
    assert (pixels_of(third) == pixels[kept]).all()
    assert (third["ssg"].codes.numpy() == every["ssg"].codes.numpy()[kept]).all()


@pytest.mark.parametrize("flips", FLIPS, ids=str)
def test_loss_and_gradient_of_cached_and_computed_graphs_agree(photos, flips):
    turn = dict(zip(("hflip", "vflip", "transpose"), flips, strict=True))
    dataset = SSLCachedDataset(photos, **turn)
    assert_loss_and_gradient_agree(collate([dataset[index] for index in (1, 6, 12)]), photos)


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.parametrize("options", [{}, {"crop_size": 64}, {"crop_size": 64, "border": "interior"}], ids=str)
def test_through_the_loader_loss_and_gradient_agree(variants, context, options):
    dataset = SSLCachedDataset(variants, hflip=True, vflip=True, transpose=True, seed=3, **options)
    loader = DataLoader(
        dataset, batch_size=4, shuffle=False, num_workers=2, collate_fn=collate, multiprocessing_context=context
    )
    batches = list(loader)
    assert [name for batch in batches for name in batch["patch_id"]] == [
        variants.patch_id(index) for index in range(len(dataset))
    ]
    for batch in batches[:3]:
        for number in range(len(batch["gt"])):
            rows = batch["ssg"].image == number
            pixels = torch.stack([batch["ssg"].row[rows], batch["ssg"].col[rows]], dim=1).numpy().astype(np.int32)
            image = image_of({"gt": batch["gt"][number]})
            codes = graph_codes(image, pixels, variants.spec, variants.quantization)
            assert (batch["ssg"].codes[rows].numpy() == codes).all()
        assert_loss_and_gradient_agree(batch, variants)


def test_samples_depend_on_seed_epoch_and_index_alone(photos):
    def draw(seed, epoch, index):
        dataset = SSLCachedDataset(photos, crop_size=32, hflip=True, seed=seed)
        dataset.set_epoch(epoch)
        return dataset[index]["gt"]

    assert torch.equal(draw(1, 2, 3), draw(1, 2, 3))
    assert not torch.equal(draw(1, 2, 3), draw(1, 4, 3))
    assert not torch.equal(draw(1, 2, 3), draw(2, 2, 3))


def test_low_quality_crops_lie_under_the_ground_truth(photos):
    dataset = SSLCachedDataset(photos, crop_size=32, hflip=True, vflip=True, transpose=True, seed=2)
    for index in range(len(dataset)):
        sample = dataset[index]
        small = functional.interpolate(sample["gt"][None], scale_factor=0.25, mode="area")[0]
        distance = (small - sample["lq"]).abs().mean()
        assert distance < 0.03
        assert distance <= (small.flip(2) - sample["lq"]).abs().mean()


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_a_new_epoch_reaches_workers_that_live_on(photos, context):
    dataset = SSLCachedDataset(photos, crop_size=32)
    loader = DataLoader(
        dataset,
        batch_size=8,
        num_workers=1,
        persistent_workers=True,
        collate_fn=collate,
        multiprocessing_context=context,
    )
    first = [batch["gt"] for batch in loader]
    dataset.set_epoch(1)
    second = [batch["gt"] for batch in loader]
    assert not all(map(torch.equal, first, second))
    assert torch.equal(second[0][0], dataset[0]["gt"])


def test_patches_without_edge_pixels_give_empty_graphs_and_no_loss(photograph_store, tmp_path):
    store = photograph_store(tmp_path, edge=EdgeSpec(threshold=1000))
    dataset = SSLCachedDataset(store, crop_size=64)
    batch = collate([dataset[0], dataset[1]])
    assert batch["ssg"].codes.shape == (0, 625)
    sr = batch["gt"].clone().requires_grad_()
    terms = SelfSimilarityLoss(store.spec)(sr, batch["ssg"])
    terms.total.backward()
    assert (terms.total.item(), sr.grad.abs().max().item()) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_size": 129}, "crop_size must lie in 13 .. 128"),
        ({"crop_size": 12}, "crop_size must lie in 13 .. 128"),
        ({"crop_size": 30}, "multiple of the store's lq_scale 4"),
        ({"border": "none"}, "border must be one of exact, interior, cached"),
        ({"hflip": 1.5}, "hflip must be a boolean or a probability"),
        ({"edge_stride": 0}, "edge_stride must be >= 1"),
        ({"seed": -1}, "seed must be >= 0"),
    ],
)
def test_options_that_cannot_be_served_are_refused(photos, options, message):
    with pytest.raises(ConfigError, match=message):
        SSLCachedDataset(photos, **options)


def test_a_store_of_some_edge_pixels_cannot_be_thinned_further(variants):
    if variants.edge_stride == 1:
        pytest.skip("this store holds all edge pixels")
    with pytest.raises(ConfigError, match="needs a store of all edge pixels, this one has stride 3"):
        SSLCachedDataset(variants, edge_stride=2)


def test_indices_are_those_of_a_sequence(photos):
    dataset = SSLCachedDataset(photos)
    assert dataset[-1]["patch_id"] == photos.patch_id(len(dataset) - 1)
    with pytest.raises(IndexError):
        dataset[len(dataset)]
