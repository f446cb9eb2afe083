"""Copies: bandwidth of every GPU and node against the link, and what profilers saw."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from numa_bench.analysis.plots import style

Record = Mapping[Any, Any]
_WHITE_BLUE = LinearSegmentedColormap.from_list("white_blue", ["#ffffff", "#56B4E9"])
_DIRECTIONS = (("h2d", "H2D, host to device"), ("d2h", "D2H, device to host"))


@style.with_style
def plot_bandwidth(table: pd.DataFrame) -> Figure | None:
    """Copy bandwidth for every GPU (rows) and node (columns), with its share of the limit."""
    table = table.assign(place=[_place(row) for row in table.to_dict("records")])
    value_columns = [f"{d}_gb_per_s" for d, _ in _DIRECTIONS]
    if table.empty or not table[value_columns].notna().any(axis=None):
        return None
    cpu = not table["gpu_id"].notna().any()
    order = table.sort_values(["numa_node", "memory_node"], na_position="last")
    places = list(order["place"].drop_duplicates())
    gpus = list(table["gpu_id"].drop_duplicates().sort_values(na_position="last"))
    if len(gpus) * len(places) < 2:
        return None  # one number, which the table tells
    limits = table["link_gb_per_s"].dropna().unique()
    title = "Copy bandwidth" if cpu else f"Copy bandwidth, {_limit(limits)}"
    across = 2 if len(places) <= 8 else 1
    height = 1.3 + 0.42 * len(gpus)
    figure, panels = style.make_panels(2, title, height=height, columns=across)
    figure.set_figwidth(style.WIDTH if len(places) > 2 else 0.8 * style.WIDTH)
    most = float(np.nanmax([*limits, *table[value_columns].to_numpy(float).ravel()]))
    for axes, (direction, name) in zip(panels, _DIRECTIONS, strict=True):
        axes.set_title(f"{name} (GB/s)")
        for row in table.to_dict("records"):
            y = next(i for i, g in enumerate(gpus) if g is row["gpu_id"] or g == row["gpu_id"])
            _cell(axes, row, direction, places.index(row["place"]), y, most)
        axes.set(xlim=(-0.5, len(places) - 0.5), ylim=(len(gpus) - 0.5, -0.5))
        axes.set_xticks(range(len(places)), places)
        axes.set_yticks(range(len(gpus)), [_gpu(table, g) for g in gpus])
        axes.set_xlabel("NUMA node of CPUs and memory")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


def _place(row: Record) -> str:
    cpus, memory = row["numa_node"], row["memory_node"]
    if pd.isna(cpus) and pd.isna(memory):
        return str(row["placement"])
    if not pd.isna(cpus) and cpus == memory:
        return f"node {cpus}"
    names = [
        f"{what} {'any' if pd.isna(v) else v}" for what, v in (("CPUs", cpus), ("memory", memory))
    ]
    return "\n".join(names)


def _limit(limits: np.ndarray) -> str:
    if len(limits) == 0:
        return "the link's limit is not known"
    low, high = float(min(limits)), float(max(limits))
    told = f"{low:.1f}" if low == high else f"{low:.1f} to {high:.1f}"
    return f"the PCIe link's limit is {told} GB/s each way"


def _gpu(table: pd.DataFrame, gpu: int | None) -> str:
    if pd.isna(gpu):
        return "CPU"
    node = table.loc[table["gpu_id"] == gpu, "gpu_numa_node"].iloc[0]
    return f"GPU {gpu} (node {'?' if pd.isna(node) or node < 0 else node})"


def _cell(axes: Axes, row: Record, direction: str, x: int, y: int, most: float) -> None:
    value = float(row[f"{direction}_gb_per_s"])
    share = float(row[f"{direction}_share"])
    if not math.isfinite(value):
        return
    local = row["placement"] == "local"
    box = Rectangle(
        (x - 0.475, y - 0.46), 0.95, 0.92, facecolor=_WHITE_BLUE(value / most),
        edgecolor=style.INK if local else "#eeeeee", linewidth=1.6 if local else 0.6,
    )  # fmt: skip
    axes.add_patch(box)
    text = f"{value:.1f}"
    if math.isfinite(share):
        text += f"  ({style.format_percent(share, 0, sign=False)})"
    axes.text(x, y, text, ha="center", va="center", fontsize=8)


_PANELS = (
    ("overlap_fraction", "copy time hidden\nbehind compute (%)", 100.0),
    ("gpu_idle_fraction", "GPU idle,\nshare of the window (%)", 100.0),
    ("exposed_copy_ms", "copy time not hidden\n(ms in the window)", 1.0),
)


@style.with_style
def plot_profiler(table: pd.DataFrame) -> Figure | None:
    """Every profiled run as a dot: overlap, idle time, exposed copies by model and placement."""
    rows = [p for p in _PANELS if p[0] in table and table[p[0]].notna().any()]
    if not rows:
        return None
    models = list(dict.fromkeys(table["model_text"]))[: style.PANELS]
    labels = style.placement_order(table["placement"])
    title = f"What the profilers saw, {len(table)} reports"
    figure = style.make_figure(1.4 + 1.9 * len(rows), title=title)
    grid = figure.subplots(len(rows), 1, squeeze=False, sharex=True)[:, 0]
    for axes, (column, label, factor) in zip(grid, rows, strict=True):
        for m, model in enumerate(models):
            for i, kind in enumerate(labels):
                chosen = (table["model_text"] == model) & (table["placement"] == kind)
                values = factor * table.loc[chosen, column].astype(float).to_numpy()
                x = m + (i + 0.5) / len(labels) * 0.7 - 0.35
                look = style.placement_style(kind)
                axes.plot(
                    [x] * len(values), values, look.marker, color=look.color, markersize=6,
                    markeredgecolor=style.INK, markeredgewidth=0.5,
                )  # fmt: skip
        axes.set_ylabel(label)
        axes.set_xlim(-0.5, len(models) - 0.5)
        most = factor * float(table[column].astype(float).max())
        axes.set_ylim(0, 104 if factor == 100 else max(1.08 * most, 1e-6))
        axes.grid(axis="y")
    width = max(8, 96 // len(models))
    names = [_wrapped(style.shorten_middle(m, 2 * width), width) for m in models]
    grid[-1].set_xticks(range(len(models)), names)
    grid[-1].set_xlabel("model")
    style.add_legend(
        figure, [style.legend_entry(label, style.placement_style(label)) for label in labels]
    )
    return figure


def _wrapped(text: str, width: int) -> str:
    return "\n".join(text[i : i + width].strip() for i in range(0, len(text), width))
