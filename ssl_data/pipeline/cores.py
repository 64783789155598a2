"""How many cores this process may use: in a container, a batch job or a pinned process, fewer than the machine has.

Two things limit a process. Its affinity, which control groups called *cpuset* also set, says on which cores it may run.
A quota says for how long it may run in each period, summed over its threads; a process that starts a thread for every
core in spite of a quota is stopped for most of each period. Docker, Podman and Kubernetes set quotas.
"""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["cpu_quota", "usable_cores"]


def usable_cores() -> int:
    """Cores of this process: its affinity, limited by its CPU quota; a part of a core counts, as it can be used."""
    affinity = len(os.sched_getaffinity(0))
    quota = cpu_quota()
    return affinity if math.isinf(quota) else min(affinity, max(1, math.ceil(quota)))


def cpu_quota(system: Path = Path("/")) -> float:
    """Cores' worth of time that the control groups of this process allow; infinity where they set no limit.

    Parameters
    ----------
    system : Path
        The root of the file system, with ``proc`` and whatever is mounted.

    Notes
    -----
    Of groups within groups, the strictest limit holds. Those outside a container are not visible from inside it, and
    need not be: the container's own group is.
    """
    with contextlib.suppress(OSError):  # no control groups here
        return min(map(_quota, _groups(system)), default=math.inf)
    return math.inf


def _groups(system: Path) -> Iterator[Path]:
    """Folders of the groups with a say in the CPU time of this process, from the top: of version 1, 2 or both."""
    paths: dict[str, str] = {}
    for line in _lines(system / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)  # version 2 has one line, which names no controller
    for line in _lines(system / "proc/self/mountinfo"):
        place, _, kind = line.partition(" - ")
        root, mount_point = place.split()[3:5]
        file_system, *_, options = kind.split()
        if file_system == "cgroup2":
            path = paths.get("", "/")
        elif file_system == "cgroup" and "cpu" in options.split(","):
            path = paths.get("cpu", "/")
        else:
            continue
        folder = system / mount_point.lstrip("/")
        yield folder
        for name in _names_below(path, root):
            folder /= name
            yield folder


def _names_below(path: str, root: str) -> tuple[str, ...]:
    """What leads from the mounted group to that of the process; nothing where the latter is not below it."""
    below = os.path.relpath(path, root)
    return () if below == "." or below.startswith("..") or ".." in path else Path(below).parts


def _quota(group: Path) -> float:
    with contextlib.suppress(OSError, ValueError):  # not of version 2, or no limit: "max 100000"
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):  # not of version 1, either
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period"))
        if int(quota) > 0:  # -1: no limit
            return int(quota) / int(period)
    return math.inf


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
