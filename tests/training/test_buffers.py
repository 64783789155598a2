"""Memory of batches: used again, but never while somebody looks at it."""

import contextlib
import gc
import os
import pickle
import resource
import sys
import threading
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import multiprocessing
from torch.utils.data import DataLoader

from ssl_data import SSGBatch, SSLCachedDataset, collate
from ssl_data.testing import tiny_store
from ssl_data.training import buffers
from ssl_data.training.buffers import BUFFERS_VARIABLE, find_place, take_arrays
from ssl_data.training.collate import Batch


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny_store(tmp_path_factory.mktemp("store"), sizes=((160, 160), (128, 160)), lq_scale=4)


@pytest.fixture(autouse=True)
def no_blocks_of_other_tests(monkeypatch):
    monkeypatch.setattr(buffers, "_blocks", type(buffers._blocks)())


def address(array):
    return array.__array_interface__["data"][0]


def take(num_bytes=100_000):
    return take_arrays(((num_bytes,), np.uint8))[0]


def test_arrays_are_aligned_and_apart():
    first, second, third = take_arrays(((3, 5), np.uint8), ((2, 2, 7), np.float32), ((0,), np.int32))
    assert (first.shape, second.shape, third.shape) == ((3, 5), (2, 2, 7), (0,))
    assert (first.dtype, second.dtype) == (np.uint8, np.float32)
    assert address(first) % 64 == address(second) % 64 == 0
    first[:], second[:] = 1, 2
    assert (first == 1).all()
    assert (second == 2).all()


def test_memory_is_used_again_when_the_last_view_has_gone():
    whole = take()
    place = address(whole)
    part = torch.from_numpy(whole)[10:20]
    del whole
    gc.collect()
    assert address(take()) != place
    del part
    assert address(take()) == place


def test_a_larger_request_gets_larger_memory():
    small = take(1000)
    del small
    large = take(100_000)
    large[:] = 7
    assert len(buffers._blocks.own) == 1


def test_memory_that_is_replaced_ends_before_there_is_larger(monkeypatch):
    mapped, before = [], blocks_in_memory()
    monkeypatch.setattr(buffers, "use_huge_pages", lambda _: mapped.append(blocks_in_memory() - before))
    for size in (3 << 20, 9 << 20, 27 << 20):
        take(size)
    assert mapped == [1, 1, 1]


def blocks_in_memory():
    return Path("/proc/self/maps").read_text().count("memfd:ssl_data-batch")


def test_there_is_an_end_to_the_blocks_but_not_to_the_memory():
    kept = [take(1000) for _ in range(40)]
    assert len(buffers._blocks.own) == 16
    for number, array in enumerate(kept):
        array[:] = number
    assert all((array == number).all() for number, array in enumerate(kept))
    assert find_place(kept[0]) is not None
    assert find_place(kept[-1]) is None


def test_a_variable_switches_the_blocks_off(monkeypatch):
    monkeypatch.setenv(BUFFERS_VARIABLE, "0")
    assert find_place(take()) is None


def test_what_a_forked_process_has_seen_is_never_used_again():
    array = take()
    array[:] = 5
    block = find_place(array).key
    process = os.fork()
    if process == 0:
        os._exit(0 if (array == 5).all() and find_place(array) is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    del array
    assert find_place(take()).key != block  # the forked process may still be looking


def expected_batches(store, batch_size):
    dataset = SSLCachedDataset(store, crop_size=48, hflip=True)
    first = range(0, len(dataset), batch_size)
    return [collate([dataset[index] for index in range(at, min(at + batch_size, len(dataset)))]) for at in first]


def assert_equal(batch, expected):
    assert batch.keys() == expected.keys()
    assert batch["patch_id"] == expected["patch_id"]
    for name in ("gt", "gt_mask", "lq"):
        assert torch.equal(batch[name], expected[name])
    for name in ("codes", "image", "row", "col"):
        assert torch.equal(getattr(batch["ssg"], name), getattr(expected["ssg"], name))
    assert batch["ssg"].extent == expected["ssg"].extent


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_batches_from_workers_stay_as_they_are_while_they_are_kept(store, context):
    expected = expected_batches(store, 2)
    loader = DataLoader(
        SSLCachedDataset(store, crop_size=48, hflip=True),
        batch_size=2,
        num_workers=2,
        collate_fn=collate,
        multiprocessing_context=context,
        persistent_workers=True,
    )
    kept = list(loader)
    for _ in range(3):  # more batches than blocks, each let go of at once
        for batch, wanted in zip(loader, expected, strict=True):
            assert_equal(batch, wanted)
    for batch, wanted in zip(kept, expected, strict=True):
        assert_equal(batch, wanted)


def test_a_worker_uses_few_blocks_and_the_trainer_maps_no_more(store):
    loader = DataLoader(
        SSLCachedDataset(store), batch_size=1, num_workers=1, collate_fn=collate, persistent_workers=True
    )
    for _ in range(10):
        for _ in loader:
            pass
    # Two are prefetched, one is being made, one has been handed over; some grow, since graphs differ in number.
    assert 1 <= len(buffers._blocks.mapped) <= 8


def test_blocks_of_ended_workers_are_dropped(store):
    for _ in range(3):
        for _ in DataLoader(SSLCachedDataset(store), batch_size=4, num_workers=2, collate_fn=collate):
            pass
    assert len({process for process, _ in buffers._blocks.mapped}) <= 2


class Noisy(SSLCachedDataset):
    """What users do: a transformation on top of a sample."""

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return {**sample, "gt": sample["gt"] + 1, "index": index, "large": torch.full((600, 600), index)}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_subclass_may_change_samples(store, workers):
    plain = SSLCachedDataset(store)
    loader = DataLoader(Noisy(store), batch_size=3, num_workers=workers, collate_fn=collate)
    for number, batch in enumerate(loader):
        for place, index in enumerate(batch["index"].tolist()):
            assert index == 3 * number + place
            assert torch.equal(batch["gt"][place], plain[index]["gt"] + 1)
            assert (batch["large"][place] == index).all()


def echo(received, answers):
    while (batch := received.get()) is not None:
        answers.put((os.getpid(), int(batch["ssg"].codes.sum()), batch["gt"].sum(dtype=torch.float64)))
        del batch


def test_a_batch_can_be_sent_to_any_process(store):
    processes = multiprocessing.get_context("fork")
    questions, answers = processes.Queue(), processes.Queue()
    process = processes.Process(target=echo, args=(questions, answers))
    process.start()
    dataset = SSLCachedDataset(store)
    for index in range(4):
        batch = collate([dataset[index], dataset[index + 1]])
        questions.put(batch)
        wanted = int(batch["ssg"].codes.sum()), batch["gt"].sum(dtype=torch.float64)
        del batch
        assert answers.get(timeout=60) == (process.pid, *wanted)
    questions.put(None)
    process.join(60)
    assert process.exitcode == 0


def test_a_batch_is_copied_and_saved_as_any_dictionary(store, tmp_path):
    dataset = SSLCachedDataset(store)
    batch = collate([dataset[0], dataset[1]])
    copy = batch.copy()
    assert copy["gt"] is batch["gt"]
    torch.save(dict(batch), tmp_path / "batch.pt")
    loaded = torch.load(tmp_path / "batch.pt", weights_only=False)
    assert_equal(loaded, batch)
    assert isinstance(batch, Batch)
    assert isinstance(loaded["ssg"], SSGBatch)


def test_samples_read_together_are_joined_without_a_copy(store):
    dataset = SSLCachedDataset(store, crop_size=48)
    samples = dataset.__getitems__([3, 1, 2])
    batch = collate(samples)
    assert batch["gt"].data_ptr() == samples[0]["gt"].data_ptr()
    assert batch["ssg"].codes.data_ptr() == samples[0]["ssg"].codes.data_ptr()
    assert_equal(batch, collate([dataset[3], dataset[1], dataset[2]]))
    assert dataset.__getitems__([]) == []
    reordered = collate([samples[1], samples[0]])
    assert torch.equal(reordered["gt"][1], samples[0]["gt"])
    assert reordered["gt"].data_ptr() not in {sample["gt"].data_ptr() for sample in samples}


def test_samples_side_by_side_with_odd_strides_are_joined_rightly():
    lines = torch.arange(24.0).reshape(2, 3, 4)
    columns = [lines[0:1, number] for number in range(3)]  # (1, 4), whose first stride is 12
    assert torch.equal(collate([{"t": line} for line in columns])["t"], torch.stack(columns))


def test_threads_never_get_the_same_memory():
    held, shared = {}, []

    def take_and_let_go(thread):
        for _ in range(5000):
            array = take(200)
            if held.setdefault(address(array), thread) != thread:
                shared.append(thread)
            sum(range(30))
            held.pop(address(array), None)
            del array

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-7)
    try:
        threads = [threading.Thread(target=take_and_let_go, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not shared


def average_of_two(batches, may_begin, answers):
    may_begin.wait(60)
    for _ in range(2):
        answers.put(float(batches.get()["values"].mean()))


def batch_of(value):
    (array,) = take_arrays(((1000,), np.float32))
    array[:] = value
    return Batch(values=torch.from_numpy(array))


def test_a_batch_on_its_way_survives_a_fork_of_its_sender():
    processes = multiprocessing.get_context("fork")
    batches, answers, may_begin = processes.SimpleQueue(), processes.Queue(), processes.Event()
    receiver = processes.Process(target=average_of_two, args=(batches, may_begin, answers))
    receiver.start()
    first = batch_of(1)
    batches.put(first)
    other = processes.Process(target=os.getpid)
    other.start()
    other.join(60)
    del first
    batches.put(batch_of(2))
    may_begin.set()
    assert [answers.get(timeout=60), answers.get(timeout=60)] == [1, 2]
    receiver.join(60)
    assert receiver.exitcode == 0


def test_a_batch_that_cannot_be_pickled_costs_no_block():
    for _ in range(20):
        batch = batch_of(1)
        batch["function"] = lambda: None
        with pytest.raises((AttributeError, pickle.PicklingError)):
            ForkingPickler.dumps(batch)
        del batch
    gc.collect()
    assert len(buffers._blocks.own) <= 2


def test_without_file_descriptors_memory_is_ordinary():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    kept, spare = [take(1000)], []
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                spare.append(os.dup(0))
        kept += [take(size) for size in (1000, 5 << 20)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in spare:
            os.close(descriptor)
    assert [find_place(array) is not None for array in kept] == [True, False, False]
