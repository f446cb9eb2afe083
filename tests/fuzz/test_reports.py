"""Damaged exports of nsys, bytes and tables, through the inspector."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numa_bench.commands import inspect
from tests.fuzz.settings import fuzz_settings
from tests.nsys_files import VERSIONS, pipeline, write_report

VALUES = [
    None, -1, 0, 1, 1 << 24, 1 << 40, 1 << 62, (1 << 63) - 1, -(1 << 63), 0.5, 1e300, "", "a",
    "1e9",
    "\x1b]0;title\x07\x1b[31m", b"\xff\xfe", b"", "x" * 2000, "[bold]",
]  # fmt: skip


@cache
def whole_report(version: str) -> bytes:
    """A small export of one version of nsys."""
    with tempfile.TemporaryDirectory() as directory:
        return write_report(Path(directory) / "a.sqlite", pipeline(3), version).read_bytes()


def look_at(path: Path, form: list[str]) -> int:
    """What `inspect` does with a file; its exit code."""
    return inspect.main([str(path), *form])


FORMS: list[list[str]] = [[], ["--json"], ["--csv"], ["--window", "all"]]


def check(path: Path, form: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = look_at(path, form)
    out, err = capsys.readouterr()
    assert code in (0, 2)
    assert "\x1b" not in out + err
    assert (code == 2) == bool(err)
    assert err.count("\n") == (code == 2)
    if form == ["--json"]:
        assert len(json.loads(out)) == (code == 0)


@fuzz_settings(120)
@given(st.data())
def test_damaged_bytes(capsys: pytest.CaptureFixture[str], data: st.DataObject) -> None:
    whole = bytearray(whole_report(data.draw(st.sampled_from(VERSIONS))))
    pages = len(whole) // 4096
    for _ in range(data.draw(st.integers(1, 6))):
        page = data.draw(st.sampled_from([0, 0, *range(pages)])) * 4096
        whole[page + data.draw(st.integers(0, 4095))] = data.draw(st.integers(0, 255))
    if data.draw(st.integers(0, 5)) == 0:
        del whole[data.draw(st.integers(0, len(whole))) :]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.sqlite"
        path.write_bytes(whole)
        check(path, data.draw(st.sampled_from(FORMS)), capsys)


def change_table(base: sqlite3.Connection, data: st.DataObject) -> None:
    """Drop or rename a table or a column, empty a table, or change values of a column."""
    names = [n for (n,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    table = data.draw(st.sampled_from(names))
    columns = [row[1] for row in base.execute(f'PRAGMA table_info("{table}")')]
    column = data.draw(st.sampled_from(columns))
    do = data.draw(st.sampled_from(["drop", "empty", "rename", "put", "put", "some"]))
    if do == "drop":
        base.execute(f'DROP TABLE "{table}"')
    elif do == "empty":
        base.execute(f'DELETE FROM "{table}"')
    elif do == "rename":
        base.execute(f'ALTER TABLE "{table}" RENAME COLUMN "{column}" TO "é{column}"')
    else:
        where = "rowid % 2" if do == "some" else "1"
        # Without the declared types and NOT NULL: SQLite enforces neither in a damaged file.
        base.execute(f'CREATE TABLE copy AS SELECT * FROM "{table}"')
        base.execute(f'DROP TABLE "{table}"')
        base.execute(f'ALTER TABLE copy RENAME TO "{table}"')
        value = data.draw(st.sampled_from(VALUES))
        base.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE {where}', (value,))


@fuzz_settings(120)
@given(st.data())
def test_damaged_tables(capsys: pytest.CaptureFixture[str], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.sqlite"
        path.write_bytes(whole_report(data.draw(st.sampled_from(VERSIONS))))
        with closing(sqlite3.connect(path)) as base, base:
            base.execute("PRAGMA synchronous=OFF")
            for _ in range(data.draw(st.integers(1, 3))):
                change_table(base, data)
        check(path, data.draw(st.sampled_from(FORMS)), capsys)
