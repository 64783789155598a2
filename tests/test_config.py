"""Specs check themselves and have one JSON form."""

import dataclasses

import pytest

from ssl_data import (
    BuildConfig,
    EdgeSpec,
    FilterSpec,
    ImageSpec,
    MultiscaleSpec,
    PatchSpec,
    SSGSpec,
    SSLDataError,
    StoreSpec,
)
from ssl_data.config import BuildSpec, canonical_json, fingerprint
from ssl_data.errors import ConfigError


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SSGSpec(search_size=24), "SSGSpec.search_size must be odd and positive, got 24"),
        (lambda: SSGSpec(window_size=0), "SSGSpec.window_size must be odd and positive, got 0"),
        (lambda: SSGSpec(window_size=93), "SSGSpec.window_size must be at most 91, got 93"),
        (lambda: SSGSpec(search_size=25.0), "SSGSpec.search_size must be odd and positive, got 25.0"),
        (lambda: SSGSpec(bandwidth=0), "SSGSpec.bandwidth must be a finite number > 0, got 0"),
        (lambda: SSGSpec(bandwidth=float("nan")), "SSGSpec.bandwidth must be a finite number > 0, got nan"),
        (lambda: SSGSpec(boundary="mirror"), "SSGSpec.boundary must be 'zero' or 'image', got 'mirror'"),
        (lambda: SSGSpec(search_stride=5), "SSGSpec.search_stride must divide the search radius 12, got 5"),
        (lambda: EdgeSpec(threshold=-1), "EdgeSpec.threshold must be a finite number >= 0, got -1"),
        (lambda: EdgeSpec(edge_stride=True), "EdgeSpec.edge_stride must be an integer >= 1, got True"),
        (lambda: PatchSpec(step=0), "PatchSpec.step must be an integer >= 1, got 0"),
        (
            lambda: StoreSpec(compression="best"),
            "StoreSpec.compression must be 'fast', 'balanced' or 'small', got 'best'",
        ),
        (lambda: StoreSpec(lq_scale=1), "StoreSpec.lq_scale must be an integer >= 2, got 1"),
        (
            lambda: PatchSpec(edge_patches="centre"),
            "PatchSpec.edge_patches must be 'flush', 'drop' or 'min-overlap', got 'centre'",
        ),
        (
            lambda: PatchSpec(tail_threshold=3, edge_patches="drop"),
            "PatchSpec.tail_threshold must be 0 with edge_patches 'drop', got 3",
        ),
        (
            lambda: MultiscaleSpec(variant="all"),
            "MultiscaleSpec.variant must be 'none', 'gan' or 'diffusion', got 'all'",
        ),
        (
            lambda: MultiscaleSpec(shortest_edge=256),
            "MultiscaleSpec.shortest_edge must be 512 where the variant is 'none', got 256",
        ),
        (lambda: FilterSpec(min_edge_density=1.1), "FilterSpec.min_edge_density must be a number from 0 to 1, got 1.1"),
        (lambda: FilterSpec(drop_duplicates=1), "FilterSpec.drop_duplicates must be true or false, got 1"),
        (lambda: EdgeSpec(masks="mine"), "EdgeSpec.masks must be 'computed' or 'given', got 'mine'"),
        (
            lambda: BuildConfig(dataset="x", out="x", edge=EdgeSpec(masks="given")),
            "BuildConfig.masks must name the folder of the given masks, got None",
        ),
        (
            lambda: BuildSpec(edge=EdgeSpec(masks="given"), multiscale=MultiscaleSpec(variant="gan")),
            "MultiscaleSpec.variant must be 'none' with given masks, which fit the images as they are, got 'gan'",
        ),
        (
            lambda: BuildSpec(edge=EdgeSpec(masks="given"), image=ImageSpec(small_images="upscale")),
            "ImageSpec.small_images must be 'reject' with given masks, which fit the images as they are, got 'upscale'",
        ),
        (lambda: BuildConfig(dataset="", out="x"), "BuildConfig.dataset must be a non-empty string, got ''"),
        (lambda: SSGSpec(bandwidth=True), "SSGSpec.bandwidth must be a finite number > 0, got True"),
        (
            lambda: BuildSpec(ssg=SSGSpec(search_size=7, window_size=11)),
            (
                "SSGSpec.window_size must not exceed search_size in a store with boundary 'zero', got 11 and 7: "
                "the search centre would not have similarity 1"
            ),
        ),
        (lambda: BuildConfig(dataset="x", out="x", workers=0), "BuildConfig.workers must be an integer >= 1, got 0"),
    ],
)
def test_errors_name_field_rule_and_value(make, message):
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == message
    assert isinstance(caught.value, SSLDataError)


def test_specs_are_frozen_and_keyword_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SSGSpec().search_size = 9  # type: ignore[misc]
    with pytest.raises(TypeError):
        SSGSpec(25)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("spec", "num_positions", "min_side"),
    [
        (SSGSpec(), 625, 13),
        (SSGSpec(boundary="image"), 625, 17),
        (SSGSpec(search_stride=3), 81, 13),
        (SSGSpec(search_size=3, window_size=15), 9, 8),
        (SSGSpec(search_size=1, window_size=1), 1, 1),
    ],
)
def test_derived_sizes(spec, num_positions, min_side):
    assert (spec.num_positions, spec.min_side) == (num_positions, min_side)


def test_equal_specs_have_equal_json():
    assert canonical_json(EdgeSpec(threshold=20).to_dict()) == canonical_json(EdgeSpec(threshold=20.0).to_dict())


def test_specs_survive_json():
    spec = BuildSpec(ssg=SSGSpec(boundary="image"), store=StoreSpec(lq_scale=4))
    assert BuildSpec.from_dict(spec.to_dict()) == spec


def test_unknown_fields_are_refused():
    with pytest.raises(ConfigError, match="SSGSpec has no field colour; known: bandwidth"):
        SSGSpec.from_dict({"colour": 1})


def test_fingerprints_do_not_change_between_versions():
    assert fingerprint(BuildSpec().to_dict()) == "0f9467d672af787a2a56432b4b175e8d1a54ba402d217f1739c9cd6823c96bf3"


def test_unknown_quantizations_are_refused():
    with pytest.raises(ConfigError, match="StoreSpec.quantization must be 'sqrt8' or 'sqrt12', got 'sqrt9'"):
        StoreSpec(quantization="sqrt9")
