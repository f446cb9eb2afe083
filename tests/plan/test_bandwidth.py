"""The cells of a bandwidth study: every pair of nodes, what auto means on which device."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from numa_bench.errors import ConfigError
from numa_bench.plan.bandwidth import list_powers
from numa_bench.plan.plan import Plan
from numa_bench.records import RunSpec
from tests.machines import laptop, server, unknown_gpu

Plans = Callable[..., Plan]
STUDY = "experiment=bandwidth_study"


def test_every_gpu_meets_every_pair_of_nodes_in_a_process_of_its_own(plan: Plans) -> None:
    planned = plan(server(), STUDY)

    machine = server()
    pairs = {
        (gpu.index, cpu, memory)
        for gpu in machine.gpus
        for cpu in machine.cpu_nodes
        for memory in machine.memory_nodes
    }
    cells = [
        (c.device.gpu_id, c.placement.numa_node, *c.placement.memory_nodes) for c in planned.cells
    ]
    assert set(cells) == pairs
    assert len(cells) == len(pairs)
    assert len(planned.runs) == 3 * len(cells)
    assert planned.cells[0].vit.name == "bandwidth"
    assert {cell.profile.kind for cell in planned.cells} == {"none"}


def test_auto_with_a_gpu_is_4_kib_to_1_gib_in_every_kind_of_memory(plan: Plans) -> None:
    bandwidth = plan(server(), STUDY).cells[0].bandwidth

    assert bandwidth is not None
    assert bandwidth.sizes_bytes == tuple(4096 * 4**power for power in range(10))
    assert bandwidth.sizes_bytes[-1] == 2**30
    assert bandwidth.directions == ("h2d", "d2h", "both", "latency")
    assert bandwidth.memory == (
        "registered",
        "registered_huge",
        "pinned",
        "pageable",
        "pageable_huge",
    )


@pytest.mark.parametrize(
    ("setting", "memory"),
    [
        ("huge_pages=never", ("registered", "pinned", "pageable")),
        ("huge_pages=only", ("registered_huge", "pinned", "pageable_huge")),
        ("memory=[pageable]", ("pageable", "pageable_huge")),
    ],
)
def test_kinds_of_memory_can_be_chosen(plan: Plans, setting: str, memory: tuple[str, ...]) -> None:
    bandwidth = plan(server(), STUDY, f"experiment.bandwidth.{setting}").cells[0].bandwidth

    assert bandwidth is not None
    assert bandwidth.memory == memory


def test_without_a_gpu_memory_itself_is_measured(plan: Plans) -> None:
    (cell,) = plan(laptop(), STUDY).cells

    assert cell.bandwidth is not None
    assert cell.bandwidth.directions == ("read", "write", "copy", "latency")
    assert cell.bandwidth.memory == ("pageable", "huge")
    # More than any cache holds.
    largest = max(node.llc_bytes or 0 for node in laptop().nodes)
    assert cell.bandwidth.sizes_bytes[-1] >= max(256 << 20, 4 * largest)


def test_run_ids_name_the_nodes_and_not_a_model(plan: Plans) -> None:
    one_gpu = plan(server(), STUDY, "experiment.hardware.gpu_ids=[0]")

    prefixes = {run.run_id.partition("_r")[0] for run in one_gpu.runs}
    assert {"gpu0_numa0_bandwidth", "gpu0_numa0_mem2_bandwidth"} <= prefixes


def test_a_spec_survives_json_and_what_is_measured_is_part_of_the_hash(plan: Plans) -> None:
    cell = plan(server(), STUDY).cells[0]
    other = plan(server(), STUDY, "experiment.bandwidth.rounds=5").cells[0]

    assert RunSpec.from_dict(cell.to_dict()) == cell
    assert cell.cell_hash() != other.cell_hash()


def test_the_estimate_grows_with_the_budget(plan: Plans) -> None:
    short = plan(laptop(), STUDY, "experiment.bandwidth.budget_s=5").estimated_s
    long = plan(laptop(), STUDY, "experiment.bandwidth.budget_s=50").estimated_s

    assert long - short == pytest.approx(3 * 45)


def test_debug_makes_it_small(plan: Plans) -> None:
    (run,) = plan(laptop(), STUDY, "debug=true").runs

    assert run.bandwidth is not None
    assert run.bandwidth.rounds == 1
    assert max(run.bandwidth.sizes_bytes) <= 1 << 20


@pytest.mark.parametrize(
    ("machine", "setting", "message"),
    [
        (laptop, "bandwidth.directions=[h2d]", "has no meaning on the CPU; use read"),
        (server, "bandwidth.directions=[read]", "has no meaning with a GPU; use h2d"),
        (laptop, "bandwidth.memory=[registered]", "pageable memory only"),
        (server, "bandwidth.memory=[pinned]", "cannot be proven"),
        (server, "bandwidth.memory=[paged]", "use one of registered"),
        (server, "bandwidth.sizes=[]", "must not be empty"),
        (server, "bandwidth.sizes=[4096,4096]", "listed twice"),
        (server, "bandwidth.sizes=[100]", "multiples of 64"),
        (server, "bandwidth.sizes=[much]", "multiples of 64"),
        (server, "bandwidth.huge_pages=maybe", "use one of both, only, never"),
        (server, "bandwidth.rounds=0", "at least 1"),
        (server, "bandwidth.budget_s=0", "greater than 0"),
        (server, "hardware.numa_nodes=[0,0]", "list each node once"),
        (server, "vit_configs=[{depth: 2}]", "runs no model"),
        (server, "workload=others", "use one of pipeline"),
    ],
)
def test_what_cannot_be_measured_is_one_line_before_anything_runs(
    plan: Plans, machine: Callable[[], object], setting: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        plan(machine(), STUDY, f"experiment.{setting}")

    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("experiment.")


@pytest.mark.parametrize("study", [STUDY, "experiment=contention_study"])
def test_a_profiler_that_would_record_nothing_is_refused(plan: Plans, study: str) -> None:
    with pytest.raises(ConfigError, match="no window to profile"):
        plan(server(), study, "profiler.kind=torch")


def test_powers_end_at_the_last_that_fits() -> None:
    assert list_powers(4, 70) == (4, 16, 64)


def test_what_the_placements_cannot_know_is_said(plan: Plans) -> None:
    """As in any other study of a GPU."""
    pipeline = plan(unknown_gpu())

    assert pipeline.warnings
    assert (
        plan(
            unknown_gpu(),
            STUDY,
            "experiment.hardware.numa_nodes=null",
            "experiment.hardware.memory_nodes=null",
        ).warnings
        == pipeline.warnings
    )
