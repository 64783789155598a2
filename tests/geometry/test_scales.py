"""Sizes of reduced copies."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_data.config import MultiscaleSpec
from ssl_data.geometry.scales import ScaledSize, scaled_sizes

sides = st.integers(1, 3000)


def labels(height, width, spec):
    return {size.label: (size.height, size.width) for size in scaled_sizes(height, width, spec)}


def test_without_copies_an_image_is_used_as_it_is():
    assert scaled_sizes(7, 5, MultiscaleSpec()) == [ScaledSize(label="1", height=7, width=5)]


@pytest.mark.parametrize(("variant", "shortest_edge"), [("A_default", 512), ("B_shortest_edge_256", 256)])
def test_sizes_equal_those_of_the_authors_gan_script(shared_golden, variant, shortest_edge):
    recorded = json.loads((shared_golden / "prep" / "prep.json").read_text())
    spec = MultiscaleSpec(variant="gan", shortest_edge=shortest_edge)
    made = {}
    for image in recorded["input"]:
        for label, size in labels(image["height"], image["width"], spec).items():
            made[image["name"].removesuffix(".png") + ("" if label == "1" else label) + ".png"] = size
    assert made == {image["name"]: (image["height"], image["width"]) for image in recorded[variant]["multiscale"]}


@given(height=sides, width=sides, edge=st.integers(1, 1024))
def test_the_variants_differ_in_small_copies_and_in_one_name(height, width, edge):
    gan = labels(height, width, MultiscaleSpec(variant="gan", shortest_edge=edge))
    diffusion = labels(height, width, MultiscaleSpec(variant="diffusion", shortest_edge=edge))
    assert gan.pop("S") == diffusion.pop("T3")
    assert gan == {label: size for label, size in diffusion.items() if min(size) >= edge}
    assert set(diffusion) - {"1"} == {"T0", "T1", "T2"} or min(height, width) < 3
    assert ("1" in diffusion) == (min(height, width) >= edge)


@given(height=sides, width=sides, edge=st.integers(1, 1024))
def test_the_smallest_copy_has_the_shortest_edge_and_the_shape_of_the_image(height, width, edge):
    small = labels(height, width, MultiscaleSpec(variant="gan", shortest_edge=edge))["S"]
    assert min(small) == edge
    assert abs(max(small) - edge * max(height, width) / min(height, width)) <= 1
    assert (small[0] >= small[1]) == (height >= width) or height == width or small[0] == small[1]


def test_copies_are_listed_from_the_image_to_the_smallest():
    spec = MultiscaleSpec(variant="diffusion")
    assert [size.label for size in scaled_sizes(877, 1201, spec)] == ["1", "T0", "T1", "T2", "T3"]
    assert [size.label for size in scaled_sizes(300, 451, spec)] == ["T0", "T1", "T2", "T3"]
