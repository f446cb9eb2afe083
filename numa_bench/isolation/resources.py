"""Which locks a run needs: what of the host it uses. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from numa_bench.config.schemas.isolation import GPU
from numa_bench.machine.model import Topology
from numa_bench.records import DeviceSpec, Placement, RunSpec, list_processes


def list_locks(run: RunSpec, exclusive: str, topology: Topology) -> list[str]:
    """Names of the locks that a run holds beside that of the host, sorted.

    One for each GPU and each NUMA node, memory nodes included, of all its workers. With
    `exclusive` "gpu", a worker with a GPU needs that of the GPU only.
    """
    names: set[str] = set()
    for worker in list_processes([run]):
        if worker.device.kind == "cuda":
            names.update(map(_name_gpu, worker.device.gpus))
            if exclusive == GPU:
                continue
            homes = {gpu.gpu_numa_node for gpu in worker.device.gpus}
            names.update(_name_node(node) for node in homes if node is not None and node >= 0)
        names.update(map(_name_node, _list_nodes(worker.placement, topology)))
    return sorted(names)


def _list_nodes(placement: Placement, topology: Topology) -> Iterator[int]:
    """The nodes of a placement: those of its CPUs and those of its memory."""
    yield from placement.memory_nodes
    cpus = set(placement.cpus)
    nodes = [node.id for node in topology.nodes if cpus & set(node.cpus)]
    if placement.numa_node is not None:
        yield placement.numa_node
    elif not nodes:  # not bound: it may run anywhere
        nodes = [node.id for node in topology.nodes]
    yield from nodes


def _name_node(node: int) -> str:
    return f"node{node}"


def _name_gpu(device: DeviceSpec) -> str:
    name = device.gpu_uuid or f"number{device.gpu_id}"
    return "gpu-" + re.sub(r"[^\w.-]", "_", name.removeprefix("GPU-"))
