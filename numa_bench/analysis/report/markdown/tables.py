"""Pure: the tables of the block: pooled effects, cells without a comparison, changed cells."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from numa_bench.analysis.plots.style import format_number
from numa_bench.analysis.report.columns import Record, format_probability
from numa_bench.analysis.report.markdown.text import escape_text, join_names
from numa_bench.analysis.stats.pooled.table import BOUND, MODEL
from numa_bench.analysis.stats.sentences import format_percent
from numa_bench.labels import quantity_label

if TYPE_CHECKING:
    from numa_bench.analysis.study_analysis import Analysis

#: Most rows; the page has all of them.
MOST_ROWS = 14
_ABSENT = "-"


@dataclass(frozen=True)
class Table:
    """Headings, an alignment for each, and rows, as Markdown; `total` counts all rows.

    Which rows are shown does not depend on their size: the largest of many are too large.
    """

    head: tuple[str, str]
    rows: tuple[str, ...]
    total: int

    def write(self, most: int) -> list[str]:
        """Its lines, with at most `most` rows."""
        return [*self.head, *self.rows[:most]]

    def count_left_out(self, most: int) -> int:
        """How many rows `write` leaves out."""
        return self.total - min(most, len(self.rows))


#: Heading, whether it is a column of numbers, and how a row's cell is written ("" if empty).
_Column = tuple[str, bool, Callable[[Record], str]]


def _make_table(columns: Sequence[_Column], records: Sequence[Record]) -> Table:
    """A table of the first rows; a column that is empty in all of them is left out."""
    shown = records[:MOST_ROWS]
    texts = {i: [write(r) for r in shown] for i, (_, _, write) in enumerate(columns)}
    kept = [i for i in texts if any(texts[i])]
    head = _write_row([columns[i][0] for i in kept])
    rule = _write_row(["---:" if columns[i][1] else "---" for i in kept])
    rows = [_write_row([texts[i][j] or _ABSENT for i in kept]) for j in range(len(shown))]
    return Table((head, rule), tuple(rows), len(records))


def _write_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def tabulate_group(analysis: Analysis, group: str) -> Table | None:
    """Pooled effects of a group, or its cells where none is compared with local."""
    pooled = analysis.pooled
    rows = pooled[(pooled["group"] == group) & pooled["level"].isin([BOUND, MODEL])]
    if not rows.empty:
        return _tabulate_pooled(rows, analysis.target)
    cells = analysis.cells[analysis.cells["group"] == group]
    cells = cells[cells["n"] > 0]
    return None if cells.empty else _tabulate_cells(cells)


def _tabulate_pooled(rows: pd.DataFrame, target: float) -> Table:
    columns: list[_Column] = [
        ("models", False, lambda r: join_names(r["models"])),
        ("limited by", False, lambda r: escape_text(r["bound"] or "")),
        ("placement", False, lambda r: escape_text(r["placement"])),
        ("distance", False, lambda r: escape_text(r["distance_text"] or "", 80)),
        ("GPUs", True, lambda r: str(r["gpus"] or "")),
        (_name_change(rows["metric"], "local"), True, _format_change),
        ("95 % CI", True, _format_interval),
        ("p (Holm)", True, lambda r: escape_text(_format_p(r))),
        ("result", False, lambda r: describe_result(r, target)),
    ]
    return _make_table(columns, _order_pooled(rows).to_dict("records"))


def _order_pooled(rows: pd.DataFrame) -> pd.DataFrame:
    """Pools of models before single models, far placements before near ones."""
    far = rows["distance_text"].map(_find_distance)
    keys = pd.DataFrame({"level": rows["level"] != BOUND, "near": -far})
    return rows.loc[keys.sort_values(["level", "near"], kind="stable").index]


def _find_distance(text: object) -> int:
    """The greatest number in the text of a distance; 0 without one."""
    return max(map(int, re.findall(r"distance (\d+)", str(text))), default=0)


def describe_result(row: Record, target: float) -> str:
    """A row's outcome in a few words."""
    if math.isnan(row["p_holm"]):
        return "too few runs"
    if row["held_back"]:
        return f"no verdict: {row['held_back']}"
    limit = f"{format_percent(target)} %"
    if row["claimed"]:
        word = "faster" if row["ratio"] > 1 else "slower"
        return f"{word}, by less than {limit}" if row["equal"] else word
    if row["equal"]:
        return f"equal within {limit}"
    return f"not shown; {_describe_detectable(row)}"


def _describe_detectable(row: Record) -> str:
    if math.isnan(row["detectable"]):
        return "too few runs"
    return f"{format_percent(row['detectable'])} % or more would have been detected"


def _tabulate_cells(cells: pd.DataFrame) -> Table:
    unit = escape_text(cells["unit"].iloc[0])
    columns: list[_Column] = [
        ("device", False, lambda r: escape_text(r["device_text"])),
        ("model", False, lambda r: escape_text(r["model_text"])),
        ("placement", False, lambda r: escape_text(f"{r['placement']}, {r['placement_text']}", 80)),
        ("runs", True, lambda r: str(r["n"])),
        (f"median, {unit}", True, lambda r: format_number(r["median"])),
        ("95 % CI", True, _format_range),
    ]
    return _make_table(columns, cells.to_dict("records"))


def tabulate_changes(table: pd.DataFrame) -> Table | None:
    """The cells of a comparison that changed, regressions first; None without any."""
    changed = table[table["claimed"].astype(bool) | table["regression"].astype(bool)]
    if changed.empty:
        return None
    changed = changed.sort_values("regression", ascending=False, kind="stable")
    columns: list[_Column] = [
        ("device", False, lambda r: escape_text(r["device_text"])),
        ("model", False, lambda r: escape_text(r["model_text"])),
        ("placement", False, lambda r: escape_text(f"{r['placement']}, {r['placement_text']}", 80)),
        ("runs", True, lambda r: f"{r['n']} x {r['n_base']}"),
        (_name_change(table["metric"], "before"), True, _format_change),
        ("95 % CI", True, _format_interval),
        ("beyond the shift", True, lambda r: _format_change(r, "own_ratio")),
        ("p (Holm)", True, lambda r: escape_text(_format_p(r))),
        ("regression", False, lambda r: "yes" if r["regression"] else ""),
    ]
    return _make_table(columns, changed.to_dict("records"))


def _name_change(metrics: pd.Series[str], base: str) -> str:
    name = quantity_label(str(metrics.iloc[0])) if metrics.nunique() == 1 else "change"
    return escape_text(f"{name} against {base}")


def _format_change(row: Record, key: str = "ratio") -> str:
    return "" if math.isnan(row[key]) else f"{100 * (row[key] - 1):+.1f} %"


def _format_interval(row: Record) -> str:
    if math.isnan(row["low"]) or math.isnan(row["high"]):
        return ""
    return f"{100 * (row['low'] - 1):+.1f} to {100 * (row['high'] - 1):+.1f}"


def _format_range(row: Record) -> str:
    if math.isnan(row["low"]) or math.isnan(row["high"]):
        return ""
    return f"{format_number(row['low'])} to {format_number(row['high'])}"


def _format_p(row: Record) -> str:
    return "" if math.isnan(row["p_holm"]) else format_probability(row["p_holm"])
