"""A study directory that is being written: one writer, what is done, writes that survive a kill."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from numa_bench.errors import StoreError
from numa_bench.jsonio import encode_json, encode_object, join_array, write_json, write_text
from numa_bench.records import BAD, Record, RunSpec, Status
from numa_bench.records.attempt_files import count_prepared, prepare_files, remove_files
from numa_bench.records.journal import Journal
from numa_bench.records.spare_files import (
    adopt_records,
    check_room,
    describe_unwritable,
    find_spare_results,
    remove_spare_results,
    remove_torn_writes,
    set_file_aside,
    write_spare_results,
)
from numa_bench.study_files import (
    JOURNAL,
    RESULTS,
    STUDY_LOCK,
    SUMMARY,
    TOPOLOGY,
    RunPaths,
    read_records,
    run_paths,
)

logger = logging.getLogger(__name__)

#: Most of a study's time that goes into rewriting results.json. While a rewrite takes less than
#: this share of a run, results.json is rewritten after each run; later at growing intervals.
REWRITE_SHARE = 0.01
#: A rewrite that takes less is made after each run, however short the run: who reads results.json
#: alone then misses nothing of a study of some hundred runs that was killed.
CHEAP_REWRITE_S = 0.05


class StudyStore:
    """One study directory, held by one process at a time.

    Use as a context manager; raises StoreError when another process works in it, or when its
    results cannot be read.

    A record is stored when it is in results.json or, where rewriting that takes long, in the
    journal. results.json is then brought up to date within `REWRITE_SHARE` of the time, which
    `clock` gives in seconds, and when the store is closed.
    """

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.root = root
        self._records: dict[str, Record] = {}  # by run id, in the order of results.json
        self._texts: dict[str, str] = {}  # of the records that were encoded for results.json
        self._unsaved: dict[str, Record] = {}  # on no disk
        self._journal = Journal(root / JOURNAL)
        self._spare: Path | None = None  # records of this study in the temporary directory
        self._clock = clock
        self._rewritten, self._rewrite_s = -math.inf, 0.0
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
            remove_torn_writes(self.root, (RESULTS, SUMMARY, TOPOLOGY))
            check_room(self.root)
            if any((self.root / name).is_file() for name in (RESULTS, JOURNAL)):
                self._read_stored()
                self._adopt_spare()
            elif (spare := find_spare_results(self.root)) is not None:
                set_file_aside(spare)  # of a study that was here before
        except OSError as error:
            self._release()
            raise describe_unwritable(self.root, error) from error
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if not self.is_current:
                self.save_records()
            self._journal.close()
        finally:
            self._release()

    @property
    def records(self) -> list[Record]:
        """The records in the order in which results.json has them."""
        return list(self._records.values())

    @property
    def unsaved(self) -> list[Record]:
        """The records that the study's own directory does not have: they could not be written."""
        return list(self._unsaved.values())

    @property
    def is_current(self) -> bool:
        """Whether results.json has every record."""
        return not self._unsaved and not self._journal.has_lines

    def find_record(self, run_id: str) -> Record | None:
        """The record of a run, None if it has none yet."""
        return self._records.get(run_id)

    def remove_files(self) -> None:
        """Remove an earlier study's files (debug runs share a directory), and only those."""
        for kept in (self._records, self._texts, self._unsaved):
            kept.clear()
        with contextlib.suppress(OSError):
            self._journal.clear()
        self._journal.close()
        remove_files(self.root)

    def run_paths(self, run_id: str, member: str | None = None) -> RunPaths:
        """Where the files of a run are, or those of one worker of a set."""
        return run_paths(self.root, run_id, member)

    def relative_path(self, path: Path) -> str:
        """A path as records hold it: relative to the study, which may be moved."""
        return path.relative_to(self.root).as_posix()

    def count_attempts(self, run_id: str) -> int:
        """Number of earlier attempts at this run, including one that was killed with its study."""
        record = self._records.get(run_id)
        prepared = count_prepared(self.run_paths(run_id))
        return max(record["attempt"], prepared) if record is not None else prepared

    def prepare_run(self, spec: RunSpec) -> RunPaths:
        """Write the run's spec; files of an earlier attempt are kept below runs/<run_id>/."""
        paths = self.run_paths(spec.run_id)
        earlier = self.count_attempts(spec.run_id)
        keep = paths.spec.parent / f"attempt{earlier}" if earlier else None
        prepare_files(spec, paths, keep)
        for member in spec.members:
            own = keep / member.name if keep is not None else None
            prepare_files(member.spec, self.run_paths(spec.run_id, member.name), own)
        return paths

    def add_record(self, record: Record) -> None:
        """Store a record at the end; that of an earlier attempt at the same run is dropped.

        A full disk does not stop the study: the record is kept in the temporary directory and
        written with the next one, or by the next start.
        """
        self._records.pop(record["run_id"], None)
        self._store(record)

    def replace_record(self, record: Record) -> None:
        """Store a record in place of the one of the same run; the order does not change.

        Raises StoreError when there is no record of that run.
        """
        if record["run_id"] not in self._records:
            raise StoreError(f"{self.root / RESULTS} has no record of {record['run_id']}")
        self._store(record)

    def _store(self, record: Record) -> None:
        run_id = record["run_id"]
        self._records[run_id] = record
        self._texts.pop(run_id, None)
        self._unsaved.pop(run_id, None)
        self._unsaved[run_id] = record
        since = self._clock() - self._rewritten
        # One of both is enough, and each costs a run milliseconds of waiting for the disk.
        if self._rewrite_s > max(CHEAP_REWRITE_S, REWRITE_SHARE * since):
            self._append_unsaved()
        if self._unsaved:
            self.save_records()
        if self._unsaved:
            # At once: a runner that is killed now must not take a measurement with it.
            with contextlib.suppress(OSError):
                self._spare = write_spare_results(self.root, self._encode_records())

    def create_results(self) -> None:
        """Write results.json of a study that has no record yet.

        Raises StoreError: without it, the next start would not take over spare records.
        """
        try:
            write_text(self.root / RESULTS, self._encode_records())
        except OSError as error:
            raise describe_unwritable(self.root, error) from error

    def _append_unsaved(self) -> None:
        """Write what is in memory only to the journal; a failure is logged."""
        try:
            lines = [encode_json(waiting, indent=None) for waiting in self._unsaved.values()]
            self._journal.append_lines(lines)
            self._unsaved.clear()
        except OSError as error:
            logger.warning("%s could not be written (%s); kept in memory", JOURNAL, error)

    def save_records(self) -> None:
        """Write results.json; if that fails, what is nowhere else goes into the journal."""
        start = self._clock()
        try:
            write_text(self.root / RESULTS, self._encode_records())
            self._unsaved.clear()
            self._journal.clear()
            if self._spare is not None:
                remove_spare_results(self._spare)
                self._spare = None
        except OSError as error:
            if self._unsaved:
                self._append_unsaved()
            where = "memory" if self._unsaved else JOURNAL
            logger.warning("%s could not be written (%s); kept in %s", RESULTS, error, where)
        self._rewritten = self._clock()
        self._rewrite_s = self._rewritten - start

    def save_somewhere(self) -> Path:
        """Make sure that all records are in one array on some disk; return the file.

        Falls back to the temporary directory if the study's is not writable; raises StoreError if
        neither is.
        """
        if not self.is_current:
            self.save_records()
        if self.is_current:
            return self.root / RESULTS
        try:
            self._spare = write_spare_results(self.root, self._encode_records())
        except OSError as error:
            raise StoreError(f"the results could not be written anywhere: {error}") from error
        return self._spare

    def write_file(self, name: str, data: Mapping[str, Any]) -> None:
        """Write a JSON file of the study; a failure is logged, never raised."""
        try:
            write_json(self.root / name, data)
        except OSError as error:
            logger.warning("%s could not be written: %s", name, error)

    def count_statuses(self) -> dict[str, int]:
        """Number of records by status; statuses without a record are 0."""
        return {s.value: sum(r["status"] == s.value for r in self.records) for s in Status}

    def has_failures(self) -> bool:
        """Whether some run failed, timed out or was invalid."""
        return any(Status(r["status"]) in BAD for r in self.records)

    def _encode_records(self) -> str:
        """results.json. Each record is encoded once, however often the file is written."""
        for run_id, record in self._records.items():
            if run_id not in self._texts:
                self._texts[run_id] = encode_object(record)
        return join_array([self._texts[run_id] for run_id in self._records])

    def _read_stored(self) -> None:
        """Read what an earlier process stored, and bring results.json up to date."""
        start = self._clock()
        try:
            records = read_records(self.root / RESULTS)
            self._journal.cut_torn_line()
        except (OSError, StoreError) as error:
            raise StoreError(f"{error}; move it away to start anew") from error
        self._records = {record["run_id"]: record for record in records}
        # Until results.json is written for the first time: writing takes about as long as reading.
        self._rewritten = self._clock()
        self._rewrite_s = self._rewritten - start
        if self._journal.has_lines:
            self.save_records()

    def _adopt_spare(self) -> None:
        """Take over what an earlier start left in the temporary directory, and move it here."""
        changed, self._spare = adopt_records(self._records, self.root)
        if changed:
            self._records.update(changed)
            self._texts.clear()
            self._unsaved = changed
            self.save_records()

    def _release(self) -> None:
        # Before the release: afterwards the file may already be the lock of another process.
        with contextlib.suppress(OSError):
            (self.root / STUDY_LOCK).unlink()
        self._lock.release()
