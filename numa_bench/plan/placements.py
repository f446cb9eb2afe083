"""Resolve the node settings to (CPU node, memory nodes) pairs on this machine. Pure.

`local` and `remote` are relative to the device: the GPU's node, or, in a study of the CPU itself,
the node that its threads run on.
"""

from __future__ import annotations

from numa_bench.config.schema import HardwareConfig
from numa_bench.config.validation import MEMORY_WORDS, NODE_WORDS, IdList, parse_id_list
from numa_bench.errors import ConfigError
from numa_bench.machine.model import Gpu, NumaNode, Topology
from numa_bench.records import Placement

NODES_KEY = "experiment.hardware.numa_nodes"
MEMORY_KEY = "experiment.hardware.memory_nodes"
POLICY_KEY = "experiment.hardware.memory_policy"
#: Used for distances that the kernel does not list; means "no path" in ACPI's SLIT.
UNREACHABLE = 255


def resolve_placements(
    hardware: HardwareConfig, topology: Topology, gpu: Gpu | None
) -> list[Placement]:
    """Every placement to measure for one GPU (None: the CPU), in the order of the configuration.

    Raises ConfigError for a node that is missing or cannot be bound to, and for a word that has
    no meaning on this machine; the message lists the nodes that the machine has.
    """
    resolver = _Resolver(hardware, topology, gpu)
    placements: list[Placement] = []
    for word in resolver.words:
        resolved = resolver.resolve_word(word)
        if len(set(resolved)) < len(resolved):
            raise ConfigError(
                MEMORY_KEY,
                hardware.memory_nodes,
                "resolves to the same node twice; list each node once",
            )
        placements += resolved
    return placements


class _Resolver:
    """Resolves the words of one configuration on one machine, for one device."""

    def __init__(self, hardware: HardwareConfig, topology: Topology, gpu: Gpu | None) -> None:
        self.topology = topology
        self.gpu = gpu
        self.policy = hardware.memory_policy
        words = parse_id_list(NODES_KEY, hardware.numa_nodes, NODE_WORDS)
        self.words: IdList = ("all",) if words is None else words
        if not self.words:
            raise ConfigError(
                NODES_KEY,
                "[]",
                "must not be empty; use node numbers, all, local, remote or unbound",
            )
        self.memory_words = parse_id_list(MEMORY_KEY, hardware.memory_nodes, MEMORY_WORDS)
        if self.memory_words == ():
            raise ConfigError(
                MEMORY_KEY, "[]", "must not be empty; use node numbers, or null for the default"
            )
        if self.memory_words is not None and self.policy in ("local", "none"):
            raise ConfigError(
                MEMORY_KEY,
                hardware.memory_nodes,
                f"has no meaning with memory_policy={self.policy}; use bind, preferred or "
                "interleave, or remove this key",
            )
        self.home = self._home()

    def resolve_word(self, word: int | str) -> list[Placement]:
        """The placements that one entry of `numa_nodes` resolves to."""
        return [
            self._placement(cpu_node, memory)
            for cpu_node in self._cpu_nodes(word)
            for memory in self._memory(word, cpu_node)
        ]

    def _placement(self, cpu_node: int | None, memory: tuple[int, ...]) -> Placement:
        bound = cpu_node is not None or bool(memory)
        node = self.topology.node(cpu_node) if cpu_node is not None else None
        policy = self.policy if bound else "none"
        return Placement(
            numa_node=cpu_node,
            memory_nodes=memory,
            policy=policy,
            label=self._label(cpu_node, memory, policy),
            cpus=node.cpus if node else (),
            # numactl rejects --cpunodebind for a node without memory, but accepts its CPUs.
            by_cpu=bool(node and node.memoryless),
        )

    def _home(self) -> int | None:
        """The GPU's node; on a one-node machine that node; otherwise None (unknown)."""
        if self.gpu is None:
            return None
        if self.topology.node(self.gpu.numa_node) is not None:
            return self.gpu.numa_node
        return self.topology.nodes[0].id if len(self.topology.nodes) == 1 else None

    def _cpu_nodes(self, word: int | str) -> list[int | None]:
        if isinstance(word, int):
            return [self._checked_cpu_node(word)]
        if word == "unbound":
            return [None]
        # In a CPU study memory is near or far from the threads, so every CPU node has its turn.
        if word == "all" or self.gpu is None:
            return list(self.topology.cpu_nodes)
        # The GPU's node may have no CPUs.
        local = self._nearest(self._known_home(NODES_KEY, word), self.topology.cpu_nodes)
        if word == "local":
            return [local]
        return list(self._others(NODES_KEY, self.topology.cpu_nodes, local))

    def _memory(self, word: int | str, cpu_node: int | None) -> list[tuple[int, ...]]:
        """One tuple of memory nodes per cell; the empty tuple means that memory is not bound."""
        if self.policy == "none":
            return [()]
        if self.memory_words is None:
            return self._default_memory(word, cpu_node)
        nodes = [node for item in self.memory_words for node in self._memory_nodes(item, cpu_node)]
        # Interleave spreads one run over all its nodes; under the others each node is a run.
        if self.policy == "interleave":
            return [tuple(sorted(set(nodes)))]
        return [(node,) for node in nodes]

    def _default_memory(self, word: int | str, cpu_node: int | None) -> list[tuple[int, ...]]:
        if cpu_node is None:
            return [()]
        if self.policy == "interleave":
            return [self.topology.memory_nodes]
        if self.policy == "local":
            return [self._local_memory(cpu_node)]
        same = self._nearest(cpu_node, self.topology.memory_nodes)
        # With a GPU, CPUs and memory move together; memory_nodes separates them.
        if self.gpu is not None or word == "local":
            return [(same,)]
        if word == "remote":
            return [(n,) for n in self._others(NODES_KEY, self.topology.memory_nodes, same)]
        return [(node,) for node in self.topology.memory_nodes]

    def _memory_nodes(self, word: int | str, cpu_node: int | None) -> list[int]:
        if isinstance(word, int):
            return [self._checked_memory_node(word)]
        if word == "all":
            return list(self.topology.memory_nodes)
        if word == "same" or self.gpu is None:
            if cpu_node is None:
                raise ConfigError(
                    MEMORY_KEY,
                    word,
                    "is relative to the CPU node, which numa_nodes=unbound lacks; use a number",
                )
            home = cpu_node
        else:
            home = self._known_home(MEMORY_KEY, word)
        near = self._nearest(home, self.topology.memory_nodes)
        if word == "remote":
            return list(self._others(MEMORY_KEY, self.topology.memory_nodes, near))
        return [near]

    def _known_home(self, key: str, word: str) -> int:
        if self.home is None:
            index = self.gpu.index if self.gpu else "?"
            raise ConfigError(
                key,
                word,
                f"the kernel does not know GPU {index}'s node (numa_node=-1); "
                f"use node numbers: {_ids(self.topology.nodes)}",
            )
        return self.home

    def _others(self, key: str, nodes: tuple[int, ...], local: int) -> tuple[int, ...]:
        others = tuple(node for node in nodes if node != local)
        if not others:
            raise ConfigError(
                key,
                "remote",
                f"nothing is remote here: node {local} is the only one; use all or local",
            )
        return others

    def _nearest(self, home: int, nodes: tuple[int, ...]) -> int:
        """`home` if it is among `nodes`, else the one of them at the smallest distance."""
        if home in nodes:
            return home
        node = self.topology.node(home)
        distances = node.distances if node else {}
        # The lower number wins a tie, so that the plan does not depend on an order.
        return min(nodes, key=lambda other: (distances.get(other, UNREACHABLE), other))

    def _local_memory(self, home: int) -> tuple[int, ...]:
        """Where the kernel may put local memory: `home`, or if that has none, any nearest node.

        Which of several equally near nodes is up to the kernel (find_next_best_node in
        mm/page_alloc.c).
        """
        nodes = self.topology.memory_nodes
        if home in nodes:
            return (home,)
        node = self.topology.node(home)
        distances = node.distances if node else {}
        least = min(distances.get(other, UNREACHABLE) for other in nodes)
        return tuple(other for other in nodes if distances.get(other, UNREACHABLE) == least)

    def _checked_cpu_node(self, node_id: int) -> int:
        node = self.topology.node(node_id)
        usable = _ids([n for n in self.topology.nodes if not n.cpuless])
        if node is None:
            raise ConfigError(NODES_KEY, node_id, f"no such node; this machine has {usable}")
        if node.cpuless:
            raise ConfigError(
                NODES_KEY,
                node_id,
                f"the node has memory but no CPUs; use it in memory_nodes, with CPUs of {usable}",
            )
        return node_id

    def _checked_memory_node(self, node_id: int) -> int:
        node = self.topology.node(node_id)
        usable = _ids([n for n in self.topology.nodes if not n.memoryless])
        if node is None:
            raise ConfigError(MEMORY_KEY, node_id, f"no such node; this machine has {usable}")
        if node.memoryless:
            raise ConfigError(
                MEMORY_KEY, node_id, f"the node has CPUs but no memory; use one of {usable}"
            )
        return node_id

    def _label(self, cpu_node: int | None, memory: tuple[int, ...], policy: str) -> str:
        if cpu_node is None and not memory:
            return "unbound"
        if policy == "interleave" and len(memory) > 1:
            return "interleave"
        home = cpu_node if self.gpu is None else self.home
        if home is None:
            return "unknown"
        near = {self._nearest(home, self.topology.memory_nodes)}
        if policy == "local":
            near = set(self._local_memory(home))
        memory_local = not memory or set(memory) <= near
        if self.gpu is None:
            return "local" if memory_local else "remote"
        # With a GPU two distances count: from it to the CPUs, and from it to the memory.
        cpu_local = cpu_node is None or cpu_node == self._nearest(home, self.topology.cpu_nodes)
        if not memory and cpu_node is not None:
            memory_local = (
                cpu_local  # memory is not bound: by default it is allocated where the CPU is
            )
        # Only memory is bound, so it alone makes the label.
        if cpu_node is None:
            cpu_local = memory_local
        return {
            (True, True): "local",
            (False, False): "remote",
            (True, False): "remote_memory",
            (False, True): "remote_cpu",
        }[cpu_local, memory_local]


def _ids(nodes: list[NumaNode] | tuple[NumaNode, ...]) -> str:
    kind = "node" if len(nodes) == 1 else "nodes"
    return f"{kind} {', '.join(str(node.id) for node in nodes)}"
