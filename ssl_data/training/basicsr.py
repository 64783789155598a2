"""`SSLCachedDataset` as a dataset type of BasicSR's option files.

BasicSR imports every file ``basicsr/data/*_dataset.py`` of its own tree. One more such file makes the type known::

    # basicsr/data/ssl_cached_dataset.py
    from ssl_data.training.basicsr import register

    register()

and an option file can then say ``type: SSLCachedDataset``, see docs/recipes.md. Importing this module does not need
BasicSR.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data._utils.collate import default_collate_fn_map

from ssl_data.errors import ConfigError, MissingDependencyError
from ssl_data.store.reader import open_store
from ssl_data.training import dataset
from ssl_data.training.batch import SSGBatch
from ssl_data.training.collate import collate
from ssl_data.training.recipes import load_recipe, recipe_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ssl_data.store.reader import Store

__all__ = ["SSLCachedDataset", "dataset_options", "register"]

_OPTIONS = {
    "gt_size": ("crop_size",),
    "use_hflip": ("hflip",),
    "use_rot": ("vflip", "transpose"),
    "border": ("border",),
    "edge_stride": ("edge_stride",),
    "degradation": ("degradation",),
}
"""What an option of an option file is called here; the names of BasicSR where it has one."""

_READ_BY_BASICSR = {
    "name",
    "type",
    "phase",
    "batch_size_per_gpu",
    "num_worker_per_gpu",
    "dataset_enlarge_ratio",
    "prefetch_mode",
    "num_prefetch_queue",
    "pin_memory",
    "persistent_workers",
    "use_shuffle",
}
_KNOWN = {*_OPTIONS, *_READ_BY_BASICSR, "store", "recipe", "seed", "scale"}


def dataset_options(opt: Mapping[str, Any], store: Store) -> dict[str, Any]:
    """The options of the library's `SSLCachedDataset` behind the dataset section of an option file.

    Parameters
    ----------
    opt : mapping
        The section, with BasicSR's "scale" of the whole file; options that are null count as not given.
    store : Store
        The store that it names.

    Raises
    ------
    ConfigError
        For an option that nobody would read, or a scale that the store does not have.
    StoreMismatchError
        If the store does not hold what the recipe needs.
    """
    unknown = sorted(set(opt) - _KNOWN)
    if unknown:
        raise ConfigError(f"SSLCachedDataset has no option {', '.join(unknown)}; known: {', '.join(sorted(_KNOWN))}")
    if store.lq_scale is not None and opt.get("scale") not in {None, store.lq_scale}:
        raise ConfigError(f"scale is {opt['scale']} in the option file, {store.lq_scale} in the store {store.url}")
    options = {own: opt[name] for name, names in _OPTIONS.items() for own in names if opt.get(name) is not None}
    if opt.get("recipe") is not None:
        options = recipe_options(load_recipe(opt["recipe"]), store, options)
    return {**options, "seed": opt.get("seed") or 0}


class SSLCachedDataset(dataset.SSLCachedDataset):
    """The library's dataset, built from the dataset section of an option file.

    Parameters
    ----------
    opt : dict
        The section: "store", and "recipe" or single options; docs/recipes.md lists them.

    Raises
    ------
    ConfigError, StoreError
        See `dataset_options` and the library's class.

    Notes
    -----
    BasicSR tells its samplers the epoch, but not its datasets. Until `set_epoch` is called, every access therefore
    draws its crop, flips and degradation from torch's random state, which BasicSR seeds; from then on they are a pure
    function of (seed, epoch, index).
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt  # BasicSR's validation reads it
        if opt.get("store") is None:
            raise ConfigError("a dataset of type SSLCachedDataset needs the option 'store', the path of a store")
        store = open_store(opt["store"])
        super().__init__(store, **dataset_options(opt, store))
        self._epoch.fill_(-1)  # until the trainer chooses one

    def _draw_epoch(self) -> int:
        chosen = super()._draw_epoch()
        return chosen if chosen >= 0 else int(torch.randint(2**62, ()))


def register() -> None:
    """Make the type known to BasicSR; calling it again changes nothing.

    Raises
    ------
    MissingDependencyError
        If BasicSR is not installed or cannot be imported.
    """
    try:
        registry = import_module("basicsr.utils.registry").DATASET_REGISTRY
    except ImportError as error:
        raise MissingDependencyError(
            f"the dataset type SSLCachedDataset needs BasicSR ({error}): pip install basicsr, or run from the tree of "
            "a project that contains it. Where torchvision.transforms.functional_tensor is missing, BasicSR 1.4.2 is "
            "too old for the installed torchvision: import rgb_to_grayscale from torchvision.transforms.functional in "
            "basicsr/data/degradations.py"
        ) from error
    if SSLCachedDataset.__name__ not in registry:
        registry.register(SSLCachedDataset)


def _collate_graphs(graphs: Sequence[SSGBatch], *, collate_fn_map: object = None) -> SSGBatch:  # noqa: ARG001 - torch's protocol
    batch: SSGBatch = collate([{"ssg": one} for one in graphs])["ssg"]
    return batch


# BasicSR's loader has no option for a collate function. This is torch's way of teaching the default one a type. It
# happens at import, so that it also happens in a worker process to which a dataset is sent.
default_collate_fn_map[SSGBatch] = _collate_graphs
