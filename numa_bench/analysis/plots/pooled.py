"""The figure that leads the page: effects of placement pooled over GPUs and over like models."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from numa_bench.analysis.plots import style
from numa_bench.analysis.plots.pooled_lines import (
    BOUND,
    GAP,
    ROW,
    UNIT,
    Line,
    Row,
    arrange_lines,
    find_distance,
    find_odd_unit,
    shows_models,
)
from numa_bench.analysis.plots.shape import Part, format_counts
from numa_bench.labels import describe_placement, quantity_label

#: Most placements side by side. Chosen for readability.
_ACROSS = 4
#: Slower and faster: the hues of the heat map, dark enough for a marker.
_SLOWER, _FASTER, _BAND = "#C44E00", "#0072B2", "#e6eaee"
#: An axis reaches at most so many times as far as the largest estimate; longer intervals are cut
#: at its end, with an arrow.
_REACH = 2.5


@style.with_style
def plot_pooled(part: Part) -> Figure | None:
    """A panel per placement, a line per model and a bold one per group of models.

    None without a pooled effect (`stats.pooled.table`).
    """
    table, target = part.pooled, part.target
    table = table[np.isfinite(table["ratio"].astype(float))] if len(table) else table
    if table.empty:
        return None
    lines, height = arrange_lines(table)
    places = style.order_placements(table["placement"])
    across = _choose_columns(len(places))
    words = {place: _explain_place(place, table, across) for place in places}
    top = 0.19 * max(map(len, words.values()))
    figure, panels = style.make_panels(
        len(places),
        part.figure_title(_title(table)),
        height=height + top + 0.75,
        columns=across,
        share_x=True,
    )
    figure.set_size_inches(style.WIDTH, figure.get_figheight())
    limits = _limits(table, target)
    for i, (axes, place) in enumerate(zip(panels, places, strict=True)):
        _set_title(axes, place, words[place])
        axes.axvspan(-100 * target, 100 * target, color=_BAND, linewidth=0, zorder=0)
        axes.axvline(0, color=style.INK, linewidth=1, zorder=1)
        axes.set_xlim(limits)
        axes.set_ylim(height, 0)
        rows = table[table["placement"] == place]
        for line in lines:
            _draw_line(axes, line, rows, target, detailed=len(places) <= 2)
        _label_lines(axes, lines, named=i % across == 0)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.grid(axis="x")
        if i >= len(places) - across:
            axes.set_xlabel("change from local (%)")
    _legend(figure, table, target, any(line.strip for line in lines))
    return figure


def _choose_columns(places: int) -> int:
    """Panels side by side: rows of equal length rather than a single panel in the last."""
    return math.ceil(places / math.ceil(places / _ACROSS))


def _title(table: pd.DataFrame) -> str:
    first = table.iloc[0]
    what = f"Change in {quantity_label(str(first['metric']))} from local"
    counts = table.loc[table["level"] != UNIT, "units"]
    repeats = f"{first['repeats']} repeat{'' if first['repeats'] == 1 else 's'}"
    if counts.max() > 1:
        kind = "GPUs" if first["gpus"] else "nodes"
        return f"{what}, pooled over {format_counts(counts)} {kind} × {repeats}"
    several = table["unit_text"].nunique() > 1
    return f"{what}, {repeats}" if several else f"{what}, {first['unit_text']}, {repeats}"


def _explain_place(place: str, table: pd.DataFrame, across: int) -> list[str]:
    """What a placement's label means in lines, with the distance where all its cells have one."""
    texts = table.loc[table["placement"] == place, "distance_text"].dropna()
    text = next((str(t) for t in texts if t), "")
    words = describe_placement(place)
    if words and find_distance(text):
        words += f" ({find_distance(text)})"
    return textwrap.wrap(words or text, {1: 90, 2: 50, 3: 36}.get(across, 29))


def _set_title(axes: Axes, place: str, words: Sequence[str]) -> None:
    """The label in bold, what it means below it."""
    size, line = 9, 12
    axes.set_title(style.shorten_middle(place, style.PANEL_TITLE), pad=6 + line * len(words))
    axes.annotate(
        "\n".join(words), (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points",
        va="bottom", fontsize=size, color=style.QUIET, linespacing=line / size / 1.1,
    )  # fmt: skip


def _limits(table: pd.DataFrame, target: float) -> tuple[float, float]:
    """The ends of the axis in percent: all estimates, intervals, and the band of the target."""
    change = 100 * (table["ratio"].to_numpy(float) - 1)
    shown = table[table["level"] != UNIT]
    ends = 100 * (shown[["low", "high"]].to_numpy(float).ravel() - 1)
    ends = ends[np.isfinite(ends)]
    reach = _REACH * max(float(np.abs(change).max()), 200 * target)
    values = np.concatenate([change, np.clip(ends, -reach, reach), [-130 * target, 130 * target]])
    low, high = float(values.min()), float(values.max())
    air = 0.04 * (high - low)
    return low - air, high + air


def _draw_line(
    axes: Axes, line: Line, rows: pd.DataFrame, target: float, *, detailed: bool
) -> None:
    """Estimate and interval with their value beside the panel; below it the single units."""
    same = rows["models"] == line.key
    mine = rows[same & (rows["level"] == line.level)].to_dict("records")
    if not mine:
        axes.text(1.02, line.y, "–", transform=axes.get_yaxis_transform(), va="center")
        return
    row = mine[0]
    group = line.level == BOUND
    _draw_estimate(axes, line.y, row, group)
    text = style.format_percent(row["ratio"] - 1)
    ends = (row["low"] - 1, row["high"] - 1)
    if detailed and all(map(math.isfinite, ends)):
        low, high = (style.format_percent(end).rstrip(f"%{style.THIN}") for end in ends)
        text += f" ({low} to {high})"
    axes.text(
        1.02, line.y, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5,
        fontweight="bold" if group else "normal",
        color=style.INK if row["claimed"] else style.QUIET,
    )  # fmt: skip
    if line.strip:
        units = rows[same & (rows["level"] == UNIT)].to_dict("records")
        _draw_units(axes, line.y + ROW / 2 + 0.05, row, units, target)


def _draw_estimate(axes: Axes, y: float, row: Row, group: bool) -> None:
    change, low, high = (100 * float(row[k]) - 100 for k in ("ratio", "low", "high"))
    color = _color(row)
    left, right = axes.get_xlim()
    if math.isfinite(low) and math.isfinite(high):
        axes.plot(
            [low, high], [y, y], color=color, linewidth=2.6 if group else 1.5, zorder=2,
            solid_capstyle="butt",
        )  # fmt: skip
        for end, edge, marker in ((low, left, "<"), (high, right, ">")):
            if not left <= end <= right:
                axes.plot(edge, y, marker, color=color, markersize=5, clip_on=False, zorder=2)
    axes.plot(
        change, y, "D" if group else "o", color=color if row["claimed"] else "white", zorder=3,
        markersize=6.5 if group else 5, markeredgecolor=color, markeredgewidth=1.3,
    )  # fmt: skip


def _color(row: Row) -> str:
    if not row["claimed"]:
        return style.QUIET
    return _SLOWER if row["ratio"] < 1 else _FASTER


def _draw_units(axes: Axes, y: float, pooled: Row, units: Sequence[Row], target: float) -> None:
    """Each unit's own change as a small dot; the odd one, if any, with its name."""
    changes = [100 * float(row["ratio"]) - 100 for row in units]
    axes.plot(
        changes, [y] * len(changes), "o", color=style.INK, alpha=0.35, markersize=3.5,
        markeredgewidth=0, zorder=2,
    )  # fmt: skip
    odd = find_odd_unit(pooled, units, target)
    if odd is None:
        return
    at = 100 * float(odd["ratio"]) - 100
    # On the far side of the dot, where no other is.
    side = -1 if odd["ratio"] < pooled["ratio"] else 1
    axes.annotate(
        str(odd["unit_text"]).partition(" (")[0], (at, y), (5 * side, 0),
        textcoords="offset points", ha="left" if side > 0 else "right", va="center", fontsize=8,
    )  # fmt: skip


def _label_lines(axes: Axes, lines: Sequence[Line], *, named: bool) -> None:
    axes.set_yticks([line.y for line in lines], [line.label if named else "" for line in lines])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for text, line in zip(axes.get_yticklabels(), lines, strict=True):
        text.set_fontweight("bold" if line.level == BOUND else "normal")
    for line in lines[1:]:
        if line.level == BOUND:
            axes.axhline(line.y - ROW / 2 - GAP / 2, color=style.FAINT, linewidth=0.8)


def _legend(figure: Figure, table: pd.DataFrame, target: float, units: bool) -> None:
    handles: list[Line2D | Patch] = list(_legend_markers(table))
    if units:
        kind = "GPU" if table["gpus"].max() > 0 else "node"
        dot = Line2D([], [], color=style.INK, alpha=0.35, marker="o", linestyle="none")
        dot.set(markersize=3.5, markeredgewidth=0, label=f"one {kind}, models of the line above")
        handles.append(dot)
    within = style.format_percent(target, 1, sign=False).replace(f".0{style.THIN}", style.THIN)
    handles.append(Patch(color=_BAND, label=f"within ±{within}"))
    note = None if shows_models(table) else "single models are in the table"
    figure.legend(handles=handles, loc="outside lower left", ncols=5, title=note, alignment="left")


def _legend_markers(table: pd.DataFrame) -> Iterator[Line2D]:
    shown = table[table["level"] != UNIT]
    claimed = shown["claimed"].astype(bool)
    slower = shown["ratio"] < 1
    for present, color, fill, label in (
        (claimed & slower, _SLOWER, _SLOWER, "slower"),
        (claimed & ~slower, _FASTER, _FASTER, "faster"),
        (~claimed, style.QUIET, "white", "hollow: not significant"),
    ):
        if present.any():
            yield Line2D(
                [], [], color=fill, marker="o", linestyle="none", markersize=6,
                markeredgecolor=color, markeredgewidth=1.3, label=label,
            )  # fmt: skip
