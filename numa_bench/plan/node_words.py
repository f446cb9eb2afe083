"""Resolve the words of `numa_nodes` and `memory_nodes` to nodes of this machine. Pure."""

from __future__ import annotations

from numa_bench.config.id_lists import MEMORY_WORDS, NODE_WORDS, RELATIVE_WORDS, parse_id_list
from numa_bench.config.schema import HardwareConfig
from numa_bench.errors import ConfigError
from numa_bench.machine.model import Gpu, NumaNode, Topology
from numa_bench.plan.distance import (
    find_all_nearest,
    find_home,
    find_nearest,
    list_cpu_nodes,
    list_memory_nodes,
)

NODES_KEY = "experiment.hardware.numa_nodes"
MEMORY_KEY = "experiment.hardware.memory_nodes"
#: Words for the nodes that are not local.
_AWAY = tuple(word for word in RELATIVE_WORDS if word != "local")


def find_local_memory(topology: Topology, home: int) -> tuple[int, ...]:
    """Where the kernel may put local memory: `home`, or if that has none, any nearest node.

    Which of several equally near nodes is up to the kernel (find_next_best_node in
    mm/page_alloc.c).
    """
    return find_all_nearest(topology, home, list_memory_nodes(topology))


class NodeWords:
    """The words of one configuration on one machine, for one device.

    `words` and `memory_words` are the entries of the two settings (None: not set); `home` is the
    node of the GPU (None: unknown, or no GPU).
    """

    def __init__(self, hardware: HardwareConfig, topology: Topology, gpu: Gpu | None) -> None:
        self.topology = topology
        self.gpu = gpu
        self.home = None if gpu is None else find_home(topology, gpu)
        self.policy = hardware.memory_policy
        self.words = parse_id_list(NODES_KEY, hardware.numa_nodes, NODE_WORDS)
        if self.words == ():
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

    def list_cpu_nodes(self, word: int | str) -> list[int | None]:
        """The CPU nodes that one entry of `numa_nodes` means; None: not bound."""
        if isinstance(word, int):
            return [self._checked_cpu_node(word)]
        if word == "unbound":
            return [None]
        # In a CPU study memory is near or far from the threads, so every CPU node has its turn.
        if word == "all" or self.gpu is None:
            return list(list_cpu_nodes(self.topology))
        # The GPU's node may have no CPUs.
        home = self._known_home(NODES_KEY, word)
        if word == "local":
            return [find_nearest(self.topology, home, list_cpu_nodes(self.topology))]
        return list(self._others(NODES_KEY, word, list_cpu_nodes(self.topology), home))

    def list_memory(self, word: int | str, cpu_node: int | None) -> list[tuple[int, ...]]:
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
            return [list_memory_nodes(self.topology)]
        if self.policy == "local":
            return [find_local_memory(self.topology, cpu_node)]
        nodes = list_memory_nodes(self.topology)
        # With a GPU, CPUs and memory move together; memory_nodes separates them.
        if self.gpu is not None or word == "local":
            return [(find_nearest(self.topology, cpu_node, nodes),)]
        if word in _AWAY:
            nodes = self._others(NODES_KEY, str(word), nodes, cpu_node)
        return [(node,) for node in nodes]

    def _memory_nodes(self, word: int | str, cpu_node: int | None) -> list[int]:
        if isinstance(word, int):
            return [self._checked_memory_node(word)]
        if word == "all":
            return list(list_memory_nodes(self.topology))
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
        if word in _AWAY:
            return list(self._others(MEMORY_KEY, word, list_memory_nodes(self.topology), home))
        return [find_nearest(self.topology, home, list_memory_nodes(self.topology))]

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

    def _others(self, key: str, word: str, nodes: tuple[int, ...], home: int) -> tuple[int, ...]:
        """The nodes that remote, same_socket or other_socket means, seen from `home`."""
        local = find_nearest(self.topology, home, nodes)
        others = tuple(node for node in nodes if node != local)
        if not others:
            raise ConfigError(
                key,
                word,
                f"nothing is {word} here: node {local} is the only one; use all or local",
            )
        if word != "remote":
            others = tuple(n for n in others if self.topology.distance_class(home, n) == word)
            if not others:
                where = "shares its socket" if word == "same_socket" else "is on another socket"
                raise ConfigError(
                    key, word, f"no other node {where} (seen from node {home}); use all or remote"
                )
        return others

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


def _ids(nodes: list[NumaNode] | tuple[NumaNode, ...]) -> str:
    kind = "node" if len(nodes) == 1 else "nodes"
    return f"{kind} {', '.join(str(node.id) for node in nodes)}"
