"""What a tracker is, and what it is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from numa_bench.errors import NumaBenchError


class TrackingError(NumaBenchError):
    """A tracker is missing, refuses, or does not answer. The message holds no credentials."""


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
    series: dict[str, list[tuple[int, float]]]
    tags: dict[str, str]
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class StudyView:
    """A study, or the sweep that it is a job of, as a tracker's parent run.

    `key` names it for ever and `title` for people; `experiment` is the study's name. `metrics`
    and `summary` (Markdown) are of the whole parent: all jobs of a sweep.
    """

    directory: Path
    root: Path  # of the sweep, or the study itself
    key: str
    title: str
    experiment: str
    started_s: float
    finished: bool
    metrics: dict[str, float]
    params: dict[str, Any]
    tags: dict[str, str]
    summary: str
    files: tuple[Path, ...]
    runs: tuple[RunView, ...] = field(default=())


class Tracker(Protocol):
    """One place to log to. Every call may raise anything; the caller bears it.

    What was logged before may be logged again and must not appear twice.
    """

    name: str
    #: Names the place, without credentials, so that another place gets everything anew.
    target: str

    def open(self, study: StudyView) -> None:
        """Connect, and find or make the parent run."""
        ...

    def log_run(self, study: StudyView, run: RunView) -> None:
        """Log one run below the parent, completely or not at all."""
        ...

    def log_study(self, study: StudyView) -> None:
        """Bring the parent up to date."""
        ...

    def log_files(self, study: StudyView, files: tuple[Path, ...], below: str) -> None:
        """Keep more files with the parent, under a folder of that name."""
        ...

    def hint(self, directory: Path) -> str:
        """The command that shows a study, for a person to type."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...
