"""Studies of several processes on one host, with fake workers."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from numa_bench.config.schemas.isolation import IsolationConfig
from numa_bench.isolation.host_locks import HostLocks
from numa_bench.jsonio import read_json
from numa_bench.records import JsonDict
from tests.fake_worker import GO, LIMIT_S, PROJECT, READY, TOPOLOGY, drive_argv, wait_until
from tests.isolation.test_resources import spec_on

pytestmark = pytest.mark.slow
NODE0 = spec_on(0, 0)


@contextmanager
def driving(directory: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A study in a process of its own; its output is what `communicate` returns."""
    with subprocess.Popen(
        drive_argv(directory, *words),
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=(directory.parent / f"{directory.name}.log").open("w"),
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def shown_by(directory: Path) -> str:
    return (directory.parent / f"{directory.name}.log").read_text()


def worker_files(directory: Path) -> Path:
    """Where the only worker of a study leaves its notes, once it is there."""
    wait_until(lambda: list(directory.glob(f"runs/*/{READY}")), "a worker")
    return next(directory.glob(f"runs/*/{READY}")).parent


def only_record(directory: Path) -> JsonDict:
    (record,) = read_json(directory / "results.json")
    return dict(record)


def may_measure(limit_s: float | None) -> bool:
    locks = HostLocks(IsolationConfig(wait_limit_s=limit_s), TOPOLOGY)
    with locks.hold(NODE0) as turn:
        return turn.problem is None


def test_second_study_waits_and_its_timeout_does_not_run(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with driving(first, "waits_for_go") as one:
        notes = worker_files(first)
        with driving(second, "timed") as other:
            wait_until(lambda: "waits for the host" in shown_by(second), "a wait that is shown")
            # The time limit is one of its process, which does not exist yet.
            assert f"which process {one.pid} of " in shown_by(second)
            assert not list(second.glob("runs/*"))
            assert read_json(second / "results.json") == []
            (notes / GO).touch()
            assert [one.wait(LIMIT_S), other.wait(LIMIT_S)] == [0, 0]

    assert only_record(first)["lock_wait_s"] < only_record(second)["lock_wait_s"]
    assert only_record(second)["shared_host"] is False


def test_worker_that_outlives_its_runner_keeps_the_locks(tmp_path: Path) -> None:
    study = tmp_path / "study"
    with driving(study, "waits_for_go") as runner:
        notes = worker_files(study)
        runner.send_signal(signal.SIGKILL)
        runner.wait(LIMIT_S)

        assert not may_measure(limit_s=0.0)
        (notes / GO).touch()
        assert may_measure(limit_s=LIMIT_S)


def test_limit_of_waiting_is_recorded(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with driving(first, "waits_for_go") as one:
        notes = worker_files(first)
        with driving(second, "good", "--wait-limit-s", "0") as other:
            assert other.wait(LIMIT_S) == 1
        (notes / GO).touch()
        assert one.wait(LIMIT_S) == 0

    record = only_record(second)
    assert record["status"] == "failed"
    assert record["exit_code"] is None
    assert record["error"].startswith(
        "could not be started: it waited isolation.wait_limit_s=0 for the host, which process "
        f"{one.pid} of "
    )


def test_interrupted_while_it_waits(tmp_path: Path) -> None:
    study = tmp_path / "study"
    locks = HostLocks(IsolationConfig(), TOPOLOGY)
    with locks.hold(NODE0), driving(study, "good") as runner:
        wait_until(lambda: "waits for the host" in shown_by(study), "a wait that is shown")
        runner.send_signal(signal.SIGINT)
        assert runner.wait(LIMIT_S) == 130

    record = only_record(study)
    assert record["status"] == "interrupted"
    assert record["error"].startswith("interrupted by the user while it waited for the host, which")
    assert f"process {os.getpid()} of " in record["error"]


def test_two_gpus_at_once_and_never_two_runs_on_one(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    with (
        driving(first, "waits_for_go", "--exclusive", "gpu", "--gpu", "0") as one,
        driving(second, "waits_for_go", "--exclusive", "gpu", "--gpu", "1") as two,
    ):
        notes = [worker_files(study) for study in (first, second)]  # both run now
        with driving(third, "good", "--exclusive", "gpu", "--gpu", "0") as three:
            wait_until(lambda: "waits for the gpu-0" in shown_by(third), "a wait that is shown")
            assert not list(third.glob("runs/*"))
            for note in notes:
                (note / GO).touch()
            assert [p.wait(LIMIT_S) for p in (one, two, three)] == [0, 0, 0]

    assert all(only_record(study)["shared_host"] for study in (first, second, third))
