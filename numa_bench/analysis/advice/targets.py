"""Where the processes of a placement go on the measured machine: one target per GPU or node. Pure.

`local` follows from the topology, so it is known for GPUs whose local runs failed. Any other
placement is what its runs were bound to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from numa_bench.machine.model import Gpu, NumaNode, Topology
from numa_bench.records import WHOLE_NODE
from numa_bench.records.cpu_lists import parse_cpu_list

#: SLIT's "no path", for distances that the kernel does not list (ACPI 6.5, 5.2.17).
_UNREACHABLE = 255


@dataclass(frozen=True)
class Target:
    """One process: its GPU (None: it runs on the CPU), its CPUs and its memory.

    `cpu_node` None: CPUs are not bound. `cpus` are set where they are not all CPUs of the node.
    `policy` is a memory policy of `Placement`. `affinity` names the choice of CPUs as
    torchrun's --numa-binding does.
    """

    gpu: int | None
    cpu_node: int | None
    memory_nodes: tuple[int, ...]
    policy: str = "bind"
    cpus: tuple[int, ...] = ()
    affinity: str = WHOLE_NODE

    @property
    def on_one_node(self) -> bool:
        """Whether CPUs and memory are one whole node."""
        return self.cpu_node is not None and not self.cpus and self.only_memory == self.cpu_node

    @property
    def only_memory(self) -> int | None:
        """The node that holds all of the memory; None where several may, or none was chosen."""
        bound = self.policy == "bind" and len(self.memory_nodes) == 1
        return self.memory_nodes[0] if bound else None


def find_home(topology: Topology, gpu: Gpu) -> int | None:
    """The node that a GPU is attached to; None where it is not known.

    On a machine with one node that is the one, whatever the firmware says.
    """
    if topology.node(gpu.numa_node) is not None:
        return gpu.numa_node
    return topology.nodes[0].id if len(topology.nodes) == 1 else None


def list_local_targets(topology: Topology, gpus: Iterable[Gpu]) -> list[Target]:
    """CPUs and memory nearest to each GPU; GPUs of unknown node are left out."""
    homes = [(gpu.index, find_home(topology, gpu)) for gpu in gpus]
    return [_place_near(topology, home, gpu) for gpu, home in homes if home is not None]


def list_node_targets(topology: Topology) -> list[Target]:
    """One target per node with CPUs, with memory of the nearest node: a process on the CPU."""
    return [_place_near(topology, node, None) for node in topology.cpu_nodes]


def _place_near(topology: Topology, home: int, gpu: int | None) -> Target:
    cpu = _find_nearest(topology, home, topology.cpu_nodes)
    memory = _find_nearest(topology, home, topology.memory_nodes)
    node = topology.node(cpu)
    # numactl refuses --cpunodebind for a node without memory, but accepts its CPUs by number.
    cpus = node.cpus if node is not None and node.memoryless else ()
    return Target(gpu, cpu, (memory,), cpus=cpus)


def _find_nearest(topology: Topology, home: int, nodes: Sequence[int]) -> int:
    """`home` if it is among the nodes, else the nearest of them; the lower number wins a tie."""
    if home in nodes:
        return home
    node = topology.node(home)
    distances = node.distances if node is not None else {}
    return min(nodes, key=lambda other: (distances.get(other, _UNREACHABLE), other))


def list_measured_targets(runs: pd.DataFrame, label: str, topology: Topology) -> list[Target]:
    """What the runs of one placement were bound to, once per GPU, or on the CPU per binding.

    `runs` are rows of the table of runs (`read.runs`) of one group. Sets of workers have a
    placement for each worker and give no target.
    """
    rows = runs[(runs["placement"] == label) & runs["scenario"].isna()]
    targets: dict[tuple[int | None, int | None], Target] = {}
    for row in rows.to_dict("records"):
        target = _read_target(row, topology)
        key = (target.gpu, None if target.gpu is not None else target.cpu_node)
        targets.setdefault(key, target)
    return sorted(targets.values(), key=lambda t: (t.gpu or 0, t.cpu_node or 0))


def _read_target(row: dict[Any, Any], topology: Topology) -> Target:
    gpu, node = (_as_number(row[key]) for key in ("gpu_id", "numa_node"))
    cpus = tuple(parse_cpu_list(row["cpus"])) if row["cpus"] else ()
    own = topology.node(node) if node is not None else None
    return Target(
        gpu=gpu,
        cpu_node=node,
        memory_nodes=tuple(int(n) for n in row["memory_nodes"]),
        policy=row["memory_policy"] or "none",
        cpus=() if own is None or _is_whole(own, cpus) else cpus,
        affinity=row["cpu_affinity"] or WHOLE_NODE,
    )


def _is_whole(node: NumaNode, cpus: tuple[int, ...]) -> bool:
    return not cpus or (cpus == node.cpus and not node.memoryless)


def _as_number(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)
