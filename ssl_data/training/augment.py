"""What happens to a patch on its way to the trainer: where it is cut and how it is turned.

All randomness is a pure function of (seed, epoch, sample index): which worker draws it, and what was drawn before, does
not matter.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from ssl_data.errors import ConfigError
from ssl_data.geometry.positions import Dihedral, Window

__all__ = ["Augmentation", "flip_probability", "random_fractions"]


def random_fractions(seed: int, epoch: int, index: int) -> tuple[float, ...]:
    """Five numbers in [0, 1), independent and uniform, for every triple of non-negative integers.

    The digits of a hash. Seeding a generator of random numbers takes longer than all else that is drawn here.
    """
    digits = hashlib.blake2b(f"{seed} {epoch} {index}".encode(), digest_size=40).digest()
    return tuple(number / 2**53 for number in (word >> 11 for word in struct.unpack("<5Q", digits)))


def flip_probability(name: str, value: bool | float) -> float:  # noqa: FBT001 - the user's own shorthand
    """The probability behind ``True`` (one half, as in the authors' trainers), ``False`` or a number."""
    if isinstance(value, bool):
        return 0.5 if value else 0.0
    if not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise ConfigError(f"{name} must be a boolean or a probability from 0 to 1, got {value!r}")
    return float(value)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The random part of a sample."""

    patch_size: int
    crop_size: int
    """Side of the crop; `patch_size` for none."""
    grid: int
    """Crops start at multiples of this (the GT : LQ ratio, so that both can be cut alike)."""
    hflip: float
    vflip: float
    transpose: float
    seed: int

    def draw(self, *, epoch: int, index: int) -> tuple[Window, Dihedral]:
        """Where sample `index` is cut in this epoch, and how the crop is turned afterwards."""
        numbers = random_fractions(self.seed, epoch, index)
        places = (self.patch_size - self.crop_size) // self.grid + 1
        top, left = (int(number * places) * self.grid for number in numbers[:2])
        chances = (self.hflip, self.vflip, self.transpose)
        hflip, vflip, transpose = (number < chance for number, chance in zip(numbers[2:], chances, strict=True))
        window = Window(top=top, left=left, bottom=top + self.crop_size, right=left + self.crop_size)
        return window, Dihedral(hflip=hflip, vflip=vflip, transpose=transpose)
