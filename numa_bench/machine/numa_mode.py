"""How the firmware divides sockets into NUMA nodes: NPS of AMD, SNC of Intel. Pure.

AMD's firmware has "NUMA nodes per socket" (NPS1, NPS2, NPS4; NPS0 interleaves two sockets) and "L3
cache as NUMA domain", which makes a node of each L3 cache (Supermicro's manual of the H14DST-F,
ACPI settings). Intel's sub-NUMA clustering divides a socket into clusters, each a node; its
predecessor of Haswell and Broadwell, cluster on die, goes by the same name here.
"""

from __future__ import annotations

from collections import Counter

from numa_bench.machine.model import Topology

#: The numbers of nodes per socket that AMD's setting NPS makes.
_NPS = (2, 4)


def count_nodes_per_package(topology: Topology) -> int | None:
    """How many nodes with CPUs each socket has.

    None where the kernel does not report the package of a CPU, a node has CPUs of several sockets,
    or sockets have different numbers of nodes.
    """
    counts = _count_nodes(topology)
    return counts.pop() if counts is not None and len(counts) == 1 else None


def describe_numa_mode(topology: Topology, cpu_model: str | None) -> str | None:
    """The mode in words, such as "NPS4 (4 NUMA nodes per socket)" or "1 NUMA node per socket".

    It is inferred from nodes, packages and the vendor in the CPU's name, as the kernel does not
    report the firmware's setting. None where packages are unknown.
    """
    packages = _packages(topology)
    if packages is None:
        return None
    counts = _count_nodes(topology)
    if counts is None:
        sockets = {package for of_node in packages for package in of_node}
        return f"{_nodes(len(packages))} for {len(sockets)} sockets"
    text = f"{' or '.join(map(str, sorted(counts)))} NUMA nodes per socket"
    if len(counts) > 1:
        return text
    (count,) = counts
    if count == 1:
        return "1 NUMA node per socket"
    model = cpu_model or ""
    if "AMD" in model and count in _NPS:
        return f"NPS{count} ({text})"
    if "AMD" in model and all(len(n.l3_domains) == 1 for n in topology.nodes if n.cpus):
        return f"{text}, one for each L3 cache"
    return f"SNC{count} ({text})" if "Intel" in model else text


def _packages(topology: Topology) -> list[tuple[int, ...]] | None:
    """The packages of each node with CPUs; None where one is unknown, or there is no such node."""
    packages = [node.packages for node in topology.nodes if not node.cpuless]
    return packages if packages and all(packages) else None


def _count_nodes(topology: Topology) -> set[int] | None:
    """The numbers of nodes that sockets have; None where packages are unknown or share a node."""
    packages = _packages(topology)
    if packages is None or any(len(of_node) > 1 for of_node in packages):
        return None
    return set(Counter(packages).values())


def _nodes(count: int) -> str:
    return "1 NUMA node" if count == 1 else f"{count} NUMA nodes"
