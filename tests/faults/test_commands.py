"""Studies of a user's own commands: many runs, kills of the runner, full disks.

NUMA_BENCH_RUNS=1000 python -m pytest tests/faults/test_commands.py
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from numa_bench.errors import NumaBenchError
from numa_bench.jsonio import read_json
from numa_bench.machine.model import Topology
from numa_bench.machine.topology import discover_topology
from numa_bench.plan.plan import Plan
from numa_bench.runner.study import run_study
from numa_bench.study_files import read_records
from tests.conftest import PROJECT
from tests.fake_worker import carriers, wait_until
from tests.faults.file_system import FAULTS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(0),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

#: Runs of a study from the command line to its page.
RUNS = int(os.environ.get("NUMA_BENCH_RUNS", "12"))
STUDY = (
    *("experiment=command_study", "experiment.hardware.numa_nodes=unbound"),
    *("experiment.hardware.device=cpu", "tracking=none", "experiment.monitor_interval_s=0"),
)
#: Each so many writes one fails: all in the long mode.
STEP = 1 if "NUMA_BENCH_RUNS" in os.environ else 3
MARK = "NUMA_BENCH_TEST"
NEVER = 1_000_000


@pytest.fixture
def mark() -> Iterator[str]:
    """NAME=VALUE of what a test starts; none of it lives on."""
    text = f"{MARK}={uuid.uuid4().hex}"
    yield text
    for pid in carriers(text):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Program(subprocess.Popen[bytes]):
    """A program whose output goes to a file: that of many runs fills a pipe."""

    def __init__(self, script: str, *words: str, cwd: Path, mark: str) -> None:
        name, _, value = mark.partition("=")
        env = {**os.environ, name: value, "TMPDIR": str(cwd), "PYTHONPATH": str(PROJECT)}
        self._output = cwd / "output"
        with self._output.open("wb") as file:
            super().__init__(
                [sys.executable, str(PROJECT / script), *words],
                cwd=cwd,
                env=env,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def check_end(self) -> None:
        assert self.wait() == 0, self._output.read_text()[-3000:]


def test_many_runs_and_a_kill_in_their_midst(tmp_path: Path, mark: str) -> None:
    """As a user does it: start, SIGKILL, resume, analyse. At most one run is executed twice."""
    log = tmp_path / "log"
    command = f"echo x >> {log}; echo rate $$"
    study = tmp_path / "study"
    begin = partial(Program, "hydra_experiment_runner.py", cwd=tmp_path, mark=mark)
    first = begin(
        *STUDY,
        f"command='{command}'",
        "experiment.command.shell=true",
        "experiment.command.metrics=['rate:lower:1=rate ([0-9]+)']",
        f"experiment.repeats={RUNS}",
        f"hydra.run.dir={study}",
    )
    wait_until(lambda: count_lines(log) >= RUNS // 2, "half of the runs", limit_s=60 + RUNS)
    first.send_signal(signal.SIGKILL)
    first.wait()
    wait_until(lambda: carriers(mark) == [], "the command died with the runner")
    kept = {record["run_id"]: dict(record) for record in read_records(study / "results.json")}
    assert len(kept) >= RUNS // 2 - 1

    begin(f"resume_from={study}").check_end()
    records = {record["run_id"]: record for record in read_json(study / "results.json")}
    assert len(records) == RUNS
    assert {record["status"] for record in records.values()} == {"passed"}
    assert {name: records[name] for name in kept} == kept
    assert RUNS <= count_lines(log) <= RUNS + 1
    assert read_json(study / "experiment_summary.json")["counts"]["passed"] == RUNS
    assert [path for path in tmp_path.rglob("*") if path.suffix in (".tmp", ".lock")] == []
    assert not (study / "results.jsonl").exists()

    Program("analysis/analyze.py", f"results={study}", cwd=tmp_path, mark=mark).check_end()
    assert carriers(mark) == []


def count_lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
def test_a_disk_that_is_full_costs_no_execution(
    plan: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasting: bool
) -> None:
    """What was executed is not executed again, whichever write fails."""
    log = tmp_path / "log"
    machine = discover_topology()
    planned = plan(machine, *STUDY, f"command=[sh,-c,'echo x >> {log}']", "experiment.repeats=1")
    writes = count_writes(planned, machine, tmp_path / "none")
    for n in range(int(lasting), writes, STEP):
        study, temp = tmp_path / f"at{n}" / "study", tmp_path / f"at{n}" / "temp"
        temp.mkdir(parents=True)
        monkeypatch.setattr(tempfile, "tempdir", str(temp))
        log.unlink()
        with FAULTS.inject((study,), n, NEVER if lasting else n):
            start_in_process(planned, machine, study)
        start_in_process(planned, machine, study)
        try:
            (record,) = read_json(study / "results.json")
            assert record["status"] == "passed"
            assert not any("raw_data" in warning for warning in record["warnings"])
            raw = read_json(study / "runs" / record["run_id"] / "result.json")
            assert raw["metrics"]["wall_s"] == record["wall_s"] > 0
            assert count_lines(log) == 1
            assert list(study.rglob("*.tmp")) == []
            assert [path for path in temp.rglob("*") if path.is_file()] == []
        except (AssertionError, OSError, ValueError) as problem:
            raise AssertionError(f"write {n} failed, and then: {problem}") from problem


def count_writes(planned: Plan, machine: Topology, study: Path) -> int:
    with FAULTS.inject((study,), NEVER, NEVER):
        start_in_process(planned, machine, study)
    assert FAULTS.calls > 20
    return FAULTS.calls


def start_in_process(planned: Plan, machine: Topology, study: Path) -> None:
    with contextlib.suppress(NumaBenchError):
        run_study(planned, machine, study)
