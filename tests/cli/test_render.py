"""Small bars on a terminal."""

import io
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_data import BuildConfig, PatchSpec, build
from ssl_data.cli.render import bar, spark
from ssl_data.testing import write_images

WIDTHS = {"█": 8, "▉": 7, "▊": 6, "▋": 5, "▌": 4, "▍": 3, "▎": 2, "▏": 1}


@pytest.fixture
def terminal(monkeypatch):
    """Standard output of any encoding."""

    def encoded(name):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=name))

    return encoded


@given(st.floats(0, 1), st.integers(1, 60))
def test_a_bar_is_as_long_as_its_share(share, width):
    eighths = sum(WIDTHS[char] for char in bar(share, width))
    assert abs(eighths - 8 * width * share) <= (0.5 if round(8 * width * share) else 1)
    assert (eighths > 0) == (share > 0)


@given(st.lists(st.integers(0, 10**6), max_size=40))
def test_columns_are_as_high_as_their_numbers(counts):
    shown = spark(counts)
    assert len(shown) == len(counts)
    heights = [" ▁▂▃▄▅▆▇█".index(char) for char in shown]
    order = sorted(range(len(counts)), key=counts.__getitem__)
    assert [heights[place] for place in order] == sorted(heights)
    assert [height > 0 for height in heights] == [count > 0 for count in counts]


def test_plain_terminals_get_plain_characters(terminal):
    terminal("ascii")
    assert bar(0.5, 10) == "#####"
    assert bar(0.001, 10) == "#"
    assert spark([0, 1, 50, 100]) == " .=@"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_inspect_shows_bars_on_every_terminal(tmp_path, encoding):
    images = write_images(tmp_path / "images", [(96, 64), (100, 130)])
    for name in ("a.png", "b.png"):
        (images / name).write_bytes(b"no image")
    (images / "empty.png").write_bytes(b"")
    build(BuildConfig(dataset=str(images), out=str(tmp_path / "store"), patch=PatchSpec(patch_size=64, step=32)))
    done = subprocess.run(
        [sys.executable, "-c", "from ssl_data.cli.app import main; main()", "inspect", str(tmp_path / "store")],
        capture_output=True,
        env={"PYTHONIOENCODING": encoding, "PATH": "/usr/bin:/bin"},
        check=True,
    )
    shown = done.stdout.decode(encoding)
    full = "█" * 20 if encoding == "utf-8" else "#" * 20
    (largest,) = [line for line in shown.splitlines() if line.startswith("ssg ")]
    assert largest.endswith(full)
    assert f"  not_an_image        2  {full}\n  empty_file          1  {full[:10]}\n" in shown
    assert "number of patches" in shown
