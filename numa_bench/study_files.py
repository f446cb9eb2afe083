"""The files of a study: their names, where they are, and how they are found and read.

Everything that needs one of these names imports it from here. `store` writes the files; the worker
gets its paths as arguments and does not import this module.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from numa_bench.errors import StoreError
from numa_bench.jsonio import read_json, read_object
from numa_bench.labels import list_first
from numa_bench.records import Record, Summary
from numa_bench.records.journal import merge_records, read_journal
from numa_bench.records.upgrade import complete_summary, upgrade_record

logger = logging.getLogger(__name__)
#: A directory with this file is a study.
RESULTS = "results.json"
#: Records that results.json does not have yet; whoever reads one reads both.
JOURNAL = "results.jsonl"
SUMMARY = "experiment_summary.json"
TOPOLOGY = "topology.json"
#: Which runs each tracker has.
TRACKING = "tracking.json"
LOG = "experiment.log"
#: In a copy that `numa-bench collect` made: where it is from, and the SHA-256 of each file.
COLLECTED = "collected.json"
#: Written by Hydra: the overrides of a single run, and the settings of a whole sweep.
OVERRIDES = Path(".hydra") / "overrides.yaml"
MULTIRUN = "multirun.yaml"
#: Of a sweep: its jobs and how each ended, and what the processes of its jobs printed.
SWEEP_SUMMARY, JOB_LOGS = "sweep_summary.json", "job_logs"
#: In place of a study's name: the folder of a sweep over several experiments.
MIXED = "mixed"
SWEEPS = "multirun"  # in an output root; below it <experiment>/<time>
RESOLVED_CONFIG = Path(".hydra") / "config_resolved.yaml"
#: Of an interleaved sweep: the overrides and the resolved experiment of each job.
RESOLVED_JOBS = Path(".hydra") / "jobs_resolved.yaml"

#: Held by the process that runs the study.
STUDY_LOCK = ".lock"
#: Held while a report is exported or a tracker is fed; workers wait for it.
BUSY_LOCK = ".busy.lock"
#: Held while a tracker creates or updates the parent run that the jobs of a sweep share.
TRACKING_LOCK = ".tracking.lock"

RUNS, LOGS, TENSORBOARD = "runs", "logs", "tensorboard"
NSYS_REPORTS, TORCH_TRACES = "nsys_reports", "torch_traces"
#: Raw samples of one run, below runs/<run_id>/.
RUN_RESULT = "result.json"
#: Patterns of the profiles below a study, by the record's key.
PROFILES = {
    "nsys_report": f"{NSYS_REPORTS}/*.nsys-rep",
    "torch_trace": f"{TORCH_TRACES}/*.json.gz",
}
#: What a debug study removes of the debug study before it. Hydra's files and its log stay: they
#: are open or already rewritten by then.
REMOVABLE = (
    *(RESULTS, JOURNAL, SUMMARY, TOPOLOGY, BUSY_LOCK, TRACKING),
    *(RUNS, LOGS, NSYS_REPORTS, TORCH_TRACES, TENSORBOARD),
)


@dataclass(frozen=True)
class RunPaths:
    """Files of one run. The worker falls back to `spare_result` if `result` is not writable.

    `nsys_result`, `nsys_stdout` and `nsys_stderr` are those of a process under nsys whose
    measurement, if it made one, is not the run's.
    """

    spec: Path
    result: Path
    spare_result: Path
    stdout: Path
    stderr: Path
    nsys_result: Path
    nsys_stdout: Path
    nsys_stderr: Path
    monitor: Path
    started: Path
    report: Path
    sqlite: Path
    trace: Path
    busy_lock: Path


@dataclass(frozen=True)
class ParsedRecords:
    """The usable records of a results.json of `total` records, and why the others are not used.

    `skipped` counts records by reason. `repeated` are the ids of runs with several records in
    results.json, where the runner writes one: the last counts.
    """

    records: list[Record]
    total: int
    skipped: Counter[str] = field(default_factory=Counter)
    repeated: tuple[str, ...] = ()


def run_paths(study: Path, run_id: str, member: str | None = None) -> RunPaths:
    """The paths of a run's files; none of them need exist.

    With `member` those of one worker of a set: its files are in runs/<run_id>/<member>/, and its
    logs are logs/<run_id>.<member>.stdout and .stderr.
    """
    run, logs, reports = study / RUNS / run_id, study / LOGS, study / NSYS_REPORTS
    if member is not None:
        run, run_id = run / member, f"{run_id}.{member}"
    owner = hash_owner(study)
    return RunPaths(
        spec=run / "spec.json",
        result=run / RUN_RESULT,
        spare_result=Path(tempfile.gettempdir()) / f"numa_bench-{owner}-{run_id}-result.json",
        stdout=logs / f"{run_id}.stdout",
        stderr=logs / f"{run_id}.stderr",
        nsys_result=run / "nsys_result.json",
        nsys_stdout=logs / f"{run_id}.nsys.stdout",
        nsys_stderr=logs / f"{run_id}.nsys.stderr",
        monitor=run / "monitor.json",
        started=run / "started.json",
        report=reports / f"{run_id}.nsys-rep",
        sqlite=reports / f"{run_id}.sqlite",
        trace=study / TORCH_TRACES / f"{run_id}.json.gz",
        busy_lock=study / BUSY_LOCK,
    )


def hash_owner(study: Path) -> str:
    """A study and its user as 12 hex digits, for names in the shared temporary directory."""
    return hashlib.sha256(os.fsencode(f"{os.getuid()} {study.resolve()}")).hexdigest()[:12]


def parse_records(path: Path) -> ParsedRecords:
    """Parse a results.json and the study's journal, skipping records that cannot be used.

    Raises OSError or ValueError when a file as a whole cannot be read.
    """
    # First: what leaves the journal meanwhile is in results.json by then.
    journal = read_journal(path.parent / JOURNAL) if path.name == RESULTS else []
    data = read_json(path) if path.is_file() or not journal else []
    if not isinstance(data, list):
        raise ValueError("it is not an array of records")
    skipped: Counter[str] = Counter()
    stored = list(_upgrade(data, skipped))
    times = Counter(record["run_id"] for record in stored)
    repeated = tuple(run_id for run_id, count in times.items() if count > 1)
    records = merge_records(stored, _upgrade(journal, skipped))
    return ParsedRecords(records, len(records) + skipped.total(), skipped, repeated)


def describe_repeated(repeated: Sequence[str]) -> str:
    """What became of runs with several records; see `ParsedRecords`."""
    return f"has several records of {list_first(repeated, 3)}; the last of each run counts"


@cache
def _warn_repeated(path: Path, repeated: tuple[str, ...]) -> None:
    """Name runs with several records, once per process."""
    logger.warning("%s %s", path, describe_repeated(repeated))


def _upgrade(items: list[Any], skipped: Counter[str]) -> Iterator[Record]:
    for item in items:
        try:
            yield upgrade_record(item)
        except ValueError as error:
            skipped[str(error)] += 1


def read_records(path: Path) -> list[Record]:
    """All records of a results.json and its journal.

    Runs with several records are named in the log. Raises StoreError when a file or a record is
    unusable.
    """
    try:
        parsed = parse_records(path)
        for reason, count in parsed.skipped.items():
            raise ValueError(f"{count} of {parsed.total} records: {reason}")
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    if parsed.repeated:
        _warn_repeated(path.absolute(), parsed.repeated)
    return parsed.records


def read_summary(study: Path) -> Summary:
    """The summary of a study. Keys are null or empty if they, or the file, cannot be read."""
    return complete_summary(read_object(study / SUMMARY))
