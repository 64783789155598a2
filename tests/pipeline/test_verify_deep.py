"""`verify_store(deep=True)` computes masks, graphs and reduced patches anew, and finds what hashes cannot."""

import numpy as np
import pytest

from ssl_data import verify_store
from ssl_data.errors import ConfigError
from ssl_data.kernels.codes import graph_codes
from ssl_data.kernels.edges import edge_mask
from ssl_data.kernels.resize import reduce_bicubic
from ssl_data.testing import tiny_store


def wrong_codes(*arguments, **options):
    codes = graph_codes(*arguments, **options)
    codes[-1, 0] ^= 1
    return codes


def wrong_mask(image, *, threshold):
    mask = edge_mask(image, threshold=threshold)
    mask[5, 5] ^= True
    return mask


def wrong_lq(image, scale):
    return reduce_bicubic(image, scale) ^ np.uint8(1)


@pytest.mark.parametrize(
    ("name", "wrong", "kind", "message"),
    [
        ("graph_codes", wrong_codes, "wrong-codes", "graphs differ from those of its pixels"),
        ("edge_mask", wrong_mask, "wrong-mask", "1 pixels of its edge mask differ"),
        ("reduce_bicubic", wrong_lq, "wrong-lq", "is not the reduction of its pixels"),
    ],
)
def test_values_that_were_written_wrong_are_found_by_computing_them_anew(
    tmp_path, monkeypatch, name, wrong, kind, message
):
    monkeypatch.setattr(f"ssl_data.pipeline.job.{name}", wrong)
    store = tiny_store(tmp_path, lq_scale=4)
    assert verify_store(store.root) == []
    problems = verify_store(store.root, deep=True)
    assert {problem.kind for problem in problems} == {kind}
    assert [problem.where for problem in problems] == [store.patch_id(index) for index in range(store.num_patches)]
    assert [problem.shard for problem in problems] == [index // 2 for index in range(store.num_patches)]
    assert message in problems[0].message
    some = verify_store(store.root, deep=True, share=0.3, seed=1)
    assert len(some) == 2
    assert some == verify_store(store.root, deep=True, share=0.3, seed=1)
    assert {problem.where for problem in some} < {problem.where for problem in problems}
    assert some != verify_store(store.root, deep=True, share=0.3, seed=2)
    assert len(verify_store(store.root, deep=True, share=0.001)) == 1


@pytest.mark.parametrize("changes", [{"edge_stride": 3}, {"boundary": "image"}, {"threshold": 5.0}])
def test_right_values_of_all_kinds_of_stores_are_right(tmp_path, changes):
    store = tiny_store(tmp_path, **changes)
    seen = []
    assert verify_store(store.root, deep=True, progress=seen.append) == []
    assert [at.done for at in seen if at.phase == "recompute"] == list(range(1, store.num_patches + 1))
    assert [at.done for at in seen if at.phase == "verify"][-1] == seen[0].total


@pytest.mark.parametrize("share", [0, -1, 1.01, float("nan")])
def test_no_share(store, share):
    with pytest.raises(ConfigError, match="share of patches"):
        verify_store(store.root, deep=True, share=share)
