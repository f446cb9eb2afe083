"""Which CPUs of a node a run may use; the modes mean what they mean for torchrun."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from numa_bench.config.schema import HardwareConfig
from numa_bench.errors import ConfigError
from numa_bench.machine.model import Topology
from numa_bench.plan.placements import list_placement_warnings, resolve_placements
from numa_bench.records import Placement
from numa_bench.records.cpu_lists import format_cpu_list, parse_cpu_list
from tests.machines import (
    four_nodes,
    laptop,
    make_gpu,
    make_node,
    make_smt_node,
    one_node_unknown_gpu,
    server,
    unknown_gpu,
)


def resolve(machine: Topology, gpu: int | None = None, **hardware: Any) -> list[Placement]:
    device = None if gpu is None else machine.gpus[gpu]
    return resolve_placements(HardwareConfig(**hardware), machine, device)


def local_cpus(machine: Topology, gpu: int | None, mode: str, **hardware: Any) -> str:
    """The CPUs of the local placement, as a list."""
    settings = {"numa_nodes": "local", "memory_nodes": "same", "cpu_affinity": mode}
    return format_cpu_list(resolve(machine, gpu, **settings | hardware)[0].cpus)


def refused(machine: Topology, gpu: int | None = None, **hardware: Any) -> str:
    with pytest.raises(ConfigError) as error:
        resolve(machine, gpu, **hardware)
    return str(error.value)


def sub_numa() -> Topology:
    """Two sockets of two nodes; node i has 5 cores of two CPUs, from CPU 10 i."""
    nodes = tuple(
        make_smt_node(
            i,
            10 * i,
            5,
            2,
            {j: 10 if i == j else 12 if i // 2 == j // 2 else 32 for j in range(4)},
            socket=i // 2,
        )
        for i in range(4)
    )
    return Topology(nodes, (make_gpu(0, 0), make_gpu(1, 0), make_gpu(2, 1)))


@pytest.mark.parametrize(
    ("gpu", "mode", "cpus"),
    [
        (0, "node", "0-9"),
        (0, "socket", "0-19"),
        (2, "socket", "0-19"),
        # Of five cores the first GPU gets three, the second two.
        (0, "exclusive", "0-2,5-7"),
        (1, "exclusive", "3-4,8-9"),
        (2, "exclusive", "10-19"),
        # Caches of two, two and one cores: the largest first, lower CPUs first.
        (0, "core-complex", "0-1,5-6"),
        (1, "core-complex", "2-3,7-8"),
        (2, "core-complex", "10-11,15-16"),
        (None, "socket", "0-19"),
        (None, "core-complex", "0-1,5-6"),
    ],
)
def test_modes_choose_cpus_near_the_gpu(gpu: int | None, mode: str, cpus: str) -> None:
    assert local_cpus(sub_numa(), gpu, mode) == cpus


def test_far_cpus_are_as_many_as_near_ones() -> None:
    """The default placements of one GPU with its exclusive share: four of near, four of far."""
    placements = resolve(sub_numa(), 1, cpu_affinity="exclusive")

    assert {p.label: format_cpu_list(p.cpus) for p in placements} == {
        "local": "3-4,8-9",
        "same_socket": "13-14,18-19",
        "local/remote": "3-4,8-9",
        "remote/local": "33-34,38-39",
        "remote": "33-34,38-39",
    }
    assert {(p.by_cpu, p.affinity) for p in placements} == {(True, "exclusive")}


def test_gpus_share_a_node_without_overlap() -> None:
    machine = server()
    shares = [set(parse_cpu_list(local_cpus(machine, gpu, "exclusive"))) for gpu in range(4)]

    assert [len(share) for share in shares] == [12] * 4
    assert set.union(*shares) == set(machine.nodes[0].cpus)


def test_more_gpus_than_caches_start_again() -> None:
    machine = replace(server(), gpus=tuple(make_gpu(i, 0) for i in range(5)))

    assert local_cpus(machine, 4, "core-complex") == local_cpus(machine, 0, "core-complex")


def test_a_whole_node_is_bound_by_its_number() -> None:
    (placement,) = resolve(server(), 0, numa_nodes="local", cpu_affinity="socket")

    assert (placement.by_cpu, placement.affinity) == (False, "socket")


def test_a_list_of_modes_is_crossed_with_the_nodes() -> None:
    placements = resolve(sub_numa(), 2, numa_nodes=[1, 3], cpu_affinity=["node", "core-complex"])

    assert [(p.numa_node, p.affinity, len(p.cpus), p.label) for p in placements] == [
        (1, "node", 10, "local"),
        (3, "node", 10, "remote"),
        (1, "core-complex", 4, "local"),
        (3, "core-complex", 4, "remote"),
    ]


def test_modes_that_choose_the_same_cpus_are_measured_once() -> None:
    hardware = HardwareConfig(numa_nodes="local", cpu_affinity=["node", "socket"])
    gpu = server().gpus[0]

    (placement,) = resolve_placements(hardware, server(), gpu)

    assert placement.affinity == "node"
    (warning,) = list_placement_warnings(hardware, server(), gpu)
    assert warning == (
        "GPU 0: 1 placement of experiment.hardware.cpu_affinity=socket left out, with the same "
        "CPUs and memory as others of node"
    )


def test_nodes_of_one_socket_are_the_same_cpus_once() -> None:
    """Two placements of the socket: CPUs of either node are those of both."""
    hardware = HardwareConfig(numa_nodes=[0, 1], memory_nodes=0, cpu_affinity="socket")
    gpu = sub_numa().gpus[0]

    (placement,) = resolve_placements(hardware, sub_numa(), gpu)

    assert (placement.numa_node, placement.label) == (0, "local")
    (warning,) = list_placement_warnings(hardware, sub_numa(), gpu)
    assert "1 placement of experiment.hardware.cpu_affinity=socket" in warning


def test_unbound_runs_once_beside_any_modes() -> None:
    placements = resolve(server(), 0, numa_nodes="local,unbound", cpu_affinity="node,exclusive")

    assert [(p.label, p.affinity) for p in placements] == [
        ("local", "node"),
        ("unbound", "node"),
        ("local", "exclusive"),
    ]


@pytest.mark.parametrize(
    ("mode", "cpus", "affinity"),
    [
        ("node", "0-4", "node-no-smt"),
        ("exclusive", "0-2", "exclusive-no-smt"),
        ("socket", "0-4,10-14", "socket-no-smt"),
    ],
)
def test_siblings_are_left_out_on_request(mode: str, cpus: str, affinity: str) -> None:
    (placement,) = resolve(sub_numa(), 0, numa_nodes="local", cpu_affinity=mode, smt=False)

    assert (format_cpu_list(placement.cpus), placement.affinity) == (cpus, affinity)
    assert placement.by_cpu


def test_without_siblings_nothing_is_left_out() -> None:
    node = make_node(0, range(2), {0: 10}, cores=((0,), (1,)))

    assert resolve(Topology((node,), ()), smt=False) == resolve(Topology((node,), ()))


@pytest.mark.parametrize(
    ("physcpu", "node", "label"),
    [
        ("10-13", 1, "same_socket"),
        ([0, 1, "5-6"], 0, "local"),
        ("0-2,10", 0, "mixed/local"),
        ("20-23,30-33", 2, "remote"),
    ],
)
def test_cpus_by_number(physcpu: Any, node: int, label: str) -> None:
    (placement,) = resolve(sub_numa(), 0, physcpu=physcpu)

    assert (placement.numa_node, placement.memory_nodes) == (node, (node,))
    assert (placement.affinity, placement.label) == ("physcpu", label)
    assert placement.by_cpu


def test_cpus_by_number_take_memory_nodes_and_one_cpu_per_core() -> None:
    placements = resolve(sub_numa(), 0, physcpu="0-9", memory_nodes=[0, 2], smt=False)

    assert [(p.memory_nodes, p.label) for p in placements] == [
        ((0,), "local"),
        ((2,), "local/remote"),
    ]
    assert {(p.cpus, p.affinity) for p in placements} == {((0, 1, 2, 3, 4), "physcpu-no-smt")}


def test_cpus_by_number_without_a_gpu() -> None:
    found = [(p.memory_nodes, p.label) for p in resolve(four_nodes(), physcpu="4-7")]

    assert found == [
        ((0,), "same_socket"),
        ((1,), "local"),
        ((2,), "remote"),
        ((3,), "remote"),
    ]
    spread = resolve(four_nodes(), physcpu="3-4", memory_nodes=0)
    assert [p.label for p in spread] == ["mixed"]


@pytest.mark.parametrize(
    ("machine", "gpu", "hardware", "line"),
    [
        (laptop(), None, {"cpu_affinity": "exclusive"}, "there is no GPU"),
        (unknown_gpu(), 0, {"cpu_affinity": "exclusive"}, "the node of GPU 0 is not known"),
        (laptop(), None, {"cpu_affinity": "socket"}, "which socket node 0 belongs to"),
        (laptop(), None, {"cpu_affinity": "core-complex"}, "CPUs of node 0 share an L3 cache"),
        (one_node_unknown_gpu(), 0, {"cpu_affinity": "exclusive"}, "share a core"),
        (laptop(), None, {"smt": False}, "smt=false: the kernel does not say which CPUs of node 0"),
        (laptop(), None, {"physcpu": "0,9"}, "physcpu=9: CPU 9 does not exist"),
        (replace(laptop(), cpus_offline=(9,)), None, {"physcpu": 9}, "CPU 9 is offline"),
        (laptop(), None, {"physcpu": 0, "numa_nodes": 0}, "numa_nodes=0: physcpu says which"),
        (laptop(), None, {"physcpu": 0, "cpu_affinity": "socket"}, "cpu_affinity=socket: physcpu"),
        (laptop(), None, {"numa_nodes": "unbound", "smt": False}, "binds no CPUs"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    machine: Topology, gpu: int | None, hardware: dict[str, Any], line: str
) -> None:
    message = refused(machine, gpu, **hardware)

    assert message.startswith("experiment.hardware.")
    assert line in message
    assert "\n" not in message


def test_fewer_cores_than_gpus_are_refused() -> None:
    machine = replace(sub_numa(), gpus=tuple(make_gpu(i, 0) for i in range(6)))

    assert "node 0 has 5 cores for 6 GPUs" in refused(machine, 0, cpu_affinity="exclusive")
