"""What a measurement depends on besides its spec: host, kernel, CPU, versions, commit."""

from __future__ import annotations

import platform
import re
import socket
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from numa_bench.records import JsonDict

PACKAGES = ("torch", "vit-pytorch", "hydra-core", "omegaconf", "psutil", "nvidia-ml-py")


def describe_environment(project: Path) -> JsonDict:
    """The machine and the software, as experiment_summary.json holds them.

    `project` is the source tree whose commit is recorded. What cannot be found out is null.
    """
    return {
        "host": socket.gethostname(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu_model": _cpu_model(),
        "python": platform.python_version(),
        "packages": package_versions(),
        "git_commit": git_commit(project),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that results depend on; a missing one is left out."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_commit(project: Path) -> str | None:
    """The commit of the source tree, with "-dirty" when tracked files differ; None outside git."""
    try:
        described = subprocess.run(
            ["git", "-C", str(project), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return described.stdout.strip() or None


def _cpu_model() -> str | None:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return None
    match = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.M)
    return match[1].strip() if match else None
