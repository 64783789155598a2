"""Blur kernels against closed forms, and what random draws obey."""

import functools
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_data.errors import ConfigError
from ssl_data.training.augment import Augmentation
from ssl_data.training.blur_kernels import gaussian_kernel, plateau_kernel, sinc_kernel
from ssl_data.training.degradation import (
    BICUBIC,
    DEGRADATIONS,
    KERNEL_SIZE,
    BlurSpec,
    draw_degradation,
    find_degradation,
)

DRAWN = sorted(set(DEGRADATIONS) - {BICUBIC})
KERNELS = ("kernel1", "kernel2", "sinc_kernel")
NUM_DRAWS = 400

sizes = st.integers(0, 10).map(lambda radius: 2 * radius + 1)
widths = st.floats(0.1, 5)
angles = st.floats(-math.pi, math.pi)


@functools.cache
def draws(name):
    return [draw_degradation(DEGRADATIONS[name], seed=0, epoch=0, index=index) for index in range(NUM_DRAWS)]


def covariance(kernel):
    """Second moments of a kernel about its centre, in the order (col, row)."""
    axis = np.arange(len(kernel)) - len(kernel) // 2
    col, row = np.meshgrid(axis, axis)
    return np.array([[(kernel * a * b).sum() for b in (col, row)] for a in (col, row)])


def support(kernel):
    """Side of the smallest centred square that holds all that is not zero."""
    rows, cols = np.nonzero(kernel)
    centre = len(kernel) // 2
    return 2 * int(max(abs(rows - centre).max(), abs(cols - centre).max())) + 1


@given(size=sizes, sigma=st.tuples(widths, widths), angle=angles, beta=st.floats(0.3, 4))
def test_every_shape_sums_to_one_and_is_symmetric_about_its_centre(size, sigma, angle, beta):
    for make in (gaussian_kernel, plateau_kernel):
        kernel = make(size, sigma, angle, beta=beta)
        assert kernel.shape == (size, size)
        assert kernel.sum() == pytest.approx(1)
        assert (kernel >= 0).all()
        assert kernel[size // 2, size // 2] == kernel.max()
        np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-12)


@given(size=sizes, sigma=widths, beta=st.floats(0.3, 4))
def test_isotropic_kernels_have_all_symmetries_of_the_square(size, sigma, beta):
    for make in (gaussian_kernel, plateau_kernel):
        kernel = make(size, (sigma, sigma), beta=beta)
        np.testing.assert_allclose(kernel, kernel.T, atol=1e-12)
        np.testing.assert_allclose(kernel, kernel[::-1], atol=1e-12)


@given(sigma=st.tuples(widths, widths), angle=angles)
def test_a_gaussian_has_the_density_of_its_covariance_matrix(sigma, angle):
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    inverse = np.linalg.inv(turn @ np.diag(np.square(sigma)) @ turn.T)
    points = np.array([[col, row] for row in range(-4, 5) for col in range(-4, 5)])
    density = np.exp(-0.5 * np.einsum("ni,ij,nj->n", points, inverse, points)).reshape(9, 9)
    np.testing.assert_allclose(gaussian_kernel(9, sigma, angle), density / density.sum(), rtol=1e-6, atol=1e-15)


def test_a_wide_enough_gaussian_has_the_covariance_asked_for():
    angle = 0.5
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    kernel = gaussian_kernel(21, (2.0, 1.0), angle)
    np.testing.assert_allclose(covariance(kernel), turn @ np.diag([4.0, 1.0]) @ turn.T, rtol=1e-4)


def test_an_isotropic_gaussian_is_a_product_of_two():
    line = np.exp(-0.5 * (np.arange(-5, 6) / 1.3) ** 2)
    np.testing.assert_allclose(gaussian_kernel(11, (1.3, 1.3)), np.outer(line, line) / line.sum() ** 2)


def test_exponents_of_generalised_gaussians_and_plateaus():
    q = np.array([[2, 1, 2], [1, 0, 1], [2, 1, 2]]) / 0.25
    for beta in (0.5, 1, 3):
        expected = np.exp(-(q**beta) / 2)
        np.testing.assert_allclose(gaussian_kernel(3, (0.5, 0.5), beta=beta), expected / expected.sum())
        expected = 1 / (1 + q**beta)
        np.testing.assert_allclose(plateau_kernel(3, (0.5, 0.5), beta=beta), expected / expected.sum())


@pytest.mark.parametrize("size", range(1, KERNEL_SIZE + 1, 2))
def test_sinc_kernels_agree_with_scipy(size):
    special = pytest.importorskip("scipy.special")
    axis = np.arange(size) - size // 2
    radius = np.hypot(axis[:, None], axis[None, :])
    for cutoff in (math.pi / 5, math.pi / 3, 2.0, math.pi):
        with np.errstate(invalid="ignore"):
            expected = cutoff * special.j1(cutoff * radius) / (2 * math.pi * radius)
        expected[size // 2, size // 2] = cutoff**2 / (4 * math.pi)
        np.testing.assert_allclose(sinc_kernel(size, cutoff), expected / expected.sum(), rtol=1e-9, atol=1e-14)


def test_sinc_kernels_pass_low_and_stop_high_frequencies():
    cutoff = math.pi / 3
    kernel = sinc_kernel(21, cutoff)
    assert kernel.sum() == pytest.approx(1)
    assert (kernel < 0).any()
    np.testing.assert_allclose(kernel, kernel.T, atol=1e-15)
    np.testing.assert_allclose(kernel, kernel[::-1], atol=1e-15)
    axis = np.arange(-10, 11)
    for frequency, low, high in ((0.5 * cutoff, 0.85, 1.15), (2 * cutoff, -0.15, 0.15)):
        response = (kernel * np.cos(frequency * axis)).sum()
        assert low < response < high


@pytest.mark.parametrize("size", [0, -3, 4])
def test_sizes_without_a_centre_are_refused(size):
    with pytest.raises(ConfigError, match="odd and positive"):
        gaussian_kernel(size, (1.0, 1.0))


@pytest.mark.parametrize("name", DRAWN)
def test_samples_have_three_kernels_of_one_form(name):
    for fields in draws(name):
        for key in KERNELS:
            assert (fields[key].shape, fields[key].dtype) == ((KERNEL_SIZE, KERNEL_SIZE), np.float32)
            assert np.isfinite(fields[key]).all()
            assert fields[key].sum(dtype=np.float64) == pytest.approx(1, abs=1e-5)
            np.testing.assert_allclose(fields[key], fields[key][::-1, ::-1], atol=1e-7)


@pytest.mark.parametrize(
    ("name", "first", "second", "final", "final_sinc"),
    [
        ("realesrgan", (7, 21), (7, 21), (7, 21), 0.8),
        ("realesrgan-hggt", (3, 7), (3, 5), (3, 5), 0.1),
        ("stablesr", (3, 21), (3, 11), (3, 11), 0.8),
        ("bsrgan", (3, 9), (3, 9), None, 0),
    ],
)
def test_supports_stay_in_their_ranges_and_reach_both_ends(name, first, second, final, final_sinc):
    samples = draws(name)
    for key, (smallest, largest) in (("kernel1", first), ("kernel2", second)):
        found = [support(fields[key]) for fields in samples]
        assert max(found) == largest  # narrow Gaussians underflow to zero, so that small supports say nothing
        assert min(found) <= smallest
    filters = [fields["sinc_kernel"] for fields in samples if support(fields["sinc_kernel"]) > 1]
    assert len(filters) / len(samples) == pytest.approx(final_sinc, abs=0.06)
    if final:
        assert {support(kernel) for kernel in filters} == set(range(final[0], final[1] + 1, 2))


class Recorder:
    """A generator that remembers the bounds of the uniform numbers drawn from it."""

    def __init__(self, seed):
        self._random = np.random.default_rng(seed)
        self.bounds = set()

    def __getattr__(self, name):
        return getattr(self._random, name)

    def uniform(self, low, high, size=None):
        self.bounds.add((low, high))
        return self._random.uniform(low, high, size)


@pytest.mark.parametrize("name", ["realesrgan", "stablesr"])
def test_parameters_are_drawn_from_the_documented_ranges(name):
    spec = DEGRADATIONS[name].first
    recorder = Recorder(0)
    for _ in range(NUM_DRAWS):
        spec.draw(recorder)
    betas = {(low, 1.0) for low, _ in (spec.beta_gaussian, spec.beta_plateau)} | {
        (1.0, high) for _, high in (spec.beta_gaussian, spec.beta_plateau)
    }
    sincs = {(math.pi / 3, math.pi), (math.pi / 5, math.pi)}
    assert recorder.bounds == {spec.sigma, (-math.pi, math.pi)} | betas | sincs


def is_isotropic(kernel):
    return np.allclose(kernel, kernel.T, atol=1e-9) and np.allclose(kernel, kernel[::-1], atol=1e-9)


@pytest.mark.parametrize("shape", ["", "generalized_", "plateau_"])
def test_kinds_are_what_their_names_say(shape):
    random = np.random.default_rng(0)
    for symmetry in ("iso", "aniso"):
        spec = BlurSpec(sizes=(21, 21), kinds={shape + symmetry: 1.0}, sigma=(0.5, 3), sinc=0.0)
        assert {is_isotropic(spec.draw(random)) for _ in range(20)} == {symmetry == "iso"}


def test_kinds_and_sinc_filters_come_with_their_probabilities():
    spec = DEGRADATIONS["realesrgan"].first
    assert sum(spec.kinds.values()) == pytest.approx(1)
    kernels = [fields["kernel1"].astype(np.float64) for fields in draws("realesrgan")]
    isotropic = 0.1 + 0.9 * (0.45 + 0.12 + 0.12)
    assert np.mean([is_isotropic(kernel) for kernel in kernels]) == pytest.approx(isotropic, abs=0.08)
    assert np.mean([(kernel < 0).any() for kernel in kernels]) == pytest.approx(0.1, abs=0.05)


def test_small_sinc_filters_are_not_cut_off_below_a_third():
    spec = BlurSpec(sizes=(7, 11), kinds={"iso": 1.0}, sigma=(1, 2), sinc=1.0)
    recorder = Recorder(0)
    for _ in range(50):
        spec.draw(recorder)
    assert recorder.bounds == {(math.pi / 3, math.pi)}


def widest_variance(kernels):
    return max(np.linalg.eigvalsh(covariance(kernel.astype(np.float64))).max() for kernel in kernels)


def test_gaussians_are_as_wide_as_the_widest_sigma_and_no_wider():
    degradation = DEGRADATIONS["realesrgan-hggt"]
    random = np.random.default_rng(0)
    for spec in (degradation.first, degradation.second):
        plain = replace(spec, sinc=0.0)
        limit = widest_variance([gaussian_kernel(spec.sizes[1], spec.sigma[1:] * 2)])
        assert 0.8 * limit < widest_variance(plain.draw(random) for _ in range(NUM_DRAWS)) < limit


def test_bsrgan_blurs_are_narrower_on_a_halved_image():
    samples = draws("bsrgan")
    for halved, widest in ((False, 1.0), (True, 0.6)):
        kernels = [fields[key] for fields in samples if fields["halve_first"] == halved for key in KERNELS[:2]]
        assert 0.7 * widest < widest_variance(kernels) < widest + 0.01


@pytest.mark.parametrize("name", DRAWN)
def test_draws_depend_on_seed_epoch_and_index_alone(name):
    def draw(seed, epoch, index):
        return draw_degradation(DEGRADATIONS[name], seed=seed, epoch=epoch, index=index)

    again = draw(1, 2, 3)
    for key, value in draw(1, 2, 3).items():
        assert (value == again[key]).all()
    for other in ((0, 2, 3), (1, 0, 3), (1, 2, 0)):
        assert not (draw(*other)["kernel1"] == again["kernel1"]).all()


def test_draws_are_independent_of_crops_and_flips():
    """The stream is not the one of the crops, not even where trailing zeros could make seeds coincide."""
    crops = np.random.default_rng((5, 0, 0)).random(4)
    kernels = np.random.default_rng(np.random.SeedSequence((5, 0, 0), spawn_key=(1,))).random(4)
    assert not np.intersect1d(crops, kernels).size

    class First:
        def draw(self, random):
            return {"numbers": random.random(4)}

    assert (draw_degradation(First(), seed=5, epoch=0, index=0)["numbers"] == kernels).all()
    options = {"patch_size": 64, "crop_size": 32, "grid": 4, "hflip": 0.5, "vflip": 0.5, "transpose": 0.5}
    tops = [Augmentation(**options, seed=0).draw(epoch=0, index=index)[0].top for index in range(NUM_DRAWS)]
    widths_ = [covariance(fields["kernel1"])[0, 0] for fields in draws("realesrgan")]
    assert abs(np.corrcoef(tops, widths_)[0, 1]) < 0.15


def test_bsrgan_fields():
    samples = draws("bsrgan")
    for fields in samples:
        order = fields["step_order"].tolist()
        assert sorted(order) == list(range(7))
        assert order.index(2) < order.index(3)
        assert 0 <= int(fields["degradation_seed"]) < 2**32
        assert support(fields["sinc_kernel"]) == 1
    assert np.mean([fields["halve_first"] for fields in samples]) == pytest.approx(0.25, abs=0.06)
    assert len({int(fields["degradation_seed"]) for fields in samples}) == NUM_DRAWS
    first_steps = {fields["step_order"][0] for fields in samples}
    assert first_steps == set(range(7)) - {3}


def test_names_are_looked_up():
    assert find_degradation(None) is None
    assert find_degradation(BICUBIC) is None
    assert find_degradation("bsrgan") is DEGRADATIONS["bsrgan"]
    own = DEGRADATIONS["stablesr"]
    assert find_degradation(own) is own
    with pytest.raises(ConfigError, match="degradation must be one of bicubic, realesrgan, .* got 'blur'"):
        find_degradation("blur")


@pytest.mark.parametrize("name", DRAWN)
def test_degradations_reach_worker_processes(name):
    assert pickle.loads(pickle.dumps(DEGRADATIONS[name])) == DEGRADATIONS[name]  # noqa: S301 - our own bytes
