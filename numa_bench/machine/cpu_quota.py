"""How much CPU time a cgroup grants to this process: a quota limits time, and names no CPUs.

Linux: Documentation/admin-guide/cgroup-v2.rst (cpu.max) and scheduler/sched-bwc.rst
(cpu.cfs_quota_us of version 1).
"""

from __future__ import annotations

import re
from pathlib import Path

_MOUNT = Path("sys/fs/cgroup")


def read_cpu_quota(root: Path = Path("/")) -> float | None:
    """The CPUs whose time this process may use, as a number such as 2.5; None without a quota.

    It is the least of its cgroup and those above. `root` has the trees of /proc and /sys.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    quotas: list[float] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            quotas += _read_levels(root / _MOUNT, path, "cpu.max")
        elif "cpu" in controllers.split(","):
            quotas += _read_levels(root / _MOUNT / "cpu", path, "cpu.cfs_quota_us")
    return min(quotas, default=None)


def _read_levels(mount: Path, path: str, name: str) -> list[float]:
    """The quotas of a cgroup and those above it.

    In a container the mount may begin at the container's own group, so levels can be missing.
    """
    group = mount / path.strip("/")
    levels = [level for level in (group, *group.parents) if level.is_relative_to(mount)]
    found = (_read_quota(level / name) for level in levels)
    return [quota for quota in found if quota is not None]


def _read_quota(file: Path) -> float | None:
    """Quota divided by period, both in microseconds: in one file, or in two for version 1."""
    try:
        text = file.read_text()
        if file.name != "cpu.max":
            text += " " + file.with_name("cpu.cfs_period_us").read_text()
    except OSError:
        return None
    # "max" and -1: no quota.
    numbers = re.fullmatch(r"(\d+)\s+([1-9]\d*)\s*", text)
    return int(numbers[1]) / int(numbers[2]) if numbers else None
