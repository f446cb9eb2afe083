"""A study's journal: records that are stored but not in results.json yet, one JSON object a line.

Appending a line costs the same however many records a study has; rewriting results.json does not.
The journal is what results.json lacks: `merge_records` brings both together, in the same way for
the process that writes and for everyone who reads. Replaying lines that results.json has already
changes nothing, so that a kill between the rewrite and the emptying of the journal is harmless.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from numa_bench.jsonio import flush_directory, parse_json, read_regular_file
from numa_bench.records.run_record import Record


class Journal:
    """The journal of one study, appended to by one process. The file exists only while needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None
        self._size = 0  # bytes of whole lines

    @property
    def has_lines(self) -> bool:
        """Whether this process has seen or written lines that are still there."""
        return self._size > 0

    def append_lines(self, lines: Sequence[str]) -> None:
        """Append lines and flush them to the disk: all of them, or none. Raises OSError."""
        data = "".join(f"{line}\n" for line in lines).encode()
        handle = self._open()
        try:
            written = 0
            while written < len(data):  # a disk that fills up takes a part first
                written += os.write(handle, data[written:])
            os.fsync(handle)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, self._size)
            raise
        self._size += len(data)

    def cut_torn_line(self) -> None:
        """Continue a journal that an earlier process left; the line it died in is dropped.

        Raises OSError.
        """
        if self.path.is_file():
            self._size = self.path.read_bytes().rfind(b"\n") + 1
            os.ftruncate(self._open(), self._size)

    def clear(self) -> None:
        """Empty the journal, when results.json has all of it. Raises OSError."""
        if self._size:
            os.ftruncate(self._open(), 0)
            self._size = 0

    def close(self) -> None:
        """Close the file; an empty one is removed."""
        if self._handle is None:
            return
        os.close(self._handle)
        self._handle = None
        if not self._size:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _open(self) -> int:
        if self._handle is None:
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            flush_directory(self.path.parent)
        return self._handle


def read_journal(path: Path) -> list[Any]:
    """The objects of a journal's whole lines; empty if there is no such file.

    The last line is left out if it has no line break: its writer was killed, or is still writing.
    Raises OSError, or ValueError when another line is not JSON.
    """
    try:
        data = read_regular_file(path)
    except FileNotFoundError:
        return []
    *lines, _ = data.split(b"\n")
    try:
        return [parse_json(line) for line in lines]
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def merge_records(records: Iterable[Record], journal: Iterable[Record]) -> list[Record]:
    """The records of results.json with those of the journal, in the order in which they were added.

    A later attempt at a run takes the place of the earlier one at the end of the list; a record of
    the same attempt is an update, and is put where the old one was.
    """
    merged = {record["run_id"]: record for record in records}
    for record in journal:
        known = merged.get(record["run_id"])
        if known is not None and record["attempt"] < known["attempt"]:
            continue  # results.json was rewritten after this line
        if known is not None and record["attempt"] > known["attempt"]:
            del merged[record["run_id"]]
        merged[record["run_id"]] = record
    return list(merged.values())
