"""A sweep whose jobs are measured as one study: -m ... interleave=true.

Its jobs are composed and checked as those of any sweep. Then Hydra is started again for a single
study, that of the first job, which gets the cells of all jobs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from hydra._internal.utils import get_args_parser

from numa_bench.config.hydra.overrides import MULTIRUN_OPTIONS
from numa_bench.config.jobs import StudyJob


@dataclass(frozen=True)
class InterleavedSweep:
    """The jobs of an interleaved sweep.

    `typed` are the overrides of the command line, and `first` those of its first job.
    """

    jobs: tuple[StudyJob, ...]
    typed: tuple[str, ...]
    first: tuple[str, ...]


class InterleavedStart(BaseException):
    """Ends Hydra's sweep before it has done anything, so that one study can be run in its place.

    No Exception: Hydra turns those of its callbacks into warnings.
    """

    def __init__(self, sweep: InterleavedSweep) -> None:
        super().__init__()
        self.sweep = sweep


_current: InterleavedSweep | None = None
_typed: list[str] = []


def enter_interleaved() -> InterleavedSweep | None:
    """The interleaved sweep whose study starts in this process, or None.

    From here on sys.argv is again what the user typed, which the study records.
    """
    if _current is not None:
        sys.argv[1:] = _typed
    return _current


def run_interleaved(sweep: InterleavedSweep, app: Callable[[], None]) -> None:
    """Run Hydra's application once, for all jobs of a sweep."""
    global _current, _typed
    _current, _typed = sweep, sys.argv[1:]
    overrides = get_args_parser().parse_args(_typed).overrides
    options = [word for word in _typed if word not in (*overrides, *MULTIRUN_OPTIONS)]
    sys.argv[1:] = [*options, *sweep.first, "hydra.mode=RUN"]
    try:
        app()
    finally:
        sys.argv[1:] = _typed
        _current = None
