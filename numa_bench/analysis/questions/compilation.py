"""Whether compilation pays: compiled against uncompiled models, all else equal."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from numa_bench.analysis.plots import shape, style
from numa_bench.analysis.questions.base import (
    MARKS_COLUMN,
    SETTING_COLUMNS,
    ColumnSpec,
    Question,
)
from numa_bench.analysis.questions.points import SHARED_COLUMNS, build_series_keys
from numa_bench.analysis.read.model_texts import describe_variants
from numa_bench.analysis.stats.contrasts import compare_cells
from numa_bench.analysis.stats.families import (
    group_by_key,
    remove_study_drift,
    select_usable_runs,
    stack_cells,
)
from numa_bench.analysis.stats.tables import TARGET, THROUGHPUT, join_cell_marks

COMPILE_COLUMNS = (
    *SHARED_COLUMNS, "variant_text", "compile_mode", "n", "n_base", "eager_samples_per_s",
    "compiled_samples_per_s", "speedup",
    "low", "high", "p_holm", "claimed", "compile_s", "break_even_samples", "text",
    "marks",
)  # fmt: skip
#: Most rows of the figure; the table has all.
_ROWS = 40


def tabulate_compilation(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Compare compiled to uncompiled models, all else equal; columns are `COMPILE_COLUMNS`.

    `speedup` is compiled over eager throughput, with interval and corrected p-value as in `stats`;
    the family is all of these comparisons in one group. `break_even_samples` is the number of
    samples after which compilation has paid for itself; NaN: never, or compile time was not
    measured.
    """
    runs = select_usable_runs(frame, THROUGHPUT)
    if runs.empty or runs["compile_model"].nunique() < 2:
        return pd.DataFrame(columns=list(COMPILE_COLUMNS))
    # The name is free too: a study may give a compiled model one of its own.
    free = ("vit_name", "test_compile_model", "test_compile_mode")
    variants = runs["cell"].map(describe_variants(runs, free)).astype(str)
    names = (runs["vit_name"].astype(str) + " " + variants).str.strip()
    runs = runs.assign(series=build_series_keys(runs, free), variant_text=names)
    tables = []
    for _, members in runs.groupby("group", sort=False):
        rows = []
        for _, series in members.groupby("series", sort=False):
            # False sorts first: the uncompiled cell becomes the base.
            cells = series.drop_duplicates("cell").sort_values("compile_model", kind="stable")
            if cells["compile_model"].nunique() == 2:
                rows.append([str(cell) for cell in cells["cell"]])
        if rows:
            tables.append(_compare_group(members, rows, seed))
    if not tables:
        return pd.DataFrame(columns=list(COMPILE_COLUMNS))
    return pd.concat(tables, ignore_index=True)


def _compare_group(members: pd.DataFrame, rows: list[list[str]], seed: int) -> pd.DataFrame:
    """The comparisons of one group; each row of cells starts with the uncompiled one."""
    logs, spent = remove_study_drift(members, THROUGHPUT)
    by_cell = group_by_key(logs, members["cell"])
    cells, values = stack_cells(rows, by_cell)
    contrasts = compare_cells(values, spent, TARGET, seed)
    counts = np.isfinite(values).sum(axis=-1)
    medians = members.groupby("cell")[[THROUGHPUT, "compile_s"]].median().to_dict("index")
    first = members.drop_duplicates("cell").set_index("cell", drop=False)
    marks = join_cell_marks(members)
    table = []
    for i, row in enumerate(cells):
        for j, cell in enumerate(row[1:], 1):
            if not cell:
                continue
            eager, rate = (float(medians[c][THROUGHPUT]) for c in (row[0], cell))
            compile_s = float(medians[cell]["compile_s"])
            difference = contrasts.difference[i, j]
            pays = compute_break_even(eager, rate, compile_s)
            values_of_cell = {
                "variant_text": first.loc[cell, "variant_text"],
                "compile_mode": first.loc[cell, "compile_mode"],
                "n": counts[i, j],
                "n_base": counts[i, 0],
                "eager_samples_per_s": eager,
                "compiled_samples_per_s": rate,
                # Too few runs for a fit: the ratio of medians, which has no interval.
                "speedup": np.exp(difference) if np.isfinite(difference) else rate / eager,
                "low": np.exp(contrasts.low[i, j]),
                "high": np.exp(contrasts.high[i, j]),
                "p_holm": contrasts.p_holm[i, j],
                "claimed": contrasts.claimed[i, j],
                "compile_s": compile_s,
                "break_even_samples": pays,
                "text": _pays_text(rate > eager, pays),
                "marks": marks.get(cell, ""),
            }
            table.append({**{k: first.loc[cell, k] for k in SHARED_COLUMNS}, **values_of_cell})
    return pd.DataFrame(table, columns=list(COMPILE_COLUMNS))


def compute_break_even(eager: float, compiled: float, compile_s: float) -> float:
    """Samples after which compilation has paid: compile_s / (1 / eager - 1 / compiled).

    `eager` and `compiled` are throughputs in samples/s. NaN (never) where compiled is not faster.
    """
    return compile_s / (1 / eager - 1 / compiled) if compiled > eager > 0 else float("nan")


def _pays_text(faster: bool, pays: float) -> str:
    if np.isfinite(pays):
        return f"pays after {pays:,.0f} samples"
    return "compile time was not measured" if faster else "never pays: not faster"


@style.with_style
def plot_compilation(table: pd.DataFrame) -> Figure | None:
    """Speedup of compiled models, and the samples after which compilation has paid."""
    table = table[np.isfinite(table["speedup"].astype(float))].head(_ROWS)
    if table.empty:
        return None
    figure = style.make_figure(
        1.6 + 0.42 * len(table),
        title=f"Compiled against eager, n = {shape.format_counts(table['n'])}",
    )
    left, right = figure.subplots(1, 2, sharey=True)
    for y, row in enumerate(table.to_dict("records")):
        look = style.get_placement_style(str(row["placement"]))
        left.plot([row["low"], row["high"]], [y, y], color=style.INK, linewidth=1.6)
        for axes, value in ((left, row["speedup"]), (right, row["break_even_samples"])):
            axes.plot(
                value, y, look.marker, color=look.color, markersize=8, markeredgecolor=style.INK,
                markeredgewidth=0.6,
            )  # fmt: skip
        paid = math.isfinite(row["break_even_samples"])
        text = style.format_number(row["break_even_samples"]) if paid else "never"
        _beside(right, y, text)
        _beside(left, y, f"{row['speedup']:.2f}×")
    left.set_yticks(range(len(table)), _compile_names(table))
    left.set_ylim(len(table) - 0.4, -0.6)
    left.axvline(1, color=style.INK, linewidth=1)
    left.set_xlabel("throughput, compiled over eager (ratio)")
    right.set_xlabel("samples until compilation pays (count)")
    _log_or_linear(right, table["break_even_samples"])
    for axes in (left, right):
        axes.grid(axis="x")
    labels = style.order_placements(table["placement"])
    style.add_legend(
        figure, [style.legend_entry(label, style.get_placement_style(label)) for label in labels]
    )
    return figure


def _beside(axes: Axes, y: int, text: str) -> None:
    axes.text(1.01, y, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5)


def _compile_names(table: pd.DataFrame) -> list[str]:
    names = []
    for row in table.to_dict("records"):
        names_differ = table["variant_text"].nunique() > 1
        parts = [style.shorten_middle(row["variant_text"], 24)] if names_differ else []
        parts.append(str(row["compile_mode"]))
        parts += [shape.device_name(row["device_text"])] * (table["device_text"].nunique() > 1)
        parts += [str(row["placement"])] * (table["placement"].nunique() > 1)
        names.append("  ".join(parts))
    return names


def _log_or_linear(axes: Axes, values: pd.Series[float]) -> None:
    known = values[np.isfinite(values.astype(float))]
    if len(known) and known.min() > 0:
        # Break-even points of small and large models lie orders of magnitude apart.
        axes.set_xscale("log")
        low, high = float(known.min()), float(known.max())
        # Whole decades; 1 % more, or a value at the edge of one would be cut.
        axes.set_xlim(10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high * 1.01)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: style.format_tick(v)))
    else:
        # Nothing pays: the panel has only the words beside it.
        axes.set_xlim(0, 1)
        axes.set_xticks([])


QUESTION = Question(
    key="compile",
    title="Is compilation worth it?",
    order=10,
    make_table=tabulate_compilation,
    columns=(
        *SETTING_COLUMNS,
        ColumnSpec("compile_mode", "mode"),
        ColumnSpec("n", "n", "count"),
        ColumnSpec("eager_samples_per_s", "eager (samples/s)", "number"),
        ColumnSpec("compiled_samples_per_s", "compiled (samples/s)", "number"),
        ColumnSpec("speedup", "speedup", "three_decimals"),
        ColumnSpec("low", "95 % interval", "three_decimals", high_key="high"),
        ColumnSpec("p_holm", "p (Holm)", "probability"),
        ColumnSpec("compile_s", "compile (s)", "number"),
        ColumnSpec("break_even_samples", "break-even (samples)", "number"),
        MARKS_COLUMN,
        ColumnSpec("text", "in words"),
    ),
    plot_figure=plot_compilation,
    caption=(
        "Left: throughput of the compiled model over that of the same model uncompiled, with its "
        "95 % interval; right of 1 is faster. Right: how many samples it takes to win back the "
        "time spent compiling."
    ),
)
