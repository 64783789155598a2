"""Golden cases: the condensed files of this repository and, where they are at hand, the full ones."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from ssl_data import SSGSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

REPOSITORY = Path(__file__).parents[2]
CONDENSED = REPOSITORY / "tests" / "golden"
SHARED = Path(os.environ.get("SSL_DATA_SHARED", REPOSITORY.parent / "shared"))
FULL = SHARED / "golden" / "ssg"
STEMS = sorted(path.stem for path in CONDENSED.glob("*.npz"))
assert len(STEMS) == 12, f"golden files are missing in {CONDENSED}"

VARIANTS = {
    "k11w5h0.01": SSGSpec(search_size=11, window_size=5, bandwidth=0.01),
    "k9w3h0.004": SSGSpec(search_size=9, window_size=3),
    "paper_real": SSGSpec(boundary="image"),
    "paper_s3": SSGSpec(search_stride=3),
    "paper_s3real": SSGSpec(boundary="image", search_stride=3),
}


class Case:
    """One golden file; arrays are read when asked for.

    The condensed and the full file of one name hold the same images (a test compares them), so that what is computed
    from them may be cached under the name.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self._arrays = np.load(path)
        self.is_batch = self["gt_u8"].ndim == 4
        self.gradient_step = int(self["gradient_step"]) if "gradient_step" in self else 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Case) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __contains__(self, name: str) -> bool:
        return name in self._arrays.files

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def images(self, name: str) -> np.ndarray:
        """An image array with the batch axis that single images do not have: (B, H, W, 3) or (B, H, W)."""
        return self[name] if self.is_batch else self[name][None]

    def specs(self) -> list[tuple[str, SSGSpec]]:
        """Prefix of array names, and the spec they were made with."""
        prefixes = [("", SSGSpec())]
        return prefixes + [(f"v_{name}_", spec) for name, spec in VARIANTS.items() if f"v_{name}_rows" in self]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Threads only slow down operations on small images, the more so beside other tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _param(folder: Path, stem: str, kind: str) -> object:
    path = folder / f"{stem}.npz"
    if kind == "condensed" or path.is_file():
        return pytest.param(path, id=f"{kind}-{stem}")
    reason = f"no full golden files in {folder}; SSL_DATA_SHARED may name the folder that holds golden/"
    return pytest.param(path, id=f"{kind}-{stem}", marks=pytest.mark.skip(reason=reason))


def _params(select: Callable[[str], bool], kinds: Sequence[str] = ("condensed", "full")) -> list[object]:
    stems = [stem for stem in STEMS if select(stem)]
    return [_param(CONDENSED if kind == "condensed" else FULL, stem, kind) for kind in kinds for stem in stems]


@cache
def _open(path: Path) -> Case:
    return Case(path)


def _is_single(stem: str) -> bool:
    return "batch" not in stem


def _has_edge_pixels(stem: str) -> bool:
    return "flat" not in stem


@pytest.fixture(params=_params(lambda _: True))
def case(request: pytest.FixtureRequest) -> Case:
    return _open(request.param)


@pytest.fixture(params=_params(_is_single))
def single_case(request: pytest.FixtureRequest) -> Case:
    return _open(request.param)


@pytest.fixture(params=_params(_has_edge_pixels))
def case_with_edges(request: pytest.FixtureRequest) -> Case:
    return _open(request.param)


@pytest.fixture(params=_params(lambda stem: _is_single(stem) and _has_edge_pixels(stem)))
def single_case_with_edges(request: pytest.FixtureRequest) -> Case:
    return _open(request.param)


@pytest.fixture(params=_params(lambda stem: stem[:3] in {"d01", "d02", "d05", "d06", "d07", "d09"}))
def case_with_variants(request: pytest.FixtureRequest) -> Case:
    return _open(request.param)


@pytest.fixture(params=_params(lambda stem: not _is_single(stem)))
def batch_case(request: pytest.FixtureRequest) -> Case:
    return _open(request.param)


@pytest.fixture(params=_params(lambda stem: _is_single(stem) and _has_edge_pixels(stem), ["full"]))
def full_single_case_with_edges(request: pytest.FixtureRequest) -> Case:
    return _open(request.param)


@pytest.fixture(params=STEMS)
def both_files(request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """The condensed and the full file of one name."""
    condensed, full = (folder / f"{request.param}.npz" for folder in (CONDENSED, FULL))
    if not full.is_file():
        pytest.skip(f"no full golden files in {FULL}; SSL_DATA_SHARED may name the folder that holds golden/")
    return condensed, full
