"""Make the golden files beside this script from the full ones: ``python tests/golden/condense.py SHARED_GOLDEN_SSG``.

The full files (13 MB, described in the README of the folder they come from) hold what the authors' released code gives
for twelve small images. The files here are a selection of their arrays, under the same names. Nothing is recomputed,
rounded or reordered; only these things are left out:

* of the stored graphs all but some rows (spread evenly; ``rows``, ``rows64`` and ``v_*_rows`` say which);
* of gradients of images higher than 64 pixels three of four image rows (``gradient_step`` says so);
* float32 versions of graphs and gradients, and ``mask_official``, which equals ``mask``.

Numbers that a test compares with must never come from the code under test. Run this again only for new full files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

KEPT_ROWS = {"rows": 16, "rows64": 6}
KEPT_VARIANT_ROWS = 4
LEFT_OUT = {"mask_official", "ssg_gt_f32", "ssg_sr_f32", "grad_l1_f32", "grad_kl_f32"}


def spread(count: int, kept: int) -> np.ndarray:
    """Numbers of `kept` of `count` rows, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, kept)).round().astype(int))


def row_key(name: str) -> str | None:
    """Name of the array that says which edge pixels the rows of this array belong to."""
    if name.startswith("v_"):
        return f"{name.partition('_ssg_')[0]}_rows" if "_ssg_" in name else None
    if name.endswith("colsum_f64"):
        return None
    if name == "ssd_gt_int":
        return "rows"
    return "rows64" if name.startswith("ssg_") and name.endswith("_f64") else None


def condense(full: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays to keep."""
    picks = {
        name: spread(len(array), KEPT_ROWS.get(name, KEPT_VARIANT_ROWS))
        for name, array in full.items()
        if name in KEPT_ROWS or name.endswith("_rows")
    }
    step = 4 if full["mask"].shape[-2] > 64 else 1
    kept: dict[str, np.ndarray] = {"gradient_step": np.array(step)}
    for name, array in full.items():
        if name in LEFT_OUT:
            continue
        pick = picks.get(name if name in picks else row_key(name))
        if pick is not None:
            kept[name] = array[pick]
        else:
            kept[name] = array[..., ::step, :, :] if "grad_" in name else array
    return kept


def main() -> None:
    """Condense every file of a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with the full .npz files")
    for path in sorted(parser.parse_args().folder.glob("*.npz")):
        with np.load(path) as full:
            np.savez_compressed(Path(__file__).with_name(path.name), **condense(dict(full)))


if __name__ == "__main__":
    main()
