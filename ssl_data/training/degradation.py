"""Random blur kernels and seeds for trainers that degrade the ground truth themselves.

Real-ESRGAN and its descendants make the low-quality images on the accelerator: blur, resize, noise and JPEG, twice.
Only the blur kernels come with the sample. This module draws them.

Sources: Real-ESRGAN's dataset and its option file ``train_realesrgan_x4plus.yml``; Zhang et al., "Designing a
Practical Degradation Model for Deep Blind Image Super-Resolution" (BSRGAN), ICCV 2021; for the weaker settings, the
configurations of the SSL authors.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ssl_data.errors import ConfigError
from ssl_data.training.blur_kernels import gaussian_kernel, plateau_kernel, sinc_kernel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = [
    "BICUBIC",
    "DEGRADATIONS",
    "KERNEL_SIZE",
    "BSRGANDegradation",
    "BlurSpec",
    "Degradation",
    "KernelDegradation",
    "draw_degradation",
    "find_degradation",
]

Range = tuple[float, float]

BICUBIC = "bicubic"
"""The degradation that needs no drawing: the low-quality patches of the store."""

KERNEL_SIZE = 21
"""Side of all kernels in a sample, in pixels; smaller ones are surrounded by zeros, which changes nothing."""

_WIDE_KERNEL = 13
"""From this size on, the lowest cut-off frequency of a sinc filter is pi/5 instead of pi/3."""

_NARROWEST = 0.01
"""Floor of BSRGAN's standard deviations, in pixels: such a kernel is a single 1, whereas 0 would give 0/0."""


class Degradation(Protocol):
    """Anything that draws what a trainer needs to degrade one image."""

    def draw(self, random: np.random.Generator) -> dict[str, NDArray[Any]]:
        """The arrays of one sample, by the name under which they appear in it."""


def _padded(kernel: NDArray[np.float64]) -> NDArray[np.float32]:
    """float32 (21, 21) with the kernel in the middle."""
    return np.pad(kernel.astype(np.float32), (KERNEL_SIZE - len(kernel)) // 2)


def _pulse() -> NDArray[np.float32]:
    """The kernel that changes nothing."""
    return _padded(np.ones((1, 1)))


def _draw_size(random: np.random.Generator, sizes: tuple[int, int]) -> int:
    """An odd number from the first to the last of `sizes`, all equally likely."""
    return int(random.integers(sizes[0] // 2, sizes[1] // 2 + 1)) * 2 + 1


def _draw_beta(random: np.random.Generator, betas: Range) -> float:
    """From below 1 and from above 1 equally often, however wide the two sides of the range are."""
    low, high = (betas[0], 1.0) if random.random() < 0.5 else (1.0, betas[1])
    return float(random.uniform(low, high))


@dataclass(frozen=True, kw_only=True)
class BlurSpec:
    """How one blur kernel is drawn."""

    sizes: tuple[int, int]
    """Smallest and largest side, in pixels; odd numbers in between are equally likely."""
    kinds: Mapping[str, float]
    """Probability of each shape: "iso", "aniso", and both with the prefix "generalized_" or "plateau_"."""
    sigma: Range
    """Standard deviations, in pixels; for anisotropic kernels two are drawn, and an angle from -pi to pi."""
    beta_gaussian: Range = (0.5, 4.0)
    """Exponent of generalised Gaussians, see `gaussian_kernel`."""
    beta_plateau: Range = (1.0, 2.0)
    """Exponent of plateaus, see `plateau_kernel`."""
    sinc: float
    """Probability of a sinc filter instead of any of the `kinds`."""

    def draw(self, random: np.random.Generator) -> NDArray[np.float64]:
        """A kernel of some size: float64 (size, size) with sum 1."""
        size = _draw_size(random, self.sizes)
        if random.random() < self.sinc:
            return sinc_kernel(size, random.uniform(np.pi / (3 if size < _WIDE_KERNEL else 5), np.pi))
        kind = str(random.choice(list(self.kinds), p=list(self.kinds.values())))
        shape, _, symmetry = kind.rpartition("_")
        sigma, other = random.uniform(*self.sigma, size=2).tolist()
        angle = float(random.uniform(-np.pi, np.pi))
        if symmetry == "iso":
            other, angle = sigma, 0.0
        if shape == "plateau":
            return plateau_kernel(size, (sigma, other), angle, beta=_draw_beta(random, self.beta_plateau))
        beta = _draw_beta(random, self.beta_gaussian) if shape == "generalized" else 1.0
        return gaussian_kernel(size, (sigma, other), angle, beta=beta)


@dataclass(frozen=True, kw_only=True)
class KernelDegradation:
    """The three kernels of Real-ESRGAN's two-stage degradation: "kernel1", "kernel2" and "sinc_kernel"."""

    first: BlurSpec
    """Blur of the first stage."""
    second: BlurSpec
    """Blur of the second stage; the trainer applies it with a probability of its own."""
    final_sizes: tuple[int, int]
    """Sides of the final sinc filter, in pixels."""
    final_sinc: float
    """Probability of a final sinc filter; otherwise "sinc_kernel" changes nothing."""

    def draw(self, random: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Each float32 (21, 21) with sum 1."""
        kernels = {"kernel1": _padded(self.first.draw(random)), "kernel2": _padded(self.second.draw(random))}
        if random.random() < self.final_sinc:
            size = _draw_size(random, self.final_sizes)
            kernels["sinc_kernel"] = _padded(sinc_kernel(size, random.uniform(np.pi / 3, np.pi)))
        else:
            kernels["sinc_kernel"] = _pulse()
        return kernels


@dataclass(frozen=True, kw_only=True)
class BSRGANDegradation:
    """BSRGAN's degradation as the SSL authors configured it, for GT : LQ = 4.

    The order of its seven steps is random: two blurs, two reductions, Gaussian noise, JPEG, camera noise (which nobody
    uses: it needs a model of a camera). Sample fields:

    - "kernel1", "kernel2": float32 (21, 21), the two blurs.
    - "sinc_kernel": float32 (21, 21), changes nothing; there for trainers that expect Real-ESRGAN's three kernels.
    - "halve_first": bool (), whether the image is first reduced by 2. The blurs are drawn narrower then.
    - "step_order": int64 (7,), in which the steps run: 0 and 1 blur, 2 first and 3 last reduction, 4 Gaussian noise,
      5 JPEG, 6 camera noise. Step 2 always comes before 3.
    - "degradation_seed": int64 () below 2^32, for everything else that is random. Seeding `random` and `numpy.random`
      with it makes the authors' ``degradation_bsrgan`` a pure function of the sample; it then draws its own kernels.
    """

    sizes: tuple[int, int] = (3, 9)
    """Sides of the blurs, in pixels."""
    anisotropic: float = 0.3
    """Probability of an anisotropic Gaussian, otherwise isotropic."""
    halve_first: float = 0.25
    """Probability of a reduction by 2 before everything else."""

    def draw(self, random: np.random.Generator) -> dict[str, NDArray[Any]]:
        """See the notes of the class."""
        halve = random.random() < self.halve_first
        widest = 0.2 + 0.2 * (2 if halve else 4)
        order = random.permutation(7)
        reductions = np.flatnonzero((order == 2) | (order == 3))
        order[reductions] = (2, 3)
        return {
            "kernel1": self._draw_blur(random, widest),
            "kernel2": self._draw_blur(random, widest),
            "sinc_kernel": _pulse(),
            "halve_first": np.asarray(halve),
            "step_order": order,
            "degradation_seed": np.asarray(random.integers(2**32)),
        }

    def _draw_blur(self, random: np.random.Generator, widest: float) -> NDArray[np.float32]:
        size = _draw_size(random, self.sizes)
        if random.random() < self.anisotropic:
            # BSRGAN draws the variances here, not the standard deviations.
            sigma, other = np.sqrt(random.uniform(0, widest, size=2)).clip(_NARROWEST).tolist()
            return _padded(gaussian_kernel(size, (sigma, other), random.uniform(0, np.pi)))
        sigma = max(_NARROWEST, random.uniform(0, widest))
        return _padded(gaussian_kernel(size, (sigma, sigma)))


_ALL_KINDS = {
    "iso": 0.45,
    "aniso": 0.25,
    "generalized_iso": 0.12,
    "generalized_aniso": 0.03,
    "plateau_iso": 0.12,
    "plateau_aniso": 0.03,
}
_PLAIN_KINDS = {"iso": 0.7, "aniso": 0.3}

DEGRADATIONS: Mapping[str, Degradation | None] = MappingProxyType(
    {
        BICUBIC: None,
        "realesrgan": KernelDegradation(
            first=BlurSpec(sizes=(7, 21), kinds=_ALL_KINDS, sigma=(0.2, 3.0), sinc=0.1),
            second=BlurSpec(sizes=(7, 21), kinds=_ALL_KINDS, sigma=(0.2, 1.5), sinc=0.1),
            final_sizes=(7, 21),
            final_sinc=0.8,
        ),
        # Options of RealESRGAN-SSL, after Chen et al., "Human Guided Ground-truth Generation" (HGGT), CVPR 2023.
        "realesrgan-hggt": KernelDegradation(
            first=BlurSpec(sizes=(3, 7), kinds=_PLAIN_KINDS, sigma=(0.1, 0.6), sinc=0.01),
            second=BlurSpec(sizes=(3, 5), kinds=_PLAIN_KINDS, sigma=(0.1, 0.4), sinc=0.01),
            final_sizes=(3, 5),
            final_sinc=0.1,
        ),
        # As StableSR-SSL runs it. StableSR itself has the same widths but sizes from 7 to 21 in all three places.
        "stablesr": KernelDegradation(
            first=BlurSpec(
                sizes=(3, 21),
                kinds=_ALL_KINDS,
                sigma=(0.2, 1.5),
                beta_gaussian=(0.5, 2.0),
                beta_plateau=(1.0, 1.5),
                sinc=0.1,
            ),
            second=BlurSpec(
                sizes=(3, 11),
                kinds=_ALL_KINDS,
                sigma=(0.2, 1.0),
                beta_gaussian=(0.5, 2.0),
                beta_plateau=(1.0, 1.5),
                sinc=0.1,
            ),
            final_sizes=(3, 11),
            final_sinc=0.8,
        ),
        "bsrgan": BSRGANDegradation(),
    }
)
"""The known degradations by name; None where there is nothing to draw."""


def find_degradation(degradation: str | Degradation | None) -> Degradation | None:
    """What draws the fields of a named degradation; None for "bicubic" and for none.

    Raises
    ------
    ConfigError
        For an unknown name.
    """
    if not isinstance(degradation, str):
        return degradation
    if degradation not in DEGRADATIONS:
        raise ConfigError(f"degradation must be one of {', '.join(DEGRADATIONS)}, got {degradation!r}")
    return DEGRADATIONS[degradation]


def draw_degradation(degradation: Degradation, *, seed: int, epoch: int, index: int) -> dict[str, NDArray[Any]]:
    """What sample `index` needs in this epoch: a pure function of the arguments.

    The numbers come from a stream of their own, so that they are independent of the crops and flips of the same sample,
    and remain the same whatever crops and flips are asked for.
    """
    stream = np.random.SeedSequence((seed, epoch, index), spawn_key=(1,))
    return degradation.draw(np.random.default_rng(stream))
