"""Draws are spread, repeatable and within bounds; estimates are unbiased, and their errors are honest."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_data.pipeline.sampling import Cluster, Figure, draw_sample, estimate_ratio, estimate_total, spread

patches = st.lists(st.integers(1, 40), min_size=1, max_size=60)


@given(total=st.integers(0, 300), wanted=st.integers(0, 100), seed=st.integers(0, 99))
def test_spread_draws_one_of_each_run(total, wanted, seed):
    drawn = spread(total, wanted, np.random.default_rng(seed))
    assert len(drawn) == min(total, wanted)
    assert drawn == sorted(set(drawn))
    assert set(drawn) <= set(range(total))
    if wanted < total:
        assert [number * wanted // total for number in drawn] == pytest.approx(range(wanted), abs=1)


def test_spread_draws_every_number_equally_often():
    rng = np.random.default_rng(0)
    hits = np.bincount([number for _ in range(4000) for number in spread(10, 4, rng)], minlength=10)
    assert hits.sum() == 16000
    assert hits.reshape(5, 2)[[0, 2]].std() / 1600 < 0.3  # runs of 2 and 3: 1/2 or 1/3 of the draws each
    assert hits.min() > 1200


@given(
    num_patches=patches,
    num_images=st.integers(2, 40),
    num_counted=st.integers(2, 20),
    num_measured=st.integers(1, 60),
    seed=st.integers(0, 9),
)
def test_a_sample_is_within_the_dataset_and_repeatable(num_patches, num_images, num_counted, num_measured, seed):
    options = {
        "num_images": num_images,
        "num_counted": num_counted,
        "num_measured": num_measured,
        "seed": seed,
    }
    draws = draw_sample(num_patches, **options)
    assert draws == draw_sample(num_patches, **options)
    assert len({draw.index for draw in draws}) == len(draws) == min(num_images, len(num_patches))
    for draw in draws:
        assert len(draw.counted) == min(num_counted, num_patches[draw.index])
        assert set(draw.measured) <= set(draw.counted) <= set(range(num_patches[draw.index]))
    assert 1 <= sum(len(draw.measured) for draw in draws) <= num_measured


@given(st.integers(2, 64), st.integers(1, 6))
def test_the_first_few_images_of_a_sample_lie_in_different_parts_of_the_dataset(num_images, depth):
    draws = draw_sample([3] * 640, num_images=num_images, num_counted=2, num_measured=8, seed=1)
    few = min(2**depth, num_images)
    parts = sorted(draw.index * few // 640 for draw in draws[:few])
    assert max(parts.count(part) for part in parts) <= 3
    assert len(set(parts)) >= few / 2


@given(sizes=patches, seed=st.integers(0, 99))
def test_a_total_of_everything_is_exact_and_without_error(sizes, seed):
    rng = np.random.default_rng(seed)
    clusters = [Cluster(size=size, values=rng.integers(0, 1000, size).tolist()) for size in sizes]
    total = estimate_total(clusters, num_clusters=len(sizes), total_size=sum(sizes))
    assert total.value == pytest.approx(sum(sum(cluster.values) for cluster in clusters))
    assert total.error == 0


@pytest.mark.parametrize("counted", [3, 100])
def test_totals_are_right_on_average_and_miss_by_as_much_as_they_say(counted):
    rng = np.random.default_rng(5)
    levels = rng.gamma(2.0, 50.0, size=120)  # images differ, patches of one image are alike
    dataset = [rng.poisson(level, size=rng.integers(4, 20)) for level in levels]
    truth, sizes = sum(int(values.sum()) for values in dataset), [len(values) for values in dataset]
    misses, errors = [], []
    for seed in range(400):
        draws = draw_sample(sizes, num_images=24, num_counted=counted, num_measured=1, seed=seed)
        clusters = [
            Cluster(size=sizes[draw.index], values=dataset[draw.index][list(draw.counted)].tolist())
            for draw in sorted(draws, key=lambda draw: draw.index)
        ]
        figure = estimate_total(clusters, num_clusters=len(dataset), total_size=sum(sizes))
        misses.append(figure.value - truth)
        errors.append(figure.error)
    assert abs(np.mean(misses)) < 0.03 * truth
    assert np.mean(errors) == pytest.approx(np.std(misses), rel=0.2)


def test_a_ratio_misses_by_as_much_as_it_says():
    rng = np.random.default_rng(7)
    graphs = rng.integers(100, 5000, size=2000)
    num_bytes = graphs * rng.normal(400, 60, size=2000)
    truth = num_bytes.sum() / graphs.sum()
    figures = []
    for _ in range(300):
        drawn = rng.choice(2000, size=50, replace=False)
        figures.append(estimate_ratio(num_bytes[drawn], graphs[drawn], drawn_share=50 / 2000))
    assert np.mean([figure.error for figure in figures]) == pytest.approx(
        np.std([figure.value - truth for figure in figures]), rel=0.2
    )


def test_a_ratio_to_nothing_is_none_at_all():
    assert estimate_ratio([], [], drawn_share=1.0) == Figure(value=0.0)
    assert estimate_ratio([0.0], [0], drawn_share=1.0) == Figure(value=0.0)


@given(st.floats(0, 1e6), st.floats(0, 1e3), st.floats(0, 1e6), st.floats(0, 1e3))
def test_figures_add_and_multiply_with_their_errors(first, first_error, second, second_error):
    one, other = Figure(value=first, error=first_error), Figure(value=second, error=second_error)
    assert (one + other).value == first + second
    assert (one + other).error >= max(first_error, second_error)
    product = one.times(other)
    assert product.value == first * second
    assert product.error == pytest.approx(float(np.hypot(first * second_error, second * first_error)))
