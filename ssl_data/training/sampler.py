"""`PatchSampler`: batches of patch indices, the same on every machine, resumable in the middle of an epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from torch.utils.data import Sampler

from ssl_data.errors import ConfigError
from ssl_data.geometry.order import block_order, rank_batches, spread_order
from ssl_data.store.reader import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["PatchSampler", "Shuffle"]

Shuffle = Literal["block", "full"]

_SHARDS_PER_BLOCK = 64


class PatchSampler(Sampler[list[int]]):
    """A ``batch_sampler`` for `torch.utils.data.DataLoader`.

    The order is a pure function of (store, seed, epoch, world_size). Over all ranks, every patch is visited once an
    epoch, and all ranks have the same number of batches. Patches of one image are spread over the epoch ("full"), or
    over blocks of 64 shards ("block"), which keeps reads from a remote store local.

    Parameters
    ----------
    store : str, Path or Store
        The store whose patches are drawn.
    batch_size : int
        Patches of a batch on one rank.
    seed : int
    rank, world_size : int
        This process and the number of processes of distributed training.
    shuffle : {"block", "full", None}
        None: in the order of the store.
    drop_last : bool
        Leave out the patches that do not fill a batch on every rank; otherwise the last two batches are smaller.

    Raises
    ------
    ConfigError
        For a value out of its range.
    """

    def __init__(
        self,
        store: str | Path | Store,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        shuffle: Shuffle | None = "full",
        drop_last: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size must be >= 1, got {batch_size}")
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank must lie in 0 .. world_size - 1, got rank {rank} of {world_size}")
        if shuffle is not None and shuffle not in get_args(Shuffle):
            raise ConfigError(f"shuffle must be 'block', 'full' or None, got {shuffle!r}")
        store = store if isinstance(store, Store) else open_store(store)
        self._images = store.source_indices
        self._shards = store.shard_indices
        self._fingerprint: str = store.attributes["fingerprint"]
        self._batch_size, self._rank, self._world_size = batch_size, rank, world_size
        self._seed, self._shuffle, self._drop_last = seed, shuffle, drop_last
        self._epoch = 0
        self._next_batch = 0
        self._resumed = False

    @property
    def epoch(self) -> int:
        """The present epoch; give it to `SSLCachedDataset.set_epoch`, too."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that is visited next, from its beginning, or from where `load_state_dict` has set it."""
        if not (self._resumed and epoch == self._epoch):
            self._epoch, self._next_batch = epoch, 0

    def __len__(self) -> int:
        """Batches of an epoch on this rank, however many of them a resumed epoch still has."""
        per_step = self._batch_size * self._world_size
        whole, rest = divmod(len(self._images), per_step)
        return whole + (rest > 0 and not self._drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        """The batches from the present one to the end of the epoch; where it has ended, those of the next epoch."""
        if self._next_batch >= len(self) > 0:
            self._epoch, self._next_batch = self._epoch + 1, 0
        self._resumed = False
        batches = rank_batches(
            self._order(),
            batch_size=self._batch_size,
            rank=self._rank,
            world_size=self._world_size,
            drop_last=self._drop_last,
        )
        while self._next_batch < len(batches):
            self._next_batch += 1
            yield batches[self._next_batch - 1].tolist()

    def _order(self) -> NDArray[np.int64]:
        random = np.random.default_rng((self._seed, self._epoch))
        if self._shuffle == "full":
            return spread_order(self._images, random)
        if self._shuffle == "block":
            return block_order(self._images, self._shards, shards_per_block=_SHARDS_PER_BLOCK, random=random)
        return np.arange(len(self._images), dtype=np.int64)

    def state_dict(self, *, num_batches: int | None = None) -> dict[str, Any]:
        """Where the epoch is.

        Parameters
        ----------
        num_batches : int, optional
            Batches of this epoch that the trainer has finished. A loader with workers asks for batches ahead of time,
            so that the sampler's own count, used where this is not given, is ahead of the trainer.
        """
        done = self._next_batch if num_batches is None else num_batches
        return {"epoch": self._epoch, "num_batches": done, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken; the number of loader workers may differ.

        Raises
        ------
        ConfigError
            If the state belongs to another store, seed, batch size, world size or kind of shuffle.
        """
        for name, value in self._identity().items():
            if state[name] != value:
                raise ConfigError(f"the saved order has {name} {state[name]!r}, this sampler has {value!r}")
        self._epoch, self._next_batch, self._resumed = state["epoch"], state["num_batches"], True

    def _identity(self) -> dict[str, Any]:
        return {
            "store": self._fingerprint,
            "seed": self._seed,
            "batch_size": self._batch_size,
            "world_size": self._world_size,
            "shuffle": self._shuffle,
            "drop_last": self._drop_last,
        }
