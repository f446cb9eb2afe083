"""Stability of the study: throughput over time, clocks, temperature, disturbances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from numa_bench.analysis.plots import shape, style
from numa_bench.analysis.plots.runs import HEADLINE
from numa_bench.marks import KINDS

#: Change of a sensor over a study, as a fraction, from which it is drawn. Chosen.
VARIED = 0.03
#: Most studies that are drawn, those with the most runs first. Chosen for readability.
_STUDIES = 3
#: Runs of the running median, at least.
_WINDOW = 5
_SENSORS = (
    ("monitor_sm_mhz_median", "GPU clock (MHz)"),
    ("monitor_temperature_c_median", "GPU temperature (°C)"),
    ("monitor_cpu_mhz_median", "CPU clock (MHz)"),
)


@style.with_style
def plot_drift(runs: pd.DataFrame) -> Figure | None:
    """Every run against the median of its cell, over the time of its study."""
    table = runs.assign(minutes=_minutes(runs), rate=runs[HEADLINE])
    count = table.groupby("cell")["rate"].transform("size")
    table = table[(count > 1) & np.isfinite(table["minutes"])]
    if table.empty:
        return None
    # Against each cell's own median, so that all models and placements share one axis.
    table = table.assign(change=100 * (table["rate"] / _median(table) - 1))
    studies = _largest(table)
    title = "Each run against the median of its cell, over the study"
    figure, panels = style.make_panels(len(studies), title, height=2.6, columns=1)
    figure.set_figwidth(style.WIDTH)
    for axes, study in zip(panels, studies, strict=True):
        mine = table[table["study_dir"] == study].sort_values("minutes")
        _drift_panel(axes, mine, style.shorten_middle(study, 80) if len(studies) > 1 else "")
    labels = style.order_placements(table["placement"])
    handles = [style.legend_entry(label, style.get_placement_style(label)) for label in labels]
    if table["study_dir"].value_counts().iloc[0] >= 4 * _WINDOW:
        handles.append(
            style.legend_entry("running median", style.Look(style.INK, "", ""), line=True)
        )
    if (table["marks"] != "").any():
        handles.append(style.legend_entry("ringed: carries a mark", _RING))
    style.add_legend(figure, handles)
    return figure


_RING = style.Look("#ffffff", "o", "")


def _median(table: pd.DataFrame) -> pd.Series[float]:
    medians: pd.Series[float] = table.groupby("cell")["rate"].transform("median")
    return medians


def _drift_panel(axes: Axes, runs: pd.DataFrame, title: str) -> None:
    axes.set_title(title)
    for label in style.order_placements(runs["placement"]):
        mine, look = runs[runs["placement"] == label], style.get_placement_style(label)
        axes.scatter(
            mine["minutes"], mine["change"], s=16, marker=look.marker, color=look.color,
            edgecolors=style.INK, linewidths=0.3, zorder=3,
        )  # fmt: skip
    marked = runs[runs["marks"] != ""]
    axes.scatter(
        marked["minutes"], marked["change"], s=90, facecolors="none", edgecolors=style.INK,
        linewidths=1.2, zorder=4,
    )  # fmt: skip
    window = max(_WINDOW, len(runs) // 10)
    if len(runs) >= 4 * window:
        middle = runs["change"].rolling(window, center=True).median()
        axes.plot(runs["minutes"], middle, color=style.INK, linewidth=1.8, zorder=5)
    axes.axhline(0, color=style.QUIET, linewidth=0.8)
    axes.set_xlabel("time from the first run (min)")
    axes.set_ylabel("against the median\nof the cell (%)")
    axes.grid(axis="y")


def _minutes(runs: pd.DataFrame) -> pd.Series[float]:
    """Start of each run from the first of its study, in minutes."""
    start = pd.to_datetime(runs["start_time"], errors="coerce", utc=True, format="ISO8601")
    first = start.groupby(runs["study_dir"]).transform("min")
    minutes: pd.Series[float] = (start - first).dt.total_seconds() / 60
    return minutes


def _largest(runs: pd.DataFrame) -> list[str]:
    """The studies with the most runs, in the order of their names."""
    return sorted(runs["study_dir"].value_counts(sort=True).index[:_STUDIES])


@style.with_style
def plot_sensors(frame: pd.DataFrame) -> Figure | None:
    """Clocks, temperature and marks over the largest study's time; None if nothing varied."""
    if frame.empty:
        return None
    study = frame["study_dir"].value_counts(sort=True).index[0]
    runs = frame[frame["study_dir"] == study]
    runs = runs.assign(minutes=_minutes(runs)).sort_values("minutes")
    runs = runs[np.isfinite(runs["minutes"])]
    sensors = [(c, unit) for c, unit in _SENSORS if c in runs and runs[c].notna().any()]
    if len(sensors) > 1:  # with a GPU, CPU clocks are shown only if they varied
        sensors = [(c, u) for c, u in sensors if c != "monitor_cpu_mhz_median" or _varied(runs, c)]
    marks = sorted(set("".join(runs["marks"])))
    if not sensors or runs.empty or not (marks or any(_varied(runs, c) for c, _ in sensors)):
        return None
    ratios = [1.6] * len(sensors) + ([0.3 + 0.22 * len(marks)] if marks else [])
    figure = style.make_figure(1.6 + sum(ratios), title="Clocks, temperature and disturbances")
    rows = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    names = shape.order_devices(runs)[: len(style.SERIES)]
    for axes, (column, label) in zip(rows, sensors, strict=False):
        _sensor_panel(axes, runs, column, label, names)
    if marks:
        _marks_panel(rows[-1], runs, marks)
    rows[-1].set_xlabel("time from the first run (min)")
    handles = [
        style.legend_entry(shape.device_name(name), look, line=True)
        for name, look in zip(names, style.SERIES, strict=False)
    ]
    style.add_legend(figure, handles, columns=8)
    return figure


def _varied(runs: pd.DataFrame, column: str) -> bool:
    values = runs.groupby("device_text")[column].agg(["min", "max"]).astype(float)
    return bool(((values["max"] - values["min"]) > VARIED * values["max"].abs()).any())


def _sensor_panel(
    axes: Axes, runs: pd.DataFrame, column: str, label: str, names: Sequence[str]
) -> None:
    for name, look in zip(names, style.SERIES, strict=False):
        mine = runs[(runs["device_text"] == name) & runs[column].notna()]
        axes.plot(
            mine["minutes"], mine[column].astype(float), color=look.color, linestyle=look.line,
            marker=look.marker, markersize=4, linewidth=1, markevery=max(1, len(mine) // 12),
        )  # fmt: skip
    axes.set_ylabel(label.replace(" (", "\n("))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.margins(y=0.15)
    axes.grid(axis="y")


def _marks_panel(axes: Axes, runs: pd.DataFrame, marks: Sequence[str]) -> None:
    codes = {kind.mark: code.replace("_", " ") for code, kind in reversed(KINDS.items())}
    for y, mark in enumerate(marks):
        mine = runs[runs["marks"].str.contains(mark, regex=False)]
        axes.plot(mine["minutes"], [y] * len(mine), "|", color=style.INK, markersize=10, mew=1.6)
    names = [f"{m} {codes[m] if m != 'N' else 'note'}" for m in marks]
    axes.set_yticks(range(len(marks)), names)
    axes.set_ylim(len(marks) - 0.4, -0.6)
    axes.set_ylabel("mark")
    axes.grid(axis="y")
