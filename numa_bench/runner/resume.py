"""Whether a study may run where one is already, what of it is done, and what is left."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from numa_bench.errors import StoreError
from numa_bench.invocation import resume_arguments
from numa_bench.plan.plan import Plan
from numa_bench.records import DONE, NOT_GRANTED, Record, RunSpec, Status
from numa_bench.study_files import JOURNAL, RESULTS, read_records, read_summary
from numa_bench.study_search import check_debug_directory

#: Settings that change where results go, not what is measured.
_HARMLESS = ("resume_from=", "output.", "isolation.", "dry_run=", "time_limit=")


def check_directory(directory: Path, plan: Plan, overrides: Sequence[str]) -> None:
    """Raise StoreError rather than mix two studies in one directory.

    A new study needs an empty directory, a new debug study one that it may empty. Overrides given
    when resuming may add runs (experiment.repeats) but must not change the runs that are recorded.
    """
    if plan.overwrites:
        check_debug_directory(directory)
        return
    results = directory / RESULTS
    held = results.is_file() or (directory / JOURNAL).is_file()
    if not held:
        return
    if is_restarted(directory, plan):
        return  # the same command line as before, perhaps on other GPUs
    if plan.resume_from is None:
        shown = shlex.join(resume_arguments(directory))
        raise StoreError(
            f"{directory} already holds a study; finish it with {shown}, "
            "or choose another directory"
        )
    given = list_changes(overrides)
    if not given:
        return
    try:
        recorded = {record["run_id"] for record in read_records(results)}
    except StoreError:
        return  # opening the store raises the same error, with what to do about it
    unplanned = recorded - {run.run_id for run in (*plan.runs, *plan.cut)}
    if unplanned:
        raise StoreError(
            f"{' '.join(given)} changes what {directory} has measured ({len(unplanned)} recorded "
            "runs would no longer belong to it); drop it, or start a new study"
        )


def is_restarted(directory: Path, plan: Plan) -> bool:
    """Whether SLURM started the job again that began the study in this directory.

    After a requeue, a preemption or a time-out the same command runs again in the same directory
    and has to continue. A study of another job is not continued.
    """
    job = plan.allocation.job
    if not plan.allocation.restarts or job is None or not (directory / RESULTS).is_file():
        return False
    # Without a summary the job ended before its first run.
    began = read_summary(directory)["allocation"].get("slurm_job", job)
    return bool(began == job)


def find_done(records: Sequence[Record], runs: Iterable[RunSpec] = ()) -> set[str]:
    """Ids of the runs that need not run again.

    A run that an earlier start was not granted the hardware for is done only as long as this one
    is not either. Without `runs`, nothing is known to be granted now.
    """
    granted = {run.run_id for run in runs if run.waived is None}
    return {
        record["run_id"]
        for record in records
        if Status(record["status"]) in DONE
        and not (record["run_id"] in granted and (record["error"] or "").startswith(NOT_GRANTED))
    }


def find_other_runs(records: Sequence[Record], plan: Plan) -> list[str]:
    """A warning where records are of runs that are not planned, as after a change of GPUs."""
    planned = {run.run_id for run in (*plan.runs, *plan.cut)}
    others = sum(record["run_id"] not in planned for record in records)
    if not others:
        return []
    return [
        f"{others} stored runs are not of this start's plan (other GPUs, CPUs or settings were "
        "granted to an earlier start); they are kept"
    ]


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
    return StoredRuns(len(planned), len(planned & find_done(records)))
