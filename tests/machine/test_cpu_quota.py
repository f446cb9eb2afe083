"""CPU quotas of cgroups, version 1 and 2, as kernels write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from numa_bench.machine.cpu_quota import read_cpu_quota


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = "0::/user/job\n"
V1 = "9:name=systemd:/\n3:cpu,cpuacct:/docker/abc\n2:cpuset:/docker/abc\n"


@pytest.mark.parametrize(
    ("groups", "files", "wanted"),
    [
        (V2, {"user/job/cpu.max": "250000 100000\n"}, 2.5),
        (V2, {"user/job/cpu.max": "max 100000\n"}, None),
        # The least of all levels counts.
        (V2, {"user/job/cpu.max": "800000 100000\n", "user/cpu.max": "400000 100000\n"}, 4.0),
        # In a container the mount begins at the container's own group.
        (V2, {"cpu.max": "50000 100000\n"}, 0.5),
        (
            V1,
            {
                "cpu/docker/abc/cpu.cfs_quota_us": "300000\n",
                "cpu/docker/abc/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        (V2, {"user/job/cpu.max": "nonsense\n"}, None),
        (V2, {}, None),
    ],
)
def test_quota(tmp_path: Path, groups: str, files: dict[str, str], wanted: float | None) -> None:
    root = write(tmp_path, {"proc/self/cgroup": groups})
    write(root / "sys/fs/cgroup", files)

    assert read_cpu_quota(root) == wanted


def test_a_kernel_without_cgroups_has_none(tmp_path: Path) -> None:
    assert read_cpu_quota(tmp_path) is None
