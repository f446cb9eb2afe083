"""The cells of a command study: placements by default, what a cell is, names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from numa_bench.errors import ConfigError
from numa_bench.plan.plan import Plan
from numa_bench.records import RunSpec
from tests.machines import laptop, server

Plans = Callable[..., Plan]
STUDY = ("experiment=command_study", "command='python train.py --steps 2'")


def test_every_gpu_runs_it_local_remote_and_unbound(plan: Plans) -> None:
    planned = plan(server(), *STUDY, "experiment.hardware.gpu_ids=[0,1]")

    labels = Counter((cell.device.gpu_id, cell.placement.label) for cell in planned.cells)
    assert {label for _, label in labels} >= {"local", "remote", "unbound"}
    assert {gpu for gpu, _ in labels} == {0, 1}
    assert len(planned.runs) == 5 * len(planned.cells)
    assert {cell.vit.name for cell in planned.cells} == {"train.py"}
    assert {cell.command.argv for cell in planned.cells if cell.command} == {
        ("python", "train.py", "--steps", "2")
    }


def test_with_one_node_nothing_is_remote(plan: Plans) -> None:
    planned = plan(laptop(), *STUDY, "experiment.hardware.device=cpu")

    assert [cell.placement.label for cell in planned.cells] == ["local", "unbound"]
    assert [cell.workload for cell in planned.cells] == ["command", "command"]


def test_nodes_that_are_set_are_used(plan: Plans) -> None:
    planned = plan(laptop(), *STUDY, "experiment.hardware.numa_nodes=unbound")

    assert {cell.placement.label for cell in planned.cells} == {"unbound"}


def test_blocks_hold_every_cell_once(plan: Plans) -> None:
    """As in every study, so that drift does not look like placement."""
    planned = plan(server(), *STUDY)

    for repeat in range(5):
        block = [run.cell_hash() for run in planned.runs if run.repeat == repeat]
        assert sorted(block) == sorted(cell.cell_hash() for cell in planned.cells)


def test_another_command_is_another_cell(plan: Plans) -> None:
    first = plan(laptop(), *STUDY).cells[0]
    other = plan(laptop(), STUDY[0], "command='python train.py --steps 3'").cells[0]

    assert first.cell_hash() != other.cell_hash()


def test_a_spec_survives_json(plan: Plans) -> None:
    cell = plan(
        laptop(),
        *STUDY,
        "experiment.command.metrics=['rate:higher:GB/s=x ([0-9.]+)']",
        "experiment.command.prepare=sync",
    ).cells[0]

    assert RunSpec.from_dict(cell.to_dict()) == cell


def test_a_profile_is_refused(plan: Plans) -> None:
    with pytest.raises(ConfigError, match="no window to profile"):
        plan(laptop(), *STUDY, "profiler.kind=nsys")


def test_no_duration_is_made_up(plan: Plans) -> None:
    from numa_bench.runner.display.left import describe_plan

    assert "an unknown time" in describe_plan(plan(laptop(), *STUDY))
