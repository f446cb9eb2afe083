"""Measurements: every run as a dot, stage times, latency percentiles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from numa_bench.analysis.plots import shape, style
from numa_bench.analysis.plots.shape import Part
from numa_bench.labels import quantity_label

RATE = "throughput_samples_per_s"
#: The column of the metric by which a run's placements are compared.
HEADLINE = "headline_value"
#: Greatest over least value from which an axis is logarithmic. Chosen.
WIDE = 30.0
#: Least over greatest value below which an axis starts at 0. Chosen.
_NEAR_ZERO = 0.5
_PERCENTILES = (("latency_p50_ms", "o"), ("latency_p95_ms", "^"), ("latency_p99_ms", "s"))


@style.with_style
def plot_throughput(part: Part) -> Figure | None:
    """A panel for every model, every run a dot, medians as bars."""
    runs = part.statistics_runs
    if runs.empty:
        return None
    models, note = shape.select_models(part.cells, part.effects)
    names, order = shape.order_devices(runs), shape.order_places(runs)
    many = len(names) > 1
    quantity = quantity_label(part.metric)
    name, counts = quantity[0].upper() + quantity[1:], shape.format_counts(part.cells["n"])
    title = part.figure_title(f"{name}, n = {counts} in each cell")
    across = 3 if len(names) * len(order) <= 40 else 2
    figure, panels = style.make_panels(len(models), title, height=2.7, columns=across)
    for axes, model in zip(panels, models, strict=True):
        mine = runs[runs["model_text"] == model]
        axes.set_title(style.shorten_middle(model, style.PANEL_TITLE))
        for (device, place), cell in mine.groupby(["device_text", "placement_text"]):
            at, width = _spot(names.index(str(device)), order.index(str(place)), len(order), many)
            _dots(axes, cell, at, width, small=many)
        _device_axis(axes, names, order, runs, many)
        set_rate_axis(axes, mine[HEADLINE], part.unit, quantity)
    labels = style.order_placements(runs["placement"])
    handles = [style.legend_entry(label, style.get_placement_style(label)) for label in labels]
    handles.append(style.legend_entry("median", style.Look(style.INK, "_", "")))
    if runs["host_bound"].any():
        handles.append(style.legend_entry("ringed: host bound", style.Look("#ffffff", "o", "")))
    figure.legend(
        handles=handles, loc="outside lower left", ncols=8, title=note or None, alignment="left"
    )
    return figure


def _spot(device: int, place: int, places: int, many: bool) -> tuple[float, float]:
    """Position of a cell on the x axis, and its greatest width."""
    if not many:
        return float(place), 0.5
    width = 0.84 / places
    return device - 0.42 + (place + 0.5) * width, 0.8 * width


def _dots(axes: Axes, cell: pd.DataFrame, at: float, width: float, *, small: bool) -> None:
    look = style.get_placement_style(str(cell["placement"].iloc[0]))
    values = cell.sort_values("start_time")[HEADLINE].to_numpy(float)
    spread = np.linspace(-0.5, 0.5, len(values)) if len(values) > 1 else np.zeros(1)
    axes.scatter(
        at + spread * width * 0.8, values, s=7 if small else 30, marker=look.marker,
        color=look.color, edgecolors=style.INK, linewidths=0.3, zorder=3,
    )  # fmt: skip
    waiting = cell.sort_values("start_time")["host_bound"].to_numpy(bool)
    axes.scatter(
        (at + spread * width * 0.8)[waiting], values[waiting], s=40 if small else 90,
        facecolors="none", edgecolors=style.INK, linewidths=0.9, zorder=3,
    )  # fmt: skip
    axes.hlines(
        float(np.median(values)),
        at - width / 2,
        at + width / 2,
        color=style.INK,
        lw=1.6,
        zorder=4 if small else 2,
    )


def _device_axis(
    axes: Axes, names: Sequence[str], order: Sequence[str], runs: pd.DataFrame, many: bool
) -> None:
    if many:
        axes.set_xticks(range(len(names)), [_bare(shape.device_name(n)) for n in names])
        axes.set_xlabel("GPU (within each: placements by node)")
        for i in range(1, len(names)):
            axes.axvline(i - 0.5, color=style.FAINT, linewidth=0.7)
        axes.set_xlim(-0.5, len(names) - 0.5)
        return
    axes.set_xticks(range(len(order)), build_place_labels(runs, order))
    axes.set_xlabel(f"placement ({names[0].replace(' (', ' on ').rstrip(')')})")
    axes.set_xlim(-0.6, len(order) - 0.4)


def _bare(name: str) -> str:
    return name.removeprefix("GPU ")


def build_place_labels(table: pd.DataFrame, order: Sequence[str]) -> list[str]:
    """Tick labels: the placement's label, and its nodes where they add information."""
    kinds = dict(zip(table["placement_text"], table["placement"], strict=True))
    most = 18 if len(order) <= 4 else 12
    labels = []
    for text in order:
        name, label = shape.place_name(text), str(kinds[text])
        lines = [label] if name == label else [label, *name.split("\n")]
        labels.append("\n".join(style.shorten_middle(line, most) for line in lines))
    return labels


def set_rate_axis(
    axes: Axes, values: pd.Series[float], unit: str = "samples/s", quantity: str = "throughput"
) -> None:
    """An axis of rates: logarithmic when values are far apart, never with an offset."""
    low, high = float(values.min()), float(values.max())
    if low > 0 and high / low > WIDE:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        pad = 0.08 * (high - low) or 0.1 * high
        # Start at 0 unless that would compress the differences.
        axes.set_ylim(0 if low < _NEAR_ZERO * high else low - pad, high + pad)
    axes.set_ylabel(f"{quantity} ({unit})")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: style.format_tick(v)))
    axes.grid(axis="y")


_EVERY_RUNS_STAGES = ("h2d_ms", "compute_ms", "d2h_ms")


@style.with_style
def plot_stages(part: Part) -> Figure | None:
    """Stage times of one batch, a bar per placement, and the time per batch that results."""
    runs = part.statistics_runs
    # Host work is a stage of some runs only.
    runs = runs[np.isfinite(runs[list(_EVERY_RUNS_STAGES)].to_numpy(float)).all(axis=1)]
    if runs.empty:
        return None
    models, note = shape.select_models(part.cells, part.effects)
    models = [m for m in models if (runs["model_text"] == m).any()]
    labels = style.order_placements(runs["placement"])
    title = part.figure_title("Stage times of one batch, medians over runs")
    height = 1.05 + 0.33 * len(labels)
    figure, panels = style.make_panels(len(models), title, height=height)
    for axes, model in zip(panels, models, strict=True):
        mine = runs[runs["model_text"] == model]
        axes.set_title(style.shorten_middle(model, style.PANEL_TITLE))
        _stage_bars(axes, mine, labels)
        axes.set_xlabel("time of a batch (ms)")
    handles: list[Artist] = [
        Patch(fc=look.color, hatch=look.hatch, ec=style.INK, lw=0.6, label=name)
        for column, (name, look) in style.STAGES.items()
        if runs[column].notna().any()
    ]
    handles.append(style.legend_entry("time per batch of the whole pipeline", _PACE))
    figure.legend(handles=handles, loc="outside lower left", ncols=4, title=note or None)
    return figure


def _find_median(values: pd.Series[float]) -> float:
    """NaN without any value, and without the warning of NumPy that pandas 2 passes on."""
    return float(values.dropna().median())


#: The time per batch that the throughput amounts to.
_PACE = style.Look("#ffffff", "d", "")


def _stage_bars(axes: Axes, runs: pd.DataFrame, labels: Sequence[str]) -> None:
    names = []
    most = 0.0
    for y, label in enumerate(labels):
        mine = runs[runs["placement"] == label]
        names.append(f"{label} (n={len(mine)})")
        left = 0.0
        for column, (_, look) in style.STAGES.items():
            value = _find_median(mine[column])
            if not np.isfinite(value):
                continue
            axes.barh(
                y, value, left=left, height=0.66, color=look.color, hatch=look.hatch,
                edgecolor=style.INK, linewidth=0.6,
            )  # fmt: skip
            left += value
        if len(mine):
            pace = _find_median(1e3 * mine["test_batch_size"].astype(float) / mine[RATE])
            axes.plot(
                pace, y, _PACE.marker, color="white", markersize=7, markeredgecolor=style.INK,
                markeredgewidth=1.4, zorder=4,
            )  # fmt: skip
            left = max(left, pace)
        most = max(most, left)
    axes.set_yticks(range(len(labels)), names)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    style.set_zero_based(axes, "x", most)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x")


@style.with_style
def plot_latency(part: Part) -> Figure | None:
    """Percentiles of a batch's latency by placement."""
    columns = [c for c, _ in _PERCENTILES]
    runs = part.statistics_runs
    runs = runs[np.isfinite(runs[columns].to_numpy(float)).any(axis=1)]
    if runs.empty:
        return None
    models, note = shape.select_models(part.cells, part.effects)
    models = [m for m in models if (runs["model_text"] == m).any()]
    labels = style.order_placements(runs["placement"])
    title = part.figure_title("Latency of a batch, medians over runs")
    figure, panels = style.make_panels(len(models), title, height=2.5)
    for axes, model in zip(panels, models, strict=True):
        mine = runs[runs["model_text"] == model]
        axes.set_title(style.shorten_middle(model, style.PANEL_TITLE))
        cells = part.latency[part.latency["model_text"] == model]
        _percentiles(axes, mine, cells, labels)
    handles = [
        style.legend_entry(column[8:11], style.Look("#888888", marker, ""))
        for column, marker in _PERCENTILES
    ]
    if np.isfinite(part.latency[["low", "high"]].to_numpy(float)).any():
        handles.append(
            style.legend_entry("95 % interval of p95 (several cells: their range)", _BAR)
        )
    figure.legend(handles=handles, loc="outside lower left", ncols=4, title=note or None)
    return figure


_BAR = style.Look(style.INK, "|", "")


def _percentiles(
    axes: Axes, runs: pd.DataFrame, cells: pd.DataFrame, labels: Sequence[str]
) -> None:
    most = 0.0
    for x, label in enumerate(labels):
        mine, look = runs[runs["placement"] == label], style.get_placement_style(label)
        values = [_find_median(mine[c]) for c, _ in _PERCENTILES]
        spots = [x - 0.14, x, x + 0.14]
        axes.plot(spots, values, color=style.QUIET, linewidth=1, zorder=2)
        for at, (_, marker), value in zip(spots, _PERCENTILES, values, strict=True):
            axes.plot(
                at, value, marker, color=look.color, markersize=7, markeredgecolor=style.INK,
                markeredgewidth=0.6, zorder=3,
            )  # fmt: skip
        low, high = _interval(cells[cells["placement"] == label])
        if math.isfinite(low) and math.isfinite(high):
            axes.plot([x + 0.32] * 2, [low, high], "-", color=style.INK, lw=1.2, marker="_", ms=6)
        most = max([most, *(v for v in (*values, high) if math.isfinite(v))])
    counts = [int((runs["placement"] == label).sum()) for label in labels]
    shown = map(shape.break_label, labels) if len(labels) > 3 else labels
    ticks = [f"{label}\nn={count}" for label, count in zip(shown, counts, strict=True)]
    axes.set_xticks(range(len(labels)), ticks, fontsize=9 if len(labels) <= 4 else 7.5)
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.set_xlabel("placement")
    axes.set_ylabel("latency (ms)")
    style.set_zero_based(axes, "y", most)
    axes.grid(axis="y")


def _interval(cells: pd.DataFrame) -> tuple[float, float]:
    """The interval of the one cell, or the range of the medians of several."""
    if len(cells) == 1:
        return float(cells["low"].iloc[0]), float(cells["high"].iloc[0])
    if cells.empty:
        return math.nan, math.nan
    return float(cells["median"].min()), float(cells["median"].max())
