"""What a report draws, against the store itself."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_data import BuildConfig, PatchSpec, StoreSpec, build, open_store
from ssl_data.errors import StoreError
from ssl_data.report.drawing import round_ticks
from ssl_data.report.figures import collect_figures, read_rates
from ssl_data.report.samples import choose_samples
from ssl_data.testing import write_images


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A store of images in two folders and beside them."""
    folder = tmp_path_factory.mktemp("mixed")
    write_images(folder / "images", [(64, 96)])
    write_images(folder / "images" / "a", [(96, 96), (64, 64)], seed=5)
    write_images(folder / "images" / "b", [(64, 128)], seed=9)
    config = BuildConfig(
        dataset=str(folder / "images"),
        out=str(folder / "store.zarr"),
        patch=PatchSpec(patch_size=64, step=32),
        store=StoreSpec(patches_per_shard=4, chunk_rows=64),
    )
    build(config)
    return open_store(config.out)


def test_densities_are_grouped_by_image_and_by_folder(mixed):
    figures = collect_figures(mixed)
    found: dict[str, list[float]] = {}
    for index in range(mixed.num_patches):
        density = float(mixed.read_edge_mask(index).mean())
        image = mixed.patch_id(index).split(":")[0]
        folder = image.split("/")[0] if "/" in image else ""
        found.setdefault(f"image {image}", []).append(density)
        found.setdefault(f"folder {folder}", []).append(density)
        assert figures.densities[index] == density
    shown = {f"image {group.name}": group for group in figures.images}
    shown |= {f"folder {group.name}": group for group in figures.folders}
    assert shown.keys() == found.keys()
    for name, group in shown.items():
        assert group.densities.tolist() == sorted(found[name])
        assert group.mean == pytest.approx(np.mean(found[name]))
    means = [group.mean for group in figures.images]
    assert means == sorted(means)


def test_bytes_per_entry_are_those_of_the_files(mixed):
    found = collect_figures(mixed).bytes_per_entry
    assert len(found) == mixed.attributes["num_shards"] > 1
    for shard, value in enumerate(found):
        graphs = mixed.counts[mixed.shard_indices == shard].sum()
        assert value == pytest.approx((mixed.root / f"ssg/c/{shard}/0").stat().st_size / (graphs * 625))


def made(shard, seconds, graphs):
    return json.dumps(
        {"event": "shard-made", "shard": shard, "seconds": seconds, "num_graphs": graphs, "num_patches": 2}
    )


def test_rates_are_those_of_the_log_and_a_shard_made_again_counts_once(tmp_path):
    log = tmp_path / "log"
    lines = ['{"event": "start", "num_shards": 2}', made(0, 9.0, 1), made(1, 2.0, 100), made(0, 4.0, 100)]
    log.write_text("\n".join(lines))
    rates = read_rates(log)
    assert rates.graphs_per_second.tolist() == [50, 25]
    assert rates.patches_per_second.tolist() == [1, 0.5]


@pytest.mark.parametrize("text", ["no log", "[]", "{}", '{"event": "start"}', "", '{"event": "shard-made"}'])
def test_what_is_no_log_is_refused_with_its_name(tmp_path, text):
    (tmp_path / "log").write_text(text)
    with pytest.raises(StoreError, match=r"log.* give what `build --log` wrote"):
        read_rates(tmp_path / "log")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.integers(1, 30))
def test_samples_reach_from_the_sparsest_to_the_densest(densities, num_samples):
    values = np.array(densities)
    chosen = choose_samples(values, num_samples)
    assert len(set(chosen)) == len(chosen) == min(num_samples, len(values))
    shown = values[chosen].tolist()
    assert shown == sorted(shown)
    if len(chosen) > 1:
        assert (shown[0], shown[-1]) == (values.min(), values.max())


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 10))
def test_ticks_are_round_and_inside(low, width, num_ticks):
    high = low + width
    ticks = round_ticks(low, high, num_ticks)
    slack = 1e-6 * width + 1e-9
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    assert 1 <= len(ticks) <= num_ticks + 1
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0] if len(steps) else 0, rtol=1e-6)
