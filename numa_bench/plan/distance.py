"""How far nodes are from a device, and which nodes the default placements compare. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from numa_bench.errors import MachineError
from numa_bench.labels import MIXED, add_hops, split_hops
from numa_bench.machine.model import DISTANCE_CLASSES, Gpu, Topology
from numa_bench.records import MEASURED, DeviceSpec, Distances, Placement, RunSpec

#: Used for distances that the kernel does not list; means "no path" in ACPI's SLIT.
UNREACHABLE = 255
#: A distance class (`Topology.distance_class`) in a placement's label.
_LABELS = dict(zip(DISTANCE_CLASSES, ("local", "same_socket", "remote"), strict=True))


def find_home(topology: Topology, gpu: Gpu) -> int | None:
    """The GPU's node; on a one-node machine that node; otherwise None (unknown)."""
    if topology.node(gpu.numa_node) is not None:
        return gpu.numa_node
    return topology.nodes[0].id if len(topology.nodes) == 1 else None


def find_common_home(topology: Topology, gpus: Iterable[Gpu]) -> int | None:
    """The node that is home to all of these GPUs; None without one, or where one is unknown."""
    homes = {find_home(topology, gpu) for gpu in gpus}
    return homes.pop() if len(homes) == 1 else None


def rank_on_node(topology: Topology, gpu: Gpu) -> tuple[int, int]:
    """The place of a GPU among those of its node, from 0, and how many these are.

    All GPUs of the machine count, measured or not.
    """
    home = find_home(topology, gpu)
    # A GPU may come from another reading of the machine, so it is compared by number.
    ranks = [other.index for other in topology.gpus if find_home(topology, other) == home]
    return (ranks.index(gpu.index), len(ranks)) if gpu.index in ranks else (0, 1)


def list_cpu_nodes(topology: Topology) -> tuple[int, ...]:
    """The nodes with CPUs. Raises MachineError where there are none."""
    if not topology.cpu_nodes:
        raise MachineError(
            f"{topology.source}: no node has CPUs that are online (node*/cpulist below "
            "/sys/devices/system/node), so there is nothing to bind to; run "
            "experiment.hardware.numa_nodes=unbound"
        )
    return topology.cpu_nodes


def list_memory_nodes(topology: Topology) -> tuple[int, ...]:
    """The nodes with memory. Raises MachineError where there are none."""
    if not topology.memory_nodes:
        raise MachineError(
            f"{topology.source}: the memory of every node is unknown or 0 (node*/meminfo below "
            "/sys/devices/system/node), so none can be bound to; bind CPUs alone with "
            "experiment.hardware.memory_policy=none, or nothing with numa_nodes=unbound"
        )
    return topology.memory_nodes


def find_nearest(topology: Topology, home: int, nodes: Collection[int]) -> int:
    """`home` if it is among `nodes`, else the one of them at the smallest distance."""
    # The lower number wins a tie, so that the plan does not depend on an order.
    return min(nodes, key=lambda other: (_distance(topology, home, other), other))


def find_all_nearest(topology: Topology, home: int, nodes: Collection[int]) -> tuple[int, ...]:
    """All of `nodes` at the smallest distance from `home`."""
    least = min(_distance(topology, home, other) for other in nodes)
    return tuple(other for other in nodes if _distance(topology, home, other) == least)


def _distance(topology: Topology, home: int, other: int) -> int:
    if home == other:
        return 0  # below any SLIT distance: nothing is nearer than the node itself
    node = topology.node(home)
    return node.distances.get(other, UNREACHABLE) if node is not None else UNREACHABLE


def name_class(topology: Topology, one: int, other: int) -> str:
    """The distance class of two nodes; from two hops on with their number.

    other_socket_2_hops: as `Topology.count_hops` counts them.
    """
    return add_hops(topology.distance_class(one, other), topology.count_hops(one, other))


def label_distance(topology: Topology, home: int, near: Collection[int], node: int) -> str:
    """local for a node of `near`, else the label of its distance class from `home`.

    remote is another socket; from two hops on with their number: remote_2_hops.
    """
    if node in near:
        return _LABELS["same_node"]
    name, hops = split_hops(name_class(topology, home, node))
    return add_hops(_LABELS[name], hops)


def find_farthest(names: Iterable[str]) -> str:
    """The farthest of some distance classes, or of some labels; "mixed" counts as farthest."""
    return max(names, key=_rank)


def _rank(name: str) -> tuple[int, int]:
    plain, hops = split_hops(name)
    order = (*DISTANCE_CLASSES, MIXED) if plain in DISTANCE_CLASSES else (*_LABELS.values(), MIXED)
    return order.index(plain), hops


def choose_pairs(topology: Topology, gpu: Gpu, home: int) -> list[tuple[int, int]]:
    """The (CPU node, memory node) pairs that are measured by default, of a GPU on node `home`.

    CPUs and memory are each local and on one remote node, crossed: that separates the two. The
    remote node represents the farthest distance class. A node of each class between them follows
    the local pair, with both on it: another node of the GPU's own socket, and on machines with
    several sockets one of those that are fewer hops away. Memory-only nodes are not among them,
    unless the GPU is on one.
    """
    cpu = find_nearest(topology, home, list_cpu_nodes(topology))
    memory = find_nearest(topology, home, list_memory_nodes(topology))
    whole = set(topology.cpu_nodes) & set(topology.memory_nodes) - {cpu, memory}
    far = _choose_representative(topology, gpu, home, whole)
    # Without another node that has both, CPUs or memory alone may still be elsewhere.
    with_cpus = set(topology.memory_nodes) & set(topology.cpu_nodes)
    far_cpu = far or _choose_representative(topology, gpu, home, {*topology.cpu_nodes} - {cpu})
    far_memory = far or _choose_representative(topology, gpu, home, with_cpus - {memory})
    cpus = [cpu] if far_cpu is None else [cpu, far_cpu[0]]
    memories = [memory] if far_memory is None else [memory, far_memory[0]]
    pairs = [(c, m) for c in cpus for m in memories]
    nearer: dict[str, set[int]] = {}
    for node in whole if far is not None else ():
        nearer.setdefault(name_class(topology, home, node), set()).add(node)
    for name in sorted(nearer, key=_rank, reverse=True):
        if far is not None and _rank(name) < _rank(far[1]):
            beside = _choose_representative(topology, gpu, home, nearer[name])
            if beside is not None:
                pairs.insert(1, (beside[0], beside[0]))
    return pairs


def _choose_representative(
    topology: Topology, gpu: Gpu, home: int, nodes: Collection[int]
) -> tuple[int, str] | None:
    """The node that represents the farthest distance class among `nodes`, and the class.

    It is a nearest one of the class. Of several, the GPUs of a node take different ones in turn, so
    that no peculiarity of one node looks like distance.
    """
    if not nodes:
        return None
    classes = {node: name_class(topology, home, node) for node in nodes}
    farthest = find_farthest(classes.values())
    members = sorted(node for node, name in classes.items() if name == farthest)
    nearest = find_all_nearest(topology, home, members)
    return nearest[rank_on_node(topology, gpu)[0] % len(nearest)], farthest


def add_distances(cells: Sequence[RunSpec], topology: Topology) -> list[RunSpec]:
    """The cells, and the members of sets, with the distances of their placements."""
    return [_add_to_cell(cell, topology) for cell in cells]


def _add_to_cell(cell: RunSpec, topology: Topology) -> RunSpec:
    if not cell.members:
        return replace(cell, distances=measure_distances(topology, cell.device, cell.placement))
    members = tuple(replace(m, spec=_add_to_cell(m.spec, topology)) for m in cell.members)
    parts = [m.spec.distances for m in members if m.role == MEASURED]
    return replace(cell, members=members, distances=_join([p for p in parts if p is not None]))


def measure_distances(topology: Topology, device: DeviceSpec, placement: Placement) -> Distances:
    """How far CPUs and memory of a placement are from the device, as `Distances` describes it."""
    home = placement.numa_node
    if device.kind == "cuda":
        # A GPU may come from another reading of the machine, so it is compared by number.
        gpus = [gpu for gpu in topology.gpus if gpu.index in device.gpu_ids]
        home = find_common_home(topology, gpus)
    if home is None:
        return Distances()
    # An affinity or CPUs by number may reach over several nodes.
    own = set(placement.cpus)
    cpus = {node.id for node in topology.nodes if own & set(node.cpus)}
    if not cpus and placement.numa_node is not None:
        cpus = {placement.numa_node}
    cpu_class, cpu = _summarize_nodes(topology, home, cpus)
    memory_class, memory = _summarize_nodes(topology, home, placement.memory_nodes)
    return _make(cpu_class, memory_class, cpu, memory)


def _summarize_nodes(
    topology: Topology, home: int, nodes: Collection[int]
) -> tuple[str | None, int | None]:
    """The class that the nodes share, or "mixed", and their greatest distance."""
    classes = [name_class(topology, home, node) for node in nodes]
    known = [d for node in nodes if (d := topology.distance(home, node)) is not None]
    return _join_classes(classes), max(known, default=None)


def _join(parts: Sequence[Distances]) -> Distances:
    """The distances of several workers together."""
    return _make(
        _join_classes([part.cpu_class for part in parts]),
        _join_classes([part.memory_class for part in parts]),
        max((part.cpu for part in parts if part.cpu is not None), default=None),
        max((part.memory for part in parts if part.memory is not None), default=None),
    )


def _join_classes(names: Sequence[str | None]) -> str | None:
    """The class that all have, or "mixed"; None if there is none, or one is unknown."""
    if not names or None in names:
        return None
    return names[0] if len(set(names)) == 1 else MIXED


def _make(
    cpu_class: str | None, memory_class: str | None, cpu: int | None, memory: int | None
) -> Distances:
    known = [name for name in (cpu_class, memory_class) if name is not None]
    return Distances(cpu_class, memory_class, find_farthest(known) if known else None, cpu, memory)
