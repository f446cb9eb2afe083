"""Fast reading of integer columns of SQLite tables as numpy arrays."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from numa_bench.analysis.profiles.activity import NOTHING, Int
from numa_bench.errors import ReportError
from numa_bench.jsonio import open_regular_file

MAGIC = b"SQLite format 3\x00"
#: Rows fetched at once: bounds the memory of the texts that pass through.
CHUNK = 1 << 17
#: First rows from which a column is guessed to have one value only.
SAMPLE = 64
#: Numbers beyond this are written as differences from the first one.
LONG = 10**9
#: Most pieces that a table is fetched in, however its row numbers are spread.
PIECES = 1 << 12

Columns = dict[str, Int]
Pending = list[Future[list[Int]]]


class ColumnError(ReportError):
    """A column that is missing or holds something else; the message does not name the file yet."""


class Export:
    """An open SQLite file. Texts come out as bytes: not every one is UTF-8.

    A context manager. Raises ReportError when the file is not SQLite or is cut short.
    """

    def __init__(self, path: Path) -> None:
        _check_file(path)
        self.path = path
        self.base = _connect(path)
        try:
            self.tables = self._find_tables()
        except sqlite3.Error:
            self.base.close()
            raise
        # SQLite works outside Python's lock, so two threads are nearly twice as quick.
        self.pool = ThreadPoolExecutor(2)

    def __enter__(self) -> Export:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.pool.shutdown(cancel_futures=True)
        self.base.close()

    def _find_tables(self) -> dict[str, set[str]]:
        """Every table's columns."""
        query = "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c"
        tables: dict[str, set[str]] = {}
        for table, column in self.base.execute(query + " WHERE m.type = 'table'"):
            tables.setdefault(table.decode(errors="replace"), set()).add(
                column.decode(errors="replace")
            )
        return tables

    def start_query(self, table: str, expressions: Mapping[str, str], where: str = "1") -> Pending:
        """Begin to fetch integer expressions of a table that exists."""
        query = _Query(table, tuple(expressions.values()), where)
        # Two queries: SQLite reads one row for min or max alone, but all rows for both together.
        ends = f"SELECT (SELECT min(rowid) FROM {table}), (SELECT max(rowid) FROM {table})"
        low, high = self.base.execute(ends).fetchone()
        if low is None:
            return []
        # By rowid, the order in which rows are stored: no piece reads the rows before it.
        step = max(CHUNK, (high - low) // PIECES + 1)
        return [
            self.pool.submit(_fetch, self.path, query, first, first + step)
            for first in range(low, high + 1, step)
        ]


def collect_columns(pending: Pending, expressions: Mapping[str, str]) -> Columns:
    """Wait for `Export.start_query`: arrays of shape (rows,), rows in the table's order.

    Raises ColumnError when a value is no integer, sqlite3.Error when the file is damaged.
    """
    pieces = [future.result() for future in pending]
    return {
        name: np.concatenate([NOTHING, *(piece[i] for piece in pieces)])
        for i, name in enumerate(expressions)
    }


@dataclass(frozen=True)
class _Query:
    table: str
    expressions: tuple[str, ...]
    where: str

    def select_rows(self, what: str) -> str:
        return f"SELECT {what} FROM {self.table} WHERE rowid >= ? AND rowid < ? AND {self.where}"


def _fetch(path: Path, query: _Query, first: int, end: int) -> list[Int]:
    """SQLite joins each column into one text and numpy parses it: several times quicker than a
    Python object for every value. All aggregates of a query see the rows in the same order.

    A column that holds one value (mostly one GPU, one process) is only compared with it.
    """
    # Each piece has its own connection; on one connection queries would wait for each other.
    with closing(_connect(path)) as base:
        some = _read_sample(base, query, first, end)
        alike = {i: c[0] for i, c in enumerate(some) if len(set(c)) == 1 and isinstance(c[0], int)}
        # Long numbers, such as thread ids, differ in few digits: SQLite writes only the difference.
        less = {i: c[0] for i, c in enumerate(some) if isinstance(c[0], int) and abs(c[0]) > LONG}
        # IS NOT counts a NULL as different, where <> would be NULL and count nothing. One sum over
        # all of them: each is a pass of SQLite's interpreter over every row.
        differ = " OR ".join(f"({query.expressions[i]}) IS NOT {n}" for i, n in alike.items())
        others = [
            f"({e}) - {less[i]}" if i in less else e
            for i, e in enumerate(query.expressions)
            if i not in alike
        ]
        chosen = [f"total({differ or 0})", *(f"group_concat({e})" for e in others)]
        rows, different, *texts = base.execute(
            query.select_rows(f"count(*), {', '.join(chosen)}"), (first, end)
        ).fetchone()
        if different:  # some are not alike after all
            whole = query.select_rows(", ".join(f"group_concat({e})" for e in query.expressions))
            alike, less, texts = {}, {}, list(base.execute(whole, (first, end)).fetchone())
        fetched = iter(texts)
        return [
            np.full(rows, alike[i], np.int64)
            if i in alike
            else _parse(next(fetched), rows, query) + less.get(i, 0)
            for i in range(len(query.expressions))
        ]


def _read_sample(
    base: sqlite3.Connection, query: _Query, first: int, end: int
) -> list[tuple[object, ...]]:
    """The values of each column in the first rows; without rows an empty list."""
    rows = base.execute(
        query.select_rows(", ".join(query.expressions)) + f" LIMIT {SAMPLE}", (first, end)
    ).fetchall()
    return list(zip(*rows, strict=True))


def _parse(text: bytes | None, rows: int, query: _Query) -> Int:
    if not rows:
        return NOTHING
    try:
        values = np.fromstring(text or b"", dtype=np.int64, sep=",")
    except ValueError:
        values = NOTHING
    # group_concat leaves out NULL, so a missing value shows in the count.
    if len(values) != rows:
        raise ColumnError(f"table {query.table} has values that are not integers: damaged?")
    return values


def _check_file(path: Path) -> None:
    """Raise ReportError unless the file is SQLite and has the length that its header states."""
    try:
        with open_regular_file(path) as file:
            head = file.read(100)
            size = file.seek(0, 2)
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror or error}") from error
    if not head.startswith(MAGIC):
        raise ReportError(f"{path}: not an SQLite file, so not an exported nsys report")
    # SQLite's file format: page size at 16 (1 means 65536), pages at 28, valid if 24 equals 92.
    page = int.from_bytes(head[16:18], "big")
    pages = int.from_bytes(head[28:32], "big")
    if head[24:28] == head[92:96] and size < pages * (65536 if page == 1 else page):
        raise ReportError(
            f"{path}: cut short at {size} bytes; export it again: "
            "nsys export --type sqlite REPORT.nsys-rep"
        )


def _connect(path: Path) -> sqlite3.Connection:
    """Open read only. `immutable` keeps SQLite from making a journal or a lock file beside it."""
    base = sqlite3.connect(path.absolute().as_uri() + "?mode=ro&immutable=1", uri=True)
    base.text_factory = bytes
    base.execute(f"PRAGMA mmap_size = {1 << 40}")  # saves copying every page; SQLite lowers it
    return base
