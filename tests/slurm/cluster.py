"""Sweeps on a real SLURM: start one, look at its jobs, wait for what they store."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from numa_bench.jsonio import read_json
from tests.conftest import PROJECT

#: Also for the two minutes that SLURM waits before it restarts a job.
WAIT_S = 600.0
POLL_S = 0.5
#: Quick runs on the CPU, of which several fit on one node at a time.
QUICK = (
    "experiment.hardware.device=cpu",
    "experiment.hardware.numa_nodes=unbound",
    "experiment.vit_configs=[{patch_size:32,depth:1,dim:64}]",
    "experiment.test.image_size=64",
    "experiment.test.num_samples=40",
    "experiment.test.warmup_samples=4",
    "experiment.test.memory_size_mb=4",
    "profiler=none",
    "tracking=none",
    "~hydra.launcher.additional_parameters.exclusive",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.mem_gb=2",
)
Records = list[dict[str, Any]]


class Sweep:
    """A sweep of `experiment=slurm_sweep` that runs in `folder`."""

    def __init__(self, folder: Path, *overrides: str) -> None:
        self.folder = folder
        self.output = folder / "output"
        argv = [sys.executable, str(PROJECT / "hydra_experiment_runner.py"), "-m"]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*argv, "experiment=slurm_sweep", *QUICK, *overrides],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(PROJECT)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def close(self) -> None:
        """End the launcher and its jobs."""
        self.process.kill()
        self.process.wait()
        for job in self.list_jobs():
            subprocess.run(["scancel", job], check=False)

    def list_jobs(self) -> list[str]:
        """SLURM ids of the jobs (of an array: ID_TASK), by number."""
        found = self.folder.glob("outputs/multirun/*/*/.submitit/[0-9]*")
        names = {path.name for path in found if path.is_dir()}
        # A single job is no array. The array itself has a folder, too.
        tasks = {name for name in names if "_" in name} or names
        return sorted(tasks, key=lambda name: int(name.rpartition("_")[2]))

    def read(self, job: int) -> Records:
        """The records of a job, which must be complete JSON; empty before there are any."""
        paths = list(self.folder.glob(f"outputs/multirun/*/*/{job}/results.json"))
        return read_json(paths[0]) if paths else []

    def read_summary(self, job: int) -> dict[str, Any]:
        (path,) = self.folder.glob(f"outputs/multirun/*/*/{job}/experiment_summary.json")
        summary: dict[str, Any] = read_json(path)
        return summary

    def is_measuring(self, job: int, after: int) -> bool:
        """Whether a run is in flight, and so many are stored."""
        running = list(self.folder.glob(f"outputs/multirun/*/*/{job}/runs/*/spec.json"))
        return len(self.read(job)) >= after and len(running) > len(self.read(job))

    def wait(self) -> tuple[int, str]:
        """Exit code and output of the launcher when it has ended."""
        code = self.process.wait(timeout=WAIT_S)
        return code, self.output.read_text()


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Poll until a condition holds. Raises AssertionError after WAIT_S."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {WAIT_S:.0f} s"
        time.sleep(POLL_S)


def call(*argv: str) -> str:
    """Run a command of SLURM; its output. Raises AssertionError with its error."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
    return done.stdout


def read_state(job: str) -> str:
    """The state of a job as the controller has it, such as RUNNING."""
    shown = call("scontrol", "show", "job", job)
    return shown.split("JobState=")[1].split()[0]


def statuses(records: Sequence[dict[str, Any]]) -> list[str]:
    """The statuses of records in their order."""
    return [record["status"] for record in records]
