"""Which placements a GPU gets where neither CPU nor memory nodes are set."""

from __future__ import annotations

from dataclasses import replace

import pytest

from numa_bench.config.schema import HardwareConfig
from numa_bench.machine.model import Gpu, NumaNode, Topology
from numa_bench.plan.placements import list_placement_warnings, resolve_placements
from tests.machines import (
    eight_sockets,
    four_nodes,
    four_sockets_of_two,
    laptop,
    make_gpu,
    make_node,
    one_node_unknown_gpu,
    server,
    unknown_gpu,
    with_memory_only_node,
    with_memoryless_node,
)

Cell = tuple[int | None, tuple[int, ...], str]


def cells(machine: Topology, gpu: Gpu | None, policy: str = "bind") -> list[Cell]:
    placements = resolve_placements(HardwareConfig(memory_policy=policy), machine, gpu)
    return [(p.numa_node, p.memory_nodes, p.label) for p in placements]


def nodes_on_sockets(sockets: tuple[int, ...]) -> tuple[NumaNode, ...]:
    """One node per entry, with distances as firmware reports them."""
    return tuple(
        make_node(
            i,
            range(4 * i, 4 * i + 4),
            {j: 10 if i == j else 12 if a == b else 32 for j, b in enumerate(sockets)},
            socket=a,
        )
        for i, a in enumerate(sockets)
    )


def test_cpus_and_memory_are_crossed_near_and_far() -> None:
    assert cells(server(), server().gpus[5]) == [
        (2, (2,), "local"),
        (2, (0,), "local/remote"),
        (0, (2,), "remote/local"),
        (0, (0,), "remote"),
    ]


def test_another_node_of_the_socket_follows_with_both_on_it() -> None:
    assert cells(four_nodes(), four_nodes().gpus[0]) == [
        (2, (2,), "local"),
        (3, (3,), "same_socket"),
        (2, (0,), "local/remote"),
        (0, (2,), "remote/local"),
        (0, (0,), "remote"),
    ]


def test_where_there_is_one_socket_its_other_nodes_are_the_farthest() -> None:
    machine = Topology(nodes_on_sockets((0, 0, 0)), (make_gpu(0, 1),))

    assert cells(machine, machine.gpus[0]) == [
        (1, (1,), "local"),
        (1, (0,), "local/same_socket"),
        (0, (1,), "same_socket/local"),
        (0, (0,), "same_socket"),
    ]


def test_gpus_of_a_node_take_equally_far_nodes_in_turn() -> None:
    machine = Topology(nodes_on_sockets((0, 0, 1, 1)), tuple(make_gpu(i, 0) for i in range(3)))

    far = [cells(machine, gpu)[-1] for gpu in machine.gpus]

    assert far == [(2, (2,), "remote"), (3, (3,), "remote"), (2, (2,), "remote")]


def test_the_nearest_node_of_a_class_represents_it() -> None:
    first, *others = nodes_on_sockets((0, 1, 1, 1))
    first = replace(first, distances={0: 10, 1: 32, 2: 25, 3: 32})
    machine = Topology((first, *others), (make_gpu(0, 0),))

    assert cells(machine, machine.gpus[0])[-1] == (2, (2,), "remote")


def test_with_hops_the_farthest_sockets_are_compared_and_each_nearer_class_is_measured() -> None:
    machine = eight_sockets()
    assert cells(machine, machine.gpus[0]) == [
        (0, (0,), "local"),
        (1, (1,), "remote"),
        (0, (3,), "local/remote_2_hops"),
        (3, (0,), "remote_2_hops/local"),
        (3, (3,), "remote_2_hops"),
    ]

    machine = four_sockets_of_two()
    assert cells(machine, machine.gpus[0]) == [
        (0, (0,), "local"),
        (1, (1,), "same_socket"),
        (2, (2,), "remote"),
        (0, (4,), "local/remote_2_hops"),
        (4, (0,), "remote_2_hops/local"),
        (4, (4,), "remote_2_hops"),
    ]


def test_nodes_at_different_hops_have_different_labels() -> None:
    machine = eight_sockets()
    hardware = HardwareConfig(numa_nodes="other_socket")

    found = resolve_placements(hardware, machine, machine.gpus[1])

    assert [(p.numa_node, p.label) for p in found] == [
        *((node, "remote_2_hops") for node in (0, 1, 2)),
        (3, "remote"),
        (4, "remote_2_hops"),
        *((node, "remote") for node in (5, 6)),
    ]


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        ("preferred", [(0, (0,)), (0, (2,)), (2, (0,)), (2, (2,))]),
        ("interleave", [(0, (0, 2)), (2, (0, 2))]),
        ("local", [(0, (0,)), (2, (2,))]),
        ("none", [(0, ()), (2, ())]),
    ],
)
def test_policies_that_choose_the_memory_leave_two_cpu_nodes(
    policy: str, wanted: list[tuple[int, tuple[int, ...]]]
) -> None:
    found = cells(server(), server().gpus[0], policy)

    assert [(cpu, memory) for cpu, memory, _ in found] == wanted


def test_one_node_is_local() -> None:
    machine = one_node_unknown_gpu()
    assert cells(machine, machine.gpus[0]) == [(0, (0,), "local")]
    assert cells(laptop(), None) == [(0, (0,), "local")]


def test_memory_only_nodes_are_left_to_memory_nodes() -> None:
    machine = with_memory_only_node(gpu_node=1)

    assert {memory for _, memory, _ in cells(machine, machine.gpus[0])} == {(0,), (1,)}


def test_memory_beside_a_gpu_on_a_memory_only_node_is_local() -> None:
    machine = with_memory_only_node(gpu_node=2)

    assert cells(machine, machine.gpus[0])[0] == (1, (2,), "local")


def test_a_node_without_memory_gives_its_cpus_only() -> None:
    machine = with_memoryless_node(gpu_node=2)

    assert cells(machine, machine.gpus[0]) == [
        (2, (1,), "local"),
        (2, (0,), "local/remote"),
        (0, (1,), "remote/local"),
        (0, (0,), "remote"),
    ]


def test_cpus_alone_are_crossed_where_memory_is_on_one_node() -> None:
    nodes = (
        make_node(0, range(4), {0: 10, 1: 21}, socket=0),
        make_node(1, range(4, 8), {0: 21, 1: 10}, memory_gib=0, socket=1),
    )
    machine = Topology(nodes, (make_gpu(0, 1),))

    assert cells(machine, machine.gpus[0]) == [(1, (0,), "local"), (0, (0,), "remote/local")]


def test_a_gpu_of_unknown_node_is_measured_on_every_node_with_a_warning() -> None:
    machine = unknown_gpu()

    assert cells(machine, machine.gpus[0]) == [(0, (0,), "unknown"), (1, (1,), "unknown")]
    (warning,) = list_placement_warnings(HardwareConfig(), machine, machine.gpus[0])
    assert "does not know the node of GPU 0" in warning
    chosen = HardwareConfig(numa_nodes=[0])
    assert list_placement_warnings(chosen, machine, machine.gpus[0]) == []


def test_memory_nodes_alone_are_measured_from_every_node() -> None:
    hardware = HardwareConfig(memory_nodes=2)
    placements = resolve_placements(hardware, server(), server().gpus[0])

    assert [(p.numa_node, p.memory_nodes) for p in placements] == [(0, (2,)), (2, (2,))]
