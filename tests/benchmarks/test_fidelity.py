"""What codes cost the loss and its gradient, on real photographs, is what the documentation says."""

from pathlib import Path

import pytest

pytest.importorskip("skimage", reason="the photographs come with scikit-image")

from ssl_data.benchmarks.common import photographs
from ssl_data.benchmarks.fidelity import ALLOWED, measure

STORING = Path(__file__).parents[2] / "docs" / "storing.md"


@pytest.fixture(scope="module")
def rows():
    return measure(photographs(), 96)


@pytest.mark.parametrize("quantization", ALLOWED)
def test_errors_of_every_photograph_stay_within_the_bounds(rows, quantization):
    of_codes = [row for row in rows if row["stored as"] == quantization]
    assert len(of_codes) >= 2 * 5
    for row in of_codes:
        for error, bound in ALLOWED[quantization].items():
            assert row[error] <= bound, row


def test_the_measurement_tells_ways_of_storing_apart(rows):
    worst = {
        name: max(row["loss"] for row in rows if row["stored as"] == name) for name in ("linear8", "sqrt8", "sqrt12")
    }
    assert worst["linear8"] > 10 * worst["sqrt8"] > 100 * worst["sqrt12"] > 0


def test_the_documented_bounds_are_the_tested_ones():
    lines = [line.split("|")[1:-1] for line in STORING.read_text(encoding="utf-8").splitlines() if " % |" in line]
    documented = {cells[0].strip(): [float(cell.strip(" %")) / 100 for cell in cells[1:]] for cells in lines}
    expected = {
        "loss": "loss",
        "1 - cosine of the gradient": "1 - cosine",
        "KL gradient": "KL gradient",
        "L1 gradient": "L1 gradient",
    }
    assert documented == {
        text: pytest.approx([ALLOWED[name][error] for name in ("sqrt8", "sqrt12")]) for text, error in expected.items()
    }
