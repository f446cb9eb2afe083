"""Conditions of the machine that would weaken a study, each with what to do about it.

They are warnings, not errors: a study on a laptop is still a study, and experiment_summary.json
lists the conditions under which it ran.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from numa_bench.errors import MachineError
from numa_bench.machine.backend import current_backend
from numa_bench.machine.model import Topology
from numa_bench.machine.nvml import NvmlUnavailableError, open_nvml
from numa_bench.records import RunSpec, list_processes
from numa_bench.records.workload import ELEMENT_BYTES, copy_bytes, input_shape

#: Memory of a worker beside its buffers and weights: interpreter, torch, and with CUDA its context.
WORKER_MB = {"cpu": 500, "cuda": 1500}
#: Utilisation in percent above which a GPU counts as in use, whoever uses it.
_BUSY_GPU = 5
#: Load per CPU above which the machine counts as busy, but never below a load of 1.
_BUSY_CPU = 0.1


def check_conditions(
    runs: Sequence[RunSpec],
    topology: Topology,
    root: Path | None = None,
    nvml: Any | None = None,
) -> list[str]:
    """One line for each condition that weakens the study; empty when all is well.

    `root` and `nvml` default to those of the backend.
    """
    backend = current_backend()
    root = backend.root if root is None else root
    found = [*_cpu_clock(root), *node_memory(runs, topology)]
    if backend.simulated:  # swap and load are those of the machine that simulates
        found.insert(0, f"nothing here is a measurement: {backend.simulated}")
    else:
        found += [*_swap(), *_load()]
    devices = [run.device for run in list_processes(runs)]
    gpus = [gpu for device in devices for gpu in device.gpus]
    uuids = dict.fromkeys(gpu.gpu_uuid for gpu in gpus if gpu.gpu_uuid)
    if uuids:
        found += _gpus([uuid for uuid in uuids if uuid], nvml)
    return found


def needed_mb(run: RunSpec) -> float:
    """Memory that a run needs on its node, in MB: pools of input and output, the worker, and on the
    CPU slots and weights too.

    A lower bound: activations are not included, nor weights and outputs of a model that is no ViT.
    """
    if run.stream is not None:
        arrays = 2 if run.stream.operation == "copy" else 1
        return float(arrays * run.stream.buffer_mb + WORKER_MB["cpu"])
    test, vit = run.test, run.vit
    if vit.is_custom:  # its output and its weights are not known
        in_bytes, out_bytes = ELEMENT_BYTES[test.precision] * math.prod(input_shape(run)), 0
    else:
        in_bytes, out_bytes = copy_bytes(run)
    pools = 2 * test.memory_size_mb + test.pipeline_depth * out_bytes / 1e6
    slots = test.pipeline_depth * in_bytes if run.device.kind == "cpu" else 0
    weights = 0
    if run.device.kind == "cpu" and not vit.is_custom:
        size = vit.sizes()
        # Per block: qkv and output projections of heads x dim_head, and two layers of mlp_dim.
        block = size["dim"] * (4 * size["heads"] * size["dim_head"] + 2 * size["mlp_dim"])
        weights = ELEMENT_BYTES[test.precision] * size["depth"] * block
    return float(pools + (slots + weights) / 1e6 + WORKER_MB[run.device.kind])


def refuse_excess(runs: Sequence[RunSpec], topology: Topology) -> None:
    """Raise MachineError if the buffers of a run need more memory than the machine has."""
    total_mb = sum(node.memory_bytes for node in topology.nodes) / 1e6
    for run in list_processes(runs):
        need_mb = needed_mb(run) - WORKER_MB[run.device.kind]
        if need_mb > total_mb > 0:
            raise MachineError(
                f"a run of {run.vit.name} needs at least {need_mb:.0f} MB of host memory, and this "
                f"machine has {total_mb:.0f} MB; lower experiment.test.batch_size or memory_size_mb"
            )


def node_memory(runs: Sequence[RunSpec], topology: Topology) -> list[str]:
    """Nodes with less free memory than a run bound there needs."""
    most: dict[int, float] = {}
    for run in runs:
        # The workers of a set need their memory at the same time.
        for node_id, need in _needs_by_node(list_processes([run])).items():
            most[node_id] = max(most.get(node_id, 0.0), need)
    found = []
    for node_id, need in sorted(most.items()):
        node = topology.node(node_id)
        if node is None or node.memory_free_bytes is None:
            continue
        free = node.memory_free_bytes / 1e6
        if free < need:
            found.append(
                f"node {node_id} has {free:.0f} MB free, its runs need about {need:.0f} MB; "
                "free some (page cache counts as used: sync; echo 3 > /proc/sys/vm/drop_caches), "
                "or lower experiment.test.memory_size_mb"
            )
    return found


def _needs_by_node(runs: Sequence[RunSpec]) -> dict[int, float]:
    """MB that these runs need together on each node that they are bound to."""
    needs: dict[int, float] = {}
    for run in runs:
        nodes = run.placement.memory_nodes
        # `preferred` is left out: it uses other nodes when its own is full.
        if run.placement.policy in ("bind", "local", "interleave"):
            for node_id in nodes:
                # Interleaved pages are spread evenly over the nodes.
                needs[node_id] = needs.get(node_id, 0.0) + needed_mb(run) / len(nodes)
    return needs


def _cpu_clock(root: Path) -> list[str]:
    found = []
    cpus = root / "sys/devices/system/cpu"
    governors: dict[str, int] = {}
    for path in cpus.glob("cpu[0-9]*/cpufreq/scaling_governor"):
        with contextlib.suppress(OSError):
            name = path.read_text().strip()
            governors[name] = governors.get(name, 0) + 1
    slow = {name: count for name, count in governors.items() if name != "performance"}
    if slow:
        governed = ", ".join(f"{name} on {count} CPUs" for name, count in sorted(slow.items()))
        found.append(f"CPU governor is {governed}; sudo cpupower frequency-set -g performance")
    # Opposite senses: no_turbo=0 and boost=1 both mean that turbo is on (the kernel's
    # admin-guide/pm/intel_pstate.rst and cpufreq.rst).
    turbo = {"intel_pstate/no_turbo": "0", "cpufreq/boost": "1"}
    for name, on in turbo.items():
        with contextlib.suppress(OSError):
            if (cpus / name).read_text().strip() == on:
                found.append(
                    "turbo is on: clocks depend on load and heat; for the steadiest figures "
                    f"echo {1 - int(on)} | sudo tee /{(cpus / name).relative_to(root)}"
                )
    return found


def _swap() -> list[str]:
    with contextlib.suppress(OSError, RuntimeError):
        used = psutil.swap_memory().used / 1e6
        if used >= 1:
            return [f"{used:.0f} MB of swap are in use; run sudo swapoff -a before measuring"]
    return []


def _load() -> list[str]:
    with contextlib.suppress(OSError):
        load, cpus = psutil.getloadavg()[0], psutil.cpu_count() or 1
        if load > max(1.0, _BUSY_CPU * cpus):
            return [f"the machine is busy (load {load:.1f} on {cpus} CPUs); stop other processes"]
    return []


def _gpus(uuids: Sequence[str], module: Any | None) -> list[str]:
    try:
        with open_nvml(module) as nvml:
            return [line for uuid in uuids for line in _gpu(nvml, uuid)]
    except NvmlUnavailableError as error:
        return [f"the state of the GPUs is unknown: NVML does not start ({error})"]


def _gpu(nvml: Any, uuid: str) -> list[str]:
    """One GPU: busy, persistence mode, link. Unsupported queries are left out."""
    found = []
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        name = f"GPU {nvml.nvmlDeviceGetIndex(handle)}"
    except nvml.NVMLError as error:
        return [f"{uuid}: its state is unknown ({error})"]
    with contextlib.suppress(nvml.NVMLError):
        # No worker runs yet, so every process on the GPU is another's.
        others = [process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle)]
        busy = nvml.nvmlDeviceGetUtilizationRates(handle).gpu
        if others or busy > _BUSY_GPU:
            pids = f", processes {', '.join(map(str, others))}" if others else ""
            found.append(f"{name} is in use ({busy} % busy{pids}); wait, or stop them")
    with contextlib.suppress(nvml.NVMLError):
        if nvml.nvmlDeviceGetPersistenceMode(handle) == 0:
            found.append(f"{name}: persistence mode is off; sudo nvidia-smi -pm 1")
    # Only the width is compared: a link drops to a lower generation while its GPU idles.
    with contextlib.suppress(nvml.NVMLError):
        now = nvml.nvmlDeviceGetCurrPcieLinkWidth(handle)
        best = nvml.nvmlDeviceGetMaxPcieLinkWidth(handle)
        if now < best:
            found.append(f"{name}: PCIe link is x{now} of x{best}; check the slot and its riser")
    return found
