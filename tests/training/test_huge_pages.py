"""Memory of large files: shared, kept as long as it is looked at, and in huge pages where the system has them."""

import gc
import os
import re
from pathlib import Path

import numpy as np
import pytest

from ssl_data.training import huge_pages
from ssl_data.training.huge_pages import huge_page_bytes, map_shared, use_huge_pages

MIB = 1 << 20
SIZES = [100, 4096, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 5 * MIB + 12_345]
NAME = "ssl_data-test"


@pytest.fixture
def new_file():
    descriptors = []

    def make(num_bytes):
        descriptors.append(os.memfd_create(NAME))
        os.ftruncate(descriptors[-1], num_bytes)
        return descriptors[-1]

    yield make
    for descriptor in descriptors:
        os.close(descriptor)


@pytest.fixture(params=[None, 0, 16_384], ids=["as on this machine", "no huge pages", "smaller ones"])
def page(request, monkeypatch):
    """Sizes that are not this machine's show that no more than speed depends on them."""
    if request.param is not None:
        monkeypatch.setattr(huge_pages, "huge_page_bytes", lambda: request.param)
    return huge_pages.huge_page_bytes()


def address(memory):
    return memory.__array_interface__["data"][0]


def noise(num_bytes, seed=0):
    return np.random.default_rng(seed).integers(0, 256, num_bytes, dtype=np.uint8)


@pytest.mark.parametrize("num_bytes", SIZES)
def test_mappings_of_a_file_share_what_is_written(new_file, page, num_bytes):
    file = new_file(num_bytes)
    sender, receiver = map_shared(file, num_bytes), map_shared(file, num_bytes)
    use_huge_pages(sender)
    sender[:] = noise(num_bytes)
    assert (receiver == noise(num_bytes)).all()
    receiver[:] = noise(num_bytes, seed=1)
    assert (sender == noise(num_bytes, seed=1)).all()
    assert sender.shape == receiver.shape == (num_bytes,)
    assert os.pread(file, 2 * num_bytes, 0) == sender.tobytes()
    if 0 < page <= num_bytes:
        assert address(sender) % page == address(receiver) % page == 0


@pytest.mark.parametrize("num_bytes", SIZES)
def test_new_memory_is_zero_and_joining_pages_keeps_what_is_in_them(new_file, page, num_bytes):
    memory = map_shared(new_file(num_bytes), num_bytes)
    use_huge_pages(memory)
    assert not memory.any()
    memory = map_shared(new_file(num_bytes), num_bytes)
    memory[:] = noise(num_bytes)
    use_huge_pages(memory)
    assert (memory == noise(num_bytes)).all()


def test_a_mapping_ends_with_the_last_array_that_looks_at_it(new_file, page):
    def number_of_mappings():
        gc.collect()
        return Path("/proc/self/maps").read_text().count(f"memfd:{NAME}")

    before = number_of_mappings()
    part = map_shared(new_file(5 * MIB), 5 * MIB)[-10:]
    use_huge_pages(part)  # less than a page
    part[:] = 7
    assert number_of_mappings() == before + 1
    assert part.tolist() == 10 * [7]
    del part
    assert number_of_mappings() == before


def test_a_forked_process_shares_the_memory(new_file):
    memory = map_shared(new_file(5 * MIB), 5 * MIB)
    use_huge_pages(memory)
    process = os.fork()
    if process == 0:
        memory[-1] = 9
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert memory[-1] == 9


def huge_bytes_at(place):
    """Bytes of the mapping at an address that lie in huge pages, as Linux counts them."""
    for mapping in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text()):
        if int(mapping.split("-")[0], 16) == place:
            return 1024 * int(re.search(r"ShmemPmdMapped: +(\d+) kB", mapping)[1])
    raise LookupError(hex(place))


def test_the_system_confirms_the_huge_pages(new_file):
    page = huge_page_bytes()
    if not page:
        pytest.skip("no huge pages, or very large ones")
    num_bytes = 3 * page + 4096
    file = new_file(num_bytes)
    memory = map_shared(file, num_bytes)
    assert huge_bytes_at(address(memory)) == 0
    if not use_huge_pages(memory):
        pytest.skip("no huge pages granted: Linux before 6.1, or no memory in one piece")
    memory[:] = 1
    assert huge_bytes_at(address(memory)) == 3 * page
    receiver = map_shared(file, num_bytes)
    assert receiver.all()
    assert huge_bytes_at(address(receiver)) == 3 * page


@pytest.mark.parametrize(
    ("text", "expected"), [("2097152\n", 2 * MIB), ("33554432", 32 * MIB), ("536870912", 0), ("none", 0), (None, 0)]
)
def test_pages_that_no_batch_would_fill_do_not_count(tmp_path, monkeypatch, text, expected):
    path = tmp_path / "hpage_pmd_size"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(huge_pages, "_PAGE_SIZE", path)
    assert huge_page_bytes.__wrapped__() == expected


def test_memory_that_cannot_be_mapped_in_place_of_other_memory_is_given_up(monkeypatch):
    monkeypatch.setattr(huge_pages, "_MAP_FIXED", 0x10 | 0x40000)  # MAP_HUGETLB, too: no such file
    monkeypatch.setattr(huge_pages, "_given_up", given_up := [])
    with (
        Path("/dev/null").open("rb") as file,
        pytest.raises(OSError, match="cannot map 5242880 bytes of shared memory"),
    ):
        map_shared(file.fileno(), 5 * MIB)
    assert len(given_up) == 1


def test_a_system_that_refuses_leaves_memory_as_usable(new_file, monkeypatch):
    monkeypatch.setattr(huge_pages, "_MADV_COLLAPSE", 12_345)  # which no system knows
    memory = map_shared(new_file(5 * MIB), 5 * MIB)
    assert not use_huge_pages(memory)
    memory[:] = noise(5 * MIB)
    assert (memory == noise(5 * MIB)).all()


@pytest.mark.parametrize("num_bytes", [100, 5 * MIB])
def test_what_is_no_file_cannot_be_mapped(num_bytes):
    reading, writing = os.pipe()
    os.close(writing)
    with pytest.raises(OSError):  # noqa: PT011 - the texts are the system's
        map_shared(reading, num_bytes)
    os.close(reading)
