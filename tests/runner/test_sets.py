"""Sets of workers: they start together, end together, and leave one record."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from numa_bench.config.schemas.isolation import IsolationConfig
from numa_bench.config.schemas.output import OutputConfig, ProfilerConfig
from numa_bench.isolation.host_locks import HostLocks
from numa_bench.jsonio import read_json
from numa_bench.plan.plan import Plan
from numa_bench.profiling.launch import Profiler
from numa_bench.records import CONTENTION, Member, Record, RunSpec, StreamSpec
from numa_bench.runner import study
from numa_bench.runner.attempt import Host
from numa_bench.runner.command import worker_command
from numa_bench.runner.interrupts import Interrupts
from numa_bench.runner.process import Command
from numa_bench.runner.sets import attempt_set as module
from numa_bench.runner.worker_run import AttemptSettings
from numa_bench.store import StudyStore
from numa_bench.study_files import RunPaths
from numa_bench.worker.memory_kernels.kernels import KernelsUnavailable, load_kernels
from tests.fake_worker import TOPOLOGY, carriers, wait_until
from tests.runner.fake_set import BATCH_MS, READY
from tests.specs import make_spec

pytestmark = pytest.mark.slow

FAKE = Path(__file__).with_name("fake_set.py")
NO_PROFILER = Profiler("none", ProfilerConfig())
SETTINGS = AttemptSettings(OutputConfig().grace_s, 5, 0.0, NO_PROFILER)


def make_set(behaviours: Sequence[str], timeout_s: float = 60.0) -> RunSpec:
    """A set of fake workers w0, w1, ...; those that load are in the background."""
    spec = replace(make_spec(timeout_s=timeout_s), study="sets")
    stream = replace(spec, workload="stream", stream=StreamSpec("copy", 1, 1, until_stopped=True))
    members = tuple(
        Member(f"w{i}", "background", stream) if b == "loads" else Member(f"w{i}", "measured", spec)
        for i, b in enumerate(behaviours)
    )
    whole = replace(
        spec, workload=CONTENTION, scenario="all_local", background="none", members=members
    )
    return whole.with_id("set_r0-000000", 0)


def choose_behaviours(monkeypatch: pytest.MonkeyPatch, sets: Mapping[str, Sequence[str]]) -> None:
    """Start fake workers from now on, with these behaviours by the id of their set."""

    def command(spec: RunSpec, paths: RunPaths, *rest: Any) -> Command:
        real = worker_command(spec, paths, *rest)
        run_id, _, number = spec.run_id.rpartition(".w")
        at = real.argv.index("-m")
        argv = (sys.executable, str(FAKE), sets[run_id][int(number)], *real.argv[at + 2 :])
        return replace(real, argv=argv)

    monkeypatch.setattr(module, "worker_command", command)


class CtrlC(Interrupts):
    """Interrupts as soon as all these files are there."""

    def __init__(self, *signs: Path) -> None:
        super().__init__()
        self._signs = signs
        self._thread = threading.Thread(target=self._wake)

    def __enter__(self) -> CtrlC:
        super().__enter__()
        self._thread.start()
        return self

    def __exit__(self, *ended: object) -> None:
        self._thread.join()
        super().__exit__(*ended)

    def drain(self) -> None:
        super().drain()
        self.count = int(self._is_due())

    def _wake(self) -> None:
        """What a signal does to a loop that waits."""
        wait_until(self._is_due, "a worker that hangs")
        os.write(self._write_fd, b"x")

    def _is_due(self) -> bool:
        return all(sign.is_file() for sign in self._signs)


@pytest.fixture
def attempt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run a set of fake workers; returns its record."""

    def run(*behaviours: str, interrupts: Any = None, **settings: Any) -> Record:
        spec = make_set(behaviours, **settings)
        choose_behaviours(monkeypatch, {spec.run_id: behaviours})
        with StudyStore(tmp_path) as store, Interrupts() as own:
            return module.attempt_set(
                spec,
                SETTINGS,
                store,
                TOPOLOGY,
                Host("here", "environment", HostLocks(IsolationConfig(), TOPOLOGY)),
                interrupts or own,
            )

    return run


def test_a_set_leaves_one_record_with_a_line_for_each_worker(attempt: Any, tmp_path: Path) -> None:
    record = attempt("good", "good", "loads")

    assert (record["status"], record["error"]) == ("passed", None)
    rate = make_spec().test.batch_size / BATCH_MS * 1e3
    assert record["throughput_samples_per_s"] == pytest.approx(2 * rate)
    assert (record["fairness"], record["slowest_worker_share"]) == (1.0, 1.0)
    assert [w["throughput_samples_per_s"] for w in record["workers"]] == [
        pytest.approx(rate),
        pytest.approx(rate),
        None,
    ]
    assert record["workers"][2]["gb_per_s"] == pytest.approx(2.0, rel=1e-6)
    for name in ("w0", "w1", "w2"):
        files = tmp_path / "runs" / "set_r0-000000" / name
        assert read_json(files / "spec.json")["run_id"] == f"set_r0-000000.{name}"
        assert (files / "result.json").is_file()
        assert (tmp_path / "logs" / f"set_r0-000000.{name}.stderr").is_file()


def test_two_real_workers_stream_at_the_same_time(tmp_path: Path) -> None:
    """On this machine: threads that read memory, unbound, with one more in the background."""
    try:
        load_kernels()
    except KernelsUnavailable as reason:
        pytest.skip(str(reason))
    spec = replace(make_spec(min_timed_s=0.2), study="sets", workload="stream")
    measured = replace(spec, stream=StreamSpec("read", 8, 1))
    load = replace(spec, stream=StreamSpec("copy", 8, 1, until_stopped=True))
    members = (
        *(Member(name, "measured", measured) for name in ("a", "b")),
        Member("load", "background", load),
    )
    whole = replace(
        spec, workload=CONTENTION, scenario="socket", background="memory", members=members
    )
    with StudyStore(tmp_path) as store, Interrupts() as interrupts:
        record = module.attempt_set(
            whole.with_id("real_r0-000000", 0),
            SETTINGS,
            store,
            TOPOLOGY,
            Host("here", "environment", HostLocks(IsolationConfig(), TOPOLOGY)),
            interrupts,
        )

    # Three threads on fewer CPUs may take turns so unevenly that too little is left in common.
    assert record["status"] in ("passed", "invalid"), record["error"]
    assert [w["status"] for w in record["workers"]] == ["passed"] * 3
    first, second, beside = (w["window_s"] or [] for w in record["workers"])
    begin, end = max(first[0], second[0]), min(first[1], second[1])
    assert begin < end
    assert beside[0] < begin
    assert beside[1] > end
    assert all(w["gb_per_s"] for w in record["workers"])
    total = sum(w["gb_per_s"] or 0 for w in record["workers"][:2])
    assert record["stream_gb_per_s"] == pytest.approx(total)


def test_without_the_common_start_a_set_is_invalid(attempt: Any) -> None:
    record = attempt("good", "late")

    assert record["status"] == "invalid"
    assert record["error"].startswith("the workers ran together for 50% of the longest window")


@pytest.mark.parametrize(
    ("behaviour", "status", "error"),
    [
        ("dies", "failed", "worker w1: killed"),
        ("leaves", "waived", "worker w1: no such thing"),
    ],
)
def test_one_worker_ends_the_set(attempt: Any, behaviour: str, status: str, error: str) -> None:
    record = attempt("hangs", behaviour, "good")

    assert record["status"] == status
    assert record["error"].startswith(error)
    assert [w["status"] for w in record["workers"]] == ["stopped", status, "stopped"]
    assert record["stderr_log"] == "logs/set_r0-000000.w1.stderr"
    assert record["throughput_samples_per_s"] is None


def test_a_worker_that_hangs_is_named(attempt: Any, tmp_path: Path) -> None:
    record = attempt("good", "hangs", timeout_s=1.0)

    assert record["status"] == "timeout"
    assert "still running: w0, w1" in record["error"]
    assert not carriers(f"NUMA_BENCH_SET={(tmp_path / 'runs/set_r0-000000/spec.json').resolve()}")


def test_ctrl_c_ends_all_workers(attempt: Any, tmp_path: Path) -> None:
    with CtrlC(tmp_path / "runs/set_r0-000000/w0" / READY) as interrupts:
        record = attempt("hangs", "good", interrupts=interrupts)

    assert (record["status"], record["error"]) == ("interrupted", "interrupted by the user")
    assert not carriers(f"NUMA_BENCH_SET={(tmp_path / 'runs/set_r0-000000/spec.json').resolve()}")


def test_a_study_interrupted_in_a_set_is_resumed_with_that_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cell = make_set(["", ""])
    runs = tuple(cell.with_id(f"set_r{repeat}-000000", repeat) for repeat in range(3))
    first, second, third = (run.run_id for run in runs)
    files = tmp_path / "runs" / second
    plan = Plan(
        "sets", (cell,), runs, OutputConfig(), order="sequential", order_seed=0,
        monitor_interval_s=0.0,
    )  # fmt: skip
    with monkeypatch.context() as patch:
        choose_behaviours(patch, {first: ["good", "good"], second: ["good", "hangs_later"]})
        signs = files / "w0" / "result.json", files / "w1" / READY
        patch.setattr(study, "Interrupts", lambda: CtrlC(*signs))
        with pytest.raises(KeyboardInterrupt):
            study.run_study(plan, TOPOLOGY, tmp_path)
    before = {r["run_id"]: r for r in read_json(tmp_path / "results.json")}
    assert [(r["status"], r["attempt"]) for r in before.values()] == [
        ("passed", 1),
        ("interrupted", 1),
    ]
    left = {name: read_json(files / name / "result.json") for name in ("w0", "w1")}

    # The first one would fail, if it ran again.
    choose_behaviours(monkeypatch, {first: ["dies"] * 2, second: ["good"] * 2, third: ["good"] * 2})
    study.run_study(plan, TOPOLOGY, tmp_path)

    records = read_json(tmp_path / "results.json")
    after = {r["run_id"]: r for r in records}
    assert len(records) == len(after) == 3
    assert after[first] == before[first]
    assert [(after[i]["status"], after[i]["attempt"]) for i in (second, third)] == [
        ("passed", 2),
        ("passed", 1),
    ]
    for worker in after[second]["workers"]:
        name = worker["name"]
        kept = files / "attempt1" / name
        assert read_json(kept / "result.json") == left[name]
        assert read_json(kept / "spec.json")["run_id"] == f"{second}.{name}"
        for stream in ("stdout", "stderr"):
            assert (kept / f"{second}.{name}.{stream}").is_file()
        now = read_json(files / name / "result.json")["observed"]["window_host_s"]
        assert worker["window_s"] == now != left[name]["observed"]["window_host_s"]
    assert (files / "attempt1" / "spec.json").is_file()
