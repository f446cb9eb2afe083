"""The study directory: what lies where, what is already done, and writes that survive a kill."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from numa_bench.errors import StoreError
from numa_bench.jsonio import read_json, write_json
from numa_bench.records import BAD, DONE, JsonDict, RunSpec, Status

logger = logging.getLogger(__name__)

STUDY_MARKER = "results.json"
SUMMARY = "experiment_summary.json"
RESOLVED_CONFIG = Path(".hydra") / "config_resolved.yaml"
#: Held while a report is exported or a tracker fed; workers wait for it.
BUSY_LOCK = ".busy.lock"
#: Where profiles of each kind lie below a study, by the record's key.
REPORTS = {"nsys_report": "nsys_reports/*.nsys-rep", "torch_trace": "torch_traces/*.json.gz"}
_OWN = (
    *(STUDY_MARKER, SUMMARY, "topology.json", BUSY_LOCK, "tracking.json"),
    *("runs", "logs", "nsys_reports", "torch_traces", "tensorboard"),
)


@dataclass(frozen=True)
class RunPaths:
    """Files of one run. `spare_result` is where the worker turns when the study's disk is full."""

    spec: Path
    result: Path
    spare_result: Path
    stdout: Path
    stderr: Path
    monitor: Path
    started: Path
    report: Path
    sqlite: Path
    trace: Path
    busy_lock: Path


class StudyStore:
    """One study directory, held by one process at a time.

    Use as a context manager; raises StoreError when another process works in it, or when its
    results cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records: list[JsonDict] = []
        self.unsaved = False
        self._lock = FileLock(root / ".lock", timeout=0)

    def __enter__(self) -> StudyStore:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise StoreError(
                f"{self.root} is in use by another run; wait for it, or choose another directory"
            ) from None
        except OSError as error:
            raise StoreError(f"{self.root} cannot be used: {error}") from error
        try:
            results = self.root / STUDY_MARKER
            if results.is_file():
                self.records = _read_records(results)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # Removed before the release: afterwards it may already be the lock of another process.
        with contextlib.suppress(OSError):
            (self.root / ".lock").unlink()
        self._lock.release()

    def remove_files(self) -> None:
        """Remove an earlier study's files (debug runs share a directory), and only those."""
        self.records = []
        for name in _OWN:
            path = self.root / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def run_paths(self, run_id: str) -> RunPaths:
        """Where the files of a run are."""
        run, logs = self.root / "runs" / run_id, self.root / "logs"
        reports = self.root / "nsys_reports"
        # The temporary directory is shared: with other users, and with other studies of this run.
        owner = hashlib.sha256(f"{os.getuid()} {self.root.resolve()}".encode()).hexdigest()[:12]
        return RunPaths(
            spec=run / "spec.json",
            result=run / "result.json",
            spare_result=Path(tempfile.gettempdir()) / f"numa_bench-{owner}-{run_id}-result.json",
            stdout=logs / f"{run_id}.stdout",
            stderr=logs / f"{run_id}.stderr",
            monitor=run / "monitor.json",
            started=run / "started.json",
            report=reports / f"{run_id}.nsys-rep",
            sqlite=reports / f"{run_id}.sqlite",
            trace=self.root / "torch_traces" / f"{run_id}.json.gz",
            busy_lock=self.root / BUSY_LOCK,
        )

    def relative_path(self, path: Path) -> str:
        """A path as records hold it: relative to the study, which may be moved."""
        return path.relative_to(self.root).as_posix()

    def count_attempts(self, run_id: str) -> int:
        """How often this run was tried before, an attempt that was killed with its study too."""
        recorded = max((r["attempt"] for r in self.records if r["run_id"] == run_id), default=0)
        spec = self.run_paths(run_id).spec
        names = (path.name.removeprefix("attempt") for path in spec.parent.glob("attempt*"))
        kept = max((int(name) for name in names if name.isdigit()), default=0)
        return max(recorded, kept + spec.is_file())

    def prepare_run(self, spec: RunSpec) -> RunPaths:
        """Write the run's spec; files of an earlier attempt are kept below runs/<run_id>/."""
        paths = self.run_paths(spec.run_id)
        earlier = self.count_attempts(spec.run_id)
        if earlier:
            keep = paths.spec.parent / f"attempt{earlier}"
            keep.mkdir(parents=True, exist_ok=True)
            files = (paths.spec, paths.result, paths.monitor, paths.stdout, paths.stderr)
            for path in (*files, paths.report, paths.sqlite, paths.trace):
                if path.is_file():
                    path.replace(keep / path.name)
        paths.result.unlink(missing_ok=True)
        paths.started.unlink(missing_ok=True)
        paths.spare_result.unlink(missing_ok=True)
        paths.stdout.parent.mkdir(parents=True, exist_ok=True)
        if spec.profile.kind == "nsys":  # which would not make it
            paths.report.parent.mkdir(parents=True, exist_ok=True)
        write_json(paths.spec, spec.to_dict())
        return paths

    def add_record(self, record: JsonDict) -> None:
        """Put a record in results.json, in place of an earlier attempt of the same run.

        A disk that cannot take it does not stop the study: the record stays in memory and is
        written with the next one, or by `finish`.
        """
        self.records = [r for r in self.records if r["run_id"] != record["run_id"]] + [record]
        self.save_records()

    def save_records(self) -> None:
        """Write results.json; a failure is logged and remembered in `unsaved`."""
        try:
            write_json(self.root / STUDY_MARKER, self.records)
            self.unsaved = False
        except OSError as error:
            self.unsaved = True
            logger.warning("results.json could not be written (%s); kept in memory", error)

    def save_somewhere(self) -> Path:
        """Make sure the records are on some disk; return the file that holds them.

        Raises StoreError when neither the study directory nor the temporary one takes them.
        """
        if self.unsaved:
            self.save_records()
        if not self.unsaved:
            return self.root / STUDY_MARKER
        try:
            spare = Path(tempfile.mkdtemp(prefix="numa_bench-")) / STUDY_MARKER
            write_json(spare, self.records)
        except OSError as error:
            raise StoreError(f"the results could not be written anywhere: {error}") from error
        return spare

    def write_file(self, name: str, data: Any) -> None:
        """Write a JSON file of the study; a failure is logged, never raised."""
        try:
            write_json(self.root / name, data)
        except OSError as error:
            logger.warning("%s could not be written: %s", name, error)

    def finished_runs(self) -> set[str]:
        """Run ids that need not run again."""
        return {r["run_id"] for r in self.records if Status(r["status"]) in DONE}

    def count_statuses(self) -> dict[str, int]:
        """Number of records by status; every status is there."""
        return {s.value: sum(r["status"] == s.value for r in self.records) for s in Status}

    def has_failures(self) -> bool:
        """Whether some run failed, timed out or was invalid."""
        return any(Status(r["status"]) in BAD for r in self.records)


def _read_records(path: Path) -> list[JsonDict]:
    try:
        records = read_json(path)
        if not isinstance(records, list) or not all(
            isinstance(r, dict) and "run_id" in r and "status" in r and "attempt" in r
            for r in records
        ):
            raise ValueError("not an array of records")
        for record in records:
            Status(record["status"])
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}; move it away to start anew") from error
    return records
