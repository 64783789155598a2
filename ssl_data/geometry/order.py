"""In which order patches are visited, and which rank visits them: pure functions of sizes, seed and epoch.

Neighbouring patches of one image look alike, so a good order keeps them apart. Every image's patches are therefore laid
out evenly over the epoch, like the teeth of a comb of random phase, and the combs of all images are merged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["block_order", "rank_batches", "spread_order"]


def spread_order(groups: NDArray[np.integer], random: np.random.Generator) -> NDArray[np.int64]:
    """A random permutation that spreads the members of every group evenly.

    Parameters
    ----------
    groups : int (P,)
        Equal for patches of the same image.
    random : numpy Generator

    Returns
    -------
    int64 (P,)
        Two patches of an image with n patches are about P / n places apart, never crowded.
    """
    shuffled = random.permutation(len(groups))
    by_group = shuffled[np.argsort(groups[shuffled], kind="stable")]
    _, first, inverse, counts = np.unique(groups[by_group], return_index=True, return_inverse=True, return_counts=True)
    tooth = np.arange(len(groups)) - first[inverse]
    phase = random.random(len(counts))[inverse]
    return by_group[np.argsort((tooth + phase) / counts[inverse], kind="stable")].astype(np.int64)


def block_order(
    groups: NDArray[np.integer], shards: NDArray[np.integer], *, shards_per_block: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """A random permutation that reads few shards at a time: shards are shuffled, then the patches of blocks of shards.

    Parameters
    ----------
    groups, shards : int (P,)
        Image and shard of each patch.
    shards_per_block : int
        Shards that are open at the same time.

    Returns
    -------
    int64 (P,)
    """
    names = random.permutation(np.unique(shards))
    order = []
    for first in range(0, len(names), shards_per_block):
        members = np.flatnonzero(np.isin(shards, names[first : first + shards_per_block]))
        order.append(members[spread_order(groups[members], random)])
    return np.concatenate(order) if order else np.empty(0, dtype=np.int64)


def rank_batches(
    order: NDArray[np.int64], *, batch_size: int, rank: int, world_size: int, drop_last: bool
) -> list[NDArray[np.int64]]:
    """The batches of one rank.

    All ranks get the same number of batches; together they visit every patch once. Step after step, ``world_size``
    consecutive batches of the order are dealt out.

    Parameters
    ----------
    order : int64 (P,)
    batch_size : int
        Per rank.
    drop_last : bool
        Leave out what does not fill a batch on every rank. Otherwise the patches of the last two steps are dealt out
        evenly in smaller batches; only where there are not even enough for one each (batches of one patch, or fewer
        patches than ranks), the first patches of the order are visited again.

    Returns
    -------
    list of int64 (n,), n <= batch_size
    """
    per_step = batch_size * world_size
    if drop_last:
        order = order[: len(order) // per_step * per_step]
    num_steps = -(-len(order) // per_step)
    full_steps = max(num_steps - 2, 0) if len(order) % per_step else num_steps
    body, tail = order[: full_steps * per_step], order[full_steps * per_step :]
    tail_batches = (num_steps - full_steps) * world_size
    if len(tail) < tail_batches:
        tail = np.concatenate([tail, np.resize(order, tail_batches - len(tail))])
    batches = [*body.reshape(-1, batch_size)]
    if tail_batches:
        batches += np.array_split(tail, tail_batches)
    return batches[rank::world_size]
