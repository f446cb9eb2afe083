"""Which CPUs a run may use: of a node, its socket, a GPU's share, an L3 cache, or by number. Pure.

The modes are those of torchrun's --numa-binding (torch.numa.binding, torch 2.9), computed from the
topology instead of CUDA and the process's own CPU mask. torchrun binds a rank near its GPU; here
the same choice is made on any node, so that near and far CPUs can be compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from numa_bench.errors import ConfigError
from numa_bench.machine.model import Gpu, NumaNode, Topology
from numa_bench.plan.distance import find_home, rank_on_node

AFFINITY_KEY = "experiment.hardware.cpu_affinity"
PHYSCPU_KEY = "experiment.hardware.physcpu"
SMT_KEY = "experiment.hardware.smt"
PHYSCPU, NO_SMT = "physcpu", "-no-smt"


@dataclass(frozen=True)
class CpuSet:
    """The CPUs of a run, sorted, and the `Placement.affinity` that describes them."""

    cpus: tuple[int, ...]
    affinity: str


def resolve_cpus(
    mode: str, smt: bool, node: NumaNode, topology: Topology, gpu: Gpu | None
) -> CpuSet:
    """The CPUs of one affinity mode on one node; `smt` False: only the first of each core.

    Raises ConfigError where the mode has no meaning on this machine, or the kernel does not say
    what it needs.
    """
    if mode == "socket":
        cpus = _find_socket_cpus(topology, node)
    elif mode == "exclusive":
        cpus = _find_share(topology, node, gpu)
    elif mode == "core-complex":
        cpus = _find_core_complex(topology, node, gpu)
    else:
        cpus = node.cpus
    return _leave_out_siblings(CpuSet(cpus, mode), topology, smt)


def resolve_physcpu(
    numbers: Iterable[int], smt: bool, topology: Topology
) -> tuple[CpuSet, NumaNode]:
    """CPUs given by number, and the node that has most of them (of equals the lowest).

    Raises ConfigError for a CPU that is not online.
    """
    cpus = tuple(sorted(set(numbers)))
    known = {cpu: node for node in topology.nodes for cpu in node.cpus}
    for cpu in cpus:
        if cpu not in known:
            state = "is offline" if cpu in topology.cpus_offline else "does not exist"
            raise ConfigError(
                PHYSCPU_KEY, cpu, f"CPU {cpu} {state}; `numa-bench topology` lists the CPUs"
            )
    counts = {node.id: len(set(node.cpus) & set(cpus)) for node in topology.nodes}
    main = max(topology.nodes, key=lambda node: (counts[node.id], -node.id))
    return _leave_out_siblings(CpuSet(cpus, PHYSCPU), topology, smt), main


def _find_socket_cpus(topology: Topology, node: NumaNode) -> tuple[int, ...]:
    """All CPUs of the nodes on the socket of `node`."""
    if node.socket is None:
        raise ConfigError(
            AFFINITY_KEY,
            "socket",
            f"the kernel does not say which socket node {node.id} belongs to; use node",
        )
    members = [other for other in topology.nodes if other.socket == node.socket]
    return tuple(sorted(cpu for member in members for cpu in member.cpus))


def _find_share(topology: Topology, node: NumaNode, gpu: Gpu | None) -> tuple[int, ...]:
    """The GPU's share of the node's cores, divided among the GPUs of the GPU's node.

    Of n cores and g GPUs each gets n // g in turn, and the first n % g GPUs one more. On another
    node the GPU has the same place among as many, so that near and far shares are equal.
    """
    if gpu is None or find_home(topology, gpu) is None:
        why = "there is no GPU" if gpu is None else f"the node of GPU {gpu.index} is not known"
        raise ConfigError(
            AFFINITY_KEY, "exclusive", f"divides a node among its GPUs, and {why}; use node"
        )
    cores = _require_cores(node, AFFINITY_KEY, "exclusive")
    rank, count = rank_on_node(topology, gpu)
    each, more = divmod(len(cores), count)
    if each == 0:
        raise ConfigError(
            AFFINITY_KEY,
            "exclusive",
            f"node {node.id} has {len(cores)} cores for {count} GPUs; use node",
        )
    start = rank * each + min(rank, more)
    share = cores[start : start + each + (rank < more)]
    return tuple(sorted(cpu for core in share for cpu in core))


def _find_core_complex(topology: Topology, node: NumaNode, gpu: Gpu | None) -> tuple[int, ...]:
    """The CPUs of one L3 cache: the GPUs of a node take different ones in turn, largest first."""
    if not node.l3_domains:
        raise ConfigError(
            AFFINITY_KEY,
            "core-complex",
            f"the kernel does not say which CPUs of node {node.id} share an L3 cache; use node",
        )
    # As in torch, the largest by its CPUs that are online.
    domains = sorted(node.l3_domains, key=lambda cpus: (-len(cpus), cpus[0]))
    rank = 0 if gpu is None else rank_on_node(topology, gpu)[0]
    return domains[rank % len(domains)]


def _leave_out_siblings(chosen: CpuSet, topology: Topology, smt: bool) -> CpuSet:
    """The first CPU of each core, unless SMT is wanted; `affinity` then says what was left out."""
    if smt:
        return chosen
    wanted = set(chosen.cpus)
    first = set()
    for node in topology.nodes:
        if wanted & set(node.cpus):
            cores = _require_cores(node, SMT_KEY, "false")
            first |= {min(own) for core in cores if (own := wanted & set(core))}
    cpus = tuple(sorted(first))
    return chosen if cpus == chosen.cpus else CpuSet(cpus, chosen.affinity + NO_SMT)


def _require_cores(node: NumaNode, key: str, value: str) -> tuple[tuple[int, ...], ...]:
    if not node.cores:
        raise ConfigError(
            key,
            value,
            f"the kernel does not say which CPUs of node {node.id} share a core; remove this key",
        )
    return node.cores
