"""Topologies of made-up machines, for tests of everything that only looks at a Topology."""

from __future__ import annotations

from typing import Any

from numa_bench.machine.model import Gpu, NumaNode, Topology

GIB = 2**30
MIB = 2**20


def make_node(
    node_id: int,
    cpus: range | tuple[int, ...],
    distances: dict[int, int],
    memory_gib: int = 16,
    llc_mib: int | None = 32,
    socket: int | None = None,
    cores: tuple[tuple[int, ...], ...] = (),
    l3_domains: tuple[tuple[int, ...], ...] = (),
) -> NumaNode:
    """One node; no CPUs, or no memory, when those are empty or 0."""
    return NumaNode(
        id=node_id,
        cpus=tuple(cpus),
        memory_bytes=memory_gib * GIB,
        distances=distances,
        memory_free_bytes=memory_gib * GIB // 2,
        llc_bytes=None if llc_mib is None else llc_mib * MIB,
        socket=socket,
        cores=cores,
        l3_domains=l3_domains,
        packages=() if socket is None or not cpus else (socket,),
    )


def make_smt_node(
    node_id: int, first: int, cores: int, per_cache: int, distances: dict[int, int], **more: Any
) -> NumaNode:
    """A node of cores with two CPUs each: those of core i are `first` + i and `cores` above it.

    `per_cache` cores share an L3 cache.
    """
    pairs = tuple((cpu, cpu + cores) for cpu in range(first, first + cores))
    caches = [pairs[i : i + per_cache] for i in range(0, cores, per_cache)]
    return make_node(
        node_id,
        range(first, first + 2 * cores),
        distances,
        cores=pairs,
        l3_domains=tuple(tuple(sorted(cpu for core in c for cpu in core)) for c in caches),
        **more,
    )


def make_gpu(index: int, numa_node: int) -> Gpu:
    """A GPU with a name and a UUID of its own."""
    return Gpu(
        index=index,
        pci_address=f"0000:{0x10 + index:02x}:00.0",
        vendor="0x10de",
        device="0x2330",
        numa_node=numa_node,
        name="NVIDIA H100 80GB HBM3",
        uuid=f"GPU-{index}a000000-0000-4000-8000-{index:012d}",
        compute_capability=(9, 0),
        link=(5, 16),
    )


def laptop() -> Topology:
    """One node of four CPUs, no GPU."""
    return Topology(nodes=(make_node(0, range(4), {0: 10}),), gpus=())


def server() -> Topology:
    """Two sockets with nodes 0 and 2 of 24 cores, GPUs 0-3 on node 0 and 4-7 on node 2."""
    size = {"memory_gib": 512, "llc_mib": 260}
    nodes = (
        make_smt_node(0, 0, 24, 6, {0: 10, 2: 21}, socket=0, **size),
        make_smt_node(2, 48, 24, 6, {0: 21, 2: 10}, socket=1, **size),
    )
    return Topology(nodes=nodes, gpus=tuple(make_gpu(i, 0 if i < 4 else 2) for i in range(8)))


def eight_sockets(gpu_nodes: tuple[int, ...] = (0, 7)) -> Topology:
    """Eight sockets of one node each; every node has three others at 21 and four at 31.

    Neighbours in a cube of which each corner has three links: the rest is two hops away, as the
    firmware of eight-socket Xeon servers reports it.
    """
    nodes = tuple(
        make_node(
            i,
            range(4 * i, 4 * i + 4),
            {j: 10 if i == j else 21 if (i ^ j).bit_count() == 1 else 31 for j in range(8)},
            socket=i,
        )
        for i in range(8)
    )
    return Topology(nodes, tuple(make_gpu(i, node) for i, node in enumerate(gpu_nodes)))


def four_sockets_of_two(gpu_node: int = 0) -> Topology:
    """Four sockets in a ring, of two nodes each, with a GPU: 12 in a socket, 21 and 31 between."""
    hops = {0: 12, 1: 21, 2: 31, 3: 21}
    nodes = tuple(
        make_node(
            i,
            range(4 * i, 4 * i + 4),
            {j: 10 if i == j else hops[(i // 2 - j // 2) % 4] for j in range(8)},
            socket=i // 2,
        )
        for i in range(8)
    )
    return Topology(nodes, (make_gpu(0, gpu_node),))


def four_nodes() -> Topology:
    """Four nodes in two pairs, one GPU on node 2."""
    nodes = tuple(
        make_node(
            i,
            range(4 * i, 4 * i + 4),
            {j: 10 if i == j else 12 if i // 2 == j // 2 else 32 for j in range(4)},
        )
        for i in range(4)
    )
    return Topology(nodes=nodes, gpus=(make_gpu(0, 2),))


def with_memory_only_node(gpu_node: int | None = None) -> Topology:
    """Two ordinary nodes, and node 2 with memory but no CPUs (nearest to node 1)."""
    nodes = (
        make_node(0, range(4), {0: 10, 1: 21, 2: 24}, socket=0),
        make_node(1, range(4, 8), {0: 21, 1: 10, 2: 14}, socket=1),
        make_node(2, (), {0: 24, 1: 14, 2: 10}, memory_gib=64, llc_mib=None),
    )
    return Topology(nodes=nodes, gpus=() if gpu_node is None else (make_gpu(0, gpu_node),))


def with_memoryless_node(gpu_node: int | None = None) -> Topology:
    """Nodes 0 and 1 have memory; node 2 has CPUs alone, nearest to node 1."""
    nodes = (
        make_node(0, range(4), {0: 10, 1: 21, 2: 24}, socket=0),
        make_node(1, range(4, 8), {0: 21, 1: 10, 2: 14}, socket=1),
        make_node(2, range(8, 12), {0: 24, 1: 14, 2: 10}, memory_gib=0, socket=1),
    )
    return Topology(nodes=nodes, gpus=() if gpu_node is None else (make_gpu(0, gpu_node),))


def unknown_gpu() -> Topology:
    """Two nodes, and a GPU whose node the kernel does not know."""
    nodes = (
        make_node(0, range(4), {0: 10, 1: 21}),
        make_node(1, range(4, 8), {0: 21, 1: 10}),
    )
    return Topology(nodes=nodes, gpus=(make_gpu(0, -1),))


def one_node_unknown_gpu() -> Topology:
    """One node, and a GPU with numa_node -1, as on most desktops."""
    return Topology(nodes=(make_node(0, range(4), {0: 10}),), gpus=(make_gpu(0, -1),))
