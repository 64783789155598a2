"""Reading a store, also without this package, and what happens when it is damaged."""

import multiprocessing
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from ssl_data import edge_mask, edge_pixels, open_store, self_similarity_graph, verify_store
from ssl_data.errors import (
    StoreCorruptError,
    StoreError,
    StoreIncompleteError,
    StoreMismatchError,
    StoreNotFoundError,
)
from ssl_data.geometry.positions import Window
from ssl_data.kernels.quantize import codes_from_ssd
from ssl_data.kernels.resize import reduce_bicubic
from ssl_data.testing import tiny_store


def test_a_patch_holds_what_the_kernels_compute(store):
    for index in range(store.num_patches):
        patch = store.read(index)
        mask = edge_mask(patch["gt"])
        pixels = edge_pixels(mask)
        assert (patch["edge_mask"] == mask).all()
        assert (patch["pixels"] == pixels).all()
        assert (patch["ssg"] == self_similarity_graph(patch["gt"], pixels, output="codes")).all()
        assert (patch["lq"] == reduce_bicubic(patch["gt"], 4)).all()


def test_plain_zarr_reads_the_same_numbers(store):
    group = zarr.open_group(store.root, mode="r")
    start, count = group["start"][:], group["count"][:]
    for index in range(store.num_patches):
        patch = store.read(index)
        assert (group["gt"][index] == patch["gt"]).all()
        assert (group["edge_mask"][index] == patch["edge_mask"]).all()
        assert (group["lq_x4"][index] == patch["lq"]).all()
        assert (group["ssg"][start[index] : start[index] + count[index]] == patch["ssg"]).all()


WITHOUT_PACKAGE = """
import sys
import numpy, zarr
group = zarr.open_group(sys.argv[1], mode="r")
start, count = int(group["start"][2]), int(group["count"][2])
similarity = (group["ssg"][start : start + count] / 255.0) ** 2
graphs = similarity / similarity.sum(1, keepdims=True)
print(int(group["gt"][2].sum()), int(group["edge_mask"][2].sum()), count, float(graphs.std()))
assert not any(name.split(".")[0] == "ssl_data" for name in sys.modules)
"""


def test_another_program_needs_only_zarr(store):
    arguments = [sys.executable, "-W", "error", "-c", WITHOUT_PACKAGE, str(store.root)]
    gt_sum, mask_sum, count, spread = subprocess.run(
        arguments, capture_output=True, text=True, check=True
    ).stdout.split()
    patch = store.read(2)
    similarity = (patch["ssg"] / 255.0) ** 2
    assert (int(gt_sum), int(mask_sum), int(count)) == (patch["gt"].sum(), patch["edge_mask"].sum(), len(patch["ssg"]))
    assert float(spread) == pytest.approx((similarity / similarity.sum(1, keepdims=True)).std(), rel=1e-12)


@pytest.mark.parametrize("compression", ["fast", "balanced", "small"])
@pytest.mark.parametrize("quantization", ["sqrt8", "sqrt12"])
def test_all_kinds_of_codes_read_the_same_by_plain_zarr(tmp_path, quantization, compression):
    store = tiny_store(tmp_path, quantization=quantization, compression=compression)
    group = zarr.open_group(store.root, mode="r")
    start, count, rows = group["start"][:], group["count"][:], group["ssg"]
    dtype, largest = {"sqrt8": (np.uint8, 255), "sqrt12": (np.uint16, 4095)}[quantization]
    assert rows.dtype == dtype
    assert rows.attrs["quantization"]["decode"].startswith(f"S = (q / {largest})**2")
    for index in range(store.num_patches):
        patch = store.read(index)
        ssd = self_similarity_graph(patch["gt"], patch["pixels"], output="ssd")
        codes = codes_from_ssd(ssd, store.spec, quantization)
        assert patch["ssg"].dtype == dtype
        assert (patch["ssg"] == codes).all()
        found = rows[start[index] : start[index] + count[index]]
        if "prediction" in rows.attrs:
            sums = "cumsum(axis=1, dtype=uint8).cumsum(axis=2, dtype=uint8)"
            text = f"q = d.reshape(-1, 25, 25).{sums}.reshape(-1, 625), in which sums wrap around"
            assert rows.attrs["prediction"] == {"name": "gradient", "decode": text}
            found = found.reshape(-1, 25, 25).cumsum(axis=1, dtype=dtype).cumsum(axis=2, dtype=dtype).reshape(-1, 625)
        assert (found == codes).all()
    assert ("prediction" in rows.attrs) == (compression == "small" and quantization == "sqrt8")
    assert verify_store(store.root, deep=True) == []


@given(data=st.data())
def test_windows_and_rows_are_slices_of_the_whole(store, data):
    index = data.draw(st.integers(0, store.num_patches - 1))
    top, left = data.draw(st.integers(0, 15)) * 4, data.draw(st.integers(0, 15)) * 4
    bottom, right = data.draw(st.integers(top // 4 + 1, 16)) * 4, data.draw(st.integers(left // 4 + 1, 16)) * 4
    window = Window(top=top, left=left, bottom=bottom, right=right)
    patch = store.read(index)
    assert (store.read_gt(index, window) == patch["gt"][top:bottom, left:right]).all()
    assert (store.read_lq(index, window) == patch["lq"][top // 4 : bottom // 4, left // 4 : right // 4]).all()
    first = data.draw(st.integers(0, len(patch["ssg"])))
    stop = data.draw(st.integers(first, len(patch["ssg"])))
    assert (store.read_codes(index, first, stop) == patch["ssg"][first:stop]).all()


def test_tiles_are_put_together_right(tmp_path):
    store = tiny_store(tmp_path, sizes=[(256, 256)], patch_size=256, step=256, edge_stride=3)
    assert zarr.open_array(store.root / "gt", mode="r").chunks == (1, 128, 128, 3)
    window = Window(top=100, left=30, bottom=140, right=250)
    assert (store.read_gt(0, window) == store.read_gt(0)[100:140, 30:250]).all()


@pytest.mark.parametrize("compression", ["balanced", "small"])
def test_other_compressions_read_the_same(store, tmp_path, compression):
    other = tiny_store(tmp_path, compression=compression, boundary="zero", lq_scale=4)
    for name, expected in store.read(3).items():
        assert np.array_equal(other.read(3)[name], expected), name
    group = zarr.open_group(other.root, mode="r")
    assert (group["gt"][3] == other.read_gt(3)).all()


def test_a_patch_without_edges_has_no_graphs(tmp_path):
    store = tiny_store(tmp_path, threshold=1000.0)
    assert store.counts.tolist() == [0] * store.num_patches
    assert store.read(0)["ssg"].shape == (0, 625)


def test_pickled_stores_open_the_same_place(store):
    copy = pickle.loads(pickle.dumps(store))  # noqa: S301 - made here
    assert copy.root == store.root
    assert (copy.read_codes(1) == store.read_codes(1)).all()


def test_a_forked_process_reads_through_an_open_store(store):
    expected = int(store.read_codes(1).sum())  # opens the shard in this process first
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=lambda: queue.put(int(store.read_codes(1).sum())))
    process.start()
    assert queue.get(timeout=60) == expected
    process.join(60)
    assert process.exitcode == 0


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_new_process_opens_the_store_anew(store, method):
    with multiprocessing.get_context(method).Pool(1) as pool:
        codes = pool.apply(store.read_codes, (1,))
    assert (codes == store.read_codes(1)).all()


@pytest.mark.parametrize("index", [-1, 1000])
def test_indices_outside_the_store_are_refused(store, index):
    with pytest.raises(IndexError, match="patch index must be in 0"):
        store.read(index)


def test_no_store_at_all(tmp_path):
    with pytest.raises(StoreNotFoundError, match="is not a store"):
        open_store(tmp_path / "nothing")


def test_a_foreign_zarr_group(tmp_path):
    zarr.create_group(tmp_path / "foreign")
    with pytest.raises(StoreNotFoundError, match="not one written by ssl_data"):
        open_store(tmp_path / "foreign")


def test_low_quality_patches_that_were_not_stored(tmp_path):
    store = tiny_store(tmp_path)
    with pytest.raises(StoreError, match="--lq-scale"):
        store.read_lq(0)


@pytest.fixture
def damaged(store, tmp_path):
    """A copy of the store, to be broken."""
    return shutil.copytree(store.root, tmp_path / "damaged.zarr")


def test_an_unfinished_build_is_refused(damaged):
    (damaged / "zarr.json").unlink()
    with pytest.raises(StoreIncompleteError, match="run the same build again"):
        open_store(damaged)


def test_another_format_version_is_refused(damaged):
    path = damaged / "zarr.json"
    path.write_text(path.read_text().replace('"format_version": 6', '"format_version": 7'))
    with pytest.raises(StoreMismatchError, match="format_version 7"):
        open_store(damaged)


@pytest.mark.parametrize("array", ["gt", "edge_mask", "lq_x4", "ssg"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "altered"])
def test_a_damaged_shard_is_named_and_never_read_as_zeros(damaged, array, damage):
    (path,) = [file for file in (damaged / array / "c" / "1").rglob("*") if file.is_file()]
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(content[:-7])
    else:
        content[20] ^= 4
        path.write_bytes(content)
    store = open_store(damaged)
    store.read(0)
    with pytest.raises(StoreCorruptError, match=str(path)):
        store.read(2)


def test_arrays_that_do_not_fit_the_specs_are_refused(damaged):
    path = damaged / "ssg" / "zarr.json"
    path.write_text(path.read_text().replace("625", "624"))
    with pytest.raises(StoreCorruptError, match="specs ask for"):
        open_store(damaged)


def test_a_mask_that_disagrees_with_the_index_is_noticed(damaged):
    for other in ("0", "1"):
        shutil.copyfile(damaged / "edge_mask" / "c" / "2" / "0" / "0", damaged / "edge_mask" / "c" / other / "0" / "0")
    store = open_store(damaged)
    with pytest.raises(StoreCorruptError, match=r"edge pixels in its mask|was never written"):
        [store.read(index) for index in range(store.num_patches)]
