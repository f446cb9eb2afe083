"""The text that a tracker shows first: medians of what placements were compared by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from numa_bench.jsonio import write_json
from numa_bench.records import (
    COMMAND,
    CommandSpec,
    DeviceSpec,
    Execution,
    NamedMetric,
    Record,
    RunResult,
    Status,
    make_record,
)
from numa_bench.tracking.view import read_study
from tests.specs import make_spec, record_of

BOTH = DeviceSpec("cuda", 0, "H100", "GPU-a", 0, (DeviceSpec("cuda", 4, "H100", "GPU-b", 0),))


def command_record(repeat: int, **metrics: float) -> Record:
    named = tuple(NamedMetric(key.removeprefix("metric_"), "lower", "ms|s", "x") for key in metrics)
    command = CommandSpec(("serve",), metrics=named if "wall_s" not in metrics else ())
    spec = replace(make_spec(), workload=COMMAND, command=command, device=BOTH)
    spec = spec.with_id(f"serve_r{repeat}", repeat)
    result = RunResult(spec.run_id, spec.cell_hash(), "passed", metrics=dict(metrics))
    start = "2026-01-31T14:30:15.000+00:00"
    return make_record(spec, result, Execution(Status.PASSED, 0, None, start, 1, 1, "o", "e"), "h")


def summarize(directory: Path, *records: Record) -> list[str]:
    write_json(directory / "results.json", list(records))
    return read_study(directory, points=10, max_file_mb=1).summary.splitlines()


def test_models_have_their_throughput(tmp_path: Path) -> None:
    lines = summarize(
        tmp_path,
        record_of("a", throughput_samples_per_s=1234.5),
        record_of("b", Status.FAILED, throughput_samples_per_s=1.0),
    )

    assert any("throughput, samples/s (median) |" in line for line in lines)
    (row,) = [line for line in lines if "1,234.5" in line]
    assert row.startswith("| CPU | ")
    assert "| 1 | 1,234.5 |" in row


def test_a_command_has_the_metric_that_it_is_compared_by(tmp_path: Path) -> None:
    lines = summarize(
        tmp_path,
        command_record(0, metric_p99=3.0),
        command_record(1, metric_p99=5.0),
        command_record(2, wall_s=0.25),
    )

    assert [line for line in lines if "(median)" in line] == [
        "| device | model | mode | CPU node | placement | runs | p99, ms/s (median) |",
        "| device | model | mode | CPU node | placement | runs | wall time, s (median) |",
    ]
    rows = [line for line in lines if line.startswith("| GPU 0+4 |")]
    assert [row.rsplit("|", 3)[1:3] for row in rows] == [[" 2 ", " 4 "], [" 1 ", " 0.25 "]]
    assert all("| - |" in row for row in rows)
