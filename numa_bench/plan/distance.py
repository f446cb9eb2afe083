"""How far nodes are from a device, and which nodes the default placements compare. Pure."""

from __future__ import annotations

from collections.abc import Collection

from numa_bench.machine.model import DISTANCE_CLASSES, Gpu, Topology

#: Used for distances that the kernel does not list; means "no path" in ACPI's SLIT.
UNREACHABLE = 255
#: A distance class (`Topology.distance_class`) in a placement's label.
_LABELS = dict(zip(DISTANCE_CLASSES, ("local", "same_socket", "remote"), strict=True))
#: The labels from near to far; "mixed" are CPUs at several distances.
LABELS = (*_LABELS.values(), "mixed")


def find_home(topology: Topology, gpu: Gpu) -> int | None:
    """The GPU's node; on a one-node machine that node; otherwise None (unknown)."""
    if topology.node(gpu.numa_node) is not None:
        return gpu.numa_node
    return topology.nodes[0].id if len(topology.nodes) == 1 else None


def rank_on_node(topology: Topology, gpu: Gpu) -> tuple[int, int]:
    """The place of a GPU among those of its node, from 0, and how many these are.

    All GPUs of the machine count, measured or not.
    """
    home = find_home(topology, gpu)
    # A GPU may come from another reading of the machine, so it is compared by number.
    ranks = [other.index for other in topology.gpus if find_home(topology, other) == home]
    return (ranks.index(gpu.index), len(ranks)) if gpu.index in ranks else (0, 1)


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


def label_distance(topology: Topology, home: int, near: Collection[int], node: int) -> str:
    """local for a node of `near`, else the label of its distance class from `home`."""
    return _LABELS["same_node"] if node in near else _LABELS[topology.distance_class(home, node)]


def choose_pairs(topology: Topology, gpu: Gpu, home: int) -> list[tuple[int, int]]:
    """The (CPU node, memory node) pairs that are measured by default, of a GPU on node `home`.

    CPUs and memory are each local and on one remote node, crossed: that separates the two. The
    remote node represents the farthest distance class. Where that is another socket, and the GPU's
    own has more nodes, one of those follows the local pair with both on it. Memory-only nodes are
    not among them, unless the GPU is on one.
    """
    cpu = find_nearest(topology, home, topology.cpu_nodes)
    memory = find_nearest(topology, home, topology.memory_nodes)
    whole = set(topology.cpu_nodes) & set(topology.memory_nodes) - {cpu, memory}
    far = _choose_representative(topology, gpu, home, whole)
    # Without another node that has both, CPUs or memory alone may still be elsewhere.
    with_cpus = set(topology.memory_nodes) & set(topology.cpu_nodes)
    far_cpu = far or _choose_representative(topology, gpu, home, {*topology.cpu_nodes} - {cpu})
    far_memory = far or _choose_representative(topology, gpu, home, with_cpus - {memory})
    cpus = [cpu] if far_cpu is None else [cpu, far_cpu[0]]
    memories = [memory] if far_memory is None else [memory, far_memory[0]]
    pairs = [(c, m) for c in cpus for m in memories]
    if far is not None and far[1] == "other_socket":
        near = {node for node in whole if topology.distance_class(home, node) == "same_socket"}
        beside = _choose_representative(topology, gpu, home, near)
        if beside is not None:
            pairs.insert(1, (beside[0], beside[0]))
    return pairs


def _choose_representative(
    topology: Topology, gpu: Gpu, home: int, nodes: Collection[int]
) -> tuple[int, str] | None:
    """The node that stands for the farthest distance class among `nodes`, and the class.

    It is a nearest one of the class. Of several, the GPUs of a node take different ones in turn, so
    that no peculiarity of one node looks like distance.
    """
    if not nodes:
        return None
    classes = {node: topology.distance_class(home, node) for node in nodes}
    farthest = max(classes.values(), key=DISTANCE_CLASSES.index)
    members = sorted(node for node, name in classes.items() if name == farthest)
    nearest = find_all_nearest(topology, home, members)
    return nearest[rank_on_node(topology, gpu)[0] % len(nearest)], farthest
