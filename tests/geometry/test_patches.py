"""Where patches lie."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_data.config import PatchSpec
from ssl_data.geometry.patches import grid_positions, patch_grid

lengths, sizes, steps = st.integers(0, 300), st.integers(1, 80), st.integers(1, 90)


@given(length=lengths, patch_size=sizes, step=steps, tail_threshold=st.integers(0, 90))
def test_patches_fit_ascend_and_leave_at_most_the_threshold_behind(length, patch_size, step, tail_threshold):
    positions = grid_positions(length, PatchSpec(patch_size=patch_size, step=step, tail_threshold=tail_threshold))
    if length < patch_size:
        assert positions == []
        return
    assert positions[0] == 0
    assert all(position % step == 0 for position in positions[:-1])
    assert all(after > before for before, after in itertools.pairwise(positions))
    assert 0 <= length - (positions[-1] + patch_size) <= tail_threshold


@given(length=lengths, patch_size=sizes, step=steps)
def test_every_pixel_is_covered_where_step_does_not_exceed_the_patch(length, patch_size, step):
    positions = grid_positions(length, PatchSpec(patch_size=patch_size, step=min(step, patch_size)))
    covered = np.zeros(length, dtype=bool)
    for position in positions:
        covered[position : position + patch_size] = True
    assert covered.all() or length < patch_size


@given(length=lengths, patch_size=sizes, step=steps)
def test_dropping_leaves_out_exactly_the_flush_patch_off_the_grid(length, patch_size, step):
    flush, drop = (
        grid_positions(length, PatchSpec(patch_size=patch_size, step=step, edge_patches=rule))
        for rule in ("flush", "drop")
    )
    assert drop == [position for position in flush if position % step == 0]


@given(length=lengths, patch_size=sizes, step=steps)
def test_evenly_spread_patches_reach_both_sides_and_are_no_shifted_duplicates(length, patch_size, step):
    positions = grid_positions(length, PatchSpec(patch_size=patch_size, step=step, edge_patches="min-overlap"))
    room = length - patch_size
    if room < 0:
        assert positions == []
        return
    if len(positions) == 1:
        assert positions == [room // 2]
        assert 2 * room <= step
        return
    assert (positions[0], positions[-1]) == (0, room)
    gaps = [after - before for before, after in itertools.pairwise(positions)]
    assert max(gaps) - min(gaps) <= 1
    assert step / 2 < room / len(gaps) <= 1.5 * step
    assert abs(len(gaps) - room / step) <= 0.5  # no other number of patches comes closer to the step


def test_grid_is_row_major():
    corners = patch_grid(5, 4, PatchSpec(patch_size=3, step=2))
    assert corners.tolist() == [[0, 0], [0, 1], [2, 0], [2, 1]]
    assert corners.dtype == np.int32


@pytest.mark.parametrize(
    ("variant", "crops", "spec"),
    [
        ("A_default", "subimages_512_256", PatchSpec(patch_size=512, step=256)),
        ("C_raw_128_64", "subimages", PatchSpec(patch_size=128, step=64)),
        ("D_raw_128_64_thresh48", "subimages", PatchSpec(patch_size=128, step=64, tail_threshold=48)),
        ("E_raw_200_120_mask_thr35", "subimages", PatchSpec(patch_size=200, step=120)),
        ("F_jpeg", "subimages_512_256", PatchSpec(patch_size=512, step=256)),
    ],
)
def test_positions_equal_those_of_the_authors_script(shared_golden, variant, crops, spec):
    recorded = json.loads((shared_golden / "prep" / "prep.json").read_text())
    images = recorded["input"] + recorded[variant].get("multiscale", [])
    sides = {image["name"]: (image["height"], image["width"]) for image in images}
    expected: dict[str, list[list[int]]] = {}
    for crop in recorded[variant][crops]:
        expected.setdefault(crop["source"], []).append([crop["top"], crop["left"]])
    assert expected
    for source, corners in expected.items():
        assert patch_grid(*sides[source], spec).tolist() == corners
