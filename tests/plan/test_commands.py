"""The cells of a command study: placements by default, what a cell is, names."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable

import pytest

from numa_bench.errors import ConfigError
from numa_bench.machine.allocation import Allocation
from numa_bench.plan.allocation import fit_cells
from numa_bench.plan.plan import Plan
from numa_bench.records import Distances, RunSpec
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


def test_a_run_of_two_gpus_has_their_common_node_as_local(plan: Plans) -> None:
    planned = plan(server(), *STUDY, "experiment.hardware.gpu_ids=[4+6]")

    assert {tuple(cell.device.gpu_ids) for cell in planned.cells} == {(4, 6)}
    nodes = {cell.placement.label: cell.placement.numa_node for cell in planned.cells}
    assert nodes == {"local": 2, "remote": 0, "unbound": None}
    assert all(cell.waived is None for cell in planned.cells)
    assert planned.cells[0].distances == Distances("same_node", "same_node", "same_node", 10, 10)
    assert planned.runs[0].run_id.startswith("gpu4+6_")


def test_without_a_common_node_what_is_relative_to_it_is_waived(plan: Plans) -> None:
    nodes = "experiment.hardware.numa_nodes=[local,2,unbound]"

    planned = plan(server(), *STUDY, "experiment.hardware.gpu_ids=[0+4]", nodes)

    reasons = {cell.placement.label: cell.waived for cell in planned.cells}
    assert set(reasons) == {"local", "mixed", "unbound"}
    assert reasons["mixed"] is reasons["unbound"] is None
    assert reasons["local"]
    assert "GPUs 0+4 have no common node (0 on node 0, 4 on node 2)" in reasons["local"]
    assert "--numa-binding=node" in reasons["local"]
    assert {cell.run_id.partition("_r")[0] for cell in planned.runs} == {
        *("gpu0+4_local_train.py", "gpu0+4_numa2_train.py", "gpu0+4_unbound_train.py"),
    }


def test_alone_and_together_are_different_cells(plan: Plans) -> None:
    planned = plan(server(), *STUDY, "experiment.hardware.gpu_ids=[0,0+1]")

    groups = Counter(tuple(cell.device.gpu_ids) for cell in planned.cells)
    assert groups == {(0,): 3, (0, 1): 3}
    assert len({cell.cell_hash() for cell in planned.cells}) == 6


def test_a_gpu_of_a_group_that_was_not_granted_is_waived(plan: Plans) -> None:
    machine = server()
    cells = plan(machine, *STUDY, "experiment.hardware.gpu_ids=[0+1]").cells

    fitted, _ = fit_cells(cells, Allocation(), machine.gpus[:1])

    assert [(cell.waived or "").startswith("not granted: GPU 1 ") for cell in fitted] == [True] * 3


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("experiment.hardware.gpu_ids=[0+0]",), "0+0 is no group"),
        (("experiment.hardware.gpu_ids=[0+1,1+0]",), "lists a GPU twice"),
        (("experiment.hardware.gpu_ids=[0+9]",), "no GPU 9"),
        (("experiment.hardware.gpu_ids=[0-1+3]",), "0-1+3 is no group"),
        (("experiment.hardware.gpu_ids=[0+1]", "experiment.max_gpus=1"), "sees 2 GPUs"),
        (
            ("experiment.hardware.gpu_ids=[0+1]", "experiment.hardware.cpu_affinity=exclusive"),
            "gives each GPU CPUs of its own",
        ),
        (
            (
                *("experiment.hardware.gpu_ids=[0+4]", "experiment.hardware.numa_nodes=unbound"),
                "experiment.hardware.memory_nodes=[local]",
            ),
            "have no common node",
        ),
    ],
)
def test_groups_that_cannot_be_are_refused(
    plan: Plans, overrides: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        plan(server(), *STUDY, *overrides)


def test_other_studies_have_one_gpu_for_each_run(plan: Plans) -> None:
    with pytest.raises(ConfigError, match="a run of a pipeline study has one GPU"):
        plan(server(), "experiment.hardware.gpu_ids=[0+1]")


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


def test_a_spec_of_two_gpus_survives_json(plan: Plans) -> None:
    cell = plan(server(), *STUDY, "experiment.hardware.gpu_ids=[1+2]").cells[0]

    assert RunSpec.from_dict(json.loads(json.dumps(cell.to_dict()))) == cell


def test_a_profile_is_refused(plan: Plans) -> None:
    with pytest.raises(ConfigError, match="no window to profile"):
        plan(laptop(), *STUDY, "profiler.kind=nsys")


def test_no_duration_is_made_up(plan: Plans) -> None:
    from numa_bench.runner.display.left import describe_plan

    assert "an unknown time" in describe_plan(plan(laptop(), *STUDY))
