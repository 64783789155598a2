"""The loss: against its definition through autograd, and in the situations of training."""

from __future__ import annotations

import math
from itertools import accumulate

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_data import SelfSimilarityLoss, SSGBatch, SSGSpec
from ssl_data.benchmarks.unfold_loss import unfold_loss
from ssl_data.errors import ConfigError, InputError
from ssl_data.kernels.reference import ssd_numpy
from ssl_data.kernels.torch_ssg import ssd_torch

SMALL = SSGSpec(search_size=7, window_size=3)
SPECS = [
    SMALL,
    SSGSpec(search_size=7, window_size=3, boundary="image"),
    SSGSpec(search_size=9, window_size=5, search_stride=2),
    SSGSpec(search_size=9, window_size=5, search_stride=2, boundary="image"),
    SSGSpec(search_size=3, window_size=7),  # the window leaves the search area on both sides
    SSGSpec(search_size=5, window_size=1),
    SSGSpec(search_size=1, window_size=3),
]


def smooth_images(num_images=2, height=14, width=17, *, seed=0, dtype=torch.float64):
    """Images with similar neighbourhoods: graphs of noise would be all zeros beside the centre."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(num_images, 3, 4, 4, generator=random, dtype=torch.float64)
    images = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    return (0.9 * images + 0.02 * torch.rand(images.shape, generator=random, dtype=torch.float64)).to(dtype)


def some_mask(images, density=0.2, seed=1):
    random = torch.Generator().manual_seed(seed)
    num_images, _, height, width = images.shape
    return torch.rand(num_images, 1, height, width, generator=random) < density


def graphs_and_sr(spec, *, dtype=torch.float64, **kwargs):
    gt = smooth_images(dtype=dtype, **kwargs)
    noise = torch.randn(gt.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    sr = (gt + 0.02 * noise.to(dtype)).requires_grad_()
    return SSGBatch.from_images(gt, some_mask(gt), spec), sr


def gradient_of(term, sr):
    return torch.autograd.grad(term, sr, retain_graph=True)[0]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Threads only slow down operations on small images, the more so beside other tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# Against definitions


@given(
    search_radius=st.integers(0, 5),
    window_radius=st.integers(0, 6),
    stride=st.integers(1, 5),
    boundary=st.sampled_from(["zero", "image"]),
    extra=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=40)
def test_ssd_equals_the_reference(search_radius, window_radius, stride, boundary, extra, seed):
    """On integers both are exact, so that equality is exact, too; pixels are in any order, some twice."""
    stride = stride if search_radius % stride == 0 else 1
    sizes = {"search_size": 2 * search_radius + 1, "window_size": 2 * window_radius + 1, "search_stride": stride}
    spec = SSGSpec(**sizes, boundary=boundary)
    height, width = (spec.min_side + side for side in extra)
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    image, row, col = (torch.from_numpy(random.integers(0, limit, 20)) for limit in (3, height, width))
    ssd = ssd_torch(torch.from_numpy(images).double().movedim(3, 1), image, row, col, spec)
    for index in range(20):
        pixel = np.array([[row[index], col[index]]], dtype=np.int32)
        np.testing.assert_array_equal(ssd[:, index], ssd_numpy(images[image[index]], pixel, spec)[0])


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_ssd_gradcheck(spec):
    height, width = spec.min_side, spec.min_side + 1
    images = smooth_images(2, height, width).requires_grad_()
    image = torch.tensor([0, 0, 0, 1, 1, 1])
    row = torch.tensor([0, 1, 1, height - 1, 1, 1])  # corners, neighbours, one twice
    col = torch.tensor([0, 0, 1, width - 1, 2, 2])
    assert torch.autograd.gradcheck(lambda x: ssd_torch(x, image, row, col, spec), (images,), fast_mode=True)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_loss_gradcheck(spec):
    ssg, sr = graphs_and_sr(spec, num_images=1, height=spec.min_side, width=spec.min_side + 1)
    loss = SelfSimilarityLoss(spec, kl_weight=1000.0, l1_weight=700.0)
    assert torch.autograd.gradcheck(lambda x: loss(x, ssg), (sr,), rtol=1e-3, fast_mode=True)


@pytest.mark.parametrize("spec", [*SPECS, SSGSpec(), SSGSpec(boundary="image")], ids=str)
def test_equals_unfold_and_autograd(spec):
    ssg, sr = graphs_and_sr(spec, height=spec.min_side + 3, width=spec.min_side + 1)
    terms, expected = SelfSimilarityLoss(spec)(sr, ssg), unfold_loss(sr, ssg, spec)
    for term, expected_term in zip(terms, expected, strict=True):
        torch.testing.assert_close(term, expected_term, rtol=1e-11, atol=1e-15)
        gradient, expected_gradient = gradient_of(term, sr), gradient_of(expected_term, sr)
        # 1e-10 of the largest, as for the golden gradients: the rest is the rounding of thousands of float64 additions.
        torch.testing.assert_close(
            gradient, expected_gradient, rtol=0, atol=1e-10 * expected_gradient.abs().max().item()
        )


def test_entries_below_the_floor_have_no_gradient():
    """With a narrow bandwidth most of x lies below 1e-10, where KL is constant in x."""
    spec = SSGSpec(search_size=7, window_size=3, bandwidth=1e-4)
    ssg, sr = graphs_and_sr(spec)
    terms, expected = SelfSimilarityLoss(spec)(sr, ssg), unfold_loss(sr, ssg, spec)
    x = SSGBatch.from_images(sr.detach(), some_mask(sr), spec).values
    assert 0.2 < (x < 1e-10).double().mean().item() < 0.97
    expected_gradient = gradient_of(expected.kl, sr)
    assert expected_gradient.any()
    torch.testing.assert_close(gradient_of(terms.kl, sr), expected_gradient, rtol=1e-9, atol=1e-12)


# Weights, ranges, types


def test_terms_and_weights():
    ssg, sr = graphs_and_sr(SMALL)
    plain = SelfSimilarityLoss(SMALL)(sr, ssg)
    weighted = SelfSimilarityLoss(SMALL, kl_weight=3.0, l1_weight=0.5)(sr, ssg)
    assert weighted.kl == plain.kl > 0
    assert weighted.l1 == plain.l1 > 0
    torch.testing.assert_close(weighted.total, 3 * plain.kl + 0.5 * plain.l1)
    torch.testing.assert_close(
        gradient_of(weighted.total, sr), 3 * gradient_of(plain.kl, sr) + 0.5 * gradient_of(plain.l1, sr)
    )


def test_same_image_has_no_loss():
    gt = smooth_images()
    ssg = SSGBatch.from_images(gt, some_mask(gt), SMALL)
    sr = gt.clone().requires_grad_()
    terms = SelfSimilarityLoss(SMALL)(sr, ssg)
    assert terms.l1 == 0
    assert abs(terms.kl.item()) < 1e-16
    other = SelfSimilarityLoss(SMALL)(sr.detach().flip(3).requires_grad_(), ssg)
    # Not exactly 0: the graphs sum to 1 - 1e-10 / sum(S), see Eq. 4.
    assert gradient_of(terms.total, sr).abs().max() < 1e-8 * other.total


def test_value_range_maps_to_unit_interval():
    ssg, sr = graphs_and_sr(SMALL)
    terms = SelfSimilarityLoss(SMALL)(sr, ssg)
    wide = (2 * sr.detach() - 1).requires_grad_()
    wide_terms = SelfSimilarityLoss(SMALL, value_range=(-1.0, 1.0))(wide, ssg)
    torch.testing.assert_close(wide_terms, terms)
    torch.testing.assert_close(2 * gradient_of(wide_terms.total, wide), gradient_of(terms.total, sr))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_images_are_computed_in_float32(dtype):
    ssg, sr = graphs_and_sr(SMALL, dtype=torch.float32)
    half = sr.detach().to(dtype).requires_grad_()
    single = half.detach().float().requires_grad_()
    terms, expected = SelfSimilarityLoss(SMALL)(half, ssg), SelfSimilarityLoss(SMALL)(single, ssg)
    assert terms.total.dtype == torch.float32
    assert terms == expected
    assert gradient_of(terms.total, half).dtype == dtype
    torch.testing.assert_close(gradient_of(terms.total, half), gradient_of(expected.total, single).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_graphs_of_half_images_are_float32(dtype):
    gt = smooth_images(dtype=dtype)
    ssg = SSGBatch.from_images(gt, some_mask(gt), SMALL)
    assert ssg.values.dtype == torch.float32
    torch.testing.assert_close(ssg.values, SSGBatch.from_images(gt.float(), some_mask(gt), SMALL).values)


def test_autocast_changes_nothing():
    ssg, sr = graphs_and_sr(SMALL, dtype=torch.float32)
    expected = SelfSimilarityLoss(SMALL)(sr, ssg)
    expected_gradient = gradient_of(expected.total, sr)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16  # autocast is at work
        assert torch.equal(SSGBatch.from_images(sr, some_mask(sr), SMALL).values, values_of(sr))
        terms = SelfSimilarityLoss(SMALL)(sr, ssg)
        assert terms == expected
        assert torch.equal(gradient_of(terms.total, sr), expected_gradient)


def values_of(images):
    with torch.autocast("cpu", enabled=False):
        return SSGBatch.from_images(images, some_mask(images), SMALL).values


def test_float64_images_with_codes():
    ssg, sr = graphs_and_sr(SMALL)
    similarity = ssg.values / ssg.values.amax(1, keepdim=True)
    codes = (255 * similarity.sqrt()).round().to(torch.uint8)
    coded = SSGBatch(codes=codes, image=ssg.image.int(), row=ssg.row.short(), col=ssg.col.short())
    terms = SelfSimilarityLoss(SMALL)(sr, coded)
    assert terms.total.dtype == torch.float64
    torch.testing.assert_close(terms.l1, SelfSimilarityLoss(SMALL)(sr, ssg).l1, rtol=0.05, atol=0)
    torch.testing.assert_close(
        gradient_of(terms.kl, sr), gradient_of(unfold_loss(sr, coded, SMALL).kl, sr), rtol=1e-9, atol=1e-12
    )


# Batches


def test_no_edge_pixels():
    gt = smooth_images()
    ssg = SSGBatch.from_images(gt, torch.zeros(2, 1, 14, 17), SMALL)
    sr = gt.clone().requires_grad_()
    terms = SelfSimilarityLoss(SMALL)(sr, ssg)
    terms.total.backward()
    assert terms.total == terms.kl == terms.l1 == 0
    assert sr.grad is not None
    assert not sr.grad.any()


def test_no_images():
    sr = torch.zeros(0, 3, 14, 17, requires_grad=True)
    terms = SelfSimilarityLoss(SMALL)(sr, SSGBatch.from_images(sr, torch.zeros(0, 1, 14, 17), SMALL))
    terms.total.backward()
    assert terms.total == 0
    assert sr.grad.shape == sr.shape


def test_an_image_without_edge_pixels_adds_nothing():
    ssg, sr = graphs_and_sr(SMALL, num_images=3)
    kept = ssg.image != 1
    fewer = SSGBatch(values=ssg.values[kept], image=ssg.image[kept], row=ssg.row[kept], col=ssg.col[kept])
    terms = SelfSimilarityLoss(SMALL)(sr, fewer)
    without = sr.detach()[[0, 2]].requires_grad_()
    renumbered = SSGBatch(values=fewer.values, image=fewer.image // 2, row=fewer.row, col=fewer.col)
    expected = SelfSimilarityLoss(SMALL)(without, renumbered)
    torch.testing.assert_close(terms, expected)
    gradient = gradient_of(terms.total, sr)
    assert not gradient[1].any()
    torch.testing.assert_close(gradient[[0, 2]], gradient_of(expected.total, without))


def test_images_count_by_their_edge_pixels():
    ssg, sr = graphs_and_sr(SMALL)
    together = SelfSimilarityLoss(SMALL)(sr, ssg)
    summed = 0
    for index in range(2):
        own = ssg.image == index
        one = SSGBatch(values=ssg.values[own], image=ssg.image[own] * 0, row=ssg.row[own], col=ssg.col[own])
        summed += len(one) * SelfSimilarityLoss(SMALL)(sr[index : index + 1], one).l1
    torch.testing.assert_close(together.l1, summed / len(ssg))


def test_order_of_edge_pixels_does_not_matter():
    ssg, sr = graphs_and_sr(SMALL, num_images=3)
    order = torch.randperm(len(ssg), generator=torch.Generator().manual_seed(3))
    shuffled = SSGBatch(values=ssg.values[order], image=ssg.image[order], row=ssg.row[order], col=ssg.col[order])
    terms, expected = SelfSimilarityLoss(SMALL)(sr, shuffled), SelfSimilarityLoss(SMALL)(sr, ssg)
    torch.testing.assert_close(terms, expected)
    torch.testing.assert_close(gradient_of(terms.total, sr), gradient_of(expected.total, sr))


def test_groups_of_images_do_not_mix(monkeypatch):
    """Working on the images one by one or all together is the same."""
    ssg, sr = graphs_and_sr(SMALL, num_images=4)
    together = SelfSimilarityLoss(SMALL)(sr, ssg)
    monkeypatch.setattr("ssl_data.kernels.torch_ssg._GROUP_PIXELS", 1)
    monkeypatch.setattr("ssl_data.kernels.torch_graph._BLOCK_PIXELS", 7)
    apart = SelfSimilarityLoss(SMALL)(sr, ssg)
    torch.testing.assert_close(apart, together)
    torch.testing.assert_close(gradient_of(apart.total, sr), gradient_of(together.total, sr))


def test_gradient_reaches_a_network_twice():
    """Two calls on one output add up, as gradient accumulation needs."""
    ssg, sr = graphs_and_sr(SMALL)
    loss = SelfSimilarityLoss(SMALL)
    (loss(sr, ssg).total + loss(sr, ssg).total).backward()
    torch.testing.assert_close(sr.grad, 2 * gradient_of(loss(sr, ssg).total, sr))


def test_second_derivatives_are_refused():
    ssg, sr = graphs_and_sr(SMALL)
    with pytest.raises(RuntimeError, match="has no second derivatives: differentiate it without create_graph"):
        torch.autograd.grad(SelfSimilarityLoss(SMALL)(sr, ssg).total, sr, create_graph=True)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_inside_a_compiled_step():
    """torch.compile breaks its graph at the loss instead of unrolling it."""
    ssg, sr = graphs_and_sr(SMALL)
    loss = SelfSimilarityLoss(SMALL)

    def step(images):
        return loss(images.sigmoid(), SSGBatch.from_images(images.sigmoid(), some, SMALL)).l1 + loss(images, ssg).total

    some = some_mask(sr).float()
    expected = step(sr)
    compiled = torch.compile(step, backend="aot_eager")(sr)
    torch.testing.assert_close(compiled, expected)
    torch.testing.assert_close(gradient_of(compiled, sr), gradient_of(expected, sr))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("half", [False, True])
def test_a_compiled_training_step_takes_any_number_of_edge_pixels(half):
    """Batches differ in it; with mixed precision the network computes in bfloat16 and the loss in float32."""
    torch.manual_seed(0)
    model, loss = torch.nn.Conv2d(3, 3, 3, padding=1), SelfSimilarityLoss(SMALL)
    gt = smooth_images(dtype=torch.float32)

    def step(images, ssg):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            return loss(model(images).sigmoid(), ssg).total

    compiled = torch.compile(step, backend="aot_eager")
    for density in (0.2, 0.7, 0.0, 0.05):
        ssg = SSGBatch.from_images(gt, some_mask(gt, density), SMALL)
        expected, found = step(gt, ssg), compiled(gt, ssg)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(gradient_of(found, model.weight), gradient_of(expected, model.weight))
        assert gradient_of(found, model.weight).any() == (density > 0)


def peak_bytes(num_pixels, spec, side=64):
    """Most memory that tensors hold at one time during forward and backward."""
    random = torch.Generator().manual_seed(0)
    pixels = torch.randperm(side * side, generator=random)[:num_pixels].sort().values
    codes = torch.randint(0, 256, (num_pixels, spec.num_positions), dtype=torch.uint8, generator=random)
    ssg = SSGBatch(codes=codes, image=0 * pixels, row=pixels // side, col=pixels % side)
    sr = torch.rand(1, 3, side, side, requires_grad=True)
    with torch.profiler.profile(profile_memory=True) as profile:
        SelfSimilarityLoss(spec)(sr, ssg).total.backward()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in events))


def test_memory_does_not_grow_with_the_window():
    small, large = (peak_bytes(1000, SSGSpec(window_size=size)) for size in (3, 21))
    assert large < 1.1 * small


def test_memory_per_edge_pixel():
    """Two float32 values per entry (x and dL/dssd); beside them blocks and maps of fixed size."""
    few, many = (peak_bytes(count, SSGSpec()) for count in (1000, 4000))
    assert (many - few) / 3000 < 1.1 * 2 * 4 * 625


def test_channels_last_and_views():
    ssg, sr = graphs_and_sr(SMALL)
    expected = SelfSimilarityLoss(SMALL)(sr, ssg)
    for other in (
        sr.detach().contiguous(memory_format=torch.channels_last),
        torch.stack([sr.detach()] * 2, dim=4)[..., 1],
    ):
        terms = SelfSimilarityLoss(SMALL)(other.requires_grad_(), ssg)
        torch.testing.assert_close(terms, expected)
        torch.testing.assert_close(gradient_of(terms.total, other), gradient_of(expected.total, sr))


# Errors


def test_input_errors():
    ssg, sr = graphs_and_sr(SMALL)
    loss = SelfSimilarityLoss(SMALL)
    for bad, message in [
        (sr[0], r"sr must have shape \(B, 3, H, W\), got \(3, 14, 17\)"),
        (sr[:, :1], r"sr must have shape \(B, 3, H, W\), got \(2, 1, 14, 17\)"),
        (sr.long(), "sr must be a floating-point tensor, got torch.int64"),
        (sr[:, :, :3], "sr must be at least 4 pixels on each side, got 3x17"),
        (sr[:1], r"ssg.image must be below 1 for sr of shape \(1, 3, 14, 17\), got 1"),
        (sr[:, :, :13], r"ssg.row must be below 13 .*, got 13"),
        (sr[..., :10], r"ssg.col must be below 10 .*, got 16"),
    ]:
        with pytest.raises(InputError, match=message):
            loss(bad, ssg)
    with pytest.raises(InputError, match="ssg must have K = 625 search positions .*, got 49"):
        SelfSimilarityLoss(SSGSpec())(smooth_images(1, 40, 40), ssg)
    with pytest.raises(InputError, match="ssg must lie on the device of sr, meta"):
        loss(sr.to("meta"), ssg)


def test_config_errors():
    with pytest.raises(ConfigError, match="value_range must be two ascending finite numbers"):
        SelfSimilarityLoss(SMALL, value_range=(1.0, -1.0))
    with pytest.raises(ConfigError, match="kl_weight must be finite, got nan"):
        SelfSimilarityLoss(SMALL, kl_weight=math.nan)


def test_as_a_module():
    loss = SelfSimilarityLoss(SMALL, value_range=(-1.0, 1.0))
    assert list(loss.parameters()) == []
    assert loss.state_dict() == {}
    assert "search_size=7" in repr(loss)
    assert "value_range=(-1.0, 1.0)" in repr(loss)
