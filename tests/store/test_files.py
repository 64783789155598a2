"""Files that appear whole or not at all."""

import os
import subprocess
import sys

import numpy as np
import pytest

from ssl_data.store.files import AtomicFile, write_atomic
from ssl_data.store.local_target import LocalTarget


def test_the_name_appears_with_the_whole_content(tmp_path):
    target = AtomicFile(tmp_path / "deep" / "name", tmp_path)
    target.file.write(b"content")
    assert not (tmp_path / "deep").exists()
    target.commit()
    assert (tmp_path / "deep" / "name").read_bytes() == b"content"
    assert [entry.name for entry in tmp_path.iterdir()] == ["deep"]


def test_what_is_discarded_leaves_nothing(tmp_path):
    target = AtomicFile(tmp_path / "name", tmp_path)
    target.file.write(b"content")
    target.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "name"
    write_atomic(path, b"old", tmp_path)
    with pytest.raises(TypeError):
        write_atomic(path, "not bytes", tmp_path)  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_news_that_cannot_be_told_leave_nothing(tmp_path):
    (tmp_path / ".build" / "progress.json" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match=r"progress\.json"):
        LocalTarget(tmp_path).tell(".build", "progress.json", b"news")
    assert [path.name for path in (tmp_path / ".build").iterdir()] == ["progress.json"]


def test_pieces_reach_the_file_together(tmp_path):
    target = AtomicFile(tmp_path / "name", tmp_path)
    sizes = []
    for _ in range(200):
        target.file.write(100_000 * b"x")
        sizes.append(os.fstat(target.file.fileno()).st_size)
    assert min(step for step in np.diff(sizes) if step) > 3 << 20
    target.commit()
    assert (tmp_path / "name").stat().st_size == 200 * 100_000


def test_where_one_file_does_not_fit_none_takes_its_name(tmp_path):
    """What is still in a file's buffer is written when it is committed: that may be all of it."""
    program = """
import resource, signal, sys
from pathlib import Path
from ssl_data.store.local_target import LocalTarget
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
root = Path(sys.argv[1])
(root / "work").mkdir()
with LocalTarget(root).draft("label", "work") as draft:
    for name, size in (("small", 1000), ("large", 100_000)):
        draft.open(name).write(size * b"x")
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    draft.commit()
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path], check=False, capture_output=True, text=True)
    assert f"File too large: '{tmp_path}'" in done.stderr
    assert [entry.name for entry in tmp_path.rglob("*")] == ["work"]
