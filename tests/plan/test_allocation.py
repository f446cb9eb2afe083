"""A plan inside an allocation: what is outside is waived, what is across is narrowed."""

from __future__ import annotations

from typing import Any

import pytest

from numa_bench.config.schema import RunnerConfig
from numa_bench.config.schemas.workload import ViTConfig
from numa_bench.errors import ConfigError
from numa_bench.machine.allocation import Allocation
from numa_bench.machine.model import Gpu, Topology
from numa_bench.plan.estimates import estimate_run_s
from numa_bench.plan.plan import Plan, build_plan
from numa_bench.records import NOT_GRANTED, list_processes
from numa_bench.runner.numactl import numactl_argv
from tests.machines import four_nodes, laptop, server
from tests.plan.test_plan import experiment

MODEL = ViTConfig(patch_size=32, depth=1, dim=64)
NODE_0 = Allocation(cpus=frozenset(range(48)), job="7")


def planned(
    machine: Topology,
    allocation: Allocation,
    visible: tuple[Gpu, ...] | None = None,
    **changes: Any,
) -> Plan:
    config = RunnerConfig(experiment=experiment(MODEL, repeats=1, **changes))
    seen = machine.gpus if visible is None else visible
    return build_plan(config, machine, seen, allocation=allocation)


def reasons(plan: Plan) -> dict[int | None, str | None]:
    """Why cells are waived, by CPU node."""
    return {cell.placement.numa_node: cell.waived for cell in plan.cells}


def test_everything_runs_where_everything_was_granted() -> None:
    assert all(run.waived is None for run in planned(server(), Allocation()).runs)


def test_cpus_of_another_node_are_waived_with_the_reason() -> None:
    plan = planned(server(), NODE_0, device="cpu")

    found = reasons(plan)
    assert found[0] is None
    assert found[2] == (NOT_GRANTED + "CPUs 48-95 of node 2 (CPUs 0-47 are granted to SLURM job 7)")
    assert f"{found[2]}; 2 cells are waived" in plan.warnings
    assert {estimate_run_s(run) > 0 for run in plan.runs if run.waived is None} == {True}
    assert {estimate_run_s(run) for run in plan.runs if run.waived is not None} == {0.0}


def test_a_part_of_a_node_is_used_by_number() -> None:
    plan = planned(laptop(), Allocation(cpus=frozenset({1, 3})))

    (cell,) = plan.cells
    assert cell.waived is None
    assert cell.placement.cpus == (1, 3)
    # --cpunodebind would also use CPUs of the node that were not granted.
    assert numactl_argv(cell.placement)[:2] == ["numactl", "--physcpubind=1,3"]
    assert any("2 of 4 CPUs are granted" in warning for warning in plan.warnings)


def test_a_narrowed_cell_is_another_cell_than_that_of_the_whole_node() -> None:
    whole = planned(laptop(), Allocation()).cells[0]
    narrow = planned(laptop(), Allocation(cpus=frozenset({1}))).cells[0]

    assert whole.cell_hash() != narrow.cell_hash()


def test_cpus_by_number_are_not_narrowed() -> None:
    (cell,) = planned(laptop(), Allocation(cpus=frozenset({0, 1})), physcpu=[1, 2]).cells

    assert cell.waived is not None
    assert cell.waived.startswith(NOT_GRANTED + "CPUs 2 of node 0")


@pytest.mark.parametrize(
    ("policy", "memory", "waived"),
    [
        ("bind", [1], True),
        ("bind", [0], False),
        ("interleave", None, True),  # over four nodes, of which two are granted
        ("interleave", [0, 2], False),
        ("none", None, False),
    ],
)
def test_memory_nodes_outside_a_cpuset_are_waived(policy: str, memory: Any, waived: bool) -> None:
    allocation = Allocation(memory_nodes=frozenset({0, 2}))
    plan = planned(
        four_nodes(), allocation, device="cpu", numa_nodes=0, memory_nodes=memory,
        memory_policy=policy,
    )  # fmt: skip

    (cell,) = plan.cells
    assert (cell.waived is not None) == waived
    if waived:
        assert "(nodes 0,2 are granted to this process (cpuset" in str(cell.waived)


def test_a_gpu_that_was_not_granted_is_waived_and_the_others_run() -> None:
    machine = server()
    allocation = Allocation(
        gpus=machine.gpus[2:4], gpu_limits=("CUDA_VISIBLE_DEVICES=2,3",), job="7"
    )
    plan = planned(machine, allocation, machine.gpus[2:4], gpu_ids=[2, 5])

    by_gpu = {cell.device.gpu_id: cell.waived for cell in plan.cells}
    assert by_gpu == {2: None, 5: NOT_GRANTED + "GPU 5 (CUDA_VISIBLE_DEVICES=2,3)"}


def test_without_gpu_ids_only_granted_gpus_are_planned() -> None:
    machine = server()
    plan = planned(machine, Allocation(), machine.gpus[2:4])

    assert {cell.device.gpu_id for cell in plan.cells} == {2, 3}
    assert all(cell.waived is None for cell in plan.cells)


def test_an_unbound_run_is_never_waived() -> None:
    (cell,) = planned(server(), NODE_0, device="cpu", numa_nodes="unbound").cells

    assert cell.waived is None
    assert cell.placement.cpus == ()


def test_a_set_is_waived_when_one_of_its_workers_is() -> None:
    plan = planned(server(), NODE_0, device="cpu", workload="contention")

    waived = [cell for cell in plan.cells if cell.waived is not None]
    assert waived
    assert len(waived) < len(plan.cells)
    for cell in plan.cells:
        outside = [s for s in list_processes([cell]) if not set(s.placement.cpus) <= set(range(48))]
        assert (cell.waived is not None) == bool(outside)


def test_the_settings_of_a_machine_stay_checked() -> None:
    """Only what the machine has can be waived: a node that it lacks is an error as ever."""
    with pytest.raises(ConfigError, match="no such node"):
        planned(server(), NODE_0, device="cpu", numa_nodes=7)
