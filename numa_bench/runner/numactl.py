"""Pure: a placement as numactl's command line (numactl 2.0, man numactl)."""

from __future__ import annotations

from numa_bench.machine.topology import format_cpu_list
from numa_bench.records import Placement


def numactl_argv(placement: Placement, numactl: str = "numactl") -> list[str]:
    """The words to put before a command so that it runs as placed; empty when nothing is bound."""
    if not placement.bound:
        return []
    argv = [numactl]
    if placement.by_cpu:
        argv.append(f"--physcpubind={format_cpu_list(placement.cpus)}")
    elif placement.numa_node is not None:
        argv.append(f"--cpunodebind={placement.numa_node}")
    nodes = ",".join(map(str, placement.memory_nodes))
    if placement.policy == "local":
        argv.append("--localalloc")
    elif nodes and placement.policy != "none":
        option = {"bind": "membind", "preferred": "preferred", "interleave": "interleave"}
        argv.append(f"--{option[placement.policy]}={nodes}")
    return argv
