"""`SSLCachedDataset`: a store as a map-style PyTorch dataset."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Self, get_args

import numpy as np
import torch
from torch.utils.data import Dataset

from ssl_data.errors import ConfigError
from ssl_data.kernels.sample import mark_pixels
from ssl_data.kernels.turn import unit_range
from ssl_data.store.reader import Store, open_store
from ssl_data.training.augment import Augmentation, flip_probability
from ssl_data.training.buffers import take_arrays
from ssl_data.training.degradation import BICUBIC, Degradation, draw_degradation, find_degradation
from ssl_data.training.graphs import Border, GraphPlan, compute_graphs, plan_graphs, read_graphs
from ssl_data.training.recipes import Recipe, load_recipe, recipe_options
from ssl_data.training.samples import Samples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Border", "SSLCachedDataset"]


class SSLCachedDataset(Dataset[dict[str, Any]]):
    """Patches, or random crops of them, with the self-similarity graphs of their edge pixels.

    Parameters
    ----------
    store : str, Path or Store
        A complete store.
    crop_size : int, optional
        Side of the random crops, in pixels; whole patches where not given.
    border : {"exact", "interior", "cached"}
        What to do with edge pixels whose search area leaves the crop, so that the stored graph is not the crop's.
        "exact": compute their graphs anew from the crop, as if nothing were stored. "interior": leave them out.
        "cached": keep the stored graphs, which saw more of the image than the crop holds.
    hflip, vflip, transpose : bool or float
        Probability of each, in this order; True is one half. Graphs move with their pixels, exactly.
    edge_stride : int, optional
        Keep only edge pixels with ``row % edge_stride == col % edge_stride``, counted in the sample as it comes out.
        Needs a store of all edge pixels. Without it, or where it is the store's own, all stored graphs are used; those
        of a store with an edge_stride keep the pattern of the patch, moved by crops and flips.
    seed : int
        Of crops, flips and degradations.
    degradation : str or Degradation, optional
        What a trainer needs that makes the low-quality images itself: a name from `ssl_data.training.degradation`, e.g.
        "realesrgan", or an object of one's own. Its fields take the place of "lq". "bicubic" stands for the stored
        low-quality patches, and insists on them.

    Raises
    ------
    ConfigError
        For a crop that does not fit, or an `edge_stride` or a `degradation` the store cannot serve.
    StoreError
        If the store cannot be opened.

    Notes
    -----
    A sample is a dictionary: "gt" float32 (3, H, W) RGB in [0, 1]; "gt_mask" float32 (1, H, W), 1 at the edge pixels
    that have a graph in this sample; "lq" float32 (3, H/s, W/s) where the store holds low-quality patches, or
    else the fields of the `degradation`; "ssg" `SSGBatch` of this one image, rows in row-major order of the edge
    pixels; "patch_id" str. Use `collate` as the loader's ``collate_fn``. Samples are a pure function of (seed, epoch,
    index).
    """

    def __init__(  # noqa: PLR0913 - the public contract: each is a choice of its own
        self,
        store: str | Path | Store,
        *,
        crop_size: int | None = None,
        border: Border = "exact",
        hflip: bool | float = False,
        vflip: bool | float = False,
        transpose: bool | float = False,
        edge_stride: int | None = None,
        seed: int = 0,
        degradation: str | Degradation | None = None,
    ) -> None:
        self.store = store if isinstance(store, Store) else open_store(store)
        if border not in get_args(Border):
            raise ConfigError(f"border must be one of {', '.join(get_args(Border))}, got {border!r}")
        if seed < 0:
            raise ConfigError(f"seed must be >= 0, got {seed}")
        self._border = border
        self._load_stride = self._check_edge_stride(edge_stride)
        self._degradation = find_degradation(degradation)
        if degradation == BICUBIC and self.store.lq_scale is None:
            raise ConfigError(f"degradation 'bicubic' needs low-quality patches, which {self.store.url} does not hold")
        self._augmentation = Augmentation(
            patch_size=self.store.patch_size,
            crop_size=self._check_crop_size(crop_size),
            grid=self.store.lq_scale or 1,
            hflip=flip_probability("hflip", hflip),
            vflip=flip_probability("vflip", vflip),
            transpose=flip_probability("transpose", transpose),
            seed=seed,
        )
        # In shared memory, so that workers which live on from one epoch to the next see the new one.
        self._epoch: torch.Tensor = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    @classmethod
    def from_recipe(
        cls,
        recipe: str | Recipe,
        store: str | Path | Store,
        *,
        seed: int = 0,
        **changes: Any,  # noqa: ANN401 - any option of the class
    ) -> Self:
        """The dataset that a published model is trained with.

        Parameters
        ----------
        recipe : str or Recipe
            E.g. "ESRGAN-SSL", see ``ssl-data datasets --recipes``, or the path of a recipe file.
        store : str, Path or Store
            A complete store.
        seed : int
            Of crops, flips and degradations.
        **changes
            Options of the class which differ from the recipe's, e.g. ``crop_size=96``.

        Raises
        ------
        ConfigError
            For an unknown or faulty recipe, or an option that cannot be served.
        StoreMismatchError
            If the store does not hold what the recipe needs; every difference is listed.
        """
        recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
        store = store if isinstance(store, Store) else open_store(store)
        return cls(store, seed=seed, **recipe_options(recipe, store, changes))

    def _check_crop_size(self, crop_size: int | None) -> int:
        patch_size, spec = self.store.patch_size, self.store.spec
        if crop_size is None:
            return patch_size
        if not spec.min_side <= crop_size <= patch_size:
            raise ConfigError(f"crop_size must lie in {spec.min_side} .. {patch_size} (a patch), got {crop_size}")
        scale = self.store.lq_scale
        if scale is not None and crop_size % scale:
            raise ConfigError(f"crop_size must be a multiple of the store's lq_scale {scale}, got {crop_size}")
        return crop_size

    def _check_edge_stride(self, edge_stride: int | None) -> int:
        """The stride still to be applied to the stored edge pixels."""
        stored = self.store.edge_stride
        if edge_stride is None or edge_stride == stored:
            return 1
        if edge_stride < 1:
            raise ConfigError(f"edge_stride must be >= 1, got {edge_stride}")
        if stored != 1:
            raise ConfigError(
                f"edge_stride {edge_stride} needs a store of all edge pixels, this one has stride {stored}"
            )
        return edge_stride

    def __len__(self) -> int:
        return self.store.num_patches

    def set_epoch(self, epoch: int) -> None:
        """Choose which crops and flips are drawn; also reaches workers that are already running."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample, see the notes of the class."""
        return self._read([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> Sequence[dict[str, Any]]:
        """Several samples, which is what a loader asks for; they lie side by side, so that `collate` copies nothing."""
        if type(self).__getitem__ is not SSLCachedDataset.__getitem__:  # a subclass makes something else of a sample
            return [self[index] for index in indices]
        return self._read(indices) if len(indices) else []

    def _draw_epoch(self) -> int:
        """The epoch of the next sample."""
        return int(self._epoch)

    def _read(self, indices: Sequence[int]) -> Samples:
        epochs = [self._draw_epoch() for _ in indices]
        plans = [self._plan(range(len(self))[index], epoch) for index, epoch in zip(indices, epochs, strict=True)]
        memory = self._take_memory(plans)
        counts = [len(plan) for plan in plans]
        outs = [memory["codes"][first:stop] for first, stop in pairwise(accumulate(counts, initial=0))]
        for number, (plan, out) in enumerate(zip(plans, outs, strict=True)):
            self._fill(plan, out, {name: memory[name][number] for name in _IMAGES if name in memory})
        np.concatenate([plan.pixels.row for plan in plans], out=memory["row"])
        np.concatenate([plan.pixels.col for plan in plans], out=memory["col"])
        memory["image"][:] = np.repeat(np.arange(len(plans), dtype=np.int32), counts)
        tensors = {name: torch.from_numpy(array) for name, array in memory.items()}
        samples = Samples(
            images={name: tensors.pop(name) for name in _IMAGES if name in tensors},
            **tensors,
            counts=counts,
            extents=[plan.extent for plan in plans],
            patch_ids=[self.store.patch_id(plan.index) for plan in plans],
            fields=[self._draw_fields(plan.index, epoch) for plan, epoch in zip(plans, epochs, strict=True)],
        )
        # At the end: after a few MB of graphs, nothing of what Python works with is in the core's cache any more.
        read_graphs(self.store, plans, outs)
        return samples

    def _draw_fields(self, index: int, epoch: int) -> dict[str, torch.Tensor]:
        if self._degradation is None:
            return {}
        fields = draw_degradation(self._degradation, seed=self._augmentation.seed, epoch=epoch, index=index)
        return {name: torch.from_numpy(array) for name, array in fields.items()}

    def _fill(self, plan: GraphPlan, codes: NDArray[Any], images: Mapping[str, NDArray[np.float32]]) -> None:
        """The images of a sample, and those of its graphs that are computed from one."""
        image = self.store.read_gt(plan.index, plan.window)
        unit_range(image, plan.turn, images["gt"])
        compute_graphs(self.store, plan, image, codes)
        mark_pixels(plan.pixels.row, plan.pixels.col, images["gt_mask"][0])
        if "lq" in images:
            unit_range(self.store.read_lq(plan.index, plan.window), plan.turn, images["lq"])

    def _plan(self, index: int, epoch: int) -> GraphPlan:
        window, turn = self._augmentation.draw(epoch=epoch, index=index)
        return plan_graphs(self.store, index, window, turn, border=self._border, edge_stride=self._load_stride)

    def _take_memory(self, plans: Sequence[GraphPlan]) -> dict[str, NDArray[Any]]:
        """Uninitialised arrays for some samples: gt, gt_mask, lq if wanted, and codes and places of all graphs."""
        count, size, num_graphs = len(plans), self._augmentation.crop_size, sum(map(len, plans))
        layouts: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
            "gt": ((count, 3, size, size), np.float32),
            "gt_mask": ((count, 1, size, size), np.float32),
            "codes": ((num_graphs, self.store.spec.num_positions), self.store.code_type.type),
            **dict.fromkeys(("image", "row", "col"), ((num_graphs,), np.int32)),
        }
        if self._degradation is None and self.store.lq_scale is not None:
            side = size // self.store.lq_scale
            layouts["lq"] = ((count, 3, side, side), np.float32)
        return dict(zip(layouts, take_arrays(*layouts.values()), strict=True))


_IMAGES = ("gt", "gt_mask", "lq")
