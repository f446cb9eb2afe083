"""Pure: tables of the page as cells and columns, and how numbers are written."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from numa_bench.analysis.plots import style
from numa_bench.analysis.plots.shape import place_name
from numa_bench.analysis.questions.base import ColumnSpec

Record = Mapping[Any, Any]
ABSENT = "–"
#: Most rows of a table on the page: browsers stay fast, and the CSV beside it has all rows.
MOST_ROWS = 500
#: A column with a longer text than this breaks its lines.
_ONE_LINE = 34


@dataclass(frozen=True)
class Cell:
    """One cell: the text shown, and the value it is sorted by (None: after all others)."""

    text: str
    value: float | str | None = None
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Column:
    """A heading with an optional tooltip (`title`), and how a row becomes a cell."""

    label: str
    cell: Callable[[Record], Cell]
    numeric: bool = False
    title: str = ""


@dataclass(frozen=True)
class Table:
    """A table as the template draws it.

    `csv` is the file with all rows, `left_out` the number of rows that only that file has; `states`
    are the values of the status filter.
    """

    columns: Sequence[Column]
    rows: list[list[Cell]]
    csv: str = ""
    left_out: int = 0
    states: list[str] = field(default_factory=list)

    @property
    def wide_columns(self) -> list[bool]:
        """For each column whether its texts need several lines."""
        longest = [max((len(row[i].text) for row in self.rows), default=0) for i in self._indices]
        return [n > _ONE_LINE for n in longest]

    @property
    def _indices(self) -> range:
        return range(len(self.columns))


def build_table(
    columns: Sequence[Column], table: pd.DataFrame, csv: str, most: int = MOST_ROWS
) -> Table:
    """A table of at most `most` rows."""
    rows = [[c.cell(row) for c in columns] for row in table.head(most).to_dict("records")]
    return Table(columns, rows, csv, max(0, len(table) - most))


def without_empty(rows: Table) -> Table:
    """The table without columns that have no value in any row."""
    columns = rows.columns
    keep = [i for i, _ in enumerate(columns) if any(r[i].text != ABSENT for r in rows.rows)]
    shown = [[row[i] for i in keep] for row in rows.rows]
    return Table([columns[i] for i in keep], shown, rows.csv, rows.left_out)


def has_value(value: object) -> bool:
    """Whether there is a value at all."""
    if value is None or isinstance(value, (list, dict, tuple)):
        return value is not None
    return not pd.isna(value)  # type: ignore[call-overload]


def text_column(key: str, label: str, shown: Callable[[str], str] = str) -> Column:
    """A column of texts."""

    def cell(row: Record) -> Cell:
        value = row.get(key)
        return Cell(shown(str(value)), str(value)) if has_value(value) else Cell(ABSENT)

    return Column(label, cell)


def marks_column(title: str = "") -> Column:
    """The marks of a row's runs; the cell of runs without one is empty, not "not measured"."""

    def cell(row: Record) -> Cell:
        marks = str(row.get("marks") or "")
        return Cell(marks, marks or None)

    return Column("marks", cell, title=title)


def number_column(
    key: str, label: str, shown: Callable[[float], str], title: str = "", absent: str = ABSENT
) -> Column:
    """A column of numbers; `absent` is the text of a cell without one."""

    def cell(row: Record) -> Cell:
        value = row.get(key)
        if not has_value(value) or not math.isfinite(float(value)):  # type: ignore[arg-type]
            return Cell(absent)
        return Cell(shown(float(value)), float(value))  # type: ignore[arg-type]

    return Column(label, cell, numeric=True, title=title)


def interval_column(low: str, high: str, label: str, shown: Callable[[float], str]) -> Column:
    """A column of two numbers as "a to b", sorted by the first."""

    def cell(row: Record) -> Cell:
        ends = [row.get(low), row.get(high)]
        if not all(has_value(v) and math.isfinite(float(v)) for v in ends):  # type: ignore[arg-type]
            return Cell(ABSENT)
        a, b = (float(v) for v in ends)  # type: ignore[arg-type]
        return Cell(f"{shown(a)} to {shown(b)}", a)

    return Column(label, cell, numeric=True)


def format_count(value: float) -> str:
    return f"{value:.0f}"


def format_change(value: float) -> str:
    """A ratio as a change in per cent."""
    return style.format_percent(value - 1)


def format_share(value: float) -> str:
    return style.format_percent(value, sign=False)


def format_probability(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def fixed_format(digits: int) -> Callable[[float], str]:
    return lambda value: f"{value:.{digits}f}"


def format_place(value: str) -> str:
    return place_name(value).replace("\n", ", ")


#: How a question's column spec becomes a number on the page.
FORMATS: dict[str, Callable[[float], str]] = {
    "count": format_count,
    "number": style.format_number,
    "two_decimals": fixed_format(2),
    "three_decimals": fixed_format(3),
    "share": format_share,
    "probability": format_probability,
}


def build_column(spec: ColumnSpec) -> Column:
    """The column of a question's table that a spec describes."""
    if spec.format == "text":
        return text_column(spec.key, spec.label)
    shown = FORMATS[spec.format]
    if spec.high_key:
        return interval_column(spec.key, spec.high_key, spec.label, shown)
    return number_column(spec.key, spec.label, shown, spec.tooltip, spec.absent or ABSENT)
