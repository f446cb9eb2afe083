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
from importlib.util import find_spec
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
    "ray": ("hydra/launcher=ray",),
}
without_ray = pytest.mark.skipif(
    find_spec("hydra_plugins.hydra_ray_launcher") is None, reason="Ray's plugin is not installed"
)
by_launcher = pytest.mark.parametrize("launcher", ["basic", "joblib"])
by_launcher_or_ray = pytest.mark.parametrize(
    "launcher", ["basic", "joblib", pytest.param("ray", marks=without_ray)]
)
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
    folder: Path, launcher: str, *behaviours: str, more: tuple[str, ...] = ()
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A sweep with one job for each behaviour; its process, and the variable of all processes."""
    sizes = ",".join(str(n) for n in range(1, len(behaviours) + 1))
    words = ("-m", *STUDY, *LAUNCHERS[launcher], f"experiment.test.batch_size={sizes}", *more)
    with starting(folder, words, *behaviours) as started:
        yield started


@contextmanager
def starting(
    folder: Path, words: tuple[str, ...], *behaviours: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The runner with these words and a behaviour for each batch size, as `sweeping`."""
    token = f"SWEEP_TEST={uuid.uuid4().hex}"
    path = os.pathsep.join(map(str, (PROJECT / "tests" / "sweep" / "stand_in", PROJECT)))
    with subprocess.Popen(
        [sys.executable, str(RUNNER), *words],
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
    logs = "outputs/multirun/*/*/*/experiment.log"
    wait_until(lambda: list(folder.glob(workers)), "a worker", limit_s=120)

    def count_started() -> int:
        return sum("start cpu" in log.read_text() for log in folder.glob(logs))

    wait_until(lambda: count_started() == count, "jobs", limit_s=120)


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


def test_a_sweep_over_experiments_has_one_summary_and_is_finished_from_any_folder(
    tmp_path: Path,
) -> None:
    names = ("experiment.name=first,second",)
    with sweeping(tmp_path, "basic", "good", "raises", more=names) as (process, _):
        output, _ = process.communicate()
        assert process.returncode == 1, output
    (mixed,) = tmp_path.glob("outputs/multirun/mixed/*")
    summary = read_sweep(tmp_path)
    assert {job["directory"]: job["state"] for job in summary["jobs"]} == {
        f"../../first/{mixed.name}/0": "passed",
        f"../../second/{mixed.name}/1": "passed",
        f"../../first/{mixed.name}/2": "failed",
        f"../../second/{mixed.name}/3": "failed",
    }
    for job in summary["jobs"]:
        assert (mixed / job["directory"] / "results.json").is_file()
    assert summary["run_counts"] == {"passed": 2, "failed": 2}
    assert "sweep: 4 jobs" in output

    folder = f"outputs/multirun/second/{mixed.name}"
    with starting(tmp_path, (f"resume_from={folder}",), "raises", "good") as (process, _):
        output, _ = process.communicate()
        assert process.returncode == 0, output
    summary = read_sweep(tmp_path)
    assert [job["state"] for job in summary["jobs"]] == ["passed"] * 4
    assert summary["run_counts"] == {"passed": 4}
