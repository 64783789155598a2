"""`PatchLoader`: a PyTorch loader that knows where its trainer is, whatever its workers have fetched ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

from ssl_data.training.collate import collate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ssl_data.training.dataset import SSLCachedDataset
    from ssl_data.training.sampler import PatchSampler

__all__ = ["PatchLoader"]


class PatchLoader(DataLoader[dict[str, Any]]):
    """A `torch.utils.data.DataLoader` of an `SSLCachedDataset` in the order of a `PatchSampler`.

    Sampler and dataset are always in the same epoch, and `state_dict` counts the batches that the trainer was given,
    not those that workers have asked for.

    Parameters
    ----------
    dataset : SSLCachedDataset
    batch_sampler : PatchSampler
    **options
        Of `torch.utils.data.DataLoader`; ``collate_fn`` is `collate` where it is not given.
    """

    dataset: SSLCachedDataset
    batch_sampler: PatchSampler

    def __init__(self, dataset: SSLCachedDataset, batch_sampler: PatchSampler, **options: Any) -> None:  # noqa: ANN401
        super().__init__(dataset, batch_sampler=batch_sampler, **{"collate_fn": collate, **options})
        self._given = (batch_sampler.epoch, batch_sampler.first_batch)

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]  # lazier than the iterator it declares
        """The batches from where `set_epoch` or `load_state_dict` has set it; else of one epoch after the other.

        Workers start with the first batch that is asked for, not before.
        """
        epoch, num_batches = self.batch_sampler.next_epoch, self.batch_sampler.first_batch
        self.dataset.set_epoch(epoch)
        for number, batch in enumerate(super().__iter__(), start=num_batches + 1):
            self._given = (epoch, number)
            yield batch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that is visited next, from its beginning, or from where `load_state_dict` has set it."""
        self.batch_sampler.set_epoch(epoch)
        self._given = (epoch, self.batch_sampler.first_batch)

    def state_dict(self) -> dict[str, Any]:
        """Where the trainer is: after the batch that it was given last. The same on every rank."""
        epoch, num_batches = self._given
        if epoch != self.batch_sampler.epoch:  # which was set directly, and no batch of it given yet
            num_batches = self.batch_sampler.first_batch
        return self.batch_sampler.state_dict(num_batches=num_batches)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after that batch; the number of workers may differ. Errors as those of `PatchSampler`."""
        self.batch_sampler.load_state_dict(state)
        self._given = (self.batch_sampler.epoch, self.batch_sampler.first_batch)
