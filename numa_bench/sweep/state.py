"""The jobs of a sweep and how each is going, in memory and in sweep_summary.json."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypedDict, cast

from numa_bench.errors import StoreError
from numa_bench.invocation import resume_command
from numa_bench.jsonio import read_object, write_json
from numa_bench.records import DONE, Record, Status
from numa_bench.runner.attempt import utc_timestamp
from numa_bench.runner.resume import find_done
from numa_bench.runner.study_summary import shown_path
from numa_bench.study_files import RESULTS, SWEEP_SUMMARY, read_records, read_summary

SCHEMA_VERSION = 1
#: The most failed runs of a job that the summary names.
_SHOWN_RUNS = 3


class JobState(str, Enum):
    """How a job of a sweep is going. `refused`: it could not start; `crashed`: its process died."""

    WAITING = "waiting"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    REFUSED = "refused"
    CRASHED = "crashed"
    INTERRUPTED = "interrupted"


#: What needs attention, and the exit code that it gives the sweep.
FAILURES = {JobState.FAILED: 1, JobState.CRASHED: 1, JobState.REFUSED: 2}


class JobSummary(TypedDict):
    """A job in sweep_summary.json.

    `directory` is relative to that of the sweep. `differs`: the overrides that not all jobs share.
    `runs`: how many runs the job has; null where they are not known before it starts. `counts`:
    stored runs by status. `errors`: what went wrong, a line each. `repeat`: the command that runs
    what is not done; null where nothing is left.
    """

    job: int
    directory: str
    overrides: list[str]
    differs: str
    state: str
    runs: int | None
    counts: dict[str, int]
    errors: list[str]
    repeat: str | None
    started: str | None
    duration_s: float | None


class SweepSummary(TypedDict):
    """sweep_summary.json. Times are UTC in ISO 8601; `finished`: no job is running or waiting."""

    schema_version: int
    started: str
    updated: str
    finished: bool
    interrupted: bool
    job_states: dict[str, int]
    run_counts: dict[str, int]
    jobs: list[JobSummary]


@dataclass
class Job:
    """A job of a sweep. `left_s` are the seconds that its pending runs are expected to take."""

    number: int
    directory: Path
    overrides: tuple[str, ...]
    differs: str
    runs: int | None = None
    left_s: float = 0.0
    state: JobState = JobState.WAITING
    counts: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    started: str | None = None
    duration_s: float | None = None

    @property
    def name(self) -> str:
        """Number and overrides, as errors name a job."""
        return f"job {self.number} ({self.differs or 'no override'})"

    def begin(self) -> None:
        """Note that the job starts."""
        self.state, self.started, self.errors = JobState.RUNNING, utc_timestamp(), []

    def end(self, state: JobState, error: str | None, duration_s: float) -> None:
        """Note how the job ended; its runs are read from its directory."""
        self.duration_s, self.left_s = (self.duration_s or 0.0) + duration_s, 0.0
        self.read_study()
        self.state = state
        # That some run failed is said better by its record.
        if error is not None and not (state is JobState.FAILED and self.errors):
            self.errors = [error, *self.errors]

    def read_study(self) -> None:
        """Take state, counts and errors from the study in the job's directory, if there is one."""
        if not (self.directory / RESULTS).is_file():
            return
        try:
            records = read_records(self.directory / RESULTS)
        except StoreError as error:
            self.state, self.errors = JobState.FAILED, [str(error)]
            return
        order = read_summary(self.directory)["run_order"]
        self.runs = len(order) or self.runs
        self.counts = dict(Counter(record["status"] for record in records))
        self.errors = _describe_failures(records)
        if self.errors:
            self.state = JobState.FAILED
        else:
            finished = bool(order) and find_done(records).issuperset(order)
            self.state = JobState.PASSED if finished else JobState.INTERRUPTED

    def summarize(self, sweep: Path) -> JobSummary:
        """The job's entry in sweep_summary.json."""
        over = self.state in (JobState.PASSED, JobState.RUNNING)
        return {
            "job": self.number,
            "directory": os.path.relpath(self.directory, sweep),
            "overrides": list(self.overrides),
            "differs": self.differs,
            "state": self.state.value,
            "runs": self.runs,
            "counts": self.counts,
            "errors": self.errors,
            "repeat": None if over else resume_command(shown_path(self.directory)),
            "started": self.started,
            "duration_s": self.duration_s,
        }


@dataclass
class Sweep:
    """A sweep: all its jobs, and the indices of those that this start runs, in Hydra's order."""

    directory: Path
    jobs: list[Job]
    launched: list[int]
    started: str = field(default_factory=utc_timestamp)
    begin: float = field(default_factory=time.monotonic)
    interrupted: bool = False

    def find_job(self, number: int, overrides: Sequence[str]) -> Job:
        """The job with this number of this start; a new one where jobs are not known before."""
        while number >= len(self.launched):
            added = len(self.jobs)
            self.launched.append(added)
            self.jobs.append(
                Job(added, self.directory / str(added), tuple(overrides), ",".join(overrides))
            )
        return self.jobs[self.launched[number]]

    @property
    def running(self) -> list[Job]:
        """The jobs of this start."""
        return [self.jobs[index] for index in self.launched]

    @property
    def exit_code(self) -> int:
        """That of the worst job of this start."""
        return max((FAILURES.get(job.state, 0) for job in self.running), default=0)

    def summarize(self) -> SweepSummary:
        """What sweep_summary.json contains now."""
        open_states = (JobState.WAITING, JobState.RUNNING)
        runs: Counter[str] = Counter()
        for job in self.jobs:
            runs.update(job.counts)
        return {
            "schema_version": SCHEMA_VERSION,
            "started": self.started,
            "updated": utc_timestamp(),
            "finished": all(job.state not in open_states for job in self.jobs),
            "interrupted": self.interrupted,
            "job_states": dict(Counter(job.state.value for job in self.jobs)),
            "run_counts": dict(runs),
            "jobs": [job.summarize(self.directory) for job in self.jobs],
        }

    def save(self) -> None:
        """Write sweep_summary.json. Raises OSError."""
        write_json(self.directory / SWEEP_SUMMARY, self.summarize())


def load_sweep(directory: Path) -> Sweep | None:
    """The sweep of a directory as its sweep_summary.json has it; None without a usable one."""
    found = read_object(directory / SWEEP_SUMMARY)
    if found.get("schema_version") != SCHEMA_VERSION:
        return None
    summary = cast(SweepSummary, found)
    jobs = [
        Job(
            job["job"],
            directory / job["directory"],
            tuple(job["overrides"]),
            job["differs"],
            job["runs"],
            state=JobState(job["state"]),
            counts=job["counts"],
            errors=job["errors"],
            started=job["started"],
            duration_s=job["duration_s"],
        )
        for job in summary["jobs"]
    ]
    for job in jobs:
        if job.state is JobState.RUNNING:  # the process that wrote it was killed
            job.state = JobState.INTERRUPTED
            job.read_study()
    return Sweep(directory, jobs, [], started=summary["started"])


def _describe_failures(records: Sequence[Record]) -> list[str]:
    """The first failed runs with their errors, a line each."""
    failed = [r for r in records if Status(r["status"]) not in (*DONE, Status.INTERRUPTED)]
    lines = [
        f"{r['run_id']}: {r['status']}: {(r['error'] or '').splitlines()[0] if r['error'] else ''}"
        for r in failed[:_SHOWN_RUNS]
    ]
    if len(failed) > _SHOWN_RUNS:
        lines.append(f"and {len(failed) - _SHOWN_RUNS} more runs")
    return lines
