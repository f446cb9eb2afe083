"""Data model of a machine: NUMA nodes, their distances, and GPUs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from numa_bench.records.checks import find_wrong_value

#: From near to far.
DISTANCE_CLASSES = ("same_node", "same_socket", "other_socket")


@dataclass(frozen=True)
class NumaNode:
    """One online NUMA node.

    `cpus` are the online CPUs, sorted; `memory_bytes` is MemTotal (0: memory-less);
    `distances` maps node ids to SLIT distances (10 is local); `llc_bytes` is the sum of the
    node's last-level caches (None: not reported by the kernel). `socket` is the package of its
    CPUs (None: it has no CPUs, or the kernel does not say). `cores` are the CPUs of each physical
    core (SMT siblings together), `l3_domains` those that share a level 3 cache; both list this
    node's CPUs only, sorted, and are empty where the kernel does not say. `packages` are the
    sockets of all its CPUs, sorted; empty where one is unknown.
    """

    id: int
    cpus: tuple[int, ...]
    memory_bytes: int
    distances: dict[int, int]
    memory_free_bytes: int | None = None
    llc_bytes: int | None = None
    socket: int | None = None
    cores: tuple[tuple[int, ...], ...] = ()
    l3_domains: tuple[tuple[int, ...], ...] = ()
    packages: tuple[int, ...] = ()

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> NumaNode:
        """The inverse of a node of `Topology.to_dict`. Raises KeyError, TypeError, ValueError."""
        known = {f.name for f in fields(cls)}
        plain = {key: value for key, value in data.items() if key in known}
        _check_types(plain, cls)
        return cls(
            **plain
            | {
                "cpus": tuple(data["cpus"]),
                "distances": {int(node): d for node, d in data["distances"].items()},
                "cores": tuple(map(tuple, data.get("cores", ()))),
                "l3_domains": tuple(map(tuple, data.get("l3_domains", ()))),
                "packages": tuple(data.get("packages", ())),
            }
        )

    @property
    def cpuless(self) -> bool:
        return not self.cpus

    @property
    def memoryless(self) -> bool:
        return self.memory_bytes == 0


@dataclass(frozen=True)
class Gpu:
    """One GPU. `index` counts in PCI order, as nvidia-smi does; `numa_node` -1 means unknown.

    `mig`: it is partitioned into MIG slices. `compute_capability` is (major, minor), `link` the
    generation and width that GPU and slot can both reach, `memory_bytes` all of its memory; None:
    the driver does not say.
    """

    index: int
    pci_address: str
    vendor: str
    device: str
    numa_node: int
    name: str | None = None
    uuid: str | None = None
    mig: bool = False
    compute_capability: tuple[int, int] | None = None
    link: tuple[int, int] | None = None
    memory_bytes: int | None = None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Gpu:
        """The inverse of `asdict`, also after a trip through JSON. Raises TypeError."""
        pairs = {
            name: tuple(data[name])
            for name in ("compute_capability", "link")
            if data.get(name) is not None
        }
        _check_types(data, cls)
        return cls(**{**data, **pairs})


def _check_types(data: dict[str, Any], kind: type) -> None:
    """Raise TypeError where a stored value is of another type than `kind` declares."""
    wrong = find_wrong_value(data, kind)
    if wrong is not None:
        raise TypeError(f"{wrong} is of the wrong type")


@dataclass(frozen=True)
class Topology:
    """A discovered machine. `source` is "live", or the path of the captured tree."""

    nodes: tuple[NumaNode, ...]
    gpus: tuple[Gpu, ...]
    cpus_offline: tuple[int, ...] = ()
    source: str = "live"
    notes: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Topology:
        """The inverse of `to_dict`, for a stored topology.json.

        Raises ValueError for what is no topology.
        """
        try:
            return cls(
                nodes=tuple(NumaNode.from_dict(node) for node in data["nodes"]),
                gpus=tuple(Gpu.from_dict(gpu) for gpu in data["gpus"]),
                cpus_offline=tuple(data.get("cpus_offline", ())),
                source=data.get("source", "live"),
                notes=tuple(data.get("notes", ())),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"is no topology: {type(error).__name__} {error}") from error

    def node(self, node_id: int) -> NumaNode | None:
        """The online node with this number, or None."""
        return next((node for node in self.nodes if node.id == node_id), None)

    def distance_class(self, one: int, other: int) -> str:
        """How far apart two nodes are: one of `DISTANCE_CLASSES`.

        By sockets where both are known. Else by SLIT distances: of the distances from `one`, the
        smallest beyond its own counts as the same socket if there is a larger one, too.
        """
        if one == other:
            return "same_node"
        first, second = self.node(one), self.node(other)
        sockets = {node.socket for node in (first, second) if node is not None}
        if None not in sockets and first is not None and second is not None:
            return "same_socket" if len(sockets) == 1 else "other_socket"
        distances = first.distances if first is not None else {}
        beyond = sorted({d for node, d in distances.items() if node != one})
        near = len(beyond) > 1 and distances.get(other) == beyond[0]
        return "same_socket" if near else "other_socket"

    def distance(self, one: int, other: int) -> int | None:
        """The SLIT distance from one node to another; None where the kernel does not list it."""
        node = self.node(one)
        return node.distances.get(other) if node is not None else None

    def count_hops(self, one: int, other: int) -> int:
        """How many links between sockets lie between two nodes; 0 within a socket.

        The kernel does not say. With more than two sockets, the distances between nodes of
        different sockets are ranked over the whole machine: 1 is the smallest of them, 2 the next.
        It is 1 for all of them with two sockets, and where the sockets of the nodes are unknown.
        """
        if self.distance_class(one, other) != "other_socket":
            return 0
        sockets = {node.id: node.socket for node in self.nodes if node.socket is not None}
        distance = self.distance(one, other)
        if not {one, other} <= set(sockets) or len({*sockets.values()}) < 3 or distance is None:
            return 1
        between = {
            node.distances[away]
            for node in self.nodes
            for away in node.distances
            if {node.id, away} <= set(sockets) and sockets[node.id] != sockets[away]
        }
        return sorted(between).index(distance) + 1

    @property
    def cpu_nodes(self) -> tuple[int, ...]:
        return tuple(node.id for node in self.nodes if not node.cpuless)

    @property
    def memory_nodes(self) -> tuple[int, ...]:
        return tuple(node.id for node in self.nodes if not node.memoryless)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; distances are keyed by the node number as a string."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        for node, source in zip(plain["nodes"], self.nodes, strict=True):
            node["cpuless"] = source.cpuless
            node["memoryless"] = source.memoryless
        return plain
