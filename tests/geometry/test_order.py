"""Order of visits and shares of ranks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ssl_data.geometry.order import block_order, rank_batches, spread_order

group_lists = st.lists(st.integers(1, 9), max_size=20).map(
    lambda counts: np.repeat(np.arange(len(counts)), counts).astype(np.int32)
)
seeds = st.integers(0, 2**32)


@given(groups=group_lists, seed=seeds)
def test_a_spread_order_is_a_permutation_and_repeats_itself(groups, seed):
    order = spread_order(groups, np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(len(groups)))
    assert (order == spread_order(groups, np.random.default_rng(seed))).all()


@given(seed=seeds, num_images=st.integers(2, 30), per_image=st.integers(2, 30))
def test_siblings_are_spread_apart(seed, num_images, per_image):
    groups = np.repeat(np.arange(num_images), per_image)
    order = spread_order(groups, np.random.default_rng(seed))
    for image in range(num_images):
        places = np.flatnonzero(groups[order] == image)
        # Each n-th of the epoch holds one patch of every image with n patches.
        assert (places // num_images == np.arange(per_image)).all()


@given(groups=group_lists, per_shard=st.integers(1, 7), shards_per_block=st.integers(1, 5), seed=seeds)
def test_a_block_order_is_a_permutation_that_keeps_few_shards_open(groups, per_shard, shards_per_block, seed):
    shards = np.arange(len(groups)) // per_shard
    order = block_order(groups, shards, shards_per_block=shards_per_block, random=np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(len(groups)))
    visited, seen = shards[order], set()
    runs = []
    for shard in visited.tolist():
        if shard not in seen:
            seen.add(shard)
            runs.append(shard)
    for first in range(0, len(runs), shards_per_block):
        block = set(runs[first : first + shards_per_block])
        places = np.flatnonzero(np.isin(visited, list(block)))
        assert len(places) == 0 or places[-1] - places[0] + 1 == len(places)


@given(
    num_patches=st.integers(0, 200), batch_size=st.integers(1, 9), world_size=st.integers(1, 8), drop_last=st.booleans()
)
def test_ranks_have_equal_counts_and_cover_everything_once(num_patches, batch_size, world_size, drop_last):
    order = np.random.default_rng(0).permutation(num_patches)
    options = {"batch_size": batch_size, "world_size": world_size, "drop_last": drop_last}
    ranks = [rank_batches(order, rank=rank, **options) for rank in range(world_size)]
    assert len({len(batches) for batches in ranks}) == 1
    sizes = [len(batch) for batches in ranks for batch in batches]
    assert all(0 < size <= batch_size for size in sizes)
    visited = [index for batches in ranks for batch in batches for index in batch.tolist()]
    dealt = [index for step in zip(*ranks, strict=True) for batch in step for index in batch.tolist()]
    assert dealt[:num_patches] == order[: len(dealt)].tolist()  # step after step, rank after rank
    per_step = batch_size * world_size
    if drop_last:
        assert len(visited) == num_patches // per_step * per_step
        assert len(set(visited)) == len(visited)
        assert set(sizes) <= {batch_size}
    else:
        assert set(visited) == set(range(num_patches))
        enough = num_patches >= len(ranks[0]) * world_size or num_patches == 0
        assert len(visited) == num_patches or not enough
