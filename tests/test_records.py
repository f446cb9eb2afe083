"""Records: their keys and types agree with what is written, and older ones can be read."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from numa_bench.jsonio import replace_non_finite
from numa_bench.metric_registry import METRICS, MetricValues, metric_values
from numa_bench.records import (
    SCHEMA_HISTORY,
    SCHEMA_VERSION,
    Distances,
    Execution,
    Placement,
    ProfileSpec,
    Record,
    RunResult,
    RunSpec,
    Status,
    Summary,
    make_record,
    upgrade,
)
from numa_bench.records.upgrade import complete_summary, upgrade_record
from tests.specs import make_spec

#: A record of the first program of version 1, which knew neither environments nor profilers.
OLDEST: dict[str, Any] = {
    "schema_version": 1,
    "study": "numa_study",
    "run_id": "gpu0_n1_m1_vit32x2x128_r0-0a1b2c",
    "spec_hash": "0a1b2c",
    "repeat": 0,
    "host": "gpu-server-1",
    "device": "cuda",
    "gpu_id": 0,
    "gpu_name": "H100",
    "gpu_uuid": "GPU-0",
    "gpu_numa_node": 0,
    "numa_node": 1,
    "memory_node": 1,
    "memory_nodes": [1],
    "memory_policy": "bind",
    "placement": "remote",
    "vit_name": "vit32x2x128",
    "vit_config": {"name": "vit32x2x128", "patch_size": 32, "depth": 2, "dim": 128},
    "test_config": {"batch_size": 8, "compile_model": True},
    "compile_model": True,
    "compile_mode": "default",
    "precision": "fp32",
    "status": "passed",
    "success": True,
    "exit_code": 0,
    "error": None,
    "start_time": "2025-01-31T14:30:15.000+00:00",
    "duration_s": 14.2,
    "attempt": 1,
    "throughput_samples_per_s": 100.5,
    "warmup": {"settled": True},
    "observed": {},
    "versions": {"torch": "2.4.0"},
    "warnings": [],
    "stdout_log": "logs/a.stdout",
    "stderr_log": "logs/a.stderr",
    "nsys_report": None,
}


def new_record(**changes: Any) -> Record:
    spec = make_spec(placement=Placement(0, (0, 1), "interleave", "interleave", cpus=(0,)))
    spec = replace(spec, profile=ProfileSpec("nsys", "window", 3, 1.0))
    result = RunResult(
        spec.run_id, spec.cell_hash(), "passed", metrics={"compute_ms": 2.5}, warnings=["few: 3"]
    )
    execution = Execution(
        Status.PASSED, 0, None, "2026-01-31T14:30:15.000+00:00", 1.23456, 1, "out", "err", **changes
    )
    return make_record(spec, result, execution, "host")


def test_the_type_of_a_record_has_the_keys_that_are_written() -> None:
    assert list(get_type_hints(MetricValues)) == list(METRICS)
    assert get_type_hints(Record).keys() == new_record().keys()


def test_metrics_that_were_not_measured_are_null() -> None:
    values = metric_values({"compute_ms": 2.5})

    assert values["compute_ms"] == 2.5
    assert {value for name, value in values.items() if name != "compute_ms"} == {None}


def test_every_schema_version_has_its_history() -> None:
    assert sorted(SCHEMA_HISTORY) == list(range(1, SCHEMA_VERSION + 1))


def test_a_current_record_is_read_as_it_was_written() -> None:
    record = new_record(environment="abc", monitor={"sm_mhz": {"min": 1, "median": 2, "max": 3}})

    stored = json.loads(json.dumps(record))

    assert upgrade_record(stored) == record


def test_a_window_without_a_reading_is_not_one_without_a_monitor() -> None:
    assert upgrade_record(json.loads(json.dumps(new_record(monitor=None))))["monitor"] is None
    assert upgrade_record(json.loads(json.dumps(new_record(monitor={}))))["monitor"] == {}


def test_a_record_of_the_first_program_gets_the_keys_that_came_later(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps([OLDEST]))
    (raw,) = json.loads(path.read_text())

    record = upgrade_record(raw)

    assert record.keys() == get_type_hints(Record).keys()
    assert {key: value for key, value in record.items() if key in OLDEST} == OLDEST
    assert (record["environment"], record["monitor"]) == (None, {})
    assert (record["profiler"], record["profiler_capture"]) == ("none", None)
    assert (record["nsys_sqlite"], record["torch_trace"]) == (None, None)
    assert record["latency_p50_ms"] is None
    assert (record["lock_wait_s"], record["shared_host"]) == (None, False)


def test_what_follows_from_other_keys_is_derived() -> None:
    raw = {k: v for k, v in OLDEST.items() if k not in ("memory_nodes", "success", "compile_model")}

    record = upgrade_record({**raw, "warnings": None, "status": "failed"})

    assert record["memory_nodes"] == [1]
    assert record["compile_model"] is True
    assert record["success"] is False
    assert record["warnings"] == []
    assert upgrade_record({**raw, "memory_node": None})["memory_nodes"] == []


@pytest.mark.parametrize(
    ("stored", "label"),
    [("remote_cpu", "remote/local"), ("remote_memory", "local/remote"), ("remote", "remote")],
)
def test_old_placement_labels_are_renamed(stored: str, label: str) -> None:
    assert upgrade_record({**OLDEST, "placement": stored})["placement"] == label


def test_runs_of_before_affinities_had_whole_nodes() -> None:
    record = upgrade_record(OLDEST)
    assert (record["cpu_affinity"], record["cpus"]) == ("node", None)
    assert upgrade_record({**OLDEST, "numa_node": None})["cpu_affinity"] is None


def test_an_affinity_is_part_of_the_cell_and_the_record() -> None:
    whole = make_spec(placement=Placement(0, (0,), "bind", "local", cpus=(0, 1, 8)))
    complex_ = replace(whole, placement=replace(whole.placement, affinity="core-complex"))

    assert "affinity" not in whole.cell()["placement"]  # as in studies of before
    assert whole.cell_hash() != complex_.cell_hash()
    record = make_record(
        complex_, None, Execution(Status.FAILED, 1, "", "", 0.0, 1, "", ""), "host"
    )
    assert (record["cpu_affinity"], record["cpus"]) == ("core-complex", "0-1,8")
    assert RunSpec.from_dict(complex_.to_dict()) == complex_


def test_distances_are_in_the_record_and_unknown_in_older_ones() -> None:
    keys = (
        *("distance_class", "cpu_distance_class", "memory_distance_class"),
        *("cpu_distance", "memory_distance"),
    )
    distances = Distances("same_node", "other_socket", "other_socket", 10, 32)
    spec = replace(make_spec(), distances=distances)
    ended = Execution(Status.FAILED, 1, "", "", 0.0, 1, "", "")

    record: dict[str, Any] = dict(make_record(spec, None, ended, "host"))

    assert [record[key] for key in keys] == ["other_socket", "same_node", "other_socket", 10, 32]
    old: dict[str, Any] = dict(upgrade_record(OLDEST))
    assert [old[key] for key in keys] == [None] * 5


def test_reading_changes_nothing_of_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(upgrade.MIGRATIONS, 0, lambda record: record.update(host="renamed"))
    raw = {**OLDEST, "schema_version": 0}
    before = copy.deepcopy(raw)

    record = upgrade_record(raw)

    assert raw == before
    assert (record["schema_version"], record["host"]) == (SCHEMA_VERSION, "renamed")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 2}, "schema_version 2 is newer than 1, the latest that this numa_bench "
         "reads; update it to a version that reads schema_version 2"),
        ({"schema_version": 0}, "schema_version 0 is too old: it cannot be converted to 1"),
        ({"schema_version": None}, "schema_version is missing"),
        ({"status": "great"}, "status 'great' is unknown"),
        ({"run_id": 7}, "run_id is missing or not a text"),
        ({"vit_config": []}, "vit_config is missing or not an object"),
        ({"attempt": None}, "attempt is missing or not a number"),
        ({"duration_s": math.nan}, "duration_s is missing or not a number"),
        ({"compute_ms": "fast"}, "compute_ms is not a number"),
        ({"compute_ms": True}, "compute_ms is not a number"),
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_used_is_refused_with_the_reason(
    change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError) as refused:
        upgrade_record({**OLDEST, **change})

    assert str(refused.value) == reason


@pytest.mark.parametrize("raw", [None, [], "record", 1])
def test_what_is_not_an_object_is_no_record(raw: object) -> None:
    with pytest.raises(ValueError, match="not an object"):
        upgrade_record(raw)


def test_numbers_that_are_not_finite_count_as_not_measured() -> None:
    record = upgrade_record({**OLDEST, "compute_ms": math.inf, "h2d_ms": math.nan, "d2h_ms": 3})

    assert (record["compute_ms"], record["h2d_ms"], record["d2h_ms"]) == (None, None, 3)
    assert replace_non_finite(record) == record


@pytest.mark.parametrize("raw", [{}, {"counts": 3, "planned": True, "environments": {"a": 1}}])
def test_a_damaged_summary_is_an_empty_one(raw: dict[str, Any]) -> None:
    summary = complete_summary(raw)

    assert summary.keys() == get_type_hints(Summary).keys()
    assert (summary["counts"], summary["planned"], summary["environments"]) == ({}, None, {})


def test_a_summary_keeps_what_it_says() -> None:
    raw = {"study": "a", "planned": 3, "interrupted": True, "environments": {"x": {"id": "x"}}}
    raw["repeats_history"] = [5, 10]

    assert complete_summary(raw).items() >= raw.items()
