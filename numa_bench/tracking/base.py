"""What a tracker is, and what it is given."""

from __future__ import annotations

from collections.abc import Callable
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
    read_series: Callable[[], dict[str, list[tuple[int, float]]]]
    tags: dict[str, str]
    files: tuple[Path, ...] = ()

    @property
    def series(self) -> dict[str, list[tuple[int, float]]]:
        """Read when it is asked for: raw samples are large, and most runs were logged before."""
        return self.read_series()


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
