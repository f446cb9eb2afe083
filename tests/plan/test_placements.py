"""What the words of the configuration mean on each machine: nodes, memory, policies, labels."""

from __future__ import annotations

from typing import Any

import pytest

from numa_bench.config.schema import POLICIES, HardwareConfig
from numa_bench.errors import ConfigError
from numa_bench.machine.model import Gpu, Topology
from numa_bench.plan.placements import resolve_placements
from numa_bench.records import Placement
from tests.machines import (
    four_nodes,
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


def resolve(machine: Topology, gpu: int | None = None, **hardware: Any) -> list[Placement]:
    """The placements for one GPU of a machine, or for its CPU."""
    device = None if gpu is None else machine.gpus[gpu]
    return resolve_placements(HardwareConfig(**hardware), machine, device)


def cells(machine: Topology, gpu: int | None = None, **hardware: Any) -> list[Cell]:
    """(CPU node, memory nodes, label) of every placement."""
    return [(p.numa_node, p.memory_nodes, p.label) for p in resolve(machine, gpu, **hardware)]


def refused(machine: Topology, gpu: int | None = None, **hardware: Any) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        resolve(machine, gpu, **hardware)
    return error.value


# --- GPUs: the CPU node, with memory on it


@pytest.mark.parametrize(
    ("gpu", "words", "wanted"),
    [
        (0, "all", [(0, (0,), "local"), (2, (2,), "remote")]),
        (5, "all", [(0, (0,), "remote"), (2, (2,), "local")]),
        (0, "local", [(0, (0,), "local")]),
        (5, "local", [(2, (2,), "local")]),
        (0, "remote", [(2, (2,), "remote")]),
        (5, "remote", [(0, (0,), "remote")]),
        (0, "unbound", [(None, (), "unbound")]),
        (0, ["local", "remote"], [(0, (0,), "local"), (2, (2,), "remote")]),
        (0, ["remote", "local"], [(2, (2,), "remote"), (0, (0,), "local")]),
        (5, ["unbound", 0], [(None, (), "unbound"), (0, (0,), "remote")]),
        (5, "local,unbound", [(2, (2,), "local"), (None, (), "unbound")]),
        (0, 0, [(0, (0,), "local")]),
        (0, "2", [(2, (2,), "remote")]),
        (0, [2, 0], [(2, (2,), "remote"), (0, (0,), "local")]),
        (0, "0,2", [(0, (0,), "local"), (2, (2,), "remote")]),
        (0, "[0, 2]", [(0, (0,), "local"), (2, (2,), "remote")]),
    ],
)
def test_words_are_relative_to_the_gpu(gpu: int, words: Any, wanted: list[Cell]) -> None:
    assert cells(server(), gpu, numa_nodes=words) == wanted


def test_every_other_node_is_remote() -> None:
    assert cells(four_nodes(), 0, numa_nodes="remote") == [
        (0, (0,), "remote"),
        (1, (1,), "remote"),
        (3, (3,), "same_socket"),
    ]


@pytest.mark.parametrize(
    ("hardware", "wanted"),
    [
        ({"numa_nodes": "same_socket"}, [(3, (3,), "same_socket")]),
        ({"numa_nodes": "other_socket"}, [(0, (0,), "remote"), (1, (1,), "remote")]),
        (
            {"numa_nodes": "local", "memory_nodes": "same_socket"},
            [(2, (3,), "local/same_socket")],
        ),
        (
            {"numa_nodes": "same_socket", "memory_nodes": "local,other_socket"},
            [
                (3, (2,), "same_socket/local"),
                (3, (0,), "same_socket/remote"),
                (3, (1,), "same_socket/remote"),
            ],
        ),
    ],
)
def test_sockets_are_words_too(hardware: dict[str, Any], wanted: list[Cell]) -> None:
    assert cells(four_nodes(), 0, **hardware) == wanted


def test_in_a_study_of_the_cpu_sockets_are_those_of_the_threads() -> None:
    assert cells(four_nodes(), numa_nodes="same_socket") == [
        (0, (1,), "same_socket"),
        (1, (0,), "same_socket"),
        (2, (3,), "same_socket"),
        (3, (2,), "same_socket"),
    ]
    assert cells(four_nodes(), numa_nodes=0, memory_nodes="other_socket") == [
        (0, (2,), "remote"),
        (0, (3,), "remote"),
    ]


@pytest.mark.parametrize("key", ["numa_nodes", "memory_nodes"])
def test_a_socket_of_one_node_has_no_other(key: str) -> None:
    error = refused(server(), 0, **{key: "same_socket"})

    assert str(error) == (
        f"experiment.hardware.{key}=same_socket: no other node shares its socket "
        "(seen from node 0); use all or remote"
    )


def test_a_range_of_nodes() -> None:
    assert [node for node, _, _ in cells(four_nodes(), 0, numa_nodes="1-3")] == [1, 2, 3]


# --- GPUs: memory apart from the CPUs


@pytest.mark.parametrize(
    ("cpu", "memory", "wanted"),
    [
        ("local", "local", [(0, (0,), "local")]),
        ("local", "remote", [(0, (2,), "local/remote")]),
        ("remote", "local", [(2, (0,), "remote/local")]),
        ("remote", "remote", [(2, (2,), "remote")]),
        ("remote", "same", [(2, (2,), "remote")]),
        ("local", "same", [(0, (0,), "local")]),
        ("local", "all", [(0, (0,), "local"), (0, (2,), "local/remote")]),
        ("unbound", "local", [(None, (0,), "local")]),
        ("unbound", "remote", [(None, (2,), "remote")]),
        ("unbound", 2, [(None, (2,), "remote")]),
        (2, 0, [(2, (0,), "remote/local")]),
        (2, "0,2", [(2, (0,), "remote/local"), (2, (2,), "remote")]),
        (
            "all",
            [0, 2],
            [
                (0, (0,), "local"),
                (0, (2,), "local/remote"),
                (2, (0,), "remote/local"),
                (2, (2,), "remote"),
            ],
        ),
    ],
)
@pytest.mark.parametrize("policy", ["bind", "preferred"])
def test_memory_nodes_are_crossed_with_cpu_nodes(
    cpu: Any, memory: Any, wanted: list[Cell], policy: str
) -> None:
    found = cells(server(), 0, numa_nodes=cpu, memory_nodes=memory, memory_policy=policy)

    assert found == wanted


def test_the_same_words_for_a_gpu_on_the_other_socket() -> None:
    assert cells(server(), 7, numa_nodes="local", memory_nodes="remote") == [
        (2, (0,), "local/remote")
    ]
    assert cells(server(), 7, numa_nodes=0, memory_nodes=2) == [(0, (2,), "remote/local")]


# --- policies


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        ("bind", [(0, (0,), "local"), (2, (2,), "remote")]),
        ("preferred", [(0, (0,), "local"), (2, (2,), "remote")]),
        ("interleave", [(0, (0, 2), "interleave"), (2, (0, 2), "interleave")]),
        ("local", [(0, (0,), "local"), (2, (2,), "remote")]),
        ("none", [(0, (), "local"), (2, (), "remote")]),
    ],
)
def test_policies_for_a_gpu(policy: str, wanted: list[Cell]) -> None:
    placements = resolve(server(), 0, numa_nodes="all", memory_policy=policy)

    assert [(p.numa_node, p.memory_nodes, p.label) for p in placements] == wanted
    assert {p.policy for p in placements} == {policy}


def test_every_policy_is_tried_above() -> None:
    assert set(POLICIES) == {"bind", "preferred", "interleave", "local", "none"}


@pytest.mark.parametrize(
    ("memory", "wanted"),
    [
        ([0, 2], [(0, (0, 2), "interleave")]),
        ([2, 0], [(0, (0, 2), "interleave")]),
        ("all", [(0, (0, 2), "interleave")]),
        ("local,remote", [(0, (0, 2), "interleave")]),
        ([2], [(0, (2,), "local/remote")]),
    ],
)
def test_interleave_takes_memory_nodes_as_one_set(memory: Any, wanted: list[Cell]) -> None:
    found = cells(server(), 0, numa_nodes=0, memory_nodes=memory, memory_policy="interleave")

    assert found == wanted


def test_interleave_over_the_only_node_is_local() -> None:
    assert cells(laptop(), memory_policy="interleave") == [(0, (0,), "local")]


@pytest.mark.parametrize("policy", POLICIES)
def test_unbound_binds_nothing_under_any_policy(policy: str) -> None:
    (placement,) = resolve(server(), 0, numa_nodes="unbound", memory_policy=policy)

    assert placement == Placement(None, (), "none", "unbound")
    assert not placement.bound


@pytest.mark.parametrize("policy", ["local", "none"])
def test_memory_nodes_contradict_a_policy_that_takes_none(policy: str) -> None:
    error = refused(server(), 0, memory_nodes=[2], memory_policy=policy)

    assert error.key == "experiment.hardware.memory_nodes"
    assert str(error).startswith("experiment.hardware.memory_nodes=[2]: ")
    assert f"memory_policy={policy}" in error.fix


# --- studies of the CPU itself


@pytest.mark.parametrize(
    ("hardware", "wanted"),
    [
        (
            {},
            [
                (0, (0,), "local"),
                (0, (2,), "remote"),
                (2, (0,), "remote"),
                (2, (2,), "local"),
            ],
        ),
        ({"numa_nodes": "local"}, [(0, (0,), "local"), (2, (2,), "local")]),
        ({"numa_nodes": "remote"}, [(0, (2,), "remote"), (2, (0,), "remote")]),
        ({"numa_nodes": 0}, [(0, (0,), "local"), (0, (2,), "remote")]),
        ({"numa_nodes": "unbound"}, [(None, (), "unbound")]),
        ({"memory_nodes": "same"}, [(0, (0,), "local"), (2, (2,), "local")]),
        ({"memory_nodes": "local"}, [(0, (0,), "local"), (2, (2,), "local")]),
        ({"memory_nodes": "remote"}, [(0, (2,), "remote"), (2, (0,), "remote")]),
        ({"memory_nodes": 2}, [(0, (2,), "remote"), (2, (2,), "local")]),
        ({"numa_nodes": 2, "memory_nodes": 0}, [(2, (0,), "remote")]),
        ({"memory_policy": "local"}, [(0, (0,), "local"), (2, (2,), "local")]),
        ({"memory_policy": "none"}, [(0, (), "local"), (2, (), "local")]),
        (
            {"memory_policy": "interleave"},
            [(0, (0, 2), "interleave"), (2, (0, 2), "interleave")],
        ),
        (
            {"numa_nodes": 0, "memory_policy": "preferred"},
            [(0, (0,), "local"), (0, (2,), "remote")],
        ),
    ],
)
def test_without_a_gpu_local_means_the_node_the_threads_run_on(
    hardware: dict[str, Any], wanted: list[Cell]
) -> None:
    assert cells(server(), None, **hardware) == wanted


def test_a_laptop_has_one_placement() -> None:
    assert cells(laptop()) == [(0, (0,), "local")]
    assert cells(laptop(), numa_nodes=["all", "unbound"]) == [
        (0, (0,), "local"),
        (None, (), "unbound"),
    ]


@pytest.mark.parametrize("key", ["numa_nodes", "memory_nodes"])
def test_nothing_is_remote_on_one_node(key: str) -> None:
    error = refused(laptop(), None, **{key: "remote"})

    assert error.key == f"experiment.hardware.{key}"
    assert "node 0 is the only one" in error.fix


def test_same_memory_needs_bound_cpus() -> None:
    error = refused(server(), 0, numa_nodes="unbound", memory_nodes="same")

    assert error.key == "experiment.hardware.memory_nodes"
    assert "relative to the CPU node, which numa_nodes=unbound lacks" in error.fix


# --- nodes that lack CPUs or memory


def test_a_memory_only_node_is_for_memory() -> None:
    assert cells(with_memory_only_node()) == [
        (0, (0,), "local"),
        (0, (1,), "remote"),
        (0, (2,), "remote"),
        (1, (0,), "remote"),
        (1, (1,), "local"),
        (1, (2,), "same_socket"),
    ]
    assert cells(with_memory_only_node(), numa_nodes=0, memory_nodes=2) == [(0, (2,), "remote")]


def test_cpus_of_a_memory_only_node_are_refused() -> None:
    error = refused(with_memory_only_node(), numa_nodes=[0, 2])

    assert (error.key, error.value) == ("experiment.hardware.numa_nodes", 2)
    assert "memory but no CPUs" in error.fix
    assert "nodes 0, 1" in error.fix


def test_a_gpu_on_a_memory_only_node_has_its_cpus_next_door() -> None:
    """Local is the nearest node that can be it: node 1 for CPUs, node 2 itself for memory."""
    machine = with_memory_only_node(gpu_node=2)

    assert cells(machine, 0, numa_nodes="local", memory_nodes="local") == [(1, (2,), "local")]
    assert cells(machine, 0, numa_nodes="remote") == [(0, (0,), "remote")]
    assert cells(machine, 0, numa_nodes="local") == [(1, (1,), "local/same_socket")]


def test_cpus_of_a_memoryless_node_are_bound_one_by_one() -> None:
    """numactl refuses --cpunodebind to such a node; its memory is the nearest node's."""
    placements = resolve(with_memoryless_node(), numa_nodes="local")

    assert [(p.numa_node, p.memory_nodes, p.by_cpu, p.label) for p in placements] == [
        (0, (0,), False, "local"),
        (1, (1,), False, "local"),
        (2, (1,), True, "local"),
    ]
    assert placements[2].cpus == (8, 9, 10, 11)


def test_a_gpu_on_a_memoryless_node() -> None:
    machine = with_memoryless_node(gpu_node=2)

    assert cells(machine, 0, numa_nodes="all") == [
        (0, (0,), "remote"),
        (1, (1,), "same_socket/local"),
        (2, (1,), "local"),
    ]


def test_memory_of_a_memoryless_node_is_refused() -> None:
    error = refused(with_memoryless_node(), memory_nodes=2)

    assert (error.key, error.value) == ("experiment.hardware.memory_nodes", 2)
    assert "CPUs but no memory" in error.fix
    assert "nodes 0, 1" in error.fix


# --- GPUs whose node is not known


def test_a_gpu_of_unknown_node_can_still_be_measured_on_every_node() -> None:
    assert cells(unknown_gpu(), 0) == [(0, (0,), "unknown"), (1, (1,), "unknown")]


@pytest.mark.parametrize("key", ["numa_nodes", "memory_nodes"])
@pytest.mark.parametrize("word", ["local", "remote"])
def test_local_and_remote_need_a_known_node(key: str, word: str) -> None:
    error = refused(unknown_gpu(), 0, **{key: word})

    assert str(error).startswith(f"experiment.hardware.{key}={word}: ")
    assert "GPU 0's node" in error.fix
    assert "nodes 0, 1" in error.fix


def test_on_one_node_there_is_no_doubt() -> None:
    assert cells(one_node_unknown_gpu(), 0, numa_nodes="local") == [(0, (0,), "local")]


def test_a_gpu_on_a_node_that_is_not_there_is_of_unknown_node() -> None:
    """A container may hide the node: sysfs then names one that is not online."""
    gpu = make_gpu(0, 7)
    machine = Topology(
        nodes=(make_node(0, range(4), {0: 10, 1: 21}), make_node(1, range(4, 8), {0: 21, 1: 10})),
        gpus=(gpu,),
    )

    assert [label for _, _, label in cells(machine, 0)] == ["unknown", "unknown"]


# --- refusals that list what there is


@pytest.mark.parametrize("gpu", [None, 0])
@pytest.mark.parametrize("key", ["numa_nodes", "memory_nodes"])
def test_a_node_that_the_machine_lacks_is_refused_with_those_it_has(
    gpu: int | None, key: str
) -> None:
    error = refused(server(), gpu, **{key: [0, 1]})

    assert str(error) == f"experiment.hardware.{key}=1: no such node; this machine has nodes 0, 2"


def test_no_node_at_all_is_refused() -> None:
    assert refused(server(), 0, numa_nodes=[]).key == "experiment.hardware.numa_nodes"
    assert refused(server(), 0, memory_nodes=[]).key == "experiment.hardware.memory_nodes"


@pytest.mark.parametrize("memory", [[0, 0], ["same", 0], ["local", 0], "0,0"])
def test_a_memory_node_given_twice_is_refused_by_its_key(memory: Any) -> None:
    error = refused(server(), 0, numa_nodes="local", memory_nodes=memory)

    assert error.key == "experiment.hardware.memory_nodes"
    assert error.value == memory


def test_placements_carry_the_cpus_they_may_use() -> None:
    nodes = {node.id: node.cpus for node in server().nodes}

    assert {p.numa_node: p.cpus for p in resolve(server(), 0)} == nodes


@pytest.mark.parametrize("machine", [laptop, server, four_nodes, unknown_gpu])
@pytest.mark.parametrize("policy", POLICIES)
def test_no_machine_is_planned_twice_the_same(machine: Any, policy: str) -> None:
    found: Topology = machine()
    devices: list[Gpu | None] = [None, *found.gpus]
    for device in devices:
        placements = resolve_placements(HardwareConfig(memory_policy=policy), found, device)
        assert len(set(placements)) == len(placements) > 0
