"""Small multiples of series: throughput and other quantities over one setting."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from numa_bench.analysis.plots import shape, style
from numa_bench.analysis.plots.runs import set_rate_axis

#: Most columns of panels that fit side by side with readable labels.
MOST_COLUMNS = 4
#: An x axis whose greatest value is this many times the least is logarithmic.
_STRETCHED = 6.0


@dataclass(frozen=True)
class SeriesRow:
    """One row of panels: the quantity on the y axis, a column of the table.

    `low_key` and `high_key` name the columns of its interval. An axis with `from_zero` starts at
    0. A `percent` row is a fraction, drawn in percent from 0 to 100 with a line at 50.
    """

    key: str
    label: str
    low_key: str = ""
    high_key: str = ""
    from_zero: bool = False
    percent: bool = False


@dataclass(frozen=True)
class SeriesColumn:
    """One column of panels: the rows of `table` over its column `key`, which `label` names."""

    title: str
    table: pd.DataFrame
    key: str
    label: str


THROUGHPUT_ROW = SeriesRow("median_samples_per_s", "throughput (samples/s)", "low", "high")
TFLOP_ROW = SeriesRow("tflop_per_s", "achieved (TFLOP/s)", from_zero=True)
COPY_SHARE_ROW = SeriesRow("copy_share", "copies, share of\nstage time (%)", percent=True)
LATENCY_ROW = SeriesRow("latency_p50_ms", "latency p50 (ms)", from_zero=True)


@style.with_style
def plot_setting(table: pd.DataFrame, key: str, label: str, title: str) -> Figure | None:
    """Throughput, latency and share of copies over one setting, a column for each model
    and variant of it.

    `key` is the setting's column in `table`, `label` its name on the x axis.
    """
    columns = []
    for name in list(table["variant_text"].drop_duplicates())[:MOST_COLUMNS]:
        mine = table[table["variant_text"] == name]
        if mine[key].nunique() > 1:
            columns.append(SeriesColumn(str(name), mine, key, label))
    return plot_series(columns, (THROUGHPUT_ROW, LATENCY_ROW, COPY_SHARE_ROW), title)


@style.with_style
def plot_series(
    columns: Sequence[SeriesColumn], rows: Sequence[SeriesRow], title: str
) -> Figure | None:
    """A grid of panels; rows whose quantity was not measured are left out. None if all are."""
    rows = [row for row in rows if any(_has_values(column.table, row.key) for column in columns)]
    if not columns or not rows:
        return None
    every = pd.concat([column.table for column in columns])
    width = style.WIDTH if len(columns) > 1 else 0.7 * style.WIDTH
    title += f", n = {shape.format_counts(every['n'])} in each cell"
    figure = style.make_figure(1.1 + 2.1 * len(rows), width, title)
    grid = figure.subplots(len(rows), len(columns), squeeze=False, sharex="col")
    for panels, column in zip(grid.T, columns, strict=True):
        for axes, row in zip(panels, rows, strict=True):
            _draw_panel(axes, column.table, column.key, row)
        _mark_bound(list(panels), column)
        panels[-1].set_xlabel(column.label)
        _x_axis(panels[-1], sorted(column.table[column.key].astype(float).unique()))
    labels = style.order_placements(every["placement"])
    handles = [
        style.legend_entry(label, style.get_placement_style(label), line=True) for label in labels
    ]
    style.add_legend(figure, handles)
    return figure


def _has_values(table: pd.DataFrame, key: str) -> bool:
    return key in table and bool(table[key].notna().any())


def _draw_panel(axes: Axes, table: pd.DataFrame, key: str, row: SeriesRow) -> None:
    factor = 100.0 if row.percent else 1.0
    labels = style.order_placements(table["placement"])
    drawn: list[float] = []
    for i, label in enumerate(labels):
        mine, look = table[table["placement"] == label], style.get_placement_style(label)
        by = mine.groupby(key)
        middle = factor * by[row.key].median().astype(float)
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
    if row.percent:
        axes.set_ylim(0, 100)
        # At 50 % copies take as long as compute.
        axes.axhline(50, color=style.QUIET, linewidth=0.9, linestyle=":")
    elif row.from_zero:
        style.set_zero_based(axes, "y", float(values.max()) if len(values) else 0)
    elif len(values):
        set_rate_axis(axes, values)
    axes.set_ylabel(row.label)
    axes.grid(axis="y")


def _bounds(by: object, row: SeriesRow) -> tuple[pd.Series[float], pd.Series[float]]:
    """The interval of one cell; over several cells (GPUs) the range of their values."""
    groups = by  # a GroupBy, whose type pandas does not export
    least = groups[row.key].min().astype(float)  # type: ignore[index]
    most = groups[row.key].max().astype(float)  # type: ignore[index]
    if not row.low_key:
        return least, most
    one = groups.size() == 1  # type: ignore[attr-defined]
    low = groups[row.low_key].min().astype(float)  # type: ignore[index]
    high = groups[row.high_key].max().astype(float)  # type: ignore[index]
    return least.where(~one, low.fillna(least)), most.where(~one, high.fillna(most))


def _mark_bound(panels: Sequence[Axes], column: SeriesColumn) -> None:
    """Title a column of panels, and mark where what limits local cells changes."""
    table, title = column.table, style.shorten_middle(column.title, 36)
    if "bound" not in table:
        panels[0].set_title(title)
        return
    # Local where it was measured: placements may turn at different sizes.
    label = style.order_placements(table["placement"])[0]
    bound = table[table["placement"] == label].groupby(column.key)["bound"].first().dropna()
    blocks = shape.find_bound_blocks(bound)
    for before, after in itertools.pairwise(blocks):
        # Halfway on a logarithmic axis; near enough on a linear one.
        at = math.sqrt(before.most * after.least)
        for axes in panels:
            axes.axvline(at, color=style.QUIET, linewidth=1.1, linestyle="--", zorder=1)
    panels[0].set_title(f"{title}\n{_bound_text(blocks, sorted(set(bound)))}")


def _bound_text(blocks: Sequence[shape.BoundBlock], kinds: Sequence[str]) -> str:
    if not kinds:
        return "stage times were not measured"
    if not blocks:
        return f"{' and '.join(f'{kind} bound' for kind in reversed(kinds))} by turns"
    if len(blocks) == 1:
        return f"{blocks[0].bound} bound throughout"
    return ", ".join(f"{block.bound} bound from {block.least:g}" for block in blocks[1:])


def _x_axis(axes: Axes, values: Sequence[float]) -> None:
    if values[0] > 0 and values[-1] / values[0] >= _STRETCHED:
        axes.set_xscale("log")
    keep = list(values)
    while len(keep) > 9:
        keep = keep[::2]
    axes.xaxis.set_major_locator(FixedLocator(keep))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
