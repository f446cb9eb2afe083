"""Each write of a study fails in turn, or is the last before a kill; the next start completes it.

The worker runs in this process, so that one study takes milliseconds and every call can be tried.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from numa_bench.errors import NumaBenchError
from numa_bench.jsonio import read_json
from numa_bench.records import RunResult, RunSpec
from numa_bench.runner import worker_run
from numa_bench.runner.process import Command, Ended
from numa_bench.runner.study import run_study
from numa_bench.study_files import REMOVABLE, RESULTS
from numa_bench.worker.__main__ import Files
from tests.fake_worker import SAMPLES, TOPOLOGY, make_plan
from tests.faults.file_system import FAULTS, Killed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/fd")

PLAN = make_plan(["m0", "m1"])
RUNS = [run.run_id for run in PLAN.runs]
NEVER = 1_000_000


class Worker:
    """Measures in this process; `measured` counts the results that were written, by run."""

    def __init__(self) -> None:
        self.measured: Counter[str] = Counter()

    def run(self, command: Command, *logs: Path, **_: Any) -> Ended:
        for log in logs:
            with contextlib.suppress(OSError):
                log.touch()
        options = dict(zip(command.argv, map(Path, command.argv[1:]), strict=False))
        spec = RunSpec.from_dict(read_json(options["--spec"]))
        result = RunResult(spec.run_id, spec.cell_hash(), "passed", samples=SAMPLES)
        result.metrics = {"throughput_samples_per_s": 100.0, "measured_s": 0.5}
        Files(options["--result"], options["--spare-result"]).write_result(result)
        self.measured[spec.run_id] += 1
        return Ended(0, "exited", 0.1)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    stand_in = Worker()
    monkeypatch.setattr(worker_run, "run_process", stand_in.run)
    return stand_in


def start(directory: Path) -> None:
    """Run the study until it ends, in whatever way the product reports."""
    with contextlib.suppress(NumaBenchError, Killed):
        run_study(PLAN, TOPOLOGY, directory)


def count_calls(worker: Worker, base: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    study, temp = make_directories(base, monkeypatch)
    with FAULTS.inject((study, temp), NEVER, NEVER):
        start(study)
    check_complete(study, temp)
    assert FAULTS.calls > 20
    worker.measured.clear()
    return FAULTS.calls


def make_directories(base: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    study, temp = base / "study", base / "temp"
    temp.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(temp))
    return study, temp


def check_complete(study: Path, temp: Path) -> None:
    """Every run has one record that passed, and nothing temporary is left."""
    records = read_json(study / RESULTS)
    assert sorted(record["run_id"] for record in records) == sorted(RUNS)
    assert {record["status"] for record in records} == {"passed"}
    for record in records:
        raw = read_json(study / "runs" / record["run_id"] / "result.json")
        assert raw["samples"] == SAMPLES
        assert not any("raw_data" in warning for warning in record["warnings"])
    assert [path.name for path in study.rglob("*.tmp")] == []
    assert [path for path in temp.rglob("*") if path.is_file()] == []
    assert {path.name for path in study.iterdir()} <= {*REMOVABLE}


@pytest.mark.slow
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
def test_a_write_that_fails_loses_nothing(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasting: bool
) -> None:
    """What was measured is not measured again: it is in the study, or in the spare files."""
    for n in range(count_calls(worker, tmp_path / "none", monkeypatch)):
        study, temp = make_directories(tmp_path / f"at{n}", monkeypatch)
        with FAULTS.inject((study,), n, NEVER if lasting else n):
            start(study)
        start(study)
        try:
            check_complete(study, temp)
            assert worker.measured == Counter(RUNS)
        except (AssertionError, OSError, ValueError) as problem:
            raise AssertionError(f"write {n} failed, and then: {problem}") from problem
        worker.measured.clear()


@pytest.mark.slow
def test_a_kill_at_any_write_costs_one_run_at_most(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(count_calls(worker, tmp_path / "none", monkeypatch)):
        study, temp = make_directories(tmp_path / f"at{n}", monkeypatch)
        with FAULTS.inject((study, temp), n, NEVER, killed=True):
            start(study)
        start(study)
        try:
            check_complete(study, temp)
            assert worker.measured.total() <= len(RUNS) + 1
        except (AssertionError, OSError, ValueError) as problem:
            raise AssertionError(f"killed at write {n}, and then: {problem}") from problem
        worker.measured.clear()
