"""The Triton path of the loss: against the torch path in Triton's interpreter, and on a GPU where there is one."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_data import SelfSimilarityLoss, SSGBatch, SSGSpec
from ssl_data.errors import ConfigError, MissingDependencyError

SMALL = SSGSpec(search_size=5, window_size=3)
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed: it is on Linux only")
on_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    needs_triton,
]


@pytest.fixture(scope="module")
def interpreter():
    interpreter = runpy.run_path(str(Path(__file__).with_name("triton_interpreter.py")))["Interpreter"]()
    if interpreter.obstacle:
        pytest.skip(interpreter.obstacle)
    yield interpreter
    interpreter.close()


def batch_and_sr(spec, *, num_images=2, height=12, width=15, num_pixels=12, seed=0):
    """Smooth images, noisy SR images, and graphs at pixels in no order, some of them twice."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(num_images, 3, 4, 4, generator=random)
    gt = 0.9 * torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    sr = gt + 0.03 * torch.randn(gt.shape, generator=random)
    graphs = SSGBatch.from_images(gt, torch.ones(num_images, 1, height, width), spec)
    chosen = torch.randint(len(graphs), (num_pixels,), generator=random)
    index = {name: getattr(graphs, name)[chosen] for name in ("image", "row", "col")}
    return SSGBatch(values=graphs.values[chosen], **index), sr


def coded(ssg, largest=255):
    similarity = ssg.values / ssg.values.amax(1, keepdim=True)
    return SSGBatch(
        codes=(largest * similarity.sqrt()).round().to(torch.uint8 if largest == 255 else torch.uint16),
        image=ssg.image.int(),
        row=ssg.row.short(),
        col=ssg.col.short(),
    )


def losses_and_gradients(sr, ssg, spec, *, apart, **options):
    """Of the torch path: two scalars, and gradients (B, 3, H, W) of the total or of KL and L1."""
    sr = sr.detach().requires_grad_()
    terms = SelfSimilarityLoss(spec, backend="torch", **options)(sr, ssg)
    of = (terms.kl, terms.l1) if apart else (terms.total,)
    gradients = [torch.autograd.grad(term, sr, retain_graph=True)[0].double().numpy() for term in of]
    return [terms.kl.item(), terms.l1.item()], gradients


def assert_equals_torch(found, sr, ssg, spec, **options):
    """Against the torch path in float64, with its float32 path for comparison.

    Most cases stay within fixed bounds: exponents of some tens are rounded by 1e-6, which values of x and with them
    |x - y| and the gradient inherit. Where x and y nearly agree (graphs of one value, above all), float32 has fewer
    digits for their difference; the two paths round differently, but neither should be several times worse.
    """
    apart = len(found.gradients) == 2
    exact_losses, exact_gradients = losses_and_gradients(sr.double(), ssg, spec, apart=apart, **options)
    losses, gradients = losses_and_gradients(sr, ssg, spec, apart=apart, **options)
    for ours, exact, single in zip((found.kl, found.l1), exact_losses, losses, strict=True):
        assert abs(ours - exact) <= 1e-5 * abs(exact) + 1e-6 / spec.num_positions + 4 * abs(single - exact)
    for ours, exact, single in zip(found.gradients, exact_gradients, gradients, strict=True):
        assert np.abs(ours - exact).max() <= 1e-5 * np.abs(exact).max() + 4 * np.abs(single - exact).max()


# In the interpreter


@given(
    radii=st.tuples(st.integers(0, 2), st.integers(0, 3)),
    stride=st.integers(1, 2),
    boundary=st.sampled_from(["zero", "image"]),
    extra=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    largest_code=st.sampled_from([None, 255, 4095]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=10, deadline=None)
def test_equals_torch(interpreter, radii, stride, boundary, extra, largest_code, seed):
    search_radius, window_radius = radii
    stride = stride if search_radius % stride == 0 else 1
    sizes = {"search_size": 2 * search_radius + 1, "window_size": 2 * window_radius + 1, "search_stride": stride}
    spec = SSGSpec(**sizes, boundary=boundary, bandwidth=0.02)
    height, width = (spec.min_side + side for side in extra)
    ssg, sr = batch_and_sr(spec, height=height, width=width, seed=seed)
    ssg = coded(ssg, largest_code) if largest_code else ssg
    assert_equals_torch(interpreter.evaluate(sr, ssg, spec), sr, ssg, spec)


def test_squares_of_twelve_bits_are_summed_without_overflow(interpreter):
    """Graphs of equal values: 625 times 4095^2 is more than 32 bits hold."""
    spec = SSGSpec()
    index = torch.arange(2)
    codes = torch.full((2, 625), 4095, dtype=torch.int32).to(torch.uint16)
    ssg = SSGBatch(codes=codes, image=torch.zeros_like(index), row=index, col=index)
    sr = 0.5 + 0.001 * torch.randn(1, 3, 13, 13, generator=torch.Generator().manual_seed(0))
    assert_equals_torch(interpreter.evaluate(sr, ssg, spec), sr, ssg, spec)


@pytest.mark.parametrize(("window_size", "boundary"), [(7, "zero"), (7, "image"), (19, "image")])
def test_several_tiles(interpreter, window_size, boundary):
    """Across the seams of tiles, for windows within and beyond the search area, and for both sizes of blocks."""
    spec = SSGSpec(search_size=3, window_size=window_size, boundary=boundary, bandwidth=0.02)
    ssg, sr = batch_and_sr(spec, num_images=1, height=spec.min_side, width=84, num_pixels=60)
    assert_equals_torch(interpreter.evaluate(sr, ssg, spec, apart=True), sr, ssg, spec)


def test_entries_below_the_floor_have_no_gradient(interpreter):
    spec = SSGSpec(search_size=5, window_size=3, bandwidth=1e-4)
    ssg, sr = batch_and_sr(spec)
    mask = torch.ones(2, 1, 12, 15)
    assert 0.2 < (SSGBatch.from_images(sr, mask, spec).values < 1e-10).double().mean().item() < 0.97
    assert_equals_torch(interpreter.evaluate(sr, ssg, spec, apart=True), sr, ssg, spec)


def test_nearly_equal_images_keep_their_digits(interpreter):
    """Late in training KL's gradient is small beside x and y, of which it is the difference."""
    ssg, sr = batch_and_sr(SMALL)
    gt = SSGBatch.from_images(sr, torch.ones(2, 1, 12, 15), SMALL)
    chosen = (ssg.image * 12 + ssg.row) * 15 + ssg.col
    near = SSGBatch(values=gt.values[chosen], image=ssg.image, row=ssg.row, col=ssg.col)
    noise = 1e-4 * torch.randn(sr.shape, generator=torch.Generator().manual_seed(1))
    found = interpreter.evaluate(sr + noise, near, SMALL, apart=True).gradients[0]
    exact = (sr + noise).double().requires_grad_()
    (expected,) = torch.autograd.grad(SelfSimilarityLoss(SMALL)(exact, near).kl, exact)
    # x - y is some 1e-4 of x, so that the rounding of x, 1e-7, is 1e-3 of it.
    assert np.abs(found - expected.numpy()).max() <= 2e-3 * expected.abs().max()


def test_equal_inputs_give_equal_bits(interpreter):
    ssg, sr = batch_and_sr(SMALL)
    first, second = (interpreter.evaluate(sr, ssg, SMALL) for _ in range(2))
    assert (first.kl, first.l1) == (second.kl, second.l1)
    np.testing.assert_array_equal(first.gradients[0], second.gradients[0])


def test_weights_and_value_range(interpreter):
    options = {"kl_weight": 3.0, "l1_weight": 0.5, "value_range": (-1.0, 1.0)}
    ssg, sr = batch_and_sr(SMALL)
    assert_equals_torch(interpreter.evaluate(2 * sr - 1, ssg, SMALL, **options), 2 * sr - 1, ssg, SMALL, **options)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_images_are_computed_in_float32(interpreter, dtype):
    ssg, sr = batch_and_sr(SMALL)
    half = interpreter.evaluate(sr.to(dtype), ssg, SMALL)
    single = interpreter.evaluate(sr.to(dtype).float(), ssg, SMALL)
    assert (half.kl, half.l1) == (single.kl, single.l1)
    expected = torch.from_numpy(single.gradients[0]).to(dtype).float()
    np.testing.assert_array_equal(half.gradients[0], expected.numpy())


@pytest.mark.parametrize("num_images", [0, 2])
def test_no_edge_pixels(interpreter, num_images):
    none = torch.zeros(0, dtype=torch.long)
    ssg = SSGBatch(codes=torch.zeros(0, 25, dtype=torch.uint8), image=none, row=none, col=none)
    found = interpreter.evaluate(torch.rand(num_images, 3, 12, 15), ssg, SMALL)
    assert found.kl == found.l1 == 0
    assert found.gradients[0].shape == (num_images, 3, 12, 15)
    assert not found.gradients[0].any()


def test_refusals_of_the_kernels(interpreter):
    ssg, sr = batch_and_sr(SMALL)
    with pytest.raises(
        AssertionError, match="InputError: backend 'triton' needs images up to float32 on an NVIDIA GPU"
    ):
        interpreter.evaluate(sr.double(), ssg, SMALL)
    too_large = SSGSpec(search_size=1, window_size=35)
    with pytest.raises(AssertionError, match="ConfigError: backend 'triton' has room for 63 search positions"):
        interpreter.evaluate(*reversed(batch_and_sr(too_large, height=40, width=40)), too_large)


# Choosing a backend


def test_unknown_backends_are_refused():
    with pytest.raises(ConfigError, match="backend must be 'auto', 'torch' or 'triton', got 'cuda'"):
        SelfSimilarityLoss(SMALL, backend="cuda")


def test_backend_is_shown():
    assert "backend='torch'" in repr(SelfSimilarityLoss(SMALL, backend="torch"))


@pytest.mark.parametrize(
    ("backend", "differences", "chosen"),
    [
        ("auto", {}, True),
        ("triton", {}, True),
        ("torch", {}, False),
        ("auto", {"is_cuda": False}, False),
        ("auto", {"dtype": torch.float64}, False),
        ("auto", {"runs": False}, False),
        ("auto", {"room": False}, False),
        ("auto", {"installed": False}, False),
    ],
)
def test_choice_on_a_gpu(monkeypatch, backend, differences, chosen):
    """With stand-ins for the images and for the module with the kernels."""
    is_ = {"is_cuda": True, "dtype": torch.float32, "runs": True, "room": True, "installed": True, **differences}
    kernels = SimpleNamespace(runs_on=lambda _: is_["runs"], supports=lambda _: is_["room"])
    monkeypatch.setattr("ssl_data.training.loss._triton", lambda: kernels if is_["installed"] else None)
    images = SimpleNamespace(is_cuda=is_["is_cuda"], dtype=is_["dtype"], device="cuda:0")
    assert SelfSimilarityLoss(SMALL, backend=backend)._kernels(images) is (kernels if chosen else None)


def run_python(code, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


STEP = """
import sys, torch
from ssl_data import SelfSimilarityLoss, SSGBatch, SSGSpec
spec = SSGSpec(search_size=5, window_size=3)
sr = torch.rand(1, 3, 9, 9, requires_grad=True)
ssg = SSGBatch.from_images(sr.detach(), torch.ones(1, 1, 9, 9), spec)
"""


def test_on_a_cpu_triton_is_not_imported():
    print_imported = "SelfSimilarityLoss(spec)(sr, ssg).total.backward(); print('triton' in sys.modules)"
    assert run_python(STEP + print_imported).strip() == "False"


@needs_triton
def test_it_would_be_noticed_if_triton_were_imported():
    code = "SelfSimilarityLoss(spec, backend='triton'); print('triton' in sys.modules)"
    assert run_python(STEP + code).strip() == "True"


def test_without_triton_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr("ssl_data.training.loss._triton", lambda: None)
    with pytest.raises(MissingDependencyError, match="pip install triton"):
        SelfSimilarityLoss(SMALL, backend="triton")


@needs_triton
def test_a_cpu_is_refused():
    code = (
        "try:\n    SelfSimilarityLoss(spec, backend='triton')(sr, ssg)\nexcept ValueError as error:\n    print(error)"
    )
    assert "compute capability 8.0 or higher, got torch.float32 on cpu" in run_python(STEP + code, TRITON_INTERPRET="0")


COMPILE = """
import re
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from ssl_data.kernels import triton_kernels as kernels
types = dict.fromkeys(["num_pixels", "width", "plane"], "i32")
types |= {"exponent": "fp32", "graphs": "*u8", "defects": "*fp64", "rows": "*i32", "order": "*i64", "centre": "*i64"}
for clipped in (True, False):
    options = {"clipped": clipped, "side": 25, "stride": 1, "window_radius": 4}
    entry_options = {**options, "coded": clipped, "pixels": 1, "lanes": 1024}
    for kernel, fixed in [
        (kernels.graph_kernel, entry_options),
        (kernels.entry_gradient_kernel, entry_options),
        (kernels.image_gradient_kernel, {**options, "block": 32}),
    ]:
        signature = {name: "constexpr" if name in fixed else types.get(name, "*fp32") for name in kernel.arg_names}
        source = ASTSource(fn=kernel, signature=signature, constexprs=fixed)
        compiled = compile(source, target=GPUTarget("cuda", 80, 32), options={"enable_fp_fusion": True})
        print(kernel.__name__, len(re.findall(r"\\b(?:atom|red)\\.", compiled.asm["ptx"])))
"""


@needs_triton
def test_kernels_compile_for_a_gpu(tmp_path):
    """The interpreter takes more than the compiler does, which needs no GPU. There is no atomic operation in them."""
    lines = run_python(COMPILE, TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path)).splitlines()
    assert lines == ["graph_kernel 0", "entry_gradient_kernel 0", "image_gradient_kernel 0"] * 2


# On a GPU


def on_cuda(spec, *, dtype=torch.float32, **kwargs):
    ssg, sr = batch_and_sr(spec, **kwargs)
    return ssg.to("cuda"), sr.to("cuda", dtype).requires_grad_()


def evaluate(loss, sr, ssg):
    terms = loss(sr, ssg)
    return terms, torch.autograd.grad(terms.total, sr)[0]


GPU_SPECS = [
    SSGSpec(),
    SSGSpec(boundary="image"),
    SSGSpec(search_stride=3),
    SSGSpec(boundary="image", search_stride=3),
    SSGSpec(search_size=11, window_size=5, bandwidth=0.01),
    SSGSpec(search_size=9, window_size=3),
    SSGSpec(search_size=3, window_size=19),
    SSGSpec(search_size=1, window_size=1),
]


class TestOnGPU:
    pytestmark = on_gpu

    @pytest.mark.parametrize("spec", GPU_SPECS, ids=str)
    @pytest.mark.parametrize("with_codes", [False, True])
    def test_equals_torch(self, spec, with_codes):
        ssg, sr = on_cuda(spec, height=67, width=90, num_pixels=900)
        ssg = coded(ssg) if with_codes else ssg
        terms, gradient = evaluate(SelfSimilarityLoss(spec, backend="triton"), sr, ssg)
        exact = sr.detach().double().requires_grad_()
        expected, exact_gradient = evaluate(SelfSimilarityLoss(spec, backend="torch"), exact, ssg)
        torch.testing.assert_close(terms.l1.double(), expected.l1, rtol=1e-5, atol=1e-8)
        torch.testing.assert_close(terms.kl.double(), expected.kl, rtol=1e-5, atol=2e-6 / spec.num_positions)
        assert (gradient - exact_gradient).abs().max() <= 5e-5 * exact_gradient.abs().max()

    def test_auto_takes_triton(self):
        ssg, sr = on_cuda(SMALL)
        auto, asked_for = (evaluate(SelfSimilarityLoss(SMALL, backend=name), sr, ssg) for name in ("auto", "triton"))
        assert auto[0] == asked_for[0]
        assert torch.equal(auto[1], asked_for[1])

    def test_auto_takes_torch_where_triton_has_no_room(self):
        spec = SSGSpec(search_size=1, window_size=35)
        ssg, sr = on_cuda(spec, height=40, width=40)
        auto, plain = (SelfSimilarityLoss(spec, backend=name)(sr, ssg) for name in ("auto", "torch"))
        assert auto == plain
        double = sr.detach().double()
        assert SelfSimilarityLoss(SMALL)(double, on_cuda(SMALL, height=40, width=40)[0]).total.dtype == torch.float64

    def test_equal_inputs_give_equal_bits(self):
        ssg, sr = on_cuda(SSGSpec(), height=64, width=64, num_pixels=800)
        loss = SelfSimilarityLoss(SSGSpec(), backend="triton")
        torch.use_deterministic_algorithms(True)  # noqa: FBT003 - its signature
        try:
            results = [evaluate(loss, sr, ssg) for _ in range(3)]
        finally:
            torch.use_deterministic_algorithms(False)  # noqa: FBT003
        for terms, gradient in results[1:]:
            assert terms == results[0][0]
            assert torch.equal(gradient, results[0][1])

    def test_memory_per_edge_pixel(self):
        """x and dL/dssd, and the k^2 weights of the windows: 2.2 float32 values per entry; maps do not grow with N."""
        loss, peaks = SelfSimilarityLoss(SSGSpec(), backend="triton"), []
        for num_pixels in (2000, 2000, 6000):  # the first run also compiles
            ssg, sr = on_cuda(SSGSpec(), height=64, width=64, num_pixels=num_pixels)
            torch.cuda.synchronize()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            loss(sr, ssg).total.backward()
            peaks.append(torch.cuda.max_memory_allocated() - before)
        assert (peaks[2] - peaks[1]) / 4000 < 2.3 * 4 * 625

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_autocast_and_half_images(self, dtype):
        ssg, sr = on_cuda(SMALL, dtype=dtype)
        loss = SelfSimilarityLoss(SMALL, backend="triton")
        expected, expected_gradient = evaluate(loss, sr.detach().float().requires_grad_(), ssg)
        with torch.autocast("cuda", dtype=dtype):
            terms, gradient = evaluate(loss, sr, ssg)
        assert terms == expected
        assert gradient.dtype == dtype
        assert torch.equal(gradient, expected_gradient.to(dtype))

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
    def test_inside_a_compiled_model(self):
        ssg, sr = on_cuda(SMALL)
        model = torch.nn.Conv2d(3, 3, 3, padding=1).cuda()
        loss = SelfSimilarityLoss(SMALL)

        def step(images):
            return loss(model(images).sigmoid(), ssg).total

        expected, expected_gradient = step(sr), torch.autograd.grad(step(sr), sr)[0]
        compiled = torch.compile(step)(sr)
        torch.testing.assert_close(compiled, expected, rtol=1e-4, atol=1e-7)
        gradient = torch.autograd.grad(compiled, sr)[0]
        assert (gradient - expected_gradient).abs().max() <= 1e-3 * expected_gradient.abs().max()

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
    def test_a_compiled_step_takes_any_number_of_edge_pixels(self):
        model = torch.nn.Conv2d(3, 3, 3, padding=1).cuda()
        loss = SelfSimilarityLoss(SMALL)

        def step(images, ssg):
            return loss(model(images).sigmoid(), ssg).total

        compiled = torch.compile(step)
        for num_pixels in (12, 200, 0, 7):
            ssg, sr = on_cuda(SMALL, num_pixels=num_pixels)
            expected, found = (torch.autograd.grad(f(sr, ssg), sr)[0] for f in (step, compiled))
            assert (found - expected).abs().max() <= 1e-3 * expected.abs().max()

    @pytest.mark.parametrize("num_images", [0, 2])
    def test_no_edge_pixels(self, num_images):
        none = torch.zeros(0, dtype=torch.long, device="cuda")
        ssg = SSGBatch(codes=torch.zeros(0, 25, dtype=torch.uint8, device="cuda"), image=none, row=none, col=none)
        sr = torch.rand(num_images, 3, 12, 15, device="cuda", requires_grad=True)
        terms, gradient = evaluate(SelfSimilarityLoss(SMALL, backend="triton"), sr, ssg)
        assert terms.total == terms.kl == terms.l1 == 0
        assert gradient.shape == sr.shape
        assert not gradient.any()

    def test_memory_layouts(self):
        """Views and other strides of images, graphs and indices change no bit."""
        ssg, sr = on_cuda(SMALL, num_pixels=300)
        loss = SelfSimilarityLoss(SMALL, backend="triton")
        expected, expected_gradient = evaluate(loss, sr, ssg)
        plain = sr.detach()
        graphs = {"values": torch.stack([ssg.values, ssg.values], dim=2)[..., 1]}
        index = {name: getattr(ssg, name).repeat_interleave(2)[::2] for name in ("image", "row", "col")}
        strided = SSGBatch(**graphs, **index)
        assert not strided.values.is_contiguous()
        for images in (
            plain.contiguous(memory_format=torch.channels_last),
            torch.stack([plain] * 2, dim=4)[..., 1],
            plain.flip(3).flip(3).expand(1, *plain.shape)[0],
        ):
            terms, gradient = evaluate(loss, images.requires_grad_(), strided)
            assert terms == expected
            assert torch.equal(gradient, expected_gradient)

    def test_another_stream(self):
        """Kernels run on the current stream, backwards too: behind the work that makes their inputs."""
        ssg, sr = on_cuda(SSGSpec(), height=64, width=64, num_pixels=800)
        loss = SelfSimilarityLoss(SSGSpec(), backend="triton")
        expected, expected_gradient = evaluate(loss, sr, ssg)
        torch.cuda.synchronize()
        stream = torch.cuda.Stream()
        slow = torch.rand(4096, 4096, device="cuda")
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            late = torch.zeros_like(sr.detach())
            for _ in range(20):  # some milliseconds, during which another stream would read zeros
                slow = slow @ slow.softmax(1)
            late.copy_(sr.detach() + 0 * slow[0, 0].nan_to_num(0, 0, 0))
            terms, gradient = evaluate(loss, late.requires_grad_(), ssg)
            copied = gradient.clone()
        stream.synchronize()
        assert terms == expected
        assert torch.equal(copied, expected_gradient)

    @pytest.mark.parametrize("spec", [SMALL, SSGSpec()], ids=str)
    def test_more_edge_pixels_than_a_grid_has_rows(self, spec):
        """65,535 is the limit of a grid's second and third axis."""
        ssg, sr = on_cuda(spec, num_images=5, height=128, width=128, num_pixels=70_001)
        terms, gradient = evaluate(SelfSimilarityLoss(spec, backend="triton"), sr, ssg)
        plain = SelfSimilarityLoss(spec, backend="torch")
        exact, exact_gradient = evaluate(plain, sr.detach().double().requires_grad_(), ssg)
        torch.testing.assert_close(terms.l1.double(), exact.l1, rtol=1e-5, atol=1e-8)
        torch.testing.assert_close(terms.kl.double(), exact.kl, rtol=1e-5, atol=2e-6 / spec.num_positions)
        # Among so many entries some have x and y so close that float32 takes the wrong sign of x - y, in torch, too.
        single_error = (evaluate(plain, sr, ssg)[1] - exact_gradient).abs().max()
        assert (gradient - exact_gradient).abs().max() <= 1e-5 * exact_gradient.abs().max() + 4 * single_error

    def test_mixed_precision_training(self):
        """Under autocast with a scaled loss, a network gets the gradients of float32, as far as half precision goes."""
        ssg, images = on_cuda(SMALL)
        torch.manual_seed(0)
        model, loss = torch.nn.Conv2d(3, 3, 3, padding=1).cuda(), SelfSimilarityLoss(SMALL, kl_weight=100)
        (expected,) = torch.autograd.grad(loss(model(images), ssg).total, model.weight)
        scaler = torch.amp.GradScaler("cuda", init_scale=2.0**10)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        with torch.autocast("cuda", dtype=torch.float16):
            sr = model(images)
            total = loss(sr, ssg).total
        assert (sr.dtype, total.dtype) == (torch.float16, torch.float32)
        scaler.scale(total).backward()
        scaler.unscale_(optimizer)
        assert (model.weight.grad - expected).abs().max() <= 0.05 * expected.abs().max()
