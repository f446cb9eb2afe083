"""Resolve the placement settings to CPUs and memory nodes on this machine. Pure.

`local` and `remote` are relative to the device: the GPU's node, or, in a study of the CPU itself,
the node that its threads run on.
"""

from __future__ import annotations

from dataclasses import replace

from numa_bench.config.id_lists import IdList, parse_id_list
from numa_bench.config.schema import HardwareConfig
from numa_bench.config.validation import check_hardware, parse_affinities
from numa_bench.errors import ConfigError
from numa_bench.machine.model import Gpu, Topology
from numa_bench.plan.affinity import (
    AFFINITY_KEY,
    PHYSCPU_KEY,
    CpuSet,
    resolve_cpus,
    resolve_physcpu,
)
from numa_bench.plan.distance import (
    choose_pairs,
    find_farthest,
    find_nearest,
    label_distance,
    list_cpu_nodes,
    list_memory_nodes,
)
from numa_bench.plan.node_words import MEMORY_KEY, NODES_KEY, NodeWords, find_local_memory
from numa_bench.records import Placement

__all__ = ["MEMORY_KEY", "NODES_KEY", "list_placement_warnings", "resolve_placements"]

#: A CPU node (None: not bound) and memory nodes (empty: not bound).
_Pair = tuple[int | None, tuple[int, ...]]


def resolve_placements(
    hardware: HardwareConfig, topology: Topology, gpu: Gpu | None
) -> list[Placement]:
    """Every placement to measure for one GPU (None: the CPU), in the order of the configuration.

    Raises ConfigError for a node or CPU that is missing or cannot be bound to, and for a word that
    has no meaning on this machine; the message lists the nodes that the machine has.
    """
    return _Resolver(hardware, topology, gpu).resolve()[0]


def list_placement_warnings(
    hardware: HardwareConfig, topology: Topology, gpu: Gpu | None
) -> list[str]:
    """What `resolve_placements` left out or could not know, one line each."""
    return _Resolver(hardware, topology, gpu).resolve()[1]


class _Resolver:
    """Resolves the words of one configuration on one machine, for one device."""

    def __init__(self, hardware: HardwareConfig, topology: Topology, gpu: Gpu | None) -> None:
        check_hardware(hardware)
        self.hardware = hardware
        self.topology = topology
        self.gpu = gpu
        self.nodes = NodeWords(hardware, topology, gpu)
        self.home = self.nodes.home
        self.policy = hardware.memory_policy
        self.affinities = parse_affinities(hardware.cpu_affinity)
        self.physcpu = parse_id_list(PHYSCPU_KEY, hardware.physcpu, words=())

    def resolve(self) -> tuple[list[Placement], list[str]]:
        """The placements, and warnings."""
        if self.physcpu is not None:
            numbers = [cpu for cpu in self.physcpu if isinstance(cpu, int)]
            cpus, node = resolve_physcpu(numbers, self.hardware.smt, self.topology)
            pairs = self._cross(("all",), [node.id])
            return [self._placement(pair, cpus) for pair in pairs], []
        pairs, warnings = self._pairs()
        placements: list[Placement] = []
        # The placement that first had these CPUs and this memory.
        first: dict[tuple[object, ...], Placement] = {}
        for mode in self.affinities:
            twins: list[Placement] = []
            for pair in pairs:
                if pair[0] is None and mode != self.affinities[0]:
                    continue  # where CPUs are not bound, there is nothing to choose
                placement = self._placement(pair, self._cpus(mode, pair[0]))
                same = first.setdefault((placement.cpus, placement.memory_nodes), placement)
                if same == placement:
                    placements.append(placement)
                else:
                    twins.append(same)
            if twins:
                earlier = list(dict.fromkeys(twin.affinity for twin in twins))
                warnings.append(self._explain_same(mode, len(twins), earlier))
        return placements, warnings

    def _pairs(self) -> tuple[list[_Pair], list[str]]:
        """CPU and memory nodes as set, or the default, with warnings."""
        words = self.nodes.words or ("all",)
        unset = self.nodes.words is None and self.nodes.memory_words is None
        if self.gpu is None or not unset:
            return self._cross(words), []
        if self.home is None:
            return self._cross(words), [
                f"the kernel does not know the node of GPU {self.gpu.index}: every node is "
                "measured, and none can be called local"
            ]
        pairs = choose_pairs(self.topology, self.gpu, self.home)
        if self.policy in ("bind", "preferred"):
            return [(cpu, (memory,)) for cpu, memory in pairs], []
        # Under the other policies the CPU node alone says where memory is.
        return self._cross(words, list(dict.fromkeys(cpu for cpu, _ in pairs))), []

    def _cross(self, words: IdList, cpu_nodes: list[int] | None = None) -> list[_Pair]:
        """CPU nodes with the memory nodes of each; `cpu_nodes` are used instead of the words'."""
        pairs: list[_Pair] = []
        for word in words:
            nodes = self.nodes.list_cpu_nodes(word) if cpu_nodes is None else cpu_nodes
            own = [(cpu, memory) for cpu in nodes for memory in self.nodes.list_memory(word, cpu)]
            if len(set(own)) < len(own):
                raise ConfigError(
                    MEMORY_KEY,
                    self.hardware.memory_nodes,
                    "resolves to the same node twice; list each node once",
                )
            pairs += own
        return pairs

    def _explain_same(self, mode: str, number: int, earlier: list[str]) -> str:
        """A warning that `number` placements of a mode were left out."""
        device = "the CPU" if self.gpu is None else f"GPU {self.gpu.index}"
        return (
            f"{device}: {number} placement{'s' if number > 1 else ''} of {AFFINITY_KEY}={mode} "
            f"left out, with the same CPUs and memory as others of {', '.join(earlier)}"
        )

    def _cpus(self, mode: str, cpu_node: int | None) -> CpuSet | None:
        node = None if cpu_node is None else self.topology.node(cpu_node)
        if node is None:
            return None
        return resolve_cpus(mode, self.hardware.smt, node, self.topology, self.gpu)

    def _placement(self, pair: _Pair, chosen: CpuSet | None) -> Placement:
        cpu_node, memory = pair
        bound = cpu_node is not None or bool(memory)
        policy = self.policy if bound else "none"
        placement = Placement(cpu_node, memory, policy, label="")
        node = self.topology.node(cpu_node) if cpu_node is not None else None
        if chosen is not None and node is not None:
            placement = replace(
                placement,
                cpus=chosen.cpus,
                # numactl rejects --cpunodebind for a node without memory, but accepts its CPUs.
                by_cpu=node.memoryless or chosen.cpus != node.cpus,
                affinity=chosen.affinity,
            )
        return replace(placement, label=self._label(placement))

    def _label(self, placement: Placement) -> str:
        cpu_node, memory = placement.numa_node, placement.memory_nodes
        if cpu_node is None and not memory:
            return "unbound"
        if placement.policy == "interleave" and len(memory) > 1:
            return "interleave"
        home = cpu_node if self.gpu is None else self.home
        if home is None:
            return "unknown"
        # What is not bound follows the other: memory is allocated where the CPUs are.
        cpus = self._cpu_label(home, placement) if cpu_node is not None else None
        pages = self._memory_label(home, placement) if memory else cpus
        # Without a GPU the only distance is that between CPUs and memory.
        if self.gpu is None:
            return "mixed" if cpus == "mixed" else pages or "unknown"
        cpus = cpus or pages
        return cpus if cpus == pages and cpus else f"{cpus}/{pages}"

    def _cpu_label(self, home: int, placement: Placement) -> str:
        near = {find_nearest(self.topology, home, list_cpu_nodes(self.topology))}
        nodes = {placement.numa_node}
        if self.physcpu is not None:
            own = set(placement.cpus)
            nodes = {node.id for node in self.topology.nodes if own & set(node.cpus)}
        labels = {
            label_distance(self.topology, home, near, node) for node in nodes if node is not None
        }
        return labels.pop() if len(labels) == 1 else "mixed"

    def _memory_label(self, home: int, placement: Placement) -> str:
        """The label of the farthest memory node."""
        near = {find_nearest(self.topology, home, list_memory_nodes(self.topology))}
        if placement.policy == "local":
            near = set(find_local_memory(self.topology, home))
        labels = {
            label_distance(self.topology, home, near, node) for node in placement.memory_nodes
        }
        return find_farthest(labels)
