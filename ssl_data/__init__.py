"""Precomputed self-similarity graphs for the Self-similarity Loss (SSL, ACM MM 2024).

``import ssl_data`` loads NumPy and nothing heavier; names that need zarr, pyarrow or torch are resolved on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ssl_data.config import BuildConfig, EdgeSpec, FilterSpec, ImageSpec, MultiscaleSpec, PatchSpec, SSGSpec, StoreSpec
from ssl_data.errors import MissingDependencyError, Problem, SSLDataError
from ssl_data.kernels.edges import edge_mask, edge_pixels
from ssl_data.kernels.quantize import decode_codes
from ssl_data.kernels.ssg import available_backends, self_similarity_graph

if TYPE_CHECKING:
    from ssl_data.pipeline.run import BuildReport, build
    from ssl_data.pipeline.verify import verify_store
    from ssl_data.store.reader import Store, open_store
    from ssl_data.training.batch import SSGBatch
    from ssl_data.training.collate import collate
    from ssl_data.training.dataset import SSLCachedDataset
    from ssl_data.training.loader import PatchLoader
    from ssl_data.training.loss import SelfSimilarityLoss, SSLTerms
    from ssl_data.training.sampler import PatchSampler

__all__ = [
    "BuildConfig",
    "BuildReport",
    "EdgeSpec",
    "FilterSpec",
    "ImageSpec",
    "MultiscaleSpec",
    "PatchLoader",
    "PatchSampler",
    "PatchSpec",
    "Problem",
    "SSGBatch",
    "SSGSpec",
    "SSLCachedDataset",
    "SSLDataError",
    "SSLTerms",
    "SelfSimilarityLoss",
    "Store",
    "StoreSpec",
    "available_backends",
    "build",
    "collate",
    "decode_codes",
    "edge_mask",
    "edge_pixels",
    "open_store",
    "self_similarity_graph",
    "verify_store",
]

__version__ = "0.1.0"

_LAZY = {
    "BuildReport": "ssl_data.pipeline.run",
    "PatchLoader": "ssl_data.training.loader",
    "PatchSampler": "ssl_data.training.sampler",
    "SSGBatch": "ssl_data.training.batch",
    "SSLCachedDataset": "ssl_data.training.dataset",
    "SSLTerms": "ssl_data.training.loss",
    "SelfSimilarityLoss": "ssl_data.training.loss",
    "Store": "ssl_data.store.reader",
    "build": "ssl_data.pipeline.run",
    "collate": "ssl_data.training.collate",
    "open_store": "ssl_data.store.reader",
    "verify_store": "ssl_data.pipeline.verify",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(_LAZY[name])
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingDependencyError(f"ssl_data.{name} needs PyTorch: pip install 'ssl_data[train]'") from error
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
