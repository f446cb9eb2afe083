"""Runs and their recordings: two processes with a GPU, and a second try where nsys breaks a run.

nsys is a shell script here, and the worker is a fake one that notes how it was started.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from numa_bench.config.schemas.output import ProfilerConfig
from numa_bench.errors import StudyFailed
from numa_bench.jsonio import read_json
from numa_bench.plan.estimates import estimate_run_s
from numa_bench.plan.plan import Plan
from numa_bench.profiling.launch import Profiler
from numa_bench.profiling.recording import records_separately
from numa_bench.records import RUN_TOKEN, DeviceSpec, JsonDict, Record
from numa_bench.runner.command import worker_command
from numa_bench.runner.study import run_study
from numa_bench.store import StudyStore
from numa_bench.study_files import RESULTS, read_records
from tests.fake_worker import TOPOLOGY, make_plan

# Records the child as nsys does: it runs it, and leaves a report. The child's status is its own.
NSYS = """
for word in "$@"; do case "$word" in --output=*) report="${word#--output=}";; esac; done
while [ "${1#--output=}" = "$1" ]; do shift; done; shift
export UNDER_NSYS=1
"$@"; status=$?
"""
WRITES_REPORT = NSYS + 'echo report > "$report"; exit $status'
# As numa_bench.worker is started; what it does is decided by the test.
WORKER = """
import json, os, signal, sys
words = sys.argv[1:]
get = lambda name: words[words.index(name) + 1] if name in words else None
spec, result, only = json.load(open(get("--spec"))), get("--result"), get("--only")
nsys = "UNDER_NSYS" in os.environ
with open(os.path.join(os.path.dirname(result), "starts"), "a") as file:
    file.write(json.dumps([only, nsys, os.environ["%(token)s"], os.path.basename(result)]) + "\\n")
if get("--started"):
    json.dump({"pid": os.getpid()}, open(get("--started"), "w"))
metrics = {"throughput_samples_per_s": 100.0}
if only == "recording":
    metrics = {"profiled_throughput_samples_per_s": 80.0}
status, error, warnings = "passed", None, []
%(act)s
from numa_bench.records import RunSpec
json.dump({"run_id": spec["run_id"], "spec_hash": RunSpec.from_dict(spec).cell_hash(),
           "status": status, "error": error, "metrics": metrics, "warnings": warnings},
          open(result, "w"))
sys.exit(status == "failed")
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., JsonDict]:
    """Runs a study of one run; returns its record. `act` is Python for the worker."""

    def run(act: str = "pass", nsys: str = WRITES_REPORT, **options: Any) -> JsonDict:
        worker = tmp_path / "worker.py"
        worker.write_text(WORKER % {"act": act, "token": RUN_TOKEN})
        executable = tmp_path / "nsys"
        executable.write_text(f"#!/bin/sh\n{nsys}\n")
        executable.chmod(0o755)

        def command(*given: Any) -> Any:
            real = worker_command(*given)
            argv, at = list(real.argv), real.argv.index("numa_bench.worker")
            argv[at - 1 : at + 1] = [str(worker)]
            return replace(real, argv=tuple(argv))

        monkeypatch.setattr("numa_bench.runner.worker_run.worker_command", command)
        with contextlib.suppress(StudyFailed, KeyboardInterrupt):
            run_study(make_study(str(executable), **options), TOPOLOGY, tmp_path / "s")
        (record,) = read_json(tmp_path / "s" / "results.json")
        found: JsonDict = record
        return found

    return run


def make_study(
    executable: str, device: str = "cuda", capture: str = "window", timeout_s: float = 60.0
) -> Plan:
    plan = make_plan(["m0"], timeout_s=timeout_s)
    config = ProfilerConfig(kind="nsys", capture=capture, export=False)
    profiler = Profiler("nsys", config, executable=executable)
    changes: dict[str, Any] = {"device": DeviceSpec(device), "profile": profiler.to_spec()}
    runs = tuple(replace(run, **changes) for run in plan.runs)
    return replace(plan, cells=runs, runs=runs, profiler=profiler)


def starts(directory: Path) -> list[tuple[Any, ...]]:
    """How workers were started: part of the run, under nsys, token, name of the result file."""
    (path,) = (directory / "s").glob("runs/*/starts")
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()]


def test_a_gpu_run_is_measured_without_nsys_and_recorded_afterwards(
    study: Callable[..., JsonDict], tmp_path: Path
) -> None:
    record = study()

    measured, recorded = starts(tmp_path)
    assert measured[:2] == ("measurement", False)
    assert recorded[:2] == ("recording", True)
    assert measured[2] == recorded[2]  # one token: whatever kills the run kills both
    assert (measured[3], recorded[3]) == ("result.json", "nsys_result.json")
    assert record["status"] == "passed"
    assert record["throughput_samples_per_s"] == 100.0
    assert record["profiled_throughput_samples_per_s"] == 80.0
    assert record["profiler_overhead"] == pytest.approx(0.25)
    assert (tmp_path / "s" / record["nsys_report"]).is_file()
    assert record["warnings"] == []


@pytest.mark.parametrize(
    ("act", "nsys", "said"),
    [
        ("if nsys: status, error = 'failed', 'CUPTI is taken'", WRITES_REPORT, "CUPTI is taken"),
        ("if nsys: os.kill(os.getpid(), signal.SIGSEGV)", WRITES_REPORT, "killed by SIGSEGV"),
        (
            "if nsys: metrics, warnings = {}, ['profiler: the profiled window failed: x']",
            WRITES_REPORT,
            "the profiled window failed: x",
        ),
        ("pass", NSYS + "exit $status", "nsys left no report"),
        ("pass", "exit 1", "ended before the worker ran, twice"),
        ("pass", "exit 0", "left no result"),
    ],
)
def test_a_recording_that_fails_costs_the_report_alone(
    study: Callable[..., JsonDict], tmp_path: Path, act: str, nsys: str, said: str
) -> None:
    record = study(act, nsys)

    assert (record["status"], record["exit_code"], record["error"]) == ("passed", 0, None)
    assert record["throughput_samples_per_s"] == 100.0
    assert record["nsys_report"] is None
    assert record["profiler_overhead"] is None
    assert {warning.partition(":")[0] for warning in record["warnings"]} == {"profiler"}
    assert said in " ".join(record["warnings"])
    assert list((tmp_path / "s" / "nsys_reports").glob("*")) == []


def test_the_measured_record_is_stored_before_the_recording_starts(
    study: Callable[..., JsonDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runner that is killed during the recording has lost nothing."""
    seen: list[Record] = []
    add = StudyStore.add_record

    def note(store: StudyStore, record: Record) -> None:
        add(store, record)
        seen.extend(read_records(store.root / RESULTS))  # as another process finds them

    monkeypatch.setattr(StudyStore, "add_record", note)
    study()

    stored, last = seen
    assert stored["throughput_samples_per_s"] == 100.0
    assert stored["nsys_report"] is None
    assert stored["warnings"] == ["profiler: the study ended before this run was recorded"]
    assert last["nsys_report"] is not None


@pytest.mark.slow
def test_a_recording_that_hangs_is_stopped_and_the_run_has_passed(
    study: Callable[..., JsonDict],
) -> None:
    record = study("if nsys: signal.pause()", timeout_s=5.0)

    assert (record["status"], record["nsys_report"]) == ("passed", None)
    assert "not recorded: stopped after timeout_s=5" in record["warnings"][0]


@pytest.mark.slow
def test_an_interruption_of_the_recording_keeps_the_run(
    study: Callable[..., JsonDict], tmp_path: Path
) -> None:
    record = study(f"if nsys: os.kill({os.getpid()}, signal.SIGINT); signal.pause()")

    assert (record["status"], record["nsys_report"]) == ("passed", None)
    assert "not recorded: interrupted by the user" in record["warnings"][0]
    assert read_json(tmp_path / "s" / "experiment_summary.json")["interrupted"] is True


@pytest.mark.parametrize("act", ["status, error = 'failed', 'x'", "status, error = 'waived', 'x'"])
def test_what_was_not_measured_is_not_recorded(
    study: Callable[..., JsonDict], tmp_path: Path, act: str
) -> None:
    record = study(act)

    assert record["nsys_report"] is None
    assert [start[0] for start in starts(tmp_path)] == ["measurement"]


@pytest.mark.parametrize(("device", "capture"), [("cpu", "window"), ("cuda", "run")])
def test_other_runs_are_measured_and_recorded_by_one_process(
    study: Callable[..., JsonDict], tmp_path: Path, device: str, capture: str
) -> None:
    record = study(device=device, capture=capture)

    assert [start[:2] for start in starts(tmp_path)] == [(None, True)]
    assert (tmp_path / "s" / record["nsys_report"]).is_file()


@pytest.mark.parametrize(("device", "capture"), [("cpu", "window"), ("cuda", "run")])
def test_a_run_that_fails_under_nsys_is_tried_once_without_it(
    study: Callable[..., JsonDict], tmp_path: Path, device: str, capture: str
) -> None:
    record = study("if nsys: status, error = 'failed', 'CUPTI'", device=device, capture=capture)

    assert [start[:2] for start in starts(tmp_path)] == [(None, True), ("measurement", False)]
    assert (record["status"], record["nsys_report"]) == ("passed", None)
    assert record["throughput_samples_per_s"] == 100.0
    assert record["warnings"] == [
        "profiler: the run failed under nsys (CUPTI); it was measured without it"
    ]
    run = tmp_path / "s" / "runs" / record["run_id"]
    assert read_json(run / "nsys_result.json")["error"] == "CUPTI"


def test_a_run_that_fails_without_nsys_too_is_the_one_under_nsys(
    study: Callable[..., JsonDict], tmp_path: Path
) -> None:
    act = "status, error = 'failed', 'under nsys' if nsys else 'without'"
    record = study(act, device="cpu")

    assert (record["status"], record["error"]) == ("failed", "under nsys")
    assert (tmp_path / "s" / record["nsys_report"]).is_file()
    assert record["warnings"] == ["profiler: the run failed under nsys, and without it too"]
    run = tmp_path / "s" / "runs" / record["run_id"]
    assert read_json(run / "result.json")["error"] == "under nsys"


@pytest.mark.slow
def test_a_time_out_under_nsys_is_not_tried_again(
    study: Callable[..., JsonDict], tmp_path: Path
) -> None:
    record = study(
        "signal.signal(signal.SIGTERM, signal.SIG_DFL); signal.pause()", device="cpu", timeout_s=5.0
    )

    assert record["status"] == "timeout"
    assert len(starts(tmp_path)) == 1


def test_the_estimate_knows_the_second_process() -> None:
    (together,) = make_study("nsys", device="cpu").runs
    (apart,) = make_study("nsys", device="cuda").runs

    assert not records_separately(together)
    assert records_separately(apart)
    assert estimate_run_s(apart) > estimate_run_s(together)
