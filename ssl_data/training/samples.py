"""Samples that were read together: a batch already, of which single samples are made only for those who ask."""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import torch

from ssl_data.training.batch import SSGBatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["Samples"]

_ONE_IMAGE = torch.zeros(1, dtype=torch.int32)


@dataclass(kw_only=True, eq=False, repr=False)
class Samples(MutableSequence[dict[str, Any]]):
    """Some samples of an `SSLCachedDataset`, to be used like a list. They share the batch's memory.

    Whoever takes one may change it; from then on they are samples like any others, which `collate` has to join.
    """

    images: Mapping[str, Tensor]
    """(B, C, H, W), by name."""
    codes: Tensor
    """(N, K): the graphs of all samples, one after the other."""
    image: Tensor
    """int32 (N,): the sample of each."""
    row: Tensor
    col: Tensor
    counts: Sequence[int]
    """Graphs of each sample."""
    extents: Sequence[tuple[int, int]]
    """Largest row and col of each sample, -1 where it has no graphs."""
    patch_ids: list[str]
    fields: Sequence[Mapping[str, Tensor]]
    """What a degradation adds to each sample."""
    _apart: list[dict[str, Any]] | None = field(default=None, init=False)

    def __len__(self) -> int:
        return len(self.counts if self._apart is None else self._apart)

    def __repr__(self) -> str:
        return f"<Samples: {len(self)}>"

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        return self._samples()[index]

    @overload
    def __setitem__(self, index: int, sample: dict[str, Any]) -> None: ...
    @overload
    def __setitem__(self, index: slice, sample: Iterable[dict[str, Any]]) -> None: ...
    def __setitem__(self, index: Any, sample: Any) -> None:
        self._samples()[index] = sample

    def __delitem__(self, index: int | slice) -> None:
        del self._samples()[index]

    def insert(self, index: int, value: dict[str, Any]) -> None:
        """As a list does."""
        self._samples().insert(index, value)

    def _samples(self) -> list[dict[str, Any]]:
        if self._apart is None:
            self._apart = self._take_apart()
        return self._apart

    @property
    def is_whole(self) -> bool:
        """Whether nobody has taken a sample."""
        return self._apart is None

    def together(self) -> dict[str, Any]:
        """The batch, but for what a degradation adds."""
        last = max((number for number, count in enumerate(self.counts) if count), default=-1)
        rows, cols = zip(*self.extents, strict=True)
        extent = (last, max(rows), max(cols))
        graphs = {"codes": self.codes, "image": self.image, "row": self.row, "col": self.col}
        return {**self.images, "ssg": SSGBatch.unchecked(**graphs, extent=extent), "patch_id": list(self.patch_ids)}

    def _take_apart(self) -> list[dict[str, Any]]:
        parts = zip(*(part.split_with_sizes(self.counts) for part in (self.codes, self.row, self.col)), strict=True)
        return [
            {
                **{name: images[number] for name, images in self.images.items()},
                "ssg": _one_image(codes, row, col, self.extents[number]),
                "patch_id": self.patch_ids[number],
                **self.fields[number],
            }
            for number, (codes, row, col) in enumerate(parts)
        ]


def _one_image(codes: Tensor, row: Tensor, col: Tensor, extent: tuple[int, int]) -> SSGBatch:
    count = len(row)
    whole = (0 if count else -1, *extent)
    return SSGBatch.unchecked(codes=codes, image=_ONE_IMAGE.expand(count), row=row, col=col, extent=whole)
