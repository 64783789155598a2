"""The portable kernel as other processors run it: sums in float32, also compiled for ARM and run in an emulator.

Each needs tools (Debian: g++; g++-aarch64-linux-gnu and qemu-user) and is skipped where they are missing.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ssl_data.config import SSGSpec
from ssl_data.kernels.quantize import code_table, codes_from_ssd
from ssl_data.kernels.reference import normalized_from_ssd, ssd_numpy

pytestmark = pytest.mark.slow  # mostly compiling

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "ssl_data" / "kernels" / "native"
OUTPUTS = {"ssd": np.int32, "codes": np.uint8, "normalized": np.float32}
TARGETS = {
    "floats": (["g++", "-DSSG_FLOATS"], []),
    "floats, sanitized": (["g++", "-DSSG_FLOATS", "-fsanitize=address,undefined", "-fno-sanitize-recover"], []),
    "aarch64": (["aarch64-linux-gnu-g++", "-static"], ["qemu-aarch64"]),
}


@pytest.fixture(scope="module", params=TARGETS)
def program(request, tmp_path_factory):
    compiler, runner = TARGETS[request.param]
    for tool in (compiler[0], *runner):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    path = tmp_path_factory.mktemp("portable") / "driver"
    sources = [HERE / "portable_driver.cpp", NATIVE / "portable.cpp"]
    options = ["-std=c++17", "-O2", "-w", f"-I{NATIVE}", "-o", path]
    subprocess.run([*compiler, *options, *sources], check=True, timeout=500)
    return [*runner, path]


def run(program, image, pixels, spec, output):
    table = code_table(spec)
    scale = -spec.ssd_scale / 255**2 * 1.4426950408889634 / (2 if output == "codes" else 1)
    sizes = [spec.search_size, spec.window_size, spec.search_stride, spec.boundary == "zero"]
    header = [*sizes, list(OUTPUTS).index(output), *image.shape[:2], len(pixels), table.shift, len(table.first)]
    arrays = [np.array(header, np.int32), np.float32(scale), table.first, table.thresholds, image, pixels]
    problem = b"".join(array.tobytes() for array in arrays)
    result = subprocess.run(program, input=problem, stdout=subprocess.PIPE, check=True, timeout=120).stdout
    return np.frombuffer(result, OUTPUTS[output]).reshape(len(pixels), spec.num_positions)


@pytest.mark.parametrize(
    "spec",
    [
        SSGSpec(),
        SSGSpec(boundary="image"),
        SSGSpec(search_stride=3),
        SSGSpec(search_stride=4, boundary="image", window_size=5),
        SSGSpec(search_size=7, window_size=15),
        SSGSpec(search_size=1, window_size=1),
        SSGSpec(search_size=3, window_size=3, boundary="image"),
        SSGSpec(search_size=41, window_size=31, boundary="image"),
        SSGSpec(search_size=17, window_size=91),
    ],
    ids=str,
)
def test_equal_to_oracle(spec, program):
    side = spec.min_side
    noise = np.random.default_rng(side).integers(0, 256, (side + 3, side + 1, 3), dtype=np.uint8)
    extremes = noise // 128 * 255
    pixels = np.array([[0, 0], [side + 2, side], [side // 2, side // 3]], dtype=np.int32)
    for image in (noise, extremes):
        expected = ssd_numpy(image, pixels, spec)
        np.testing.assert_array_equal(run(program, image, pixels, spec, "ssd"), expected)
        np.testing.assert_array_equal(run(program, image, pixels, spec, "codes"), codes_from_ssd(expected, spec))
        normalized = run(program, image, pixels, spec, "normalized")
        assert np.abs(normalized - normalized_from_ssd(expected, spec)).max() < 1e-6
