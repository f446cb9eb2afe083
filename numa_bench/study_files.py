"""The files of a study: their names, where they are, and how they are found and read.

Everything that needs one of these names imports it from here. `store` writes the files; the worker
gets its paths as arguments and does not import this module.
"""

from __future__ import annotations

import glob
import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numa_bench.errors import StoreError
from numa_bench.jsonio import read_json, read_object, read_regular_file
from numa_bench.records import JsonDict, Record, Summary
from numa_bench.records.journal import merge_records, read_journal
from numa_bench.records.upgrade import complete_summary, upgrade_record

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

    `skipped` counts records by reason.
    """

    records: list[Record]
    total: int
    skipped: Counter[str] = field(default_factory=Counter)


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
    records = list(_upgrade(data, skipped))
    if journal:
        records = merge_records(records, _upgrade(journal, skipped))
    return ParsedRecords(records, len(records) + skipped.total(), skipped)


def _upgrade(items: list[Any], skipped: Counter[str]) -> Iterator[Record]:
    for item in items:
        try:
            yield upgrade_record(item)
        except ValueError as error:
            skipped[str(error)] += 1


def read_records(path: Path) -> list[Record]:
    """All records of a results.json and its journal.

    Raises StoreError when a file or a record is unusable.
    """
    try:
        parsed = parse_records(path)
        for reason, count in parsed.skipped.items():
            raise ValueError(f"{count} of {parsed.total} records: {reason}")
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    return parsed.records


def read_summary(study: Path) -> Summary:
    """The summary of a study. Keys are null or empty if they, or the file, cannot be read."""
    return complete_summary(read_object(study / SUMMARY))


def read_resolved_config(study: Path) -> JsonDict:
    """The settings with which a study was started; empty if the study has none.

    Raises StoreError when the file is not YAML.
    """
    found = read_yaml(study / RESOLVED_CONFIG)
    return found if isinstance(found, dict) else {}


def read_resolved_jobs(study: Path) -> list[dict[str, Any]]:
    """The saved jobs of an interleaved sweep, each with `overrides` and `experiment`.

    Empty for any other study. Raises StoreError when the file cannot be used.
    """
    found: Any = read_yaml(study / RESOLVED_JOBS) or []
    usable = isinstance(found, list) and all(
        isinstance(job, dict)
        and isinstance(job.get("overrides"), list)
        and isinstance(job.get("experiment"), dict)
        for job in found
    )
    if not usable:
        raise StoreError(f"{study / RESOLVED_JOBS} cannot be read: it holds no jobs; restore it")
    return list(found)


def read_overrides(study: Path) -> list[str]:
    """The overrides of the study's command line, or of its sweep; empty if they are not known.

    Raises StoreError when the file is not YAML.
    """
    root = sweep_root(study)
    if root == study:
        found = read_yaml(study / OVERRIDES)
    else:
        found = read_yaml(root / MULTIRUN)
        for key in ("hydra", "overrides", "task"):
            found = found.get(key) if isinstance(found, dict) else None
    return [str(item) for item in found] if isinstance(found, list) else []


def read_yaml(path: Path) -> Any:
    """A YAML file's data, None if there is no such file. Raises StoreError when it is not YAML."""
    import yaml  # late: most commands never read YAML through this module

    try:
        return yaml.safe_load(read_regular_file(path).decode("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise StoreError(f"{path} cannot be read: {reason}; restore or remove it") from error


def find_studies(path: Path, *, with_runs: bool = False) -> list[Path]:
    """The studies at or below a path, sorted: itself, jobs of a sweep, all of an output root.

    Studies are not searched for inside a study, nor in hidden directories, where
    `numa-bench collect` keeps incomplete copies. `with_runs` leaves out directories that hold the
    files of a study but no runs: MLflow's artifact store has such copies.
    """
    if (path / RESULTS).is_file():
        return [path]
    found = []
    for folder, below, files in os.walk(path):
        if RESULTS in files and (not with_runs or (SUMMARY in files and RUNS in below)):
            found.append(Path(folder))
            below.clear()
        below[:] = [name for name in below if not name.startswith(".")]
    return sorted(found)


def is_sweep(directory: Path) -> bool:
    """Whether a directory is that of a Hydra sweep, whose jobs are studies below it."""
    return (directory / MULTIRUN).is_file()


def sweep_root(study: Path) -> Path:
    """The directory of the sweep that a study is a job of, or the study's own directory."""
    return find_sweep(study) or study


def find_job_studies(sweep: Path) -> list[Path]:
    """The studies of a sweep's jobs that have started, by number, wherever their folders are.

    In a sweep over experiments they are in the folder of each experiment.
    """
    beside = sweep.absolute().parent.parent.glob(f"*/{glob.escape(sweep.name)}/*/{RESULTS}")
    jobs = {path.parent for path in beside if path.parent.name.isdigit()}
    own = os.path.realpath(sweep)
    mine = [job for job in jobs if os.path.realpath(find_sweep(job) or job) == own]
    return sorted(mine, key=lambda job: int(job.name))


def find_sweep(job: Path) -> Path | None:
    """The directory with the multirun.yaml of the sweep of a job's directory, or None.

    The job need not have started.
    """
    job = job.absolute()
    return find_sweep_of_folder(job.parent) if job.name.isdigit() else None


def find_sweep_of_folder(folder: Path) -> Path | None:
    """The directory with the multirun.yaml of the sweep whose jobs are in this folder, or None.

    Where a sweep is over experiments, the jobs of each are in a folder of its name, and
    multirun.yaml is in one of these or in another one beside them.
    """
    if is_sweep(folder):
        return folder
    folder = folder.absolute()
    # With hydra.sweep.dir by hand all jobs are in one folder; others beside it are not related.
    if folder.parent.parent.name != SWEEPS:
        return None
    beside = folder.parent.parent.glob(f"*/{glob.escape(folder.name)}")
    return next((path for path in sorted(beside) if is_sweep(path)), None)
