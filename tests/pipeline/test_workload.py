"""What a plan says about the work, against counting the jobs of a build one by one."""

from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ssl_data.config import BuildSpec, MultiscaleSpec, PatchSpec, StoreSpec
from ssl_data.geometry.patches import covered_pixels, patch_grid
from ssl_data.geometry.scales import ORIGINAL
from ssl_data.pipeline.plan import ShardJobs, make_plan
from ssl_data.pipeline.sources import Source
from ssl_data.pipeline.workload import overlap, workload
from ssl_data.store.local_target import LocalTarget

sides = st.integers(20, 400)


@st.composite
def plans(draw):
    sizes = draw(st.lists(st.tuples(sides, sides), min_size=1, max_size=6))
    variant = draw(st.sampled_from(["none", "gan", "diffusion"]))
    spec = BuildSpec(
        patch=PatchSpec(patch_size=64, step=draw(st.integers(16, 80)), edge_patches=draw(st.sampled_from(RULES))),
        multiscale=MultiscaleSpec(variant=variant, **({} if variant == "none" else {"shortest_edge": 64})),
        store=StoreSpec(patches_per_shard=draw(st.integers(1, 9))),
    )
    sources = [
        Source(
            name=f"{number}",
            path=Path(f"{number}"),
            sha256="",
            num_bytes=1000 + number,
            height=height,
            width=width,
            rejected=None,
        )
        for number, (height, width) in enumerate(sizes)
    ]
    return make_plan(sources, dataset="d", spec=spec)


RULES = ("flush", "drop", "min-overlap")


def _decoded_in_turn(jobs, workers):
    """Pixels decoded by workers that take one shard each in turn and keep their last image."""
    last, decoded = dict.fromkeys(range(workers)), 0
    for number, job in enumerate(jobs):
        for source, _ in groupby(job.tasks, key=lambda task: task.source):
            if last[number % workers] != source.name:
                decoded += source.height * source.width
            last[number % workers] = source.name
    return decoded


@given(plans())
def test_the_workload_is_that_of_the_jobs(plan):
    jobs = ShardJobs(plan, range(plan.store.num_shards), target=LocalTarget(Path()), num_threads=1)
    read_bytes = resized_pixels = 0
    for job in jobs:
        for source, tasks in groupby(job.tasks, key=lambda task: task.source):
            read_bytes += source.num_bytes
            copies = [task.size for task in tasks if task.size.label != ORIGINAL]
            resized_pixels += sum(source.height * source.width + size.height * size.width for size in copies)
    work = workload(plan)
    assert (work.read_bytes, work.resized_pixels) == (read_bytes, resized_pixels)
    for workers in (1, 2, 3):
        assert work.decoded_pixels(workers) == _decoded_in_turn(jobs, workers)
    assert work.num_patches == sum(len(task.patches) for job in jobs for task in job.tasks)
    assert work.num_images == len({task.source.name for job in jobs for task in job.tasks})
    assert work.num_bytes == sum(source.num_bytes for source in plan.sources)


@given(
    height=sides,
    width=sides,
    spec=st.builds(
        PatchSpec, patch_size=st.integers(13, 90), step=st.integers(5, 120), edge_patches=st.sampled_from(RULES)
    ),
)
def test_covered_pixels_are_those_that_are_painted(height, width, spec):
    canvas = np.zeros((height, width), dtype=bool)
    corners = patch_grid(height, width, spec)
    for row, col in corners:
        canvas[row : row + spec.patch_size, col : col + spec.patch_size] = True
    assert covered_pixels(corners, spec.patch_size) == canvas.sum()


@given(plans().filter(lambda plan: plan.store.num_slots > 0))
def test_the_overlap_is_what_a_step_of_the_patch_size_saves(plan):
    spec = plan.store.spec
    found = overlap(plan)
    apart = replace(spec, patch=replace(spec.patch, step=max(64, spec.patch.step)))
    assert found.num_patches_without == make_plan(plan.sources, dataset="d", spec=apart).store.num_slots
    assert 0 <= found.repeated_share < 1
    assert found.saved_share == 1 - found.num_patches_without / plan.store.num_slots
    if spec.patch.step >= 64 and spec.patch.edge_patches == "drop":
        assert found.repeated_share == found.saved_share == 0
