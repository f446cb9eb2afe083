"""Sweeps of real jobs with fake workers: failures of every kind, Ctrl-C, a killed sweep."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from numa_bench.jsonio import read_json
from numa_bench.study_files import SWEEP_SUMMARY
from tests.conftest import RUNNER
from tests.fake_worker import PROJECT, READY, carriers, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LAUNCHERS = {
    "basic": (),
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "isolation.exclusive=gpu"),
}
by_launcher = pytest.mark.parametrize("launcher", LAUNCHERS)
STUDY = (
    "experiment=quick_test",
    "experiment.vit_configs=[{depth: 0}]",
    "experiment.hardware.numa_nodes=null",
    "output.grace_s=20",
    "tracking=none",
    "profiler=none",
)


@contextmanager
def sweeping(
    folder: Path, launcher: str, *behaviours: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A sweep with one job for each behaviour; its process, and the variable of all processes."""
    token = f"SWEEP_TEST={uuid.uuid4().hex}"
    sizes = ",".join(str(n) for n in range(1, len(behaviours) + 1))
    path = os.pathsep.join(map(str, (PROJECT / "tests" / "sweep" / "stand_in", PROJECT)))
    with subprocess.Popen(
        [
            *(sys.executable, str(RUNNER), "-m", *STUDY, *LAUNCHERS[launcher]),
            f"experiment.test.batch_size={sizes}",
        ],
        cwd=folder,
        env={
            **os.environ,
            **dict([token.split("=")]),
            "PYTHONPATH": path,
            "NUMA_BENCH_LOCKS": str(folder / "locks"),
            "SWEEP_BEHAVIOURS": ",".join(behaviours),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process, token
        finally:
            process.kill()
            for pid in carriers(token):
                os.kill(pid, signal.SIGKILL)


def read_sweep(folder: Path) -> dict[str, Any]:
    """The only sweep_summary.json below a folder."""
    (path,) = folder.glob(f"outputs/multirun/*/*/{SWEEP_SUMMARY}")
    return dict(read_json(path))


def wait_for_jobs(folder: Path, count: int) -> None:
    """Wait until a worker hangs and so many jobs run; all others wait for the worker's node."""
    workers = f"outputs/multirun/*/*/*/runs/*/{READY}"
    studies = "outputs/multirun/*/*/*/experiment_summary.json"
    wait_until(lambda: list(folder.glob(workers)), "a worker", limit_s=120)
    wait_until(lambda: len(list(folder.glob(studies))) == count, "jobs", limit_s=120)


@by_launcher
def test_jobs_that_fail_or_die_stop_no_other(tmp_path: Path, launcher: str) -> None:
    behaviours = ("good", "invalid", "kill_job", "crash_job", "exit_job", "good")
    with sweeping(tmp_path, launcher, *behaviours) as (process, token):
        output, _ = process.communicate()

        assert process.returncode == 1, output
        assert carriers(token) == []
    summary = read_sweep(tmp_path)
    jobs = summary["jobs"]
    assert [job["state"] for job in jobs] == [
        *("passed", "failed", "crashed", "crashed", "crashed", "passed")
    ]
    assert [job["counts"] for job in jobs] == [
        *({"passed": 1}, {"invalid": 1}, {}, {}, {}, {"passed": 1})
    ]
    assert "memory was elsewhere" in jobs[1]["errors"][0]
    reasons = ("killed by SIGKILL", "killed by SIGSEGV", "exited with status 0 by itself")
    for job, reason in zip(jobs[2:5], reasons, strict=True):
        assert reason in job["errors"][0]
    assert (summary["finished"], summary["interrupted"]) == (True, False)
    # The table, and below it each failure with the line that repeats it.
    below = output.splitlines()
    below = below[next(i for i, line in enumerate(below) if line.startswith("sweep: 6 jobs")) :]
    repeats = [line.partition("to repeat: ")[2] for line in below if "to repeat: " in line]
    assert repeats == [job["repeat"] for job in jobs[1:5]]
    assert [shlex.split(line)[-1].rpartition("/")[2] for line in repeats] == ["1", "2", "3", "4"]


@by_launcher
def test_ctrl_c_ends_all_jobs_and_says_how_to_go_on(tmp_path: Path, launcher: str) -> None:
    running = len(LAUNCHERS[launcher][:1]) + 1
    with sweeping(tmp_path, launcher, "hang", "hang", "good") as (process, token):
        wait_for_jobs(tmp_path, running)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate()

        assert process.returncode == 130, output
        assert carriers(token) == []
    assert "Traceback" not in output
    summary = read_sweep(tmp_path)
    states = ["interrupted"] * running + ["waiting"] * (3 - running)
    assert [job["state"] for job in summary["jobs"]] == states
    assert summary["run_counts"] == {"interrupted": running}, output
    assert summary["interrupted"]
    last = output.splitlines()[-1]
    assert last.startswith("interrupted: 3 of 3 jobs are not done; to run what is left: ")
    (folder,) = tmp_path.glob("outputs/multirun/*/*")
    assert last.endswith(f"resume_from={folder.relative_to(tmp_path)}")


def test_a_killed_sweep_leaves_no_process_and_what_is_known(tmp_path: Path) -> None:
    with sweeping(tmp_path, "joblib", "hang", "hang", "good") as (process, token):
        wait_for_jobs(tmp_path, 2)
        process.kill()
        process.communicate()

        wait_until(lambda: carriers(token) == [], "the jobs end with the sweep")
    summary = read_sweep(tmp_path)
    assert [job["state"] for job in summary["jobs"]] == ["running", "running", "waiting"]
    for job in (0, 1):
        (records,) = tmp_path.glob(f"outputs/multirun/*/*/{job}/results.json")
        assert [record["status"] for record in read_json(records)] == ["interrupted"]
