"""From sources to work units."""

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ssl_data.config import BuildSpec, ImageSpec, MultiscaleSpec, PatchSpec, StoreSpec
from ssl_data.pipeline.plan import ShardJobs, make_plan
from ssl_data.pipeline.sources import Source
from ssl_data.store.local_target import LocalTarget
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


multiscales = st.sampled_from(
    [MultiscaleSpec()] + [MultiscaleSpec(variant=variant, shortest_edge=40) for variant in ("gan", "diffusion")]
)


@given(sources=source_lists, multiscale=multiscales)
def test_jobs_cover_every_slot_once_in_order(sources, multiscale):
    plan = make_plan(sources, dataset="x", spec=replace(SPEC, multiscale=multiscale))
    jobs = ShardJobs(plan, range(plan.store.num_shards), target=LocalTarget(Path("/store")), num_threads=1)
    slots = [patch.slot for job in jobs for task in job.tasks for patch in task.patches]
    assert slots == list(range(plan.store.num_slots))
    assert all(sum(len(task.patches) for task in job.tasks) <= 3 for job in jobs)
    patches = [
        (task.source.name, task.size.label, patch.row, patch.col)
        for job in jobs
        for task in job.tasks
        for patch in task.patches
    ]
    expected = [(cut.source.name, cut.size.label, row, col) for cut in plan.cuts for row, col in cut.corners.tolist()]
    assert patches == expected
    assert len(set(patches)) == len(patches)
    ids = [patch.patch_id for job in jobs for task in job.tasks for patch in task.patches]
    assert len(set(ids)) == len(ids)


def test_small_and_broken_images_are_rejected_with_their_reason():
    sources = [make_source("a", 31, 100), make_source("b", 32, 32), make_source("c", 0, 0, rejected="broken")]
    plan = make_plan(sources, dataset="x", spec=SPEC)
    assert plan.rejected == [
        RejectedRecord(source="a", reason_code="too_small", reason="31x100 is smaller than a patch of 32x32"),
        RejectedRecord(source="c", reason_code="corrupt", reason="broken"),
    ]
    assert plan.store.num_slots == 1


def test_what_has_no_patch_in_any_size_is_rejected_and_what_would_grow_too_large_too():
    sources = [make_source("a", 31, 100), make_source("b", 1, 2000), make_source("c", 20, 400_000)]
    spec = replace(SPEC, multiscale=MultiscaleSpec(variant="gan", shortest_edge=32))
    plan = make_plan(sources[:2], dataset="x", spec=spec)
    assert [(cut.source.name, cut.size.label) for cut in plan.cuts] == [("a", "S"), ("b", "S")]
    huge = replace(SPEC, multiscale=MultiscaleSpec(variant="gan", shortest_edge=512))
    assert [(image.reason_code, image.reason) for image in make_plan(sources[1:], dataset="x", spec=huge).rejected] == [
        ("too_large", "1x2000, enlarged to 512x1024000, is more than 512000000 pixels"),
        ("too_large", "20x400000, enlarged to 512x10240000, is more than 512000000 pixels"),
    ]
    small = replace(SPEC, multiscale=MultiscaleSpec(variant="gan", shortest_edge=20))
    (image,) = make_plan([make_source("d", 31, 31)], dataset="x", spec=small).rejected
    assert image.reason == "31x31 is smaller than a patch of 32x32, and so are its copies"
    enlarging = replace(small, image=ImageSpec(small_images="upscale"))
    (cut,) = make_plan([make_source("d", 31, 31)], dataset="x", spec=enlarging).cuts
    assert (cut.size.label, cut.size.height, cut.size.width) == ("32/31", 32, 32)


def test_the_shortest_edge_is_part_of_the_identity():
    sources = [make_source("a", 40, 40)]
    specs = [replace(SPEC, multiscale=MultiscaleSpec(variant="gan", shortest_edge=edge)) for edge in (32, 33)]
    assert len({make_plan(sources, dataset="x", spec=spec).store.fingerprint for spec in specs}) == 2


def test_given_masks_are_part_of_the_identity():
    source = make_source("a", 40, 40)
    masked = [replace(source, mask_sha256=sha256) for sha256 in (None, "1" * 64, "2" * 64)]
    assert len({make_plan([m], dataset="x", spec=SPEC).store.fingerprint for m in masked}) == 3


def test_the_name_of_the_dataset_is_not_part_of_the_identity():
    sources = [make_source("a", 40, 40)]
    plans = [make_plan(sources, dataset=name, spec=SPEC) for name in ("x", "y")]
    assert plans[0].store.fingerprint == plans[1].store.fingerprint


def test_every_field_of_the_specs_is_part_of_the_identity():
    sources = [make_source("a", 40, 40)]
    fingerprint = make_plan(sources, dataset="x", spec=SPEC).store.fingerprint
    changes = {
        "image": {"max_pixels": 4_000, "small_images": "upscale"},
        "multiscale": {"variant": "gan"},
        "patch": {"patch_size": 40, "step": 8, "tail_threshold": 3, "edge_patches": "drop"},
        "edge": {"threshold": 21.0, "edge_stride": 3, "masks": "given"},
        "filter": {"min_edge_density": 0.1, "drop_duplicates": True},
        "ssg": {"search_size": 9, "window_size": 5, "bandwidth": 0.01, "boundary": "image", "search_stride": 3},
        "store": {
            "chunk_rows": 64,
            "patches_per_shard": 4,
            "compression": "small",
            "quantization": "sqrt12",
            "lq_scale": 4,
        },
    }
    values = SPEC.to_dict()
    known = {group: set(fields) for group, fields in values.items()}
    known["multiscale"].remove("shortest_edge")  # in force with a variant only, see below
    assert known == {group: set(fields) for group, fields in changes.items()}
    for group, fields in changes.items():
        for name, value in fields.items():
            changed = BuildSpec.from_dict({**values, group: {**values[group], name: value}})
            assert make_plan(sources, dataset="x", spec=changed).store.fingerprint != fingerprint, (group, name)
