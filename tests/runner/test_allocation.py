"""A study inside an allocation: waived runs, a job that SLURM restarts, its time-out signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from numa_bench.errors import StoreError
from numa_bench.jsonio import read_json
from numa_bench.machine.allocation import Allocation
from numa_bench.plan.plan import Plan
from numa_bench.records import NOT_GRANTED
from numa_bench.runner.interrupts import Interrupts, block_time_out_signals
from numa_bench.runner.resume import check_directory, find_other_runs, is_restarted
from numa_bench.runner.study import run_study
from numa_bench.store import StudyStore
from tests.fake_worker import TOPOLOGY, fake_command, make_plan

REASON = NOT_GRANTED + "GPU 1 (CUDA_VISIBLE_DEVICES=0)"
Start = Callable[[Plan], list[tuple[str, str | None]]]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Run a plan of models m0, m1 with good fake workers; status and error of each record."""
    command = fake_command({"m0": "good", "m1": "good"})
    monkeypatch.setattr("numa_bench.runner.worker_run.worker_command", command)

    def run(plan: Plan) -> list[tuple[str, str | None]]:
        run_study(plan, TOPOLOGY, tmp_path)
        records = read_json(tmp_path / "results.json")
        return sorted((record["status"], record["error"]) for record in records)

    return run


def waive(plan: Plan, name: str) -> Plan:
    """The plan where this process was not granted what runs of a model need."""
    runs = tuple(replace(r, waived=REASON) if r.vit.name == name else r for r in plan.runs)
    return replace(plan, runs=runs)


def in_job(plan: Plan, job: str, restarts: int) -> Plan:
    return replace(plan, allocation=Allocation(job=job, restarts=restarts))


def test_a_run_outside_the_allocation_is_recorded_and_never_started(
    start: Start, tmp_path: Path
) -> None:
    found = start(waive(make_plan(["m0", "m1"]), "m1"))

    assert found == [("passed", None), ("waived", REASON)]
    assert len(list(tmp_path.glob("runs/*/spec.json"))) == 1
    summary = read_json(tmp_path / "experiment_summary.json")
    assert summary["counts"]["waived"] == 1


def test_a_later_start_measures_what_it_is_granted_and_nothing_twice(
    start: Start, tmp_path: Path
) -> None:
    plan = make_plan(["m0", "m1"])
    start(waive(plan, "m1"))
    before = read_json(tmp_path / "results.json")

    assert start(plan) == [("passed", None), ("passed", None)]
    passed = [record for record in before if record["status"] == "passed"]
    assert passed[0] in read_json(tmp_path / "results.json")


def test_a_run_that_passed_stays_passed_where_it_is_not_granted_any_more(start: Start) -> None:
    plan = make_plan(["m0", "m1"])
    start(plan)

    assert start(waive(plan, "m1")) == [("passed", None), ("passed", None)]


def test_a_restarted_job_continues_in_its_directory(start: Start, tmp_path: Path) -> None:
    plan = make_plan(["m0", "m1"])
    start(in_job(plan, "7", 0))

    check_directory(tmp_path, in_job(plan, "7", 1), ["experiment.test.batch_size=8"])
    assert is_restarted(tmp_path, in_job(plan, "7", 1))


@pytest.mark.parametrize(("job", "restarts"), [("7", 0), ("8", 1)])
def test_another_job_does_not_continue_it(
    start: Start, tmp_path: Path, job: str, restarts: int
) -> None:
    plan = make_plan(["m0", "m1"])
    start(in_job(plan, "7", 0))

    with pytest.raises(StoreError, match="already holds a study"):
        check_directory(tmp_path, in_job(plan, job, restarts), [])


def test_runs_on_gpus_of_an_earlier_start_are_kept_and_said(start: Start, tmp_path: Path) -> None:
    plan = make_plan(["m0", "m1"])
    start(plan)
    with StudyStore(tmp_path) as store:
        other = replace(plan, runs=plan.runs[:1], cells=plan.cells[:1])

        assert find_other_runs(store.records, plan) == []
        (warning,) = find_other_runs(store.records, other)
        assert warning.startswith("1 stored runs are not of this start's plan")


def test_the_time_out_signal_is_an_interruption_and_reaches_the_handler_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, _frame: seen.append(number))
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGUSR2)
            assert interrupts.count == 1
            assert seen == []
        interrupts.pass_on_time_out()
        assert seen == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_ctrl_c_is_not_passed_on_as_a_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: seen.append(number))
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGTERM)
        interrupts.pass_on_time_out()
        assert (interrupts.count, seen) == (1, [])
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("job", [True, False])
def test_processes_of_runs_do_not_get_the_time_out_signal(
    monkeypatch: pytest.MonkeyPatch, job: bool
) -> None:
    """SLURM sends it to every process of the step; they inherit the mask through exec."""
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    if job:
        monkeypatch.setenv("SLURM_JOB_ID", "7")
    with block_time_out_signals():
        line = "import signal; print(signal.SIGUSR2 in signal.pthread_sigmask(0, []))"
        shown = subprocess.check_output([sys.executable, "-c", line], text=True)

    assert shown.strip() == str(job)
    assert signal.SIGUSR2 not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert os.environ.get("SLURM_JOB_ID") == ("7" if job else None)
