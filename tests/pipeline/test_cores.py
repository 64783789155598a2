"""Control groups of both versions, as containers and batch systems show them."""

import math
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_data.pipeline.cores import cpu_quota, usable_cores
from ssl_data.pipeline.executors import SerialExecutor

VERSION_2 = "30 22 0:26 {root} /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
VERSION_1 = "33 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct"
OTHERS = [
    "22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw",
    "34 31 0:30 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory",
]
HYBRID = "40 31 0:37 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="ascii")


def system(folder, groups, mounts):
    write(folder / "proc/self/cgroup", "\n".join(groups))
    write(folder / "proc/self/mountinfo", "\n".join([*OTHERS, *mounts]))
    return folder


def limit(group, version, quota, period=100_000):
    """Allow a group this time per period; None for no limit."""
    if version == 2:
        write(group / "cpu.max", f"{'max' if quota is None else quota} {period}")
    else:
        write(group / "cpu.cfs_quota_us", str(-1 if quota is None else quota))
        write(group / "cpu.cfs_period_us", str(period))


def test_no_groups_no_limit(tmp_path):
    assert cpu_quota(tmp_path) == math.inf
    assert cpu_quota(system(tmp_path, ["4:memory:/"], [])) == math.inf


@pytest.mark.parametrize(("quota", "cores"), [(None, math.inf), (50_000, 0.5), (150_000, 1.5), (400_000, 4)])
def test_a_container_sees_its_group_as_the_root(tmp_path, quota, cores):
    limit(tmp_path / "2/sys/fs/cgroup", 2, quota)
    assert cpu_quota(system(tmp_path / "2", ["0::/"], [VERSION_2.format(root="/")])) == cores
    limit(tmp_path / "1/sys/fs/cgroup/cpu,cpuacct", 1, quota)
    groups = ["4:memory:/", "3:cpu,cpuacct:/", "0::/"]
    assert cpu_quota(system(tmp_path / "1", groups, [VERSION_1.format(root="/"), HYBRID])) == cores


def test_a_container_that_sees_the_names_of_the_host(tmp_path):
    """Docker with version 1: the mounted group is the container's, but its path is the host's."""
    group = "/docker/0123abcd"
    limit(tmp_path / "sys/fs/cgroup/cpu,cpuacct", 1, 200_000)
    groups = [f"3:cpu,cpuacct:{group}", f"0::{group}"]
    assert cpu_quota(system(tmp_path, groups, [VERSION_1.format(root=group)])) == 2


@pytest.mark.parametrize("path", ["/../other", "/elsewhere"])
def test_a_group_that_is_not_below_the_mounted_one(tmp_path, path):
    limit(tmp_path / "sys/fs/cgroup", 2, 300_000)
    limit(tmp_path / "sys/fs/other", 2, 100_000)
    assert cpu_quota(system(tmp_path, [f"0::{path}"], [VERSION_2.format(root="/docker/0123abcd")])) == 3


@given(
    version=st.sampled_from([1, 2]),
    chain=st.lists(st.tuples(st.none() | st.integers(1000, 10**7), st.integers(1000, 10**6)), min_size=1, max_size=5),
)
def test_the_strictest_of_nested_groups_counts(tmp_path_factory, version, chain):
    folder = tmp_path_factory.mktemp("system")
    path = "/".join(["", *(f"slice-{level}" for level in range(1, len(chain)))]) or "/"
    line, mount = (f"0::{path}", VERSION_2) if version == 2 else (f"3:cpu,cpuacct:{path}", VERSION_1)
    group = system(folder, [line], [mount.format(root="/")])
    group /= "sys/fs/cgroup" if version == 2 else "sys/fs/cgroup/cpu,cpuacct"
    limit(group / "slice-1" / "beside", version, 1000, 10**6)  # of another process
    for level, (quota, period) in enumerate(chain):
        group = group / f"slice-{level}" if level else group
        limit(group, version, quota, period)
    assert cpu_quota(folder) == min(math.inf if quota is None else quota / period for quota, period in chain)


def test_affinity_counts_and_a_part_of_a_core_is_used(monkeypatch):
    here = len(os.sched_getaffinity(0))
    for quota, cores in [(math.inf, here), (0.01, 1), (here - 0.5, here), (here + 7.0, here), (1.0, 1)]:
        monkeypatch.setattr("ssl_data.pipeline.cores.cpu_quota", lambda quota=quota: quota)
        assert usable_cores() == SerialExecutor().num_threads == cores


def test_a_pinned_process_uses_the_cores_that_it_is_pinned_to():
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    code += "from ssl_data.pipeline.cores import usable_cores; print(usable_cores())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"
