"""`PatchSampler`: batches of patch indices, the same on every machine, resumable in the middle of an epoch."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from torch.utils.data import Sampler

from ssl_data.errors import ConfigError
from ssl_data.geometry.order import block_order, rank_batches, spread_order
from ssl_data.store.reader import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

__all__ = ["PatchSampler", "Shuffle"]

Shuffle = Literal["block", "full"]

_SHARDS_PER_BLOCK = 64


class PatchSampler(Sampler[list[int]]):
    """A ``batch_sampler`` for `torch.utils.data.DataLoader`.

    The order is a pure function of (store, indices, seed, epoch, world_size). Over all ranks, every patch is visited
    once an epoch, and all ranks have the same number of batches. Patches of one image are spread over the epoch
    ("full"), or over blocks of 64 shards ("block"), which keeps reads from a remote store local.

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
    indices : int (n,), optional
        The patches that are visited, in any order, each once; all where not given. So some can be kept for validation:
        `Store.source_indices` tells which patches are of one image.

    Raises
    ------
    ConfigError
        For a value out of its range.

    Notes
    -----
    A loader with workers asks for batches ahead of time; how many, depends on the workers. Therefore nothing that the
    trainer sees depends on how many batches were asked for: `set_epoch` and `load_state_dict` say where the next
    iteration begins and leave one that is under way alone, and an iteration that was broken off begins at the same
    place again.
    """

    def __init__(  # noqa: PLR0913 - options by keyword
        self,
        store: str | Path | Store,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        shuffle: Shuffle | None = "full",
        drop_last: bool = False,
        indices: ArrayLike | None = None,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size must be >= 1, got {batch_size}")
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank must lie in 0 .. world_size - 1, got rank {rank} of {world_size}")
        if shuffle is not None and shuffle not in get_args(Shuffle):
            raise ConfigError(f"shuffle must be 'block', 'full' or None, got {shuffle!r}")
        store = store if isinstance(store, Store) else open_store(store)
        self._indices = _visited(indices, store.num_patches)
        self._images = store.source_indices[self._indices]
        self._shards = store.shard_indices[self._indices]
        self._fingerprint: str = store.attributes["fingerprint"]
        self._indices_sha256 = hashlib.sha256(self._indices.astype("<i8").tobytes()).hexdigest()
        self._batch_size, self._rank, self._world_size = batch_size, rank, world_size
        self._seed, self._shuffle, self._drop_last = seed, shuffle, drop_last
        self._epoch = 0
        self._first_batch = 0
        self._next_batch = 0  # what has been handed out of the epoch, also to workers that are ahead of the trainer
        self._resumed = False

    @property
    def epoch(self) -> int:
        """The present epoch; give it to `SSLCachedDataset.set_epoch`, too."""
        return self._epoch

    @property
    def next_epoch(self) -> int:
        """The epoch that the next iteration visits: the one after `epoch` where that was visited to its end."""
        return self._epoch + 1 if self._has_ended else self._epoch

    @property
    def first_batch(self) -> int:
        """How many batches of its epoch the next iteration leaves out: 0, or what `load_state_dict` was told."""
        return 0 if self._has_ended else self._first_batch

    @property
    def sampler(self) -> PatchSampler:
        """The sampler itself, because Lightning tells the epoch to ``batch_sampler.sampler``."""
        return self

    @property
    def _has_ended(self) -> bool:
        return self._next_batch >= len(self) > 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that is visited next, from its beginning, or from where `load_state_dict` has set it."""
        if not (self._resumed and epoch == self._epoch):
            self._place(epoch, 0)

    def _place(self, epoch: int, first_batch: int) -> None:
        self._epoch, self._first_batch, self._next_batch = epoch, first_batch, first_batch

    def __len__(self) -> int:
        """Batches of an epoch on this rank, however many of them a resumed epoch still has."""
        per_step = self._batch_size * self._world_size
        whole, rest = divmod(len(self._images), per_step)
        return whole + (rest > 0 and not self._drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        """The batches from `first_batch` to the end of the epoch; once it was visited to its end, the next epoch's."""
        self._place(self.next_epoch, self.first_batch)
        self._resumed = False
        batches = rank_batches(
            self._order(),
            batch_size=self._batch_size,
            rank=self._rank,
            world_size=self._world_size,
            drop_last=self._drop_last,
        )
        for number in range(self._first_batch, len(batches)):
            self._next_batch = number + 1
            yield batches[number].tolist()

    def _order(self) -> NDArray[np.int64]:
        random = np.random.default_rng((self._seed, self._epoch))
        if self._shuffle == "full":
            return self._indices[spread_order(self._images, random)]
        if self._shuffle == "block":
            order = block_order(self._images, self._shards, shards_per_block=_SHARDS_PER_BLOCK, random=random)
            return self._indices[order]
        return self._indices

    def state_dict(self, *, num_batches: int | None = None) -> dict[str, Any]:
        """Where the epoch is: a few numbers and strings, the same on every rank.

        Parameters
        ----------
        num_batches : int, optional
            Batches of this epoch that the trainer has finished, those before it was resumed included. A loader with
            workers asks for batches ahead of time, so that the sampler's own count, used where this is not given, is
            ahead of the trainer.

        Raises
        ------
        ConfigError
            If the epoch has not so many batches.
        """
        done = self._next_batch if num_batches is None else num_batches
        if not 0 <= done <= len(self):
            raise ConfigError(f"num_batches must lie in 0 .. {len(self)}, the batches of an epoch, got {done}")
        return {"epoch": self._epoch, "num_batches": done, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken; the number of loader workers may differ.

        Where that was the end of an epoch, `epoch` is the next one.

        Raises
        ------
        ConfigError
            If the state belongs to another store, choice of patches, seed, batch size, world size or kind of shuffle.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise ConfigError(f"the saved order has {name} {state.get(name)!r}, this sampler has {value!r}")
        epoch, done = state["epoch"], state["num_batches"]
        self._place(*((epoch + 1, 0) if done >= len(self) > 0 else (epoch, done)))
        self._resumed = True

    def _identity(self) -> dict[str, Any]:
        return {
            "store": self._fingerprint,
            "patches": self._indices_sha256,
            "seed": self._seed,
            "batch_size": self._batch_size,
            "world_size": self._world_size,
            "shuffle": self._shuffle,
            "drop_last": self._drop_last,
        }


def _visited(indices: ArrayLike | None, num_patches: int) -> NDArray[np.int64]:
    """The patches that are visited, ascending: int64 (n,)."""
    if indices is None:
        return np.arange(num_patches, dtype=np.int64)
    given = np.asarray(indices)
    if given.size == 0:
        raise ConfigError("indices must name at least one patch")
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise ConfigError(f"indices must be a list of integers, got {given.dtype} of shape {given.shape}")
    ascending: NDArray[np.int64] = np.sort(given).astype(np.int64)
    if not 0 <= ascending[0] <= ascending[-1] < num_patches:
        raise ConfigError(f"indices must lie in 0 .. {num_patches - 1}, got {ascending[0]} .. {ascending[-1]}")
    (again,) = np.nonzero(np.diff(ascending) == 0)
    if len(again):
        raise ConfigError(f"indices must not repeat a patch, got {ascending[again[0]]} more than once")
    return ascending
