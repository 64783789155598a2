"""Batches of graphs: construction, decoding, collation, and the way through a DataLoader."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.utils.data import DataLoader

from ssl_data import SSGBatch, SSGSpec, collate, decode_codes
from ssl_data.errors import InputError

SPEC = SSGSpec(search_size=5, window_size=3)


def sample(number, *, num_pixels=3, num_positions=25, side=8):
    """What a dataset gives for one image; the numbers say which."""
    random = np.random.default_rng(number)
    codes = random.integers(0, 256, (num_pixels, num_positions), dtype=np.uint8)
    index = torch.from_numpy(random.integers(0, side, num_pixels))
    graphs = SSGBatch(
        codes=torch.from_numpy(codes), image=torch.zeros(num_pixels, dtype=torch.int64), row=index, col=index
    )
    return {
        "gt": torch.full((3, side, side), float(number)),
        "gt_mask": torch.ones(1, side, side),
        "lq": torch.zeros(3, 2, 2),
        "ssg": graphs,
        "patch_id": f"patch {number}",
        "index": number,
    }


def test_a_batch_is_shown_in_a_line():
    assert repr(sample(0)["ssg"]) == "<SSGBatch: 3 graphs of 25 uint8 codes on cpu>"


def batch_of(num_pixels=4, num_positions=9, **changes):
    index = torch.arange(num_pixels)
    fields = {
        "codes": torch.full((num_pixels, num_positions), 255, dtype=torch.uint8),
        "image": index,
        "row": index,
        "col": index,
    }
    return SSGBatch(**(fields | changes))


# One batch


def test_fields():
    batch = batch_of()
    assert len(batch) == 4
    assert batch.num_positions == 9
    assert batch.values is None
    assert batch.extent == (3, 3, 3)
    assert batch_of(0).extent == (-1, -1, -1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codes": None}, "needs either codes or values"),
        ({"values": torch.ones(4, 9)}, "needs either codes or values"),
        ({"codes": torch.ones(4, 9)}, "codes must be uint8 or uint16, got torch.float32"),
        ({"codes": torch.ones(4, 9, dtype=torch.int16)}, "codes must be uint8 or uint16, got torch.int16"),
        ({"codes": np.ones((4, 9), np.uint8)}, "codes and values must be tensors, got ndarray"),
        ({"codes": None, "values": torch.ones(4, 9).half()}, "values must be float32 or float64, got torch.float16"),
        ({"codes": torch.ones(36, dtype=torch.uint8)}, r"must have shape \(N, K\), got \(36,\)"),
        ({"image": torch.arange(3)}, r"image must have shape \(4,\), got \(3,\)"),
        ({"row": torch.arange(4.0)}, "row must be an integer tensor, got torch.float32"),
        ({"col": [0, 1, 2, 3]}, "col must be an integer tensor, got list"),
        ({"col": torch.ones(4, dtype=torch.bool)}, "col must be an integer tensor, got torch.bool"),
        ({"row": torch.arange(4) - 1}, "row must not be negative, got -1"),
        ({"image": torch.arange(4) - 2}, "image must not be negative, got -2"),
        ({"col": torch.arange(4, device="meta")}, "col must lie on cpu, got meta"),
    ],
)
def test_wrong_fields(changes, message):
    with pytest.raises(InputError, match=message):
        batch_of(**changes)


SHAPES = st.tuples(st.integers(0, 5), st.integers(1, 30))


@given(codes=arrays(np.uint8, SHAPES) | arrays(np.uint16, SHAPES, elements=st.integers(0, 4095)))
def test_codes_are_decoded_as_in_numpy(codes):
    codes[:, 0] = 255
    index = torch.arange(len(codes))
    batch = SSGBatch(codes=torch.from_numpy(codes), image=index, row=index, col=index)
    assert batch.normalized().dtype == torch.float32
    # Squares are exact in float32; each of up to 29 additions, the division, and the result of NumPy round by 6e-8.
    np.testing.assert_allclose(batch.normalized().numpy(), decode_codes(codes), rtol=31 * 2**-24)
    np.testing.assert_allclose(batch.normalized(slice(1, 3)).numpy(), decode_codes(codes[1:3]), rtol=31 * 2**-24)


def test_decoding_full_rows():
    codes = np.random.default_rng(0).integers(0, 256, (50, 625), dtype=np.uint8)
    normalized = batch_of(50, codes=torch.from_numpy(codes)).normalized()
    # 625 squares sum to up to 4e7, beyond the 2^24 that float32 counts exactly.
    np.testing.assert_allclose(normalized.numpy(), decode_codes(codes), rtol=1e-6)
    np.testing.assert_allclose(normalized.sum(1).numpy(), 1, rtol=1e-6)


def test_values_are_not_touched():
    values = torch.rand(4, 9, dtype=torch.float64)
    assert torch.equal(batch_of(codes=None, values=values).normalized(), values)


def test_to_moves_everything():
    batch = batch_of()
    assert batch.to("cpu") is batch
    moved = batch.to("meta")
    assert all(tensor.is_meta for tensor in (moved.codes, moved.image, moved.row, moved.col, moved.normalized()))
    assert moved.extent == batch.extent  # known without asking the device
    assert len(moved) == 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_pinned_and_on_the_gpu():
    batch = batch_of().pin_memory()
    assert all(tensor.is_pinned() for tensor in (batch.codes, batch.image, batch.row, batch.col))
    moved = batch.to("cuda", non_blocking=True)
    torch.testing.assert_close(moved.normalized().cpu(), batch.normalized())


def test_pin_memory_pins_every_tensor(monkeypatch):
    """DataLoader calls `pin_memory()` of objects that have one; page-locking itself needs an accelerator."""
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    batch = collate([sample(1), sample(2)])
    result = torch.utils.data._utils.pin_memory.pin_memory(batch)
    assert isinstance(result["ssg"], SSGBatch)
    assert len(pinned) == 4 + 4  # gt, gt_mask, lq, index; codes, image, row, col
    assert result["patch_id"] == ["patch 1", "patch 2"]


def test_pickles():
    batch = pickle.loads(pickle.dumps(batch_of()))  # noqa: S301 - our own bytes
    assert torch.equal(batch.codes, batch_of().codes)
    assert batch.extent == (3, 3, 3)


# From images


def test_from_images_lists_edge_pixels_in_order():
    images = torch.rand(3, 3, 9, 11)
    masks = (torch.rand(3, 1, 9, 11, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    batch = SSGBatch.from_images(images, masks, SPEC)
    assert torch.equal(torch.stack([batch.image, batch.row, batch.col], 1), masks[:, 0].nonzero())
    strided = SSGBatch.from_images(images, masks, SPEC, edge_stride=3)
    kept = batch.row % 3 == batch.col % 3
    assert 0 < len(strided) < len(batch)
    assert torch.equal(strided.values, batch.values[kept])
    assert torch.equal(strided.row, batch.row[kept])


def test_from_images_gives_graphs_without_gradient():
    images = (0.1 * torch.rand(2, 3, 9, 11)).requires_grad_()
    batch = SSGBatch.from_images(images, torch.ones(2, 1, 9, 11, dtype=torch.bool), SPEC)
    assert not batch.values.requires_grad
    assert (batch.values > 0).all()
    torch.testing.assert_close(batch.values.sum(1), torch.ones(len(batch)))
    assert (batch.values.argmax(1) == 12).all()  # the centre


def test_from_images_errors():
    images, masks = torch.rand(2, 3, 9, 11), torch.ones(2, 1, 9, 11)
    for arguments, message in [
        ((images.byte(), masks), "images must be a floating-point tensor, got torch.uint8"),
        ((images[:, :2], masks), r"images must have shape \(B, 3, H, W\)"),
        ((images[..., :2], masks[..., :2]), "images must be at least 3 pixels on each side, got 9x2"),
        ((images, masks[:, 0]), r"edge_masks must have shape \(2, 1, 9, 11\), got \(2, 9, 11\)"),
        ((images, masks.to("meta")), "edge_masks must lie on cpu, got meta"),
    ]:
        with pytest.raises(InputError, match=message):
            SSGBatch.from_images(*arguments, SPEC)
    with pytest.raises(InputError, match="edge_stride must be >= 1, got 0"):
        SSGBatch.from_images(images, masks, SPEC, edge_stride=0)


# Collation


@given(counts=st.lists(st.integers(0, 5), min_size=1, max_size=5))
def test_collate_keeps_every_row_with_its_image(counts):
    samples = [sample(number, num_pixels=count) for number, count in enumerate(counts)]
    batch = collate(samples)
    graphs = batch["ssg"]
    assert len(graphs) == sum(counts)
    corners = [(number, *one["ssg"].extent[1:]) for number, one in enumerate(samples) if len(one["ssg"])]
    assert graphs.extent == tuple(max(sides) for sides in zip(*(corners or [(-1, -1, -1)]), strict=True))
    for number, one in enumerate(samples):
        rows = graphs.image == number
        assert torch.equal(graphs.codes[rows], one["ssg"].codes)
        assert torch.equal(graphs.row[rows], one["ssg"].row)
        assert torch.equal(graphs.col[rows], one["ssg"].col)
    assert batch["gt"].shape == (len(counts), 3, 8, 8)
    assert batch["gt"][:, 0, 0, 0].tolist() == list(range(len(counts)))
    assert batch["gt_mask"].shape == (len(counts), 1, 8, 8)
    assert batch["patch_id"] == [f"patch {number}" for number in range(len(counts))]
    assert batch["index"].tolist() == list(range(len(counts)))


def test_collate_exact_values():
    index = torch.zeros(2, dtype=torch.int32)
    one = {"ssg": SSGBatch(values=torch.rand(2, 9), image=index, row=index, col=index)}
    graphs = collate([one, one])["ssg"]
    assert graphs.codes is None
    assert torch.equal(graphs.values, one["ssg"].values.repeat(2, 1))
    assert graphs.image.tolist() == [0, 0, 1, 1]
    assert graphs.image.dtype == torch.int32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gt": torch.zeros(3, 8, 9)}, r"gt of sample 1 must have the shape \(3, 8, 8\) of sample 0, got \(3, 8, 9\)"),
        ({"extra": 1}, "samples must have the same fields, but sample 1 has .*extra"),
        (
            {"ssg": batch_of(3, 9, image=torch.zeros(3, dtype=torch.int64))},
            "ssg of sample 1 must have K = 25, as sample 0, got 9",
        ),
        ({"ssg": batch_of(3, 25)}, "ssg of sample 1 must belong to one image, got image index 2"),
        (
            {"ssg": batch_of(3, codes=None, values=torch.ones(3, 25))},
            "ssg of sample 1 must hold codes, as sample 0, got none",
        ),
        (
            {"ssg": batch_of(3, codes=torch.ones(3, 25).to(torch.uint16), image=torch.zeros(3, dtype=torch.int64))},
            "ssg of sample 1 must hold torch.uint8, as sample 0, got torch.uint16",
        ),
    ],
)
def test_collate_errors(change, message):
    with pytest.raises(InputError, match=message):
        collate([sample(0), sample(1) | change])


def test_collate_needs_samples():
    with pytest.raises(InputError, match="samples must not be empty"):
        collate([])


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_through_loader_workers(start_method):
    dataset = [sample(number, num_pixels=number) for number in range(4)]
    loader = DataLoader(
        dataset, batch_size=2, collate_fn=collate, num_workers=1, multiprocessing_context=start_method, timeout=120
    )
    batches = list(loader)
    direct = [collate(dataset[:2]), collate(dataset[2:])]
    assert len(batches) == 2
    for batch, expected in zip(batches, direct, strict=True):
        assert batch["patch_id"] == expected["patch_id"]
        assert torch.equal(batch["ssg"].codes, expected["ssg"].codes)
        assert torch.equal(batch["ssg"].image, expected["ssg"].image)
        assert batch["ssg"].extent == expected["ssg"].extent


# Cropping


@pytest.mark.parametrize("kind", ["codes", "values"])
@pytest.mark.parametrize("boundary", ["zero", "image"])
def test_crops_with_a_margin_have_the_graphs_of_the_cropped_images(kind, boundary):
    spec = SSGSpec(search_size=5, window_size=3, boundary=boundary)
    images = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    masks = torch.ones(2, 1, 24, 24)
    batch = SSGBatch.from_images(images, masks, spec)
    if kind == "codes":
        codes = torch.randint(1, 256, batch.values.shape, dtype=torch.uint8)
        batch = SSGBatch(codes=codes, image=batch.image, row=batch.row, col=batch.col)
    cropped = batch.crop(3, 6, 12, margin=spec.pad)
    anew = SSGBatch.from_images(images[:, :, 3:15, 6:18], masks[:, :, 3:15, 6:18], spec)
    inner = anew.crop(0, 0, 12, margin=spec.pad)
    assert len(cropped) == 2 * (12 - 2 * spec.pad) ** 2
    for name in ("image", "row", "col"):
        assert torch.equal(getattr(cropped, name), getattr(inner, name))
    if kind == "values":
        assert torch.allclose(cropped.values, inner.values, atol=1e-6)
    else:
        rows = (batch.row >= 3 + spec.pad) & (batch.row < 15 - spec.pad)
        cols = (batch.col >= 6 + spec.pad) & (batch.col < 18 - spec.pad)
        assert torch.equal(cropped.codes, batch.codes[rows & cols])


def test_crops_without_a_margin_keep_every_edge_pixel_inside():
    cropped = batch_of(10).crop(2, 3, 4)
    assert (cropped.row.tolist(), cropped.col.tolist(), cropped.image.tolist()) == ([1, 2, 3], [0, 1, 2], [3, 4, 5])


def test_a_crop_must_be_larger_than_its_margins():
    with pytest.raises(InputError, match="size must be greater than twice the margin 3, got 6"):
        batch_of().crop(0, 0, 6, margin=3)
