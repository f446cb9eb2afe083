"""The interface of a tracker, and the views of runs and studies that it logs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from numa_bench.errors import NumaBenchError


class TrackingError(NumaBenchError):
    """A tracker is not installed, refuses, or does not answer. Messages hold no credentials."""


@dataclass(frozen=True)
class RunView:
    """One stored run, ready to be logged. Times are seconds since the epoch.

    `params` are texts and numbers of the resolved spec; `metrics` have the record's own names;
    `series` holds per-batch values by stage, (step, value); `files` are worth keeping with it.
    """

    run_id: str
    fingerprint: str
    status: str
    start_s: float
    end_s: float
    params: dict[str, Any]
    metrics: dict[str, float]
    read_series: Callable[[], dict[str, list[tuple[int, float]]]]
    tags: dict[str, str]
    files: tuple[Path, ...] = ()

    @property
    def series(self) -> dict[str, list[tuple[int, float]]]:
        """Read on access: raw samples are large, and most runs have been logged before."""
        return self.read_series()


@dataclass(frozen=True)
class StudyView:
    """A study, or the sweep that it is a job of, as a tracker's parent run.

    `key` is its permanent name, `title` its name for people; `experiment` is the study's name.
    `metrics` and `summary` (Markdown) cover the whole parent: all jobs of a sweep.
    """

    directory: Path
    root: Path  # of the sweep, or the study itself
    key: str
    title: str
    experiment: str
    started_s: float
    metrics: dict[str, float]
    params: dict[str, Any]
    tags: dict[str, str]
    summary: str
    files: tuple[Path, ...]
    runs: tuple[RunView, ...] = field(default=())


class Tracker(Protocol):
    """One place to log to. Every call may raise anything; callers handle it.

    Runs may be logged more than once and must not appear twice.
    """

    name: str
    #: The name of the place, without credentials. Another place gets all runs again.
    target: str

    def open(self, study: StudyView) -> None:
        """Connect, and find or create the parent run."""
        ...

    def log_run(self, study: StudyView, run: RunView) -> None:
        """Log one run below the parent, completely or not at all."""
        ...

    def log_study(self, study: StudyView) -> None:
        """Update the parent run."""
        ...

    def log_files(self, study: StudyView, files: tuple[Path, ...], below: str) -> None:
        """Log more files with the parent run, in the folder `below`."""
        ...

    def hint(self, directory: Path) -> str:
        """The command that shows a study, for the user to type; in a second line its address."""
        ...

    def close(self) -> None:
        """Release all resources."""
        ...
