"""The Triton kernels, in Triton's interpreter, against what the authors' code gives through autograd.

The interpreter takes seconds where a GPU takes microseconds: only small images are compared.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_data import SSGBatch, SSGSpec

TESTS = Path(__file__).parents[1]
CASES = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
# The float32 bounds of test_loss_golden.py, which explains them.
BOUNDS = runpy.run_path(str(Path(__file__).with_name("test_loss_golden.py")))
L1_RELATIVE, KL_ABSOLUTE, KL_GRADIENT, L1_GRADIENT = (
    BOUNDS[name][torch.float32] for name in ("L1_RELATIVE", "KL_ABSOLUTE", "KL_GRADIENT", "L1_GRADIENT")
)


@pytest.fixture(scope="module")
def interpreter():
    interpreter = runpy.run_path(str(TESTS / "training" / "triton_interpreter.py"))["Interpreter"]()
    if interpreter.obstacle:
        pytest.skip(interpreter.obstacle)
    yield interpreter
    interpreter.close()


def evaluate(interpreter, case, spec, *, edge_stride=1, apart=False):
    gt = torch.from_numpy(case.images("gt_u8")).float().movedim(3, 1) / 255
    mask = torch.from_numpy(case.images("mask"))[:, None]
    sr = torch.from_numpy(case.images("sr_f32")).movedim(3, 1).contiguous()
    ssg = SSGBatch.from_images(gt, mask, spec, edge_stride=edge_stride)
    return interpreter.evaluate(sr, ssg, spec, block=128, apart=apart)


def open_case(stem):
    return CASES["Case"](next(CASES["CONDENSED"].glob(f"{stem}_*.npz")))


def assert_losses(case, prefix, found):
    assert abs(found.kl - case[f"{prefix}loss_kl_f64"]) <= KL_ABSOLUTE
    l1 = case[f"{prefix}loss_l1_f64"]
    assert abs(found.l1 - l1) <= L1_RELATIVE * l1


def assert_gradient(case, name, gradient, tolerance):
    expected = case.images(name)
    gradient = np.moveaxis(gradient, 1, 3)[:, :: case.gradient_step]
    assert gradient.shape == expected.shape
    assert np.abs(gradient - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("stem", ["d07", "d08"])
def test_loss_and_gradient(interpreter, stem):
    case = open_case(stem)
    found = evaluate(interpreter, case, SSGSpec(), apart=True)
    assert_losses(case, "", found)
    assert_gradient(case, "grad_kl_f64", found.gradients[0], KL_GRADIENT)
    assert_gradient(case, "grad_l1_f64", found.gradients[1], L1_GRADIENT)


def test_edge_stride(interpreter):
    case = open_case("d06")
    found = evaluate(interpreter, case, SSGSpec(), edge_stride=3)
    assert_losses(case, "stride3_", found)
    assert_gradient(case, "stride3_grad_total_f64", found.gradients[0], L1_GRADIENT)


@pytest.mark.parametrize("name", CASES["VARIANTS"])
def test_variants(interpreter, name):
    case, spec = open_case("d06"), CASES["VARIANTS"][name]
    found = evaluate(interpreter, case, spec)
    assert_losses(case, f"v_{name}_", found)
    assert_gradient(case, f"v_{name}_grad_total_f64", found.gradients[0], L1_GRADIENT)
