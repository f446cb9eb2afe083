"""The environment of a measurement: everything besides its spec that may change the result.

Runs may be pooled only if their environments have the same id.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil

from numa_bench.invocation import read_command_line
from numa_bench.machine.backend import current_backend
from numa_bench.machine.model import Topology
from numa_bench.machine.numa_mode import count_nodes_per_package, describe_numa_mode
from numa_bench.machine.nvml import read_driver_versions
from numa_bench.machine.sysfs import read_kernel_setting
from numa_bench.pcie import format_link
from numa_bench.records import JsonDict
from numa_bench.redaction import result_variables
from numa_bench.versions import package_versions

PACKAGES = (
    "torch",
    "triton",
    "vit-pytorch",
    "einops",
    "numpy",
    "hydra-core",
    "omegaconf",
    "psutil",
    "nvidia-ml-py",
)
#: Kernel settings that change results.
SETTINGS = {
    "transparent_hugepages": "sys/kernel/mm/transparent_hugepage/enabled",
    "numa_balancing": "proc/sys/kernel/numa_balancing",
    "zone_reclaim_mode": "proc/sys/vm/zone_reclaim_mode",
    "swappiness": "proc/sys/vm/swappiness",
    "cpu_governor": "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
    "cpu_driver": "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver",
    "no_turbo": "sys/devices/system/cpu/intel_pstate/no_turbo",
    "boost": "sys/devices/system/cpu/cpufreq/boost",
    "smt": "sys/devices/system/cpu/smt/control",
}
#: How a study was started, and what follows from nodes and CPUs, which are in the id.
_NOT_IN_ID = ("command", "nodes_per_package", "numa_mode")


def describe_environment(
    project: Path,
    topology: Topology | None = None,
    environ: Mapping[str, str] | None = None,
    root: Path | None = None,
) -> JsonDict:
    """The hardware and software that a study runs on. What cannot be determined is null or absent.

    `project` is the source tree whose commit is recorded; `root` is the parent of sys/ and proc/
    (None: the root of the backend). `numa_mode` is that of `describe_numa_mode`; `gpu_links`, there
    only with GPUs, has the fastest link of each by its number. `simulated`, there only on a
    simulated machine, says so.
    """
    backend = current_backend()
    root = backend.root if root is None else root
    variables = os.environ if environ is None else environ
    driver, cuda = read_driver_versions()
    cpu_model = _cpu_model(root)
    environment: JsonDict = {
        "host": socket.gethostname(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu_model": cpu_model,
        "cpus": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "settings": collect_kernel_settings(root),
        "numa_nodes": [node.id for node in topology.nodes] if topology else [],
        "nodes_per_package": count_nodes_per_package(topology) if topology else None,
        "numa_mode": describe_numa_mode(topology, cpu_model) if topology else None,
        "gpus": [{"name": g.name, "uuid": g.uuid} for g in topology.gpus] if topology else [],
        "nvidia_driver": driver,
        "cuda_driver": cuda,
        "python": platform.python_version(),
        "packages": package_versions(PACKAGES),
        "git_commit": read_git_commit(project),
        "variables": result_variables(variables),
        "command": read_command_line(),
    }
    if topology and topology.gpus:
        environment["gpu_links"] = describe_links(topology)
    if backend.simulated:
        environment["simulated"] = backend.simulated
    environment["id"] = hash_environment(environment)
    return environment


def describe_links(topology: Topology) -> dict[str, str | None]:
    """The fastest PCIe link that each GPU and its slot can reach, by the GPU's number.

    None where the driver does not say. What a run observed is in its record's `monitor`.
    """
    return {
        str(gpu.index): format_link(*gpu.link) if gpu.link is not None else None
        for gpu in topology.gpus
    }


def hash_environment(environment: JsonDict) -> str:
    """Eight hexadecimal digits of SHA-256 over everything that may change a result."""
    relevant = {k: v for k, v in environment.items() if k not in (*_NOT_IN_ID, "id")}
    text = json.dumps(relevant, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def collect_kernel_settings(root: Path) -> dict[str, str]:
    """The SETTINGS that this kernel has; `always [madvise] never` is read as "madvise"."""
    values = {name: read_kernel_setting(root / path) for name, path in SETTINGS.items()}
    return {name: value for name, value in values.items() if value is not None}


def read_git_commit(project: Path) -> str | None:
    """The commit of the source tree, with "-dirty" if tracked files differ.

    None outside git, and if `project` is a folder inside a repository: the commit of a repository
    does not describe a package that happens to be installed inside it.
    """
    try:
        # The prefix is empty only at the top of a work tree.
        if _read_git(project, "rev-parse", "--show-prefix") != "":
            return None
        return _read_git(project, "describe", "--always", "--dirty", "--abbrev=12")
    except OSError:
        return None


def _read_git(project: Path, *words: str) -> str | None:
    """The output of a git command, or None if it fails. Raises OSError without git."""
    done = subprocess.run(
        ["git", "-C", str(project), *words], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_model(root: Path) -> str | None:
    try:
        text = (root / "proc/cpuinfo").read_text()
    except OSError:
        return None
    match = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.M)
    return match[1].strip() if match else None
