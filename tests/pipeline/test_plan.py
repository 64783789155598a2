"""From sources to work units."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ssl_data.config import BuildSpec, PatchSpec, StoreSpec
from ssl_data.pipeline.plan import make_plan, shard_jobs
from ssl_data.pipeline.sources import Source
from ssl_data.store.manifest import RejectedRecord

SPEC = BuildSpec(patch=PatchSpec(patch_size=32, step=16), store=StoreSpec(patches_per_shard=3))


def make_source(name, height, width, rejected=None):
    return Source(
        name=name,
        path=Path("/") / name,
        sha256=f"{height:064x}",
        num_bytes=1,
        height=height,
        width=width,
        rejected=rejected,
        reason_code=None if rejected is None else "corrupt",
    )


sides = st.integers(20, 100)
source_lists = st.lists(st.tuples(sides, sides), min_size=1, max_size=12).map(
    lambda sizes: [make_source(f"image-{number:02}", *size) for number, size in enumerate(sizes)]
)


@given(sources=source_lists, random=st.randoms(use_true_random=False))
def test_the_order_of_the_sources_does_not_matter(sources, random):
    shuffled = random.sample(sources, len(sources))
    plans = [make_plan(order, dataset="x", spec=SPEC) for order in (sources, shuffled)]
    assert plans[0].store == plans[1].store
    assert plans[0].sources == plans[1].sources


@given(sources=source_lists)
def test_jobs_cover_every_slot_once_in_order(sources):
    plan = make_plan(sources, dataset="x", spec=SPEC)
    jobs = shard_jobs(plan, range(plan.store.num_shards), root=Path("/store"), num_threads=1)
    slots = [slot for job in jobs for task in job.tasks for slot in task.slots]
    assert slots == list(range(plan.store.num_slots))
    assert all(sum(len(task.slots) for task in job.tasks) <= 3 for job in jobs)
    corners = [(task.name, corner) for job in jobs for task in job.tasks for corner in task.corners]
    expected = [
        (source.name, tuple(corner))
        for source, grid in zip(plan.sources, plan.corners, strict=True)
        for corner in grid.tolist()
    ]
    assert corners == expected
    assert len(set(corners)) == len(corners)


def test_small_and_broken_images_are_rejected_with_their_reason():
    sources = [make_source("a", 31, 100), make_source("b", 32, 32), make_source("c", 0, 0, rejected="broken")]
    plan = make_plan(sources, dataset="x", spec=SPEC)
    assert plan.rejected == [
        RejectedRecord(source="a", reason_code="too_small", reason="31x100 is smaller than a patch of 32x32"),
        RejectedRecord(source="c", reason_code="corrupt", reason="broken"),
    ]
    assert plan.store.num_slots == 1


def test_the_name_of_the_dataset_is_not_part_of_the_identity():
    sources = [make_source("a", 40, 40)]
    plans = [make_plan(sources, dataset=name, spec=SPEC) for name in ("x", "y")]
    assert plans[0].store.fingerprint == plans[1].store.fingerprint


def test_every_field_of_the_specs_is_part_of_the_identity():
    sources = [make_source("a", 40, 40)]
    fingerprint = make_plan(sources, dataset="x", spec=SPEC).store.fingerprint
    changes = {
        "image": {"max_pixels": 4_000, "small_images": "upscale"},
        "patch": {"patch_size": 40, "step": 8, "tail_threshold": 3},
        "edge": {"threshold": 21.0, "edge_stride": 3},
        "ssg": {"search_size": 9, "window_size": 5, "bandwidth": 0.01, "boundary": "image", "search_stride": 3},
        "store": {"chunk_rows": 64, "patches_per_shard": 4, "compression": "small", "lq_scale": 4},
    }
    values = SPEC.to_dict()
    assert {group: set(fields) for group, fields in values.items()} == {g: set(f) for g, f in changes.items()}
    for group, fields in changes.items():
        for name, value in fields.items():
            changed = BuildSpec.from_dict({**values, group: {**values[group], name: value}})
            assert make_plan(sources, dataset="x", spec=changed).store.fingerprint != fingerprint, (group, name)
