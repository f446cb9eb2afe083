"""Workers that load memory or the link between sockets beside a set, and their CPUs. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from numa_bench.config.schemas.contention import LINK_LOAD, MEMORY_LOAD, NO_LOAD, ContentionConfig
from numa_bench.machine.model import Topology
from numa_bench.plan.distance import find_nearest, list_cpu_nodes, list_memory_nodes
from numa_bench.plan.sets.scenarios import find_far_node


@dataclass(frozen=True)
class Load:
    """One background worker. `always`: it is part of every set, else only of those that use its
    memory."""

    cpu_node: int
    memory_node: int
    cpus: tuple[int, ...]
    always: bool = False


def reserve_cpus(contention: ContentionConfig, topology: Topology) -> dict[int, tuple[int, ...]]:
    """The CPUs of each node that are kept for background workers; empty if the study has none.

    They are kept free in sets without a load too: otherwise these would have more CPUs. A node with
    one CPU has none to spare.
    """
    if set(contention.background) <= {NO_LOAD}:
        return {}
    reserved = {}
    for node in topology.nodes:
        count = min(contention.background_threads, len(node.cpus) - 1)
        if count > 0:
            reserved[node.id] = node.cpus[-count:]
    return reserved


def make_loads(
    contention: ContentionConfig, topology: Topology, reserved: dict[int, tuple[int, ...]]
) -> tuple[dict[str, list[Load]], list[str]]:
    """The workers of each background, and a warning for each that this machine cannot run."""
    loads: dict[str, list[Load]] = {}
    warnings: list[str] = []
    for name in contention.background:
        workers: list[Load] = []
        reason = None
        if name == LINK_LOAD:
            workers, reason = _link_loads(topology, reserved)
        elif name == MEMORY_LOAD:
            workers, reason = _memory_loads(topology, reserved)
        if reason is None:
            loads[name] = workers
        else:
            warnings.append(f"background {name} is left out: {reason}")
    return loads, warnings


def _memory_loads(
    topology: Topology, reserved: dict[int, tuple[int, ...]]
) -> tuple[list[Load], str | None]:
    """One worker for each node's memory, on the nearest CPUs."""
    loads = []
    for memory in list_memory_nodes(topology):
        node = find_nearest(topology, memory, list_cpu_nodes(topology))
        if node not in reserved:
            return [], f"node {node} has one CPU, which the measured workers need"
        loads.append(Load(node, memory, reserved[node]))
    return loads, None


def _link_loads(
    topology: Topology, reserved: dict[int, tuple[int, ...]]
) -> tuple[list[Load], str | None]:
    """One worker for each direction between the first node and one on the other socket."""
    first = list_cpu_nodes(topology)[0]
    other = find_far_node(topology, first, list_cpu_nodes(topology))
    if other is None or topology.distance_class(first, other) != "other_socket":
        return [], "this machine has one socket"
    loads = []
    for cpu_node, far in ((first, other), (other, first)):
        if cpu_node not in reserved:
            return [], f"node {cpu_node} has one CPU, which the measured workers need"
        memory = find_nearest(topology, far, list_memory_nodes(topology))
        loads.append(Load(cpu_node, memory, reserved[cpu_node], always=True))
    return loads, None
