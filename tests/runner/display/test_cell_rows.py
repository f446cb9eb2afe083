"""Records become the rows of the closing table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from numa_bench.labels import node_label
from numa_bench.records import (
    DeviceSpec,
    Execution,
    Placement,
    Record,
    RunResult,
    RunSpec,
    Status,
    make_record,
)
from numa_bench.runner.display.cell_rows import (
    Row,
    build_rows,
    memory_text,
    model_text,
    varied_settings,
)
from tests.specs import VIT, make_spec

LOCAL = Placement(0, (0,), "bind", "local", cpus=(0, 1))
REMOTE = Placement(1, (1,), "bind", "remote", cpus=(2, 3))
GPU0 = DeviceSpec("cuda", 0, "H100", "GPU-0", 0)
GPU1 = DeviceSpec("cuda", 1, "H100", "GPU-1", 1)
SMALL, LARGE = replace(VIT, name="small"), replace(VIT, name="large", depth=12)


def cell(
    placement: Placement = LOCAL, vit: Any = SMALL, device: Any = GPU0, **test: Any
) -> RunSpec:
    spec = replace(make_spec(vit=vit, placement=placement, **test), device=device)
    return replace(spec, run_id=spec.cell_hash()[:8])


def repeats(spec: RunSpec, count: int) -> list[RunSpec]:
    return [replace(spec, run_id=f"{spec.run_id}-{i}", repeat=i) for i in range(count)]


def record(
    run: RunSpec, throughput: float | None, status: str = "passed", *warnings: str
) -> Record:
    execution = Execution(
        Status(status),
        0,
        None,
        "2026-01-31T14:30:15+00:00",
        1.5,
        1,
        "out",
        "err",
        warnings=warnings,
    )
    metrics = {"throughput_samples_per_s": throughput}
    result = RunResult(run.run_id, run.cell_hash(), status, metrics=metrics)
    return make_record(run, result, execution, "host")


def table(measured: Sequence[tuple[RunSpec, Sequence[float | None]]]) -> list[Row]:
    """The rows of cells with the throughput of each repeat."""
    runs, records = [], []
    for spec, values in measured:
        own = repeats(spec, len(values))
        runs += own
        records += [record(run, value) for run, value in zip(own, values, strict=True)]
    return build_rows([spec for spec, _ in measured], runs, records)


def test_each_placement_is_compared_to_the_local_one_by_medians() -> None:
    local, remote = table([(cell(), [90.0, 100.0, 500.0]), (cell(REMOTE), [70.0, 80.0, 81.0])])
    assert (local.median, remote.median) == (100.0, 80.0)
    assert local.to_local is None
    assert remote.to_local == pytest.approx(-0.2)
    assert remote.throughput == (70.0, 80.0, 81.0)


def test_the_local_of_another_model_device_or_setting_is_no_base() -> None:
    found = table(
        [
            (cell(vit=SMALL), [100.0]),
            (cell(REMOTE, vit=LARGE), [50.0]),
            (cell(REMOTE, device=GPU1), [50.0]),
            (cell(REMOTE, batch_size=64), [50.0]),
        ]
    )
    assert [row.to_local for row in found] == [None] * 4


def test_two_models_of_the_same_name_are_not_mixed() -> None:
    twin = replace(LARGE, name=SMALL.name)
    found = table(
        [
            (cell(vit=SMALL), [100.0]),
            (cell(vit=twin), [10.0]),
            (cell(REMOTE, vit=SMALL), [90.0]),
            (cell(REMOTE, vit=twin), [5.0]),
        ]
    )
    assert [row.to_local for row in found] == [None, None, pytest.approx(-0.1), -0.5]


def test_local_on_some_cpus_is_compared_to_the_whole_node() -> None:
    share = replace(LOCAL, affinity="exclusive", cpus=(0,))
    found = table([(cell(LOCAL), [100.0]), (cell(share), [80.0])])
    assert [row.placement for row in found] == ["local", "local (exclusive)"]
    assert [row.to_local for row in found] == [None, pytest.approx(-0.2)]


def test_several_local_cells_are_one_base() -> None:
    """Without a GPU every node with its own memory is local."""
    other_local = replace(REMOTE, label="local")
    cpu = DeviceSpec("cpu")
    crossed = replace(LOCAL, memory_nodes=(1,), label="remote")
    found = table(
        [
            (cell(LOCAL, device=cpu), [100.0]),
            (cell(other_local, device=cpu), [200.0]),
            (cell(crossed, device=cpu), [75.0]),
        ]
    )
    assert [row.to_local for row in found] == [None, None, -0.5]


def test_no_local_run_that_passed_means_no_comparison() -> None:
    local, remote = cell(), cell(REMOTE)
    records = [record(local, 100.0, "failed"), record(remote, 80.0)]
    first, second = build_rows([local, remote], [local, remote], records)
    assert (first.throughput, first.median, first.to_local) == ((), None, None)
    assert second.to_local is None


def test_only_runs_that_passed_count_and_all_statuses_are_kept() -> None:
    spec = cell()
    runs = repeats(spec, 4)
    records = [
        record(runs[0], 100.0),
        record(runs[1], 999.0, "invalid"),
        record(runs[2], None, "timeout"),
    ]
    (row,) = build_rows([spec], runs, records)
    assert row.throughput == (100.0,)
    assert row.statuses == ("passed", "invalid", "timeout")
    assert row.planned == 4


def test_a_throughput_that_could_not_be_computed_is_left_out() -> None:
    """NaN is null in the records; a median of null would be an error."""
    local, remote = table([(cell(), [None, 100.0, None]), (cell(REMOTE), [None, None])])
    assert local.throughput == (100.0,)
    assert (remote.median, remote.to_local) == (None, None)


def test_records_of_other_runs_are_passed_over() -> None:
    """A resumed study may hold repeats that are no longer planned."""
    spec = cell()
    (row,) = build_rows([spec], repeats(spec, 1), [record(r, 5.0) for r in repeats(spec, 3)])
    assert row.throughput == (5.0,)


def test_rows_go_by_device_then_model_then_placement_in_the_order_given() -> None:
    cells = [
        cell(placement, vit, device)
        for device in (GPU1, GPU0)
        for placement in (REMOTE, LOCAL)
        for vit in (SMALL, LARGE)
    ]
    shuffled = [repeats(spec, 1)[0] for spec in reversed(cells)]
    found = [(row.device, row.model, row.placement) for row in build_rows(cells, shuffled, [])]
    assert found == [
        ("GPU 1 (node 1)", "small", "remote"),
        ("GPU 1 (node 1)", "small", "local"),
        ("GPU 1 (node 1)", "large", "remote"),
        ("GPU 1 (node 1)", "large", "local"),
        ("GPU 0 (node 0)", "small", "remote"),
        ("GPU 0 (node 0)", "small", "local"),
        ("GPU 0 (node 0)", "large", "remote"),
        ("GPU 0 (node 0)", "large", "local"),
    ]


def test_warnings_of_all_runs_of_a_cell_are_marked_once() -> None:
    spec, quiet = cell(), cell(REMOTE)
    first, second = repeats(spec, 2)
    records = [
        record(first, 1.0, "passed", "trend: +9%", "steal: 4%"),
        record(second, 1.0, "passed", "trend: +5%"),
        record(quiet, 1.0),
    ]
    assert [row.marks for row in build_rows([spec, quiet], [first, second, quiet], records)] == [
        "DH",
        "",
    ]


def test_a_study_without_runs_has_no_rows() -> None:
    assert build_rows([], [], []) == []
    assert varied_settings([]) == []


def test_settings_that_vary_are_shown_and_others_are_not() -> None:
    few, many = cell(batch_size=8, seed=1), cell(batch_size=16, seed=1)
    assert varied_settings([few, many]) == ["batch_size"]
    found = table([(few, [1.0]), (many, [2.0])])
    assert [row.model for row in found] == ["small batch_size=8", "small batch_size=16"]


def test_compilation_is_always_told() -> None:
    eager, compiled = cell(), cell(compile_model=True, compile_mode="max-autotune")
    assert [row.model for row in table([(eager, [1.0]), (compiled, [2.0])])] == [
        "small eager",
        "small compiled:max-autotune",
    ]
    assert model_text(eager, []) == "small"
    assert model_text(compiled, []) == "small compiled:max-autotune"


@pytest.mark.parametrize(
    ("placement", "node", "memory"),
    [
        (LOCAL, "0", "0"),
        (replace(LOCAL, memory_nodes=(0, 1)), "0", "0,1"),
        (replace(LOCAL, policy="preferred", memory_nodes=(1,)), "0", "1 (preferred)"),
        (replace(LOCAL, policy="interleave", memory_nodes=(0, 1)), "0", "0,1 (interleave)"),
        (Placement(None, (), "none", "unbound"), "any", "any"),
    ],
)
def test_placements_are_told_in_words(placement: Placement, node: str, memory: str) -> None:
    (row,) = table([(cell(placement), [1.0])])
    assert (row.cpu_node, row.memory) == (node, memory)
    assert node_label(placement.numa_node) == node
    assert memory_text(cell(placement)) == memory


@pytest.mark.parametrize(
    ("device", "text"),
    [
        (DeviceSpec("cpu"), "CPU"),
        (GPU1, "GPU 1 (node 1)"),
        (replace(GPU1, gpu_numa_node=-1), "GPU 1 (node ?)"),
        (replace(GPU1, gpu_numa_node=None), "GPU 1 (node ?)"),
    ],
)
def test_devices_are_told_with_their_node(device: DeviceSpec, text: str) -> None:
    (row,) = table([(cell(device=device), [1.0])])
    assert row.device == text
