"""The verdict in the terminal: the same words as on the page."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from numa_bench.analysis.plots.effects import MOST_COMPARISONS
from numa_bench.analysis.plots.pooled_lines import BOUND, MODEL, find_distance
from numa_bench.analysis.plots.style import THIN
from numa_bench.analysis.read.groups import describe_simulations
from numa_bench.analysis.read.studies import Problem
from numa_bench.analysis.report.advice import FILES, summarize_advice
from numa_bench.analysis.report.hosts import print_comparison
from numa_bench.analysis.report.pooled import (
    count_runs,
    describe_outcome,
    name_units,
    select_levels,
    shorten_models,
)
from numa_bench.analysis.stats.pooled.hosts import name_groups
from numa_bench.analysis.study_analysis import Analysis
from numa_bench.labels import quantity_label
from numa_bench.terminal.console import CleanConsole, open_stdout

#: Most rows in the terminal; the page has all.
MOST_ROWS = 24
_MOST_PROBLEMS = 5
#: Most hosts, or groups of runs, that have a verdict and an advice of their own in the terminal.
MOST_GROUPS = 12


def print_analysis(analysis: Analysis, directory: Path) -> None:
    """Print verdict, effects and the paths of page, plots and tables on stdout."""
    console = open_stdout()
    for text in describe_simulations(analysis.loaded.frame):
        console.print(text, style="bold", soft_wrap=True)
    for sweep in analysis.sequential:
        console.print(sweep.warning, style="bold", soft_wrap=True)
    if analysis.comparison is not None:
        console.print(analysis.comparison.text, style="bold", soft_wrap=True)
        for line in analysis.comparison.details:
            console.print(f"  {line}", soft_wrap=True)
        title = "throughput, after against before"
        _print_effects(console, title, analysis.comparison.table)
    else:
        _print_verdicts(console, analysis)
        print_comparison(console, analysis.hosts)
        for text in summarize_advice(analysis.advice)[:MOST_GROUPS]:
            console.print(text, soft_wrap=True)
        _print_against_local(console, analysis)
    _print_left_out(console, analysis)
    shown = _shorten(directory)
    console.print(f"page      {shown / 'report.html'}", soft_wrap=True)
    if analysis.advice:
        console.print(f"bindings  {shown / FILES[1]}", soft_wrap=True)
    console.print(f"block     {shown / 'report.md'}", soft_wrap=True)
    console.print(f"plots     {shown / 'plots'}", soft_wrap=True)
    console.print(f"tables    {shown / 'tables'}", soft_wrap=True)


def print_block(analysis: Analysis, block: Path) -> None:
    """Print the block for a pull request on stdout, and on stderr what else there is to say."""
    sys.stdout.write(block.read_text(encoding="utf-8"))
    console = CleanConsole(stderr=True, markup=False, emoji=False, highlight=False)
    _print_left_out(console, analysis)
    console.print(f"page      {_shorten(block.parent) / 'report.html'}", soft_wrap=True)


def _shorten(directory: Path) -> Path:
    """A directory as seen from the working directory, if it is below that."""
    try:
        return directory.relative_to(Path.cwd())
    except ValueError:
        return directory


def _print_verdicts(console: Console, analysis: Analysis) -> None:
    names = name_groups(analysis.groups, analysis.differences)
    several = len(analysis.study_verdicts) > 1
    for verdict in analysis.study_verdicts[:MOST_GROUPS]:
        where = f"{names[verdict.group]}: " if several else ""
        console.print(f"{where}{verdict.text}", style="bold", soft_wrap=True)
        for line in verdict.details:
            console.print(f"  {line}", soft_wrap=True)
    if len(analysis.study_verdicts) > MOST_GROUPS:
        console.print(f"{len(analysis.study_verdicts) - MOST_GROUPS} more verdicts on the page")
    if not analysis.study_verdicts:
        console.print("no verdict: no run passed", style="bold")


def _print_against_local(console: Console, analysis: Analysis) -> None:
    """Pooled effects, and single comparisons where they are few and add something to these."""
    pooled = select_levels(analysis.pooled, BOUND, MODEL)
    for metric, table in pooled.groupby("metric", sort=False) if len(pooled) else ():
        _print_pooled(console, f"{quantity_label(str(metric))} against local", table, analysis)
    for metric, effects in analysis.effects.groupby("metric", sort=False):
        several = (pooled["units"] > 1).any() if len(pooled) else True
        if pooled.empty or (several and len(effects) <= MOST_COMPARISONS):
            _print_effects(console, f"{quantity_label(str(metric))} against local", effects)
        else:
            count = len(effects)
            verb = "comparison with local is" if count == 1 else "comparisons with local are"
            console.print(f"{count} single {verb} on the page")


def _print_pooled(console: Console, title: str, rows: pd.DataFrame, analysis: Analysis) -> None:
    """One row per pooled effect; of too many only those of whole groups of models."""
    hidden = rows[rows["level"] == MODEL] if len(rows) > MOST_ROWS else rows.iloc[:0]
    kind = name_units(rows)
    names = name_groups(analysis.groups, analysis.differences)
    several = rows["group"].nunique() > 1
    over = kind if (rows["units"] > 1).any() else "models with the same limit"
    table = Table(title=f"{title}, pooled over {over}", title_justify="left")
    for name in (*(("host",) if several else ()), "models", "bound by", "placement"):
        table.add_column(name, overflow="fold")
    table.add_column(f"{kind} x repeats", justify="right")
    table.add_column("outcome", no_wrap=True)
    for name in ("change", "95 % interval", "p (Holm)", "detectable"):
        table.add_column(name, justify="right")
    above: tuple[str, str] | None = None
    for row in rows.drop(hidden.index).to_dict("records"):
        models, distance = str(row["model_text"]), find_distance(str(row["distance_text"]))
        host = names[str(row["group"])]
        same, above = (host, models) == above, (host, models)
        table.add_row(
            *((("" if same else host),) if several else ()),
            "" if same else shorten_models(models),
            "" if same else str(row["bound"] or "-"),
            f"{row['placement']} ({distance})" if distance else str(row["placement"]),
            count_runs(row).replace("×", "x"),
            describe_outcome(row, analysis.target).replace(THIN, " "),
            _percent(row["ratio"], -1),
            _interval(row["low"], row["high"]),
            _probability(row["p_holm"]),
            "-" if pd.isna(row["detectable"]) else f"{row['detectable']:.1%}",
        )
    console.print(table)
    if len(hidden):
        console.print(f"{len(hidden)} effects of single models are on the page")


def _print_effects(console: Console, title: str, effects: pd.DataFrame) -> None:
    """One row per comparison: with local, or of after with before."""
    if effects.empty:
        return
    table = Table(title=title, title_justify="left")
    for name in ("device", "model", "placement"):
        table.add_column(name, overflow="fold")
    # Against several days: what a cell changed beyond all of them.
    own = "own_ratio" in effects and bool(effects["own_ratio"].notna().any())
    beyond = ("beyond the shift", "its 95 % interval") if own else ()
    for name in ("runs", "change", "95 % interval", *beyond, "p (Holm)", "detectable"):
        table.add_column(name, justify="right")
    table.add_column("marks")
    for row in _clearest_effects(effects).to_dict("records"):
        table.add_row(
            str(row["device_text"]),
            str(row["model_text"]),
            f"{row['placement']}, {row['placement_text']}",
            f"{row['n']} x {row['n_base']}",
            _percent(row["ratio"], -1),
            _interval(row["low"], row["high"]),
            *(_own_change(row) if own else ()),
            _probability(row["p_holm"]),
            "-" if pd.isna(row.get("detectable")) else f"{row['detectable']:.1%}",
            str(row.get("marks", "")),
        )
    console.print(table)
    if len(effects) > MOST_ROWS:
        console.print(f"{len(effects) - MOST_ROWS} more rows on the page")


def _own_change(row: Mapping[Any, Any]) -> tuple[str, str]:
    """Change beyond the common shift, and its interval."""
    return _percent(row["own_ratio"], -1), _interval(row["own_low"], row["own_high"])


def _clearest_effects(table: pd.DataFrame) -> pd.DataFrame:
    """All rows, or, of too many, those with the smallest p-values, in the table's order.

    Not those with the largest change: of many, these are mostly the luckiest.
    """
    clearest = table["p_holm"].rank(method="first", na_option="bottom") <= MOST_ROWS
    return table.loc[clearest]


def _print_left_out(console: Console, analysis: Analysis) -> None:
    """Excluded runs and skipped files, with reasons."""
    excluded = analysis.excluded
    if len(excluded):
        counts = excluded["status"].value_counts()
        text = ", ".join(f"{count} {status}" for status, count in counts.items())
        console.print(f"not in the statistics: {text}; the page lists them with their reasons")
    print_problems(console, analysis.loaded.problems)


def print_problems(console: Console, problems: Sequence[Problem]) -> None:
    """The first skipped files, with reasons, and how many more there are."""
    for problem in problems[:_MOST_PROBLEMS]:
        console.print(f"skipped   {problem.path}: {problem.reason}", soft_wrap=True)
    if len(problems) > _MOST_PROBLEMS:
        console.print(f"skipped   {len(problems) - _MOST_PROBLEMS} more files")


def _probability(value: float) -> str:
    if pd.isna(value):
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _percent(value: float, offset: float) -> str:
    return "-" if pd.isna(value) else f"{value + offset:+.1%}"


def _interval(low: float, high: float) -> str:
    return "-" if pd.isna(low) else f"{low - 1:+.1%} to {high - 1:+.1%}"
