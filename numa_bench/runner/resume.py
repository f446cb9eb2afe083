"""Whether a study may run in a directory that already holds one, and what is left of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from numa_bench.errors import StoreError
from numa_bench.invocation import resume_arguments
from numa_bench.plan.plan import Plan
from numa_bench.records import DONE, Record, Status
from numa_bench.study_files import RESULTS, read_records, read_summary

#: Settings that change where results go, not what is measured.
_HARMLESS = ("resume_from=", "output.", "isolation.", "dry_run=", "time_limit=")


def check_directory(directory: Path, plan: Plan, overrides: Sequence[str]) -> None:
    """Raise StoreError rather than mix two studies in one directory.

    A new study needs an empty directory. Overrides given when resuming may add runs
    (experiment.repeats) but must not change the runs that are already recorded.
    """
    results = directory / RESULTS
    if plan.debug or not results.is_file():
        return
    if plan.resume_from is None:
        shown = shlex.join(resume_arguments(directory))
        raise StoreError(
            f"{directory} already holds a study; finish it with {shown}, "
            "or choose another directory"
        )
    given = list_changes(overrides)
    try:
        recorded = {record["run_id"] for record in read_records(results)}
    except StoreError:
        return  # opening the store raises the same error, with what to do about it
    unplanned = recorded - {run.run_id for run in (*plan.runs, *plan.cut)}
    if given and unplanned:
        raise StoreError(
            f"{' '.join(given)} changes what {directory} has measured ({len(unplanned)} recorded "
            "runs would no longer belong to it); drop it, or start a new study"
        )


def list_changes(overrides: Sequence[str]) -> list[str]:
    """Those of the overrides that may change what a study measures."""
    return [override for override in overrides if not override.startswith(_HARMLESS)]


def read_stored(directory: Path, plan: Plan) -> list[Record] | None:
    """The records of the study that a plan resumes; None if it resumes none. Raises StoreError."""
    if plan.resume_from is None:
        return None
    results = directory / RESULTS
    return read_records(results) if results.is_file() else []


@dataclass(frozen=True)
class StoredRuns:
    """What a study's files say of its runs, without planning it again.

    `planned` is 0 where the study was killed before it wrote its plan. `done` are the planned runs
    that need not run again.
    """

    planned: int
    done: int

    @property
    def is_finished(self) -> bool:
        """Whether every planned run is done."""
        return 0 < self.planned == self.done


def count_stored(directory: Path) -> StoredRuns:
    """Read how far a study got; a directory without results has no runs. Raises StoreError."""
    if not (directory / RESULTS).is_file():
        return StoredRuns(0, 0)
    planned = set(read_summary(directory)["run_order"])
    records = read_records(directory / RESULTS)
    done = {record["run_id"] for record in records if Status(record["status"]) in DONE}
    return StoredRuns(len(planned), len(planned & done))
