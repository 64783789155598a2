"""The script that takes the screenshots of the documents."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

SCREENSHOTS = Path(__file__).resolve().parents[2] / "docs" / "screenshots"


@pytest.mark.slow
def test_screenshots_can_be_taken_anew(browser, photographs, tmp_path):
    subprocess.run([sys.executable, SCREENSHOTS / "take.py", tmp_path], check=True, timeout=300)
    names = {path.name for path in SCREENSHOTS.glob("*.png")}
    assert {path.name for path in tmp_path.iterdir()} == names
    for name in names:
        with Image.open(tmp_path / name) as taken, Image.open(SCREENSHOTS / name) as shown:
            assert taken.size == shown.size
