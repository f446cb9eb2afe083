"""Pictures of the other questions: compilation, model size, batch, image and pipeline depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from numa_bench.analysis.plots import shape, style
from numa_bench.analysis.plots.runs import rate_axis

RATE = "median_samples_per_s"
_COLUMNS = 4
_ROWS = 40
#: An x axis whose greatest value is this many times the least is logarithmic.
_STRETCHED = 6.0


@style.with_style
def plot_compile_effect(table: pd.DataFrame) -> Figure | None:
    """Speedup of compiled models, and after how many samples compilation has paid."""
    table = table[np.isfinite(table["speedup"].astype(float))].head(_ROWS)
    if table.empty:
        return None
    figure = style.make_figure(
        1.6 + 0.42 * len(table),
        title=f"Compiled against eager, n = {shape.format_counts(table['n'])}",
    )
    left, right = figure.subplots(1, 2, sharey=True)
    for y, row in enumerate(table.to_dict("records")):
        look = style.placement_style(str(row["placement"]))
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
    right.set_xlabel("samples until compilation has paid (count)")
    _log_or_linear(right, table["break_even_samples"])
    for axes in (left, right):
        axes.grid(axis="x")
    labels = style.placement_order(table["placement"])
    style.add_legend(
        figure, [style.legend_entry(label, style.placement_style(label)) for label in labels]
    )
    return figure


def _beside(axes: Axes, y: int, text: str) -> None:
    axes.text(1.01, y, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5)


def _compile_names(table: pd.DataFrame) -> list[str]:
    names = []
    for row in table.to_dict("records"):
        parts = (
            [style.shorten_middle(row["vit_name"], 24)] if table["vit_name"].nunique() > 1 else []
        )
        parts.append(str(row["compile_mode"]))
        parts += [shape.device_name(row["device_text"])] * (table["device_text"].nunique() > 1)
        parts += [str(row["placement"])] * (table["placement"].nunique() > 1)
        names.append("  ".join(parts))
    return names


def _log_or_linear(axes: Axes, values: pd.Series[float]) -> None:
    known = values[np.isfinite(values.astype(float))]
    if len(known) and known.min() > 0:
        axes.set_xscale("log")
        low, high = float(known.min()), float(known.max())
        axes.set_xlim(10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high * 1.01)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: style.format_tick(v)))
    else:
        axes.set_xlim(0, 1)
        axes.set_xticks([])


@dataclass(frozen=True)
class Row:
    """One row of panels: what is drawn over the setting. `low`, `high` name its interval."""

    column: str
    label: str
    low: str = ""
    high: str = ""
    zero: bool = False


_THROUGHPUT = Row(RATE, "throughput (samples/s)", "low", "high")
_TFLOP = Row("tflop_per_s", "achieved (TFLOP/s)", zero=True)
_SHARE = Row("copy_share", "copies, share of\nstage time (%)", zero=True)
_LATENCY = Row("latency_p50_ms", "latency p50 (ms)", zero=True)
SETTINGS = {
    "batch": ("batch_size", "batch size (samples)"),
    "resolution": ("image_size", "image side (pixels)"),
    "pipeline": ("pipeline_depth", "pipeline depth (buffers)"),
}


@style.with_style
def plot_scaling(table: pd.DataFrame) -> Figure | None:
    """Throughput, TFLOP/s and copies over depth and dim."""
    columns = []
    for name in list(dict.fromkeys(table["series"].dropna()))[:_COLUMNS]:
        mine = table[table["series"] == name]
        key = "depth" if str(name).startswith("depth") else "dim"
        if mine[key].nunique() > 1:
            unit = "depth (layers)" if key == "depth" else "dim (width of a token)"
            columns.append((str(name), mine, key, unit))
    return _grid(columns, (_THROUGHPUT, _TFLOP, _SHARE), "Scaling with the model's size")


@style.with_style
def plot_setting(table: pd.DataFrame, question: str) -> Figure | None:
    """Throughput and latency over one setting, a column for each model."""
    key, unit = SETTINGS[question]
    names = [m for m in table["vit_name"].drop_duplicates()][:_COLUMNS]
    columns = []
    for name in names:
        mine = table[table["vit_name"] == name]
        if mine[key].nunique() > 1:
            columns.append((str(name), mine, key, unit))
    title = {"batch": "Batch size", "resolution": "Resolution", "pipeline": "Pipeline depth"}
    return _grid(columns, (_THROUGHPUT, _LATENCY, _SHARE), title[question])


def _grid(
    columns: Sequence[tuple[str, pd.DataFrame, str, str]], rows: Sequence[Row], title: str
) -> Figure | None:
    """Panels: one column for each of (title, table, x column, x label)."""
    rows = [
        row
        for row in rows
        if any(row.column in t and t[row.column].notna().any() for _, t, _, _ in columns)
    ]
    if not columns or not rows:
        return None
    every = pd.concat([table for _, table, _, _ in columns])
    width = style.WIDTH if len(columns) > 1 else 0.7 * style.WIDTH
    title += f", n = {shape.format_counts(every['n'])} in each cell"
    figure = style.make_figure(1.1 + 2.1 * len(rows), width, title)
    grid = figure.subplots(len(rows), len(columns), squeeze=False, sharex="col")
    for c, (name, table, key, unit) in enumerate(columns):
        for r, row in enumerate(rows):
            _panel(grid[r][c], table, key, row)
        _turning(list(grid[:, c]), table, key, style.shorten_middle(name, 36))
        grid[-1][c].set_xlabel(unit)
        _x_axis(grid[-1][c], sorted(table[key].astype(float).unique()))
    labels = style.placement_order(every["placement"])
    handles = [
        style.legend_entry(label, style.placement_style(label), line=True) for label in labels
    ]
    style.add_legend(figure, handles)
    return figure


def _panel(axes: Axes, table: pd.DataFrame, key: str, row: Row) -> None:
    factor = 100.0 if row.column == "copy_share" else 1.0
    labels = style.placement_order(table["placement"])
    drawn: list[float] = []
    for i, label in enumerate(labels):
        mine, look = table[table["placement"] == label], style.placement_style(label)
        by = mine.groupby(key)
        middle = factor * by[row.column].median().astype(float)
        x = middle.index.to_numpy(float)
        axes.plot(
            x, middle, color=look.color, linestyle=look.line, marker=look.marker, markersize=7,
            markeredgecolor=style.INK, markeredgewidth=0.6, linewidth=1.5,
            zorder=3 + len(labels) - i,
        )  # fmt: skip
        drawn += middle[np.isfinite(middle)].tolist()
        low, high = _bounds(by, row)
        drawn += [v for ends in (low, high) for v in factor * ends if math.isfinite(v)]
        axes.vlines(x, factor * low, factor * high, color=style.INK, linewidth=1.1, zorder=2)
    values = pd.Series(drawn, dtype=float)
    if row.zero:
        style.zero_based(axes, "y", float(values.max()) if len(values) else 0)
    elif len(values):
        rate_axis(axes, values)
    if row.column == "copy_share":
        axes.axhline(50, color=style.QUIET, linewidth=0.9, linestyle=":")
        axes.set_ylim(0, 100)
    axes.set_ylabel(row.label)
    axes.grid(axis="y")


def _bounds(by: object, row: Row) -> tuple[pd.Series[float], pd.Series[float]]:
    """The interval of one cell; over several cells (GPUs) the range of their values."""
    groups = by  # a GroupBy, whose type pandas keeps to itself
    least = groups[row.column].min().astype(float)  # type: ignore[index]
    most = groups[row.column].max().astype(float)  # type: ignore[index]
    if not row.low:
        return least, most
    one = groups.size() == 1  # type: ignore[attr-defined]
    low = groups[row.low].min().astype(float)  # type: ignore[index]
    high = groups[row.high].max().astype(float)  # type: ignore[index]
    return least.where(~one, low.fillna(least)), most.where(~one, high.fillna(most))


def _turning(column: Sequence[Axes], table: pd.DataFrame, key: str, name: str) -> None:
    """Mark where the local cells turn from transfer bound to compute bound."""
    if "bound" not in table:
        column[0].set_title(name)
        return
    label = style.placement_order(table["placement"])[0]
    bound = table[table["placement"] == label].groupby(key)["bound"].first().sort_index()
    compute = [float(v) for v in bound[bound == "compute"].index]
    transfer = [float(v) for v in bound[bound == "transfer"].index]
    if compute and transfer and max(transfer) < min(compute):
        at = math.sqrt(max(transfer) * min(compute))
        for axes in column:
            axes.axvline(at, color=style.QUIET, linewidth=1.1, linestyle="--", zorder=1)
        said = f"compute bound from {min(compute):g} on"
    elif compute and transfer:
        said = "transfer and compute bound in turn"
    else:
        said = f"{'compute' if compute else 'transfer'} bound throughout"
    column[0].set_title(f"{name}\n{said}")


def _x_axis(axes: Axes, values: Sequence[float]) -> None:
    if values[0] > 0 and values[-1] / values[0] >= _STRETCHED:
        axes.set_xscale("log")
    keep = list(values)
    while len(keep) > 9:
        keep = keep[::2]
    axes.xaxis.set_major_locator(FixedLocator(keep))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
