"""Which workers each scenario of a contention study consists of, on one machine. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from numa_bench.errors import MachineError
from numa_bench.machine.model import Gpu, Topology
from numa_bench.plan.distance import find_nearest, list_cpu_nodes, list_memory_nodes


@dataclass(frozen=True)
class Spot:
    """Where one measured worker goes. `share` counts the workers on the CPUs of one node."""

    gpu: Gpu | None
    cpu_node: int
    memory_node: int
    share: int = 0


@dataclass(frozen=True)
class Formed:
    """One set of a scenario."""

    scenario: str
    spots: tuple[Spot, ...]


def form_scenarios(
    scenarios: Sequence[str],
    topology: Topology,
    devices: Sequence[Gpu | None],
    workers_per_node: int,
) -> tuple[list[Formed], list[str]]:
    """The sets of these scenarios, and a warning for each scenario that cannot be formed.

    `devices` are GPUs, or [None] for the CPU. A set that is the same as one of another scenario
    is left out. Raises MachineError where the kernel does not know the node of a GPU.
    """
    former = _Former(topology, devices, workers_per_node)
    formed: list[Formed] = []
    warnings: list[str] = []
    for scenario in scenarios:
        spots, reason = former.form(scenario)
        if reason is None:
            # What is equal to a set of an earlier scenario would only be measured twice.
            known = {one.spots: one.scenario for one in formed}
            twin = next((known[item] for item in spots if item in known), None)
            reason = twin and f"it is the same as {twin} here"
            spots = [item for item in spots if item not in known]
        formed += [Formed(scenario, item) for item in spots]
        if reason is not None:
            warnings.append(f"scenario {scenario} is left out: {reason}")
    return formed, warnings


def find_far_node(topology: Topology, home: int, nodes: Sequence[int]) -> int | None:
    """A node far from `home` among `nodes`: on the other socket, else any other; None: no other.

    Nodes with the same place on their sockets are paired, so that the nodes of one socket have
    different far nodes.
    """
    by_class: dict[str, list[int]] = {"other_socket": [], "same_socket": [], "same_node": []}
    for node in nodes:
        by_class[topology.distance_class(home, node)].append(node)
    near = sorted({home, *by_class["same_socket"]})
    far = by_class["other_socket"]
    if far:
        return far[near.index(home) % len(far)]
    others = by_class["same_socket"]
    # The next one in a circle, so that each node is far from exactly one other.
    return next((n for n in others if n > home), others[0]) if others else None


class _Former:
    """Forms scenarios for the devices of one study."""

    def __init__(
        self, topology: Topology, devices: Sequence[Gpu | None], workers_per_node: int
    ) -> None:
        self.topology = topology
        self.gpus = [gpu for gpu in devices if gpu is not None]
        self.workers_per_node = workers_per_node
        for gpu in self.gpus:
            self._home(gpu)

    def form(self, scenario: str) -> tuple[list[tuple[Spot, ...]], str | None]:
        """The sets of a scenario, or none and the reason."""
        forms: dict[str, Callable[[], list[tuple[Spot, ...]]]] = {
            "alone": lambda: [(spot,) for spot in self._each("near", "near")],
            "alone_remote": lambda: [(spot,) for spot in self._each("far", "far")],
            "socket": self._groups,
            "all_local": lambda: [tuple(self._all("near", "near"))],
            "all_remote": lambda: [tuple(self._all("far", "far"))],
            "crossed": lambda: [tuple(self._all("near", "far"))],
        }
        if not self.gpus and scenario == "crossed":
            return [], "without a GPU it is the same as all_remote"
        remote = scenario in ("alone_remote", "all_remote", "crossed")
        if remote and not self._has_far():
            return [], "this machine has one node, so nothing is remote"
        spots = forms[scenario]()
        several = scenario not in ("alone", "alone_remote")
        spots = [item for item in spots if len(item) > 1] if several else spots
        return spots, None if spots else self._too_few(scenario)

    def _too_few(self, scenario: str) -> str:
        what = "socket" if self.gpus else "node"
        where = f" on any {what}" if scenario == "socket" else ""
        kind = "GPUs" if self.gpus else "workers"
        return f"it needs two {kind}, and there are not so many{where}"

    def _has_far(self) -> bool:
        return len(self.topology.memory_nodes) > 1 and (
            not self.gpus or len(self.topology.cpu_nodes) > 1
        )

    def _each(self, cpus: str, memory: str) -> Iterator[Spot]:
        """Every worker that can be alone: each GPU, or the first worker of each node."""
        if self.gpus:
            yield from self._all(cpus, memory)
        else:
            yield from (spot for spot in self._all("near", memory) if spot.share == 0)

    def _all(self, cpus: str, memory: str) -> Iterator[Spot]:
        """All workers; `cpus` and `memory` are near or far. CPU workers stay on their CPUs."""
        topology = self.topology
        for gpu in self.gpus:
            home = self._home(gpu)
            cpu_node = self._node(cpus, home, list_cpu_nodes(topology))
            yield Spot(gpu, cpu_node, self._node(memory, home, list_memory_nodes(topology)))
        if not self.gpus:
            for node in topology.cpu_nodes:
                memory_node = self._node(memory, node, list_memory_nodes(topology))
                for share in range(self.workers_per_node):
                    yield Spot(None, node, memory_node, share)

    def _groups(self) -> list[tuple[Spot, ...]]:
        """The local workers of each socket, without a GPU of each node."""
        groups: list[list[Spot]] = []
        for spot in self._all("near", "near"):
            for group in groups:
                if self._same_group(group[0].cpu_node, spot.cpu_node):
                    group.append(spot)
                    break
            else:
                groups.append([spot])
        return [tuple(group) for group in groups]

    def _same_group(self, one: int, other: int) -> bool:
        distance = self.topology.distance_class(one, other)
        return distance == "same_node" or bool(self.gpus and distance == "same_socket")

    def _node(self, word: str, home: int, nodes: Sequence[int]) -> int:
        near = find_nearest(self.topology, home, nodes)
        if word == "near":
            return near
        far = find_far_node(self.topology, home, nodes)
        # There are two nodes at least (`_has_far`), so only a home without memory has no far one.
        return next(n for n in nodes if n != near) if far in (None, near) else int(far or 0)

    def _home(self, gpu: Gpu) -> int:
        if self.topology.node(gpu.numa_node) is not None:
            return gpu.numa_node
        if len(self.topology.nodes) == 1:
            return self.topology.nodes[0].id
        raise MachineError(
            f"the kernel does not know GPU {gpu.index}'s node (numa_node=-1), which a contention "
            "study needs; leave it out with experiment.hardware.gpu_ids"
        )
