"""Threads that are computing while the program ends."""

import subprocess
import sys

import pytest

from ssl_data.kernels.extension import native

SCRIPT = """
import sys, threading
from skimage import data
from ssl_data import edge_mask, edge_pixels, self_similarity_graph

image = data.astronaut()
pixels = edge_pixels(edge_mask(image))
started = threading.Event()

def compute():
    while True:
        self_similarity_graph(image, pixels[:2000], output="codes")
        started.set()

threading.Thread(target=compute, daemon=True).start()
started.wait()
sys.exit(7)
"""


@pytest.mark.skipif(native is None, reason="the compiled extension is not installed")
def test_the_exit_code_is_that_of_the_program():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (7, "")
