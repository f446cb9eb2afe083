"""Sentences of a comparison: of one cell, of all, and how much days differ."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from numa_bench.analysis.stats.sentences import (
    Row,
    describe_change,
    describe_detectable,
    format_percent,
)

if TYPE_CHECKING:
    from numa_bench.analysis.stats.compare.tables import CommonShift

#: What one study on each side cannot show, and what to do about it.
UNKNOWN_DAYS = (
    "How much days differ is not known, so a change of the day looks like an effect: measure "
    '"before" twice or more, on different days with 3 repeats or more, and name all of them, '
    "compare=[before1,before2,after]"
)


def describe_cell(row: Row) -> str:
    """The sentence of one row of the table."""
    if math.isnan(row["p_holm"]):
        return f"no verdict (n = {row['n']} x {row['n_base']})"
    beyond = "" if math.isnan(row["own_ratio"]) else " beyond the common shift"
    if beyond:
        own = {key: row[f"own_{key}"] for key in ("ratio", "low", "high")}
        row = {**row, **own, "total": row["ratio"]}
    if row["claimed"]:
        text = f"{describe_change(row)}{beyond}"
    else:
        change = "no change" if beyond else "no difference"
        text = f"{change}{beyond}; {describe_detectable(row['detectable'])}"
    if row["regression"] and beyond:
        text = f"in total {_describe_size(row['total'])}; {text}"
    return text


def describe_comparison(
    table: pd.DataFrame, shift: CommonShift, unmatched: int, limit: float | None
) -> str:
    """The main sentences: the common shift, single cells, regressions."""
    if table.empty:
        return "The two studies have no cell in common."
    parts = [
        *(_describe_single_day(table) if not shift.day_freedom else _describe_shift(table, shift))
    ]
    if unmatched:
        parts.append(f"{unmatched} on one side only")
    if limit is not None:
        parts.append(_describe_regressions(table, shift, limit))
    text = "; ".join(parts) + "."
    return text if shift.day_freedom else f"{text} {UNKNOWN_DAYS}."


def _describe_single_day(table: pd.DataFrame) -> list[str]:
    slower, faster = _count_claims(table, "ratio")
    return [f"{len(table)} cells compared: {slower} slower, {faster} faster"]


def _describe_shift(table: pd.DataFrame, shift: CommonShift) -> list[str]:
    days = f"{_count(shift.days, 'day')} after against {_count(shift.days_base, 'day')} before"
    interval = f"95 % CI of the change {_signed(shift.low)} to {_signed(shift.high)} %"
    if shift.claimed:
        common = f"{_describe_size(shift.ratio)} ({interval})"
    else:
        common = f"no change shown ({_describe_size(shift.ratio)}, {interval})"
    parts = [f"{_count(len(table), 'cell')} compared, {days}: all together {common}"]
    if len(table) > 1:
        slower, faster = _count_claims(table, "own_ratio")
        parts.append(f"single cells beyond that: {slower} slower, {faster} faster")
    return parts


def _describe_regressions(table: pd.DataFrame, shift: CommonShift, limit: float) -> str:
    count = int(table["regression"].sum())
    beyond = f"by significantly more than {100 * limit:g} %"
    text = f"{count} slower {beyond}"
    if shift.regression:
        text = f"all together slower {beyond}, and so are {count} of {len(table)} cells"
    worst = table.loc[table["regression"].astype(bool)].sort_values("ratio").head(1)
    for row in worst.to_dict("records"):
        where = f"{row['model_text']} on {row['device_text']}, {row['placement_text']}"
        total = f"in total {_describe_size(row['ratio'])}"
        what = total if shift.day_freedom else row["text"]
        text += f", the slowest: {where}: {what}"
    return text


def describe_days(table: pd.DataFrame, shift: CommonShift) -> tuple[str, ...]:
    """How much days differ, and which changes could be detected in spite of it."""
    if not shift.day_freedom:
        return ()
    days = sum(count for count in (shift.days_base, shift.days) if count > 1)
    lines = [
        f"Days differ by {format_percent(shift.day_sd)} % (standard deviation of the level of all "
        f"cells, from {days} days, {_count(shift.day_freedom, 'degree')} of freedom); a common "
        f"shift of {format_percent(shift.detectable)} % or more would have been detected."
    ]
    own = table["detectable"].dropna().median()
    if shift.cell_freedom and math.isfinite(own):
        lines.append(
            f"A single cell differs from day to day by {format_percent(shift.cell_sd)} % beyond "
            f"that and beyond the noise of its runs ({_count(shift.cell_freedom, 'degree')} of "
            f"freedom); its own change of {format_percent(own)} % or more would have been detected."
        )
    if shift.day_freedom < _FEW:
        lines.append(
            "From so few days their spread is hardly known; each further day before makes the "
            "common shift much more certain."
        )
    return tuple(lines)


#: Degrees of freedom below which more days are advised. Chosen: Student's 95 % quantile is 3.2 at
#: three degrees of freedom, and 4.3 and 12.7 below.
_FEW = 3


def _count_claims(table: pd.DataFrame, ratio: str) -> tuple[int, int]:
    """Cells that are claimed to be slower, and faster."""
    claimed = table[table["claimed"].astype(bool)]
    return int((claimed[ratio] < 1).sum()), int((claimed[ratio] > 1).sum())


def _describe_size(ratio: float) -> str:
    return f"{format_percent(abs(ratio - 1))} % {'slower' if ratio < 1 else 'faster'}"


def _signed(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
