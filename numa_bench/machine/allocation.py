"""What this process was granted of the machine: CPUs, memory nodes, GPUs, and by whom.

A SLURM job, a container, a cpuset, taskset and CUDA_VISIBLE_DEVICES each take a part away. CPUs
come from sched_getaffinity(2), memory nodes from Mems_allowed_list of /proc/self/status
(proc(5), cpuset(7)), GPUs from CUDA_VISIBLE_DEVICES and from SLURM's variables (sbatch(1), srun(1):
SLURM_JOB_GPUS and SLURM_STEP_GPUS are global numbers, also where a cgroup hides other GPUs). A CPU
quota (`machine.cpu_quota`) takes time away, and no CPU in particular: it is only noted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numa_bench.machine.backend import current_backend
from numa_bench.machine.cpu_quota import read_cpu_quota
from numa_bench.machine.model import Gpu, Topology
from numa_bench.machine.topology import select_visible_gpus
from numa_bench.records.cpu_lists import format_cpu_list, parse_cpu_list

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
#: Of these the first that is set counts: a step may have fewer GPUs than its job.
SLURM_GPUS = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS")
JOB_ID, ARRAY_JOB, ARRAY_TASK = "SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"
#: How often SLURM started the job again (requeue, preemption, a failed node).
RESTART_COUNT = "SLURM_RESTART_COUNT"


@dataclass(frozen=True)
class Allocation:
    """The part of the machine that this process may use.

    `cpus` and `memory_nodes`: None means all of them. `cpu_quota`: the time of so many CPUs at
    most, None without a quota. `gpus` are those it may use, None all;
    `gpu_limits` are the variables that limit them, as NAME=value. `job` is the SLURM job's id
    (None outside SLURM), `restarts` how often SLURM started it again. `notes` are lines for the
    user.
    """

    cpus: frozenset[int] | None = None
    memory_nodes: frozenset[int] | None = None
    cpu_quota: float | None = None
    gpus: tuple[Gpu, ...] | None = None
    gpu_limits: tuple[str, ...] = ()
    job: str | None = None
    restarts: int = 0
    notes: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Who granted the CPUs and memory nodes, for a message."""
        return f"SLURM job {self.job}" if self.job else "this process (cpuset, container, taskset)"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, lists as "0-3,8"; what is not limited is null."""
        return {
            "cpus": None if self.cpus is None else format_cpu_list(self.cpus),
            "memory_nodes": (
                None if self.memory_nodes is None else format_cpu_list(self.memory_nodes)
            ),
            "cpu_quota": self.cpu_quota,
            "gpus": None if self.gpus is None else [gpu.uuid or gpu.index for gpu in self.gpus],
            "gpu_limits": list(self.gpu_limits),
            "slurm_job": self.job,
            "restarts": self.restarts,
        }


def read_allocation(
    topology: Topology,
    environ: Mapping[str, str] | None = None,
    affinity: Collection[int] | None = None,
    status: str | None = None,
    cpu_quota: float | None = None,
) -> Allocation:
    """What this process was granted of the machine `topology`.

    `environ`, `affinity` (CPUs), `status` (the text of /proc/self/status) and `cpu_quota` (CPUs)
    default to those of this process. On a simulated machine CPUs and memory nodes are not limited:
    those of this process are of another machine.
    """
    variables = os.environ if environ is None else environ
    if affinity is None and not current_backend().simulated:
        affinity = os.sched_getaffinity(0)
    if status is None and not current_backend().simulated:
        status = _read_status()
    if cpu_quota is None and not current_backend().simulated:
        cpu_quota = read_cpu_quota()
    gpus, limits, notes = select_granted_gpus(topology, variables)
    every_cpu = {cpu for node in topology.nodes for cpu in node.cpus}
    restarts = variables.get(RESTART_COUNT, "")
    cpus = _limit(affinity, every_cpu)
    if cpu_quota is not None and cpu_quota < (count := len(every_cpu if cpus is None else cpus)):
        notes = (
            *notes,
            f"a cgroup limits this process to the time of {cpu_quota:g} CPUs, and it may use "
            f"{count}: its threads are stopped when a period's quota is used up, which changes "
            "throughput; grant whole CPUs (cpuset) instead of a quota",
        )
    return Allocation(
        cpus=cpus,
        memory_nodes=_limit(parse_allowed_nodes(status or ""), topology.memory_nodes),
        cpu_quota=cpu_quota,
        gpus=gpus if limits else None,
        gpu_limits=limits,
        job=variables.get(JOB_ID) or None,
        restarts=int(restarts) if restarts.isdigit() else 0,
        notes=notes,
    )


def select_granted_gpus(
    topology: Topology, environ: Mapping[str, str]
) -> tuple[tuple[Gpu, ...], tuple[str, ...], tuple[str, ...]]:
    """The GPUs that a process with this environment may use, what limits them, and notes.

    CUDA_VISIBLE_DEVICES gives the order. In a SLURM job GPUs beyond the job's are left out,
    whatever CUDA_VISIBLE_DEVICES says.
    """
    visible = select_visible_gpus(topology, environ.get(VISIBLE_DEVICES))
    limits = [f"{VISIBLE_DEVICES}={environ[VISIBLE_DEVICES]}"] if VISIBLE_DEVICES in environ else []
    name = next((name for name in SLURM_GPUS if name in environ), None)
    if name is None:
        notes: tuple[str, ...] = ()
        if environ.get(JOB_ID) and visible and VISIBLE_DEVICES not in environ:
            notes = (
                f"SLURM job {environ[JOB_ID]} asked for no GPU, and sees {len(visible)}: other "
                "jobs may use them too; ask for them (gres or gpus_per_node)",
            )
        return visible, tuple(limits), notes
    try:
        numbers = set(parse_cpu_list(environ[name]))
    except ValueError:
        note = f"{name}={environ[name]} is not a list of GPU numbers and was not used"
        return visible, tuple(limits), (note,)
    if len(numbers) >= len(topology.gpus):
        # A cgroup hides the others, and the visible ones are numbered anew; or all were granted.
        return visible, tuple(limits), ()
    granted = tuple(gpu for gpu in visible if gpu.index in numbers)
    return granted, (*limits, f"{name}={environ[name]}"), ()


def parse_allowed_nodes(status: str) -> tuple[int, ...] | None:
    """The memory nodes of a text of /proc/<pid>/status; None if it does not list them."""
    found = re.search(r"^Mems_allowed_list:\s*(\S+)$", status, re.M)
    try:
        return parse_cpu_list(found[1]) if found else None
    except ValueError:
        return None


def _limit(allowed: Collection[int] | None, every: Collection[int]) -> frozenset[int] | None:
    """The allowed ones of `every`; None if that is all of them, or nothing is known."""
    if allowed is None or set(every) <= set(allowed):
        return None
    return frozenset(every) & frozenset(allowed)


def _read_status() -> str:
    try:
        return Path("/proc/self/status").read_text()
    except OSError:
        return ""
