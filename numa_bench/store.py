"""A study directory that is being written: one writer, what is done, writes that survive a kill."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from numa_bench.errors import StoreError
from numa_bench.jsonio import encode_json, join_array, write_json, write_text
from numa_bench.records import BAD, DONE, Record, RunSpec, Status
from numa_bench.study_files import (
    REMOVABLE,
    RESULTS,
    STUDY_LOCK,
    RunPaths,
    read_records,
    run_paths,
)

logger = logging.getLogger(__name__)


class StudyStore:
    """One study directory, held by one process at a time.

    Use as a context manager; raises StoreError when another process works in it, or when its
    results cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records: list[Record] = []
        self.unsaved = False
        self._texts: list[tuple[Record, str]] = []  # as last written
        self._lock = FileLock(root / STUDY_LOCK, timeout=0)

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
            if (self.root / RESULTS).is_file():
                self.records = self._read_stored()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # Before the release: afterwards the file may already be the lock of another process.
        with contextlib.suppress(OSError):
            (self.root / STUDY_LOCK).unlink()
        self._lock.release()

    def remove_files(self) -> None:
        """Remove an earlier study's files (debug runs share a directory), and only those."""
        self.records = []
        for name in REMOVABLE:
            path = self.root / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def run_paths(self, run_id: str, member: str | None = None) -> RunPaths:
        """Where the files of a run are, or those of one worker of a set."""
        return run_paths(self.root, run_id, member)

    def relative_path(self, path: Path) -> str:
        """A path as records hold it: relative to the study, which may be moved."""
        return path.relative_to(self.root).as_posix()

    def count_attempts(self, run_id: str) -> int:
        """Number of earlier attempts at this run, including one that was killed with its study."""
        recorded = max((r["attempt"] for r in self.records if r["run_id"] == run_id), default=0)
        spec = self.run_paths(run_id).spec
        names = (path.name.removeprefix("attempt") for path in spec.parent.glob("attempt*"))
        kept = max((int(name) for name in names if name.isdigit()), default=0)
        return max(recorded, kept + spec.is_file())

    def prepare_run(self, spec: RunSpec) -> RunPaths:
        """Write the run's spec; files of an earlier attempt are kept below runs/<run_id>/."""
        paths = self.run_paths(spec.run_id)
        earlier = self.count_attempts(spec.run_id)
        keep = paths.spec.parent / f"attempt{earlier}" if earlier else None
        _prepare_files(spec, paths, keep)
        for member in spec.members:
            own = keep / member.name if keep is not None else None
            _prepare_files(member.spec, self.run_paths(spec.run_id, member.name), own)
        return paths

    def add_record(self, record: Record) -> None:
        """Append a record to results.json; that of an earlier attempt at the same run is dropped.

        A full disk does not stop the study: the record stays in memory and is written with the
        next one, or by `save_somewhere`.
        """
        self.records = [r for r in self.records if r["run_id"] != record["run_id"]] + [record]
        self.save_records()

    def replace_record(self, record: Record) -> None:
        """Store a record in place of the one of the same run; the order does not change.

        Raises StoreError when there is no record of that run.
        """
        if all(r["run_id"] != record["run_id"] for r in self.records):
            raise StoreError(f"{self.root / RESULTS} has no record of {record['run_id']}")
        self.records = [record if r["run_id"] == record["run_id"] else r for r in self.records]
        self.save_records()

    def save_records(self) -> None:
        """Write results.json; a failure is logged and remembered in `unsaved`."""
        try:
            write_text(self.root / RESULTS, self._encode_records())
            self.unsaved = False
        except OSError as error:
            self.unsaved = True
            logger.warning("%s could not be written (%s); kept in memory", RESULTS, error)

    def save_somewhere(self) -> Path:
        """Make sure that the records are on some disk; return the file that holds them.

        Falls back to the temporary directory if the study's is not writable; raises StoreError if
        neither is.
        """
        if self.unsaved:
            self.save_records()
        if not self.unsaved:
            return self.root / RESULTS
        try:
            spare = Path(tempfile.mkdtemp(prefix="numa_bench-")) / RESULTS
            write_text(spare, self._encode_records())
        except OSError as error:
            raise StoreError(f"the results could not be written anywhere: {error}") from error
        return spare

    def write_file(self, name: str, data: Mapping[str, Any]) -> None:
        """Write a JSON file of the study; a failure is logged, never raised."""
        try:
            write_json(self.root / name, data)
        except OSError as error:
            logger.warning("%s could not be written: %s", name, error)

    def finished_runs(self) -> set[str]:
        """Ids of the runs that need not run again."""
        return {r["run_id"] for r in self.records if Status(r["status"]) in DONE}

    def count_statuses(self) -> dict[str, int]:
        """Number of records by status; statuses without a record are 0."""
        return {s.value: sum(r["status"] == s.value for r in self.records) for s in Status}

    def has_failures(self) -> bool:
        """Whether some run failed, timed out or was invalid."""
        return any(Status(r["status"]) in BAD for r in self.records)

    def _encode_records(self) -> str:
        """results.json. Each record is encoded once: the file is written after every run, and half
        a second of encoding each time would be minutes of a study of 600 runs."""
        known = {id(record): text for record, text in self._texts}
        self._texts = [(r, known.get(id(r)) or encode_json(r)) for r in self.records]
        return join_array([text for _, text in self._texts])

    def _read_stored(self) -> list[Record]:
        try:
            return read_records(self.root / RESULTS)
        except StoreError as error:
            raise StoreError(f"{error}; move it away to start anew") from error


def _prepare_files(spec: RunSpec, paths: RunPaths, keep: Path | None) -> None:
    """Write a spec, and move files of an earlier attempt to `keep`."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        files = (paths.spec, paths.result, paths.monitor, paths.stdout, paths.stderr)
        nsys = (paths.nsys_result, paths.nsys_stdout, paths.nsys_stderr)
        for path in (*files, *nsys, paths.report, paths.sqlite, paths.trace):
            if path.is_file():
                path.replace(keep / path.name)
    paths.result.unlink(missing_ok=True)
    paths.started.unlink(missing_ok=True)
    paths.spare_result.unlink(missing_ok=True)
    paths.stdout.parent.mkdir(parents=True, exist_ok=True)
    if spec.profile.kind == "nsys":  # nsys does not create it
        paths.report.parent.mkdir(parents=True, exist_ok=True)
    write_json(paths.spec, spec.to_dict())
