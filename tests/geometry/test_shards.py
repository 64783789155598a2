"""How patches and rows are shared out."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ssl_data.geometry.shards import max_edge_pixels, num_shards, part_shards, rows_per_shard, shard_slots


@given(patch_size=st.integers(1, 60), edge_stride=st.integers(1, 7))
def test_capacity_counts_the_pixels_of_the_diagonal_pattern(patch_size, edge_stride):
    row, col = np.indices((patch_size, patch_size))
    assert max_edge_pixels(patch_size, edge_stride) == (row % edge_stride == col % edge_stride).sum()


@given(num_slots=st.integers(1, 200), patches_per_shard=st.integers(1, 40))
def test_shards_cover_all_slots_once(num_slots, patches_per_shard):
    count = num_shards(num_slots, patches_per_shard)
    shards = [shard_slots(shard, num_slots=num_slots, patches_per_shard=patches_per_shard) for shard in range(count)]
    assert [slot for slots in shards for slot in slots] == list(range(num_slots))
    assert all(shards)


@given(num_parts=st.integers(1, 30), count=st.integers(0, 100))
def test_parts_share_out_all_shards_evenly(num_parts, count):
    parts = [part_shards(index, num_parts, num_shards=count) for index in range(num_parts)]
    assert sorted(shard for part in parts for shard in part) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(patch_size=st.integers(1, 40), chunk_rows=st.integers(1, 70), patches_per_shard=st.integers(1, 9))
def test_a_shard_has_room_for_full_patches_that_begin_at_chunks(patch_size, chunk_rows, patches_per_shard):
    rows = rows_per_shard(
        patch_size=patch_size, edge_stride=1, chunk_rows=chunk_rows, patches_per_shard=patches_per_shard
    )
    next_row = 0
    for _ in range(patches_per_shard):
        assert next_row % chunk_rows == 0
        next_row += -(-(patch_size**2) // chunk_rows) * chunk_rows
    assert next_row == rows
