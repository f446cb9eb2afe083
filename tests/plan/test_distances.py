"""How far each planned placement is from its device, and that run ids do not depend on it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from numa_bench.config.schema import ExperimentConfig, HardwareConfig, RunnerConfig
from numa_bench.config.schemas.workload import ViTConfig
from numa_bench.machine.model import Topology
from numa_bench.plan.distance import find_farthest, measure_distances
from numa_bench.plan.plan import build_plan
from numa_bench.records import DeviceSpec, Distances, Placement, RunSpec
from tests.machines import (
    eight_sockets,
    four_nodes,
    laptop,
    make_gpu,
    server,
    unknown_gpu,
    with_memory_only_node,
    with_memoryless_node,
)
from tests.specs import make_spec

GPU = DeviceSpec("cuda", gpu_id=0)
CPU = DeviceSpec("cpu")


def place(cpu: int | None, *memory: int, **more: Any) -> Placement:
    return Placement(cpu, memory, "bind", "", **more)


def plan_cells(machine: Topology, workload: str = "pipeline", **hardware: Any) -> list[RunSpec]:
    experiment = ExperimentConfig(
        name="study",
        workload=workload,
        hardware=HardwareConfig(**hardware),
        vit_configs=[ViTConfig(patch_size=32, depth=1, dim=64)],
    )
    return list(build_plan(RunnerConfig(experiment=experiment), machine, machine.gpus).cells)


@pytest.mark.parametrize(
    ("machine", "placement", "wanted"),
    [
        (server(), place(0, 0), ("same_node", "same_node", "same_node", 10, 10)),
        (server(), place(0, 2), ("same_node", "other_socket", "other_socket", 10, 21)),
        (server(), place(2, 0), ("other_socket", "same_node", "other_socket", 21, 10)),
        (server(), place(0, 0, 2), ("same_node", "mixed", "mixed", 10, 21)),
        (server(), place(2), ("other_socket", None, "other_socket", 21, None)),
        (server(), place(None, 2), (None, "other_socket", "other_socket", None, 21)),
        (server(), place(None), (None, None, None, None, None)),
        # CPUs by number, or of a whole socket, may be on several nodes.
        (
            server(),
            place(0, 0, cpus=(0, 48)),
            ("mixed", "same_node", "mixed", 21, 10),
        ),
        (four_nodes(), place(3, 1), ("same_socket", "other_socket", "other_socket", 12, 32)),
        (eight_sockets(), place(1, 1), ("other_socket", "other_socket", "other_socket", 21, 21)),
        (
            eight_sockets(),
            place(1, 3),
            ("other_socket", "other_socket_2_hops", "other_socket_2_hops", 21, 31),
        ),
        (eight_sockets(), place(0, 1, 3), ("same_node", "mixed", "mixed", 10, 31)),
        # The label calls the nearest CPUs local; their distance is what it is.
        (
            with_memory_only_node(gpu_node=2),
            place(1, 2),
            ("same_socket", "same_node", "same_socket", 14, 10),
        ),
        (unknown_gpu(), place(0, 0), (None, None, None, None, None)),
    ],
)
def test_classes_and_distances_seen_from_a_gpu(
    machine: Topology, placement: Placement, wanted: tuple[object, ...]
) -> None:
    found = measure_distances(machine, GPU, placement)

    assert (
        found.cpu_class,
        found.memory_class,
        found.farthest_class,
        found.cpu,
        found.memory,
    ) == wanted


def test_without_a_gpu_distances_are_seen_from_the_cpus() -> None:
    far = measure_distances(server(), CPU, place(2, 0))

    assert (far.cpu_class, far.memory_class, far.memory) == ("same_node", "other_socket", 21)
    assert measure_distances(server(), CPU, place(None, 0)) == Distances()


def test_distances_that_the_kernel_does_not_list_are_unknown() -> None:
    nodes = tuple(replace(node, distances={}) for node in server().nodes)

    found = measure_distances(replace(server(), nodes=nodes), GPU, place(2, 2))

    assert (found.cpu_class, found.cpu, found.memory) == ("other_socket", None, None)


@pytest.mark.parametrize(
    "machine",
    [
        server(),
        four_nodes(),
        eight_sockets(),
        laptop(),
        with_memoryless_node(gpu_node=0),
        replace(with_memory_only_node(), gpus=(make_gpu(0, 1),)),
    ],
)
def test_every_cell_has_distances_that_agree_with_its_label(machine: Topology) -> None:
    classes = {
        "local": "same_node",
        "same_socket": "same_socket",
        "remote": "other_socket",
        "remote_2_hops": "other_socket_2_hops",
    }
    for cell in plan_cells(machine):
        assert cell.distances is not None
        cpus, _, memory = cell.placement.label.partition("/")
        assert cell.distances.memory_class == classes[memory or cpus]
        if machine.gpus:
            assert cell.distances.cpu_class == classes[cpus]
        assert cell.distances.memory is not None
        assert RunSpec.from_dict(cell.to_dict()) == cell


def test_a_set_has_the_classes_that_its_measured_workers_share() -> None:
    sets = {(c.scenario, c.background): c for c in plan_cells(server(), "contention")}
    found = {key: c.distances for key, c in sets.items() if c.distances is not None}

    assert found[("all_local", "none")].farthest_class == "same_node"
    far = "other_socket"
    assert found[("all_remote", "none")] == Distances(far, far, far, 21, 21)
    crossed = found[("crossed", "none")]
    assert (crossed.cpu_class, crossed.memory_class) == ("same_node", "other_socket")
    assert all(m.spec.distances is not None for c in sets.values() for m in c.members)


def test_workers_at_different_distances_are_mixed() -> None:
    # The far node of GPU 0 is one hop away, that of GPU 1 two.
    machine = eight_sockets(gpu_nodes=(0, 3))
    sets = plan_cells(machine, "contention")

    (both,) = (c for c in sets if (c.scenario, c.background) == ("all_remote", "none"))

    assert [m.spec.placement.label for m in both.members] == ["remote", "remote_2_hops"]
    assert both.placement.label == "mixed"
    assert both.distances == Distances("mixed", "mixed", "mixed", 31, 31)


def test_distances_are_not_part_of_what_identifies_a_cell() -> None:
    spec = make_spec()

    assert replace(spec, distances=Distances("same_node")).cell_hash() == spec.cell_hash()
    assert "distances" not in spec.cell()


def test_a_spec_of_before_distances_is_read() -> None:
    stored = make_spec().to_dict()
    del stored["distances"]

    assert RunSpec.from_dict(stored).distances is None


def test_more_hops_are_farther_and_mixed_is_farthest() -> None:
    names = ["same_node", "same_socket", "other_socket", "other_socket_2_hops", "mixed"]
    for i in range(1, len(names) + 1):
        assert find_farthest(names[:i]) == names[i - 1]
    assert find_farthest(["remote_2_hops", "remote", "local"]) == "remote_2_hops"
    # By number, not by text.
    assert find_farthest(["remote_10_hops", "remote_2_hops"]) == "remote_10_hops"
