"""What a build would take: plan it from the images' headers, measure a sample of them, estimate the rest."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from ssl_data.errors import ConfigError
from ssl_data.pipeline.crops import Crop
from ssl_data.pipeline.estimate import make_estimate
from ssl_data.pipeline.measure import measure_images
from ssl_data.pipeline.rates import measure_rates
from ssl_data.pipeline.report import Progress
from ssl_data.pipeline.run import make_build_plan
from ssl_data.pipeline.sampling import draw_sample

if TYPE_CHECKING:
    from ssl_data.config import BuildConfig, BuildSpec
    from ssl_data.pipeline.estimate import BuildEstimate
    from ssl_data.pipeline.report import ProgressFunction

__all__ = ["estimate_build"]

_COUNTED_PATCHES, _MEASURED_PATCHES = 2048, 64


def estimate_build(
    config: BuildConfig,
    *,
    crop: Crop | None = None,
    num_images: int = 32,
    seconds: float = 20.0,
    seed: int = 0,
    progress: ProgressFunction | None = None,
) -> BuildEstimate:
    """Say what a build would take. Nothing is written.

    Parameters
    ----------
    config : BuildConfig
    crop : Crop, optional
        How a trainer will read the store; whole patches where not given.
    num_images : int
        Images to measure, at least 2.
    seconds : float
        After which no further image is begun.
    seed : int
        Decides which images, patches, chunks and crops are drawn.
    progress : callable, optional
        Called with a `Progress` after every file scanned and every image measured.

    Raises
    ------
    ConfigError
        If the crop does not fit the patches.
    DatasetError, BuildError
        As `ssl_data.build` does.
    """
    plan = make_build_plan(config, progress, hashed=False)
    crop = crop or Crop(size=plan.store.spec.patch.patch_size, edge_stride=1)
    _check_crop(crop, plan.store.spec)
    images = [list(cuts) for _, cuts in groupby(plan.cuts, key=lambda cut: cut.source.name)]
    draws = draw_sample(
        [sum(len(cut.corners) for cut in cuts) for cuts in images],
        num_images=num_images,
        num_counted=_COUNTED_PATCHES // min(num_images, len(images)),
        num_measured=max(_MEASURED_PATCHES, num_images),
        seed=seed,
    )

    def on_image(done: int) -> None:
        if progress is not None:
            progress(Progress(phase="sample", done=done, total=len(draws)))

    rates = measure_rates()
    measured = measure_images(images, draws, plan.store.spec, crop=crop, seed=seed, seconds=seconds, on_image=on_image)
    return make_estimate(plan, measured, rates, crop)


def _check_crop(crop: Crop, spec: BuildSpec) -> None:
    if not spec.ssg.min_side <= crop.size <= spec.patch.patch_size:
        raise ConfigError(
            f"crop_size must lie in {spec.ssg.min_side} .. {spec.patch.patch_size} (a patch), got {crop.size}; "
            "plan with a larger --patch-size or another recipe"
        )
    if spec.store.lq_scale is not None and crop.size % spec.store.lq_scale:
        raise ConfigError(f"crop_size must be a multiple of lq_scale {spec.store.lq_scale}, got {crop.size}")
