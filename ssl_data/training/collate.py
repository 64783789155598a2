"""Making a batch of samples, and bringing it from a loader's worker to the trainer."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate, get_worker_info

from ssl_data.errors import InputError
from ssl_data.training.batch import SSGBatch, require
from ssl_data.training.buffers import Place, ReceivedBlocks, SentBlocks, find_place, take_arrays
from ssl_data.training.samples import Samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["Batch", "collate"]


class Batch(dict[str, Any]):
    """A batch: a dictionary by name. Its tensors cross between processes without being copied."""


def collate(samples: Sequence[Mapping[str, Any]]) -> Batch:
    """Make a batch of samples: the ``collate_fn`` of a `torch.utils.data.DataLoader`.

    Parameters
    ----------
    samples : sequence of mappings
        Items of an `SSLCachedDataset`; all with the same fields.

    Returns
    -------
    Batch
        A dictionary: tensors stacked, e.g. "gt" float32 (B, 3, H, W); the samples' "ssg" joined to one `SSGBatch`,
        whose image indices count the samples; strings listed; numbers as a tensor (B,).

    Raises
    ------
    InputError
        For no samples, differing fields or shapes, or graphs that do not go together.
    """
    if not samples:
        raise InputError("samples must not be empty")
    if isinstance(samples, Samples) and samples.is_whole:
        batch = Batch(samples.together())
        batch.update(collate(samples.fields))
        return batch
    for number, sample in enumerate(samples):
        if sample.keys() != samples[0].keys():
            raise InputError(f"samples must have the same fields, but sample {number} has {sorted(sample)}")
    batch = Batch()
    for name, first in samples[0].items():
        column = [sample[name] for sample in samples]
        if isinstance(first, SSGBatch):
            batch[name] = _join(column)
            continue
        if isinstance(first, Tensor):
            for number, tensor in enumerate(column):
                rule = f"have the shape {tuple(first.shape)} of sample 0"
                require(tensor.shape == first.shape, f"{name} of sample {number}", rule, tuple(tensor.shape))
            batch[name] = _joined([tensor[None] for tensor in column])
            continue
        batch[name] = default_collate(column)
    return batch


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors one after the other along their first axis: a view of them, where they lie so in memory already."""
    first = tensors[0]
    storage, place = first.untyped_storage().data_ptr(), first.storage_offset()
    for tensor in tensors:
        is_next = tensor.untyped_storage().data_ptr() == storage and tensor.storage_offset() == place
        if not (is_next and tensor.is_contiguous() and tensor.dtype == first.dtype) or tensor.requires_grad:
            return _concatenated(tensors)
        place += tensor.numel()
    values = first.as_strided((sum(tensor.numel() for tensor in tensors),), (1,))
    return values.view(sum(map(len, tensors)), *first.shape[1:])  # strides of axes of length 1 say nothing


def _concatenated(tensors: Sequence[Tensor]) -> Tensor:
    """A copy; in a loader's worker, in memory that is used again."""
    first = tensors[0]
    if get_worker_info() is None or any(tensor.dtype != first.dtype or not _is_plain(tensor) for tensor in tensors):
        return torch.cat(list(tensors))
    shape = (sum(map(len, tensors)), *first.shape[1:])
    (out,) = take_arrays((shape, first.numpy().dtype.type))
    return torch.cat(list(tensors), out=torch.from_numpy(out))


def _join(graphs: list[SSGBatch]) -> SSGBatch:
    kind = "values" if graphs[0].codes is None else "codes"
    rule_of_type = f"hold {graphs[0].graphs.dtype}, as sample 0"
    for number, one in enumerate(graphs):
        where = f"ssg of sample {number}"
        require(getattr(one, kind) is not None, where, f"hold {kind}, as sample 0", "none")
        rule = f"have K = {graphs[0].num_positions}, as sample 0"
        require(one.num_positions == graphs[0].num_positions, where, rule, one.num_positions)
        require(one.extent[0] <= 0, where, "belong to one image", f"image index {one.extent[0]}")
        require(one.graphs.dtype == graphs[0].graphs.dtype, where, rule_of_type, one.graphs.dtype)
    numbers = np.repeat(np.arange(len(graphs), dtype=np.int32), [len(one) for one in graphs])
    return SSGBatch(
        image=torch.from_numpy(numbers).to(graphs[0].image),
        row=_joined([one.row for one in graphs]),
        col=_joined([one.col for one in graphs]),
        **{kind: _joined([one.graphs for one in graphs])},
    )


# How a batch travels: queues between processes send the places of its tensors. It is copied and saved the usual way.

_SENT_BY_VALUE = 1 << 20
"""Tensors of at most so many bytes that lie in no block go through the pipe; a shared file for each would cost more."""
_NUMPY_TYPES = {
    *(torch.bool, torch.uint8, torch.uint16, torch.int32, torch.int64),
    *(torch.float16, torch.float32, torch.float64),
}


@dataclass(frozen=True)
class _Values:
    array: NDArray[Any]


@dataclass(frozen=True)
class _Graphs:
    """The packed parts of an `SSGBatch`."""

    parts: dict[str, Any]


def _is_plain(tensor: Tensor) -> bool:
    """Whether NumPy can look at it."""
    is_dense = type(tensor) is Tensor and tensor.layout == torch.strided and tensor.device.type == "cpu"
    return is_dense and tensor.dtype in _NUMPY_TYPES and not tensor.requires_grad


def _pack(value: object) -> object:
    """A tensor as its place in a block or as values, anything else as it is."""
    if isinstance(value, SSGBatch):
        return _Graphs({name: _pack(part) for name, part in vars(value).items()})
    if not isinstance(value, Tensor) or not _is_plain(value):
        return value
    array = value.numpy()
    place = find_place(array) if value.is_contiguous() else None
    if place is not None:
        return place
    return _Values(array) if array.nbytes <= _SENT_BY_VALUE else value


def _unpack(packed: object, received: ReceivedBlocks) -> Any:  # noqa: ANN401 - whatever a batch holds
    if isinstance(packed, _Graphs):
        return SSGBatch.unchecked(**{name: _unpack(part, received) for name, part in packed.parts.items()})
    if isinstance(packed, Place):
        return torch.from_numpy(received.array(packed))
    return torch.from_numpy(packed.array) if isinstance(packed, _Values) else packed


def _places(packed: Iterable[object]) -> Iterator[Place]:
    for part in packed:
        if isinstance(part, _Graphs):
            yield from _places(part.parts.values())
        elif isinstance(part, Place):
            yield part


def _reduce(batch: Batch) -> tuple[Callable[..., Batch], tuple[dict[str, object], SentBlocks]]:
    packed = {name: _pack(value) for name, value in batch.items()}
    # The blocks come last: where something else cannot be pickled, nothing has been sent.
    return _rebuild, (packed, SentBlocks({place.key for place in _places(packed.values())}))


def _rebuild(packed: dict[str, object], received: ReceivedBlocks) -> Batch:
    return Batch({name: _unpack(part, received) for name, part in packed.items()})


ForkingPickler.register(Batch, _reduce)
