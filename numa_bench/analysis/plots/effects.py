"""Effects of placement: the map of GPUs and nodes, and every effect with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from numa_bench.analysis.plots import shape, style
from numa_bench.analysis.plots.shape import Part
from numa_bench.labels import is_local, quantity_label

#: Slower is orange, faster is blue; cells also show the sign, for prints in grey.
_SLOW_FAST = LinearSegmentedColormap.from_list("slow_fast", ["#E69F00", "#ffffff", "#56B4E9"])
#: The colour scale spans at least this change: noise of a percent must not look like an effect.
_LEAST_SCALE = 0.02
#: Most rows of a forest plot: more do not fit on a page at a readable size.
_ROWS = 40
#: Most single comparisons that are drawn, or printed, one by one. Chosen for readability.
MOST_COMPARISONS = 12


@style.with_style
def plot_heatmap(part: Part) -> Figure | None:
    """Change against local for every device and node; None where nothing is compared with local."""
    cells = _with_change(part)
    if cells["column"].nunique() < 2 or not cells["change"].notna().any():
        return None
    models, note = shape.select_models(part.cells, part.effects)
    columns = list(cells.sort_values("column_order")["column"].unique())
    labels = [_label_column(name, cells[cells["column"] == name]) for name in columns]
    rows = list(cells.sort_values("row_order")["row"].unique())
    width = max(len(line) for label in labels for line in label.split("\n"))
    # So many characters of 9 points fit side by side under a panel. Tried out.
    across = next((n for n, most in ((3, 36), (2, 62)) if (width + 1) * len(columns) <= most), 1)
    lines = max(label.count("\n") for label in labels) + 1
    height = 0.7 + 0.17 * lines + max(0.36 * len(rows), 0.5)
    n = int(cells["n"].mode().iloc[0])
    quantity = quantity_label(part.metric)
    title = part.figure_title(f"{quantity[0].upper()}{quantity[1:]} relative to local placement")
    figure, panels = style.make_panels(len(models), title, height=height, columns=across)
    scale = max(_LEAST_SCALE, float(cells["change"].abs().fillna(0).max()))
    for axes, model in zip(panels, models, strict=True):
        mine = cells[cells["model_text"] == model]
        axes.set_title(style.shorten_middle(model, style.PANEL_TITLE if across == 3 else 50))
        for row in mine.itertuples():
            _heat_cell(axes, row, columns.index(row.column), rows.index(row.row), scale, n)
        axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
        axes.set_xticks(range(len(columns)), labels)
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    for axes in panels[-min(across, len(panels)) :]:
        axes.set_xlabel(cells["axis"].iloc[0])
    handles = [
        Patch(fc="white", ec=style.INK, lw=1.8, label=f"local (n = {n} in each cell)"),
        Patch(fc="white", ec=style.QUIET, hatch="////", label="not significant"),
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=2, title=note or None)
    return figure


def _with_change(part: Part) -> pd.DataFrame:
    """Cells with the change against their local one, and their row and column on the map.

    Columns are nodes, or placements where each device has its own nodes. Without a GPU the rows are
    the nodes of the threads, and the columns those of the memory; not so where sets of workers are
    among the cells.
    """
    by_node = _is_by_node(part)
    by_place = not by_node and _is_sparse(part.cells)
    effects = part.effects.drop_duplicates("cell").set_index("cell")
    ratio, claims = effects["ratio"].to_dict(), effects["claimed"].to_dict()
    devices, places = shape.order_devices(part.cells), shape.order_places(part.cells)
    labels = style.order_placements(part.cells["placement"])
    rows = []
    for cell in part.cells.to_dict("records"):
        cpus, _, memory = cell["placement_text"].partition(", ")
        row, column = cell["device_text"], shape.place_name(cell["placement_text"])
        orders: tuple[object, object]
        if by_node:
            row = f"CPUs of {cpus}" if cpus != "any" else "any CPU"
            column = memory or "any memory"
            orders = (row, column)
        elif by_place:
            column = shape.break_label(cell["placement"])
            orders = (devices.index(row), labels.index(cell["placement"]))
        else:
            orders = (devices.index(row), places.index(cell["placement_text"]))
        change = float(ratio.get(cell["cell"], math.nan)) - 1
        claimed = bool(claims.get(cell["cell"], False))
        more = {"row": row, "column": column, "row_order": orders[0], "column_order": orders[1]}
        rows.append(cell | more | {"change": change, "claimed": claimed})
    of_nodes = "NUMA node of the memory" if by_node else "NUMA node of CPUs and memory"
    return pd.DataFrame(rows).assign(axis="placement" if by_place else of_nodes)


def _is_sparse(cells: pd.DataFrame) -> bool:
    """Whether much of a map of devices and nodes were empty, and one of placements is not."""
    if cells.duplicated(["model_text", "device_text", "placement"]).any():
        return False
    devices = cells["device_text"].nunique() * cells["model_text"].nunique()
    return len(cells) < 0.75 * devices * cells["placement_text"].nunique()


def _label_column(name: str, cells: pd.DataFrame) -> str:
    """A column's name, with the distance from the device where all its cells have the same."""
    distances = cells["distance"].unique()
    known = len(distances) == 1 and pd.notna(distances[0])
    return f"{name}\ndistance {distances[0]:.0f}" if known else name


def _is_by_node(part: Part) -> bool:
    return bool((part.cells["device_text"] == "CPU").all())


def _heat_cell(axes: Axes, row: object, x: int, y: int, scale: float, n: int) -> None:
    change, local = float(row.change), is_local(row.placement)  # type: ignore[attr-defined]
    known = math.isfinite(change)
    # The scale is symmetric, so that white is always "no change".
    color = _SLOW_FAST(0.5 + change / scale / 2) if known else (1.0, 1.0, 1.0, 1.0)
    unsure = known and not row.claimed  # type: ignore[attr-defined]
    box = Rectangle(
        (x - 0.47, y - 0.46), 0.94, 0.92, facecolor=color, hatch="////" if unsure else "",
        edgecolor="#bbbbbb" if unsure else "#eeeeee", linewidth=0.6,
    )  # fmt: skip
    axes.add_patch(box)
    text = "local" if local and not known else style.format_percent(change) if known else "no local"
    if int(row.n) != n:  # type: ignore[attr-defined]
        text += f"\nn={row.n}"  # type: ignore[attr-defined]
    if local:
        edge = {"fill": False, "edgecolor": style.INK, "linewidth": 1.8}
        axes.add_patch(Rectangle((x - 0.46, y - 0.45), 0.92, 0.9, **edge))  # type: ignore[arg-type]
    # Hatching would make the number hard to read.
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 1.0} if unsure else None
    axes.text(x, y, text, ha="center", va="center", fontsize=7.5, bbox=behind, linespacing=1.05)


@style.with_style
def plot_effects(part: Part) -> Figure | None:
    """Every comparison with local, its interval, and the effects too small to be detected.

    None where there are too many: tens of like rows hide what pooled effects show.
    """
    table = part.effects
    table = table[np.isfinite(table["ratio"].astype(float))]
    if table.empty or len(table) > MOST_COMPARISONS:
        return None
    title = part.figure_title(
        f"Change in {quantity_label(part.metric)} from local, {_counted(table)}"
    )
    return _forest(table, part, title)


def _counted(table: pd.DataFrame) -> str:
    return f"n = {shape.format_counts(table['n'])} × {shape.format_counts(table['n_base'])} runs"


def _forest(table: pd.DataFrame, part: Part, title: str) -> Figure:
    """One row per comparison, models together."""
    rank = {model: i for i, model in enumerate(shape.order_models(part.cells))}
    table = table.assign(rank=table["model_text"].map(rank))
    table = table.sort_values(["rank", "device_text", "numa_node"], kind="stable")
    figure = style.make_figure(1.5 + 0.27 * len(table), title=title)
    axes = figure.add_subplot()
    for y, row in enumerate(table.to_dict("records")):
        _effect(axes, y, row, height=0.8)
        text = style.format_percent(row["ratio"] - 1)
        if math.isfinite(row["low"]):
            low, high = style.format_percent(row["low"] - 1), style.format_percent(row["high"] - 1)
            text += f" ({low} to {high})"
        axes.text(1.015, y, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5)
    axes.set_yticks(range(len(table)), _row_names(table))
    axes.set_ylim(len(table) - 0.4, -0.6)
    _percent_axis(axes)
    _legend(figure, table)
    return figure


def _row_names(table: pd.DataFrame) -> list[str]:
    """Labels of rows: what differs between them."""
    several = {c: table[c].nunique() > 1 for c in ("model_text", "device_text")}
    names = []
    for row in table.to_dict("records"):
        parts = [style.shorten_middle(row["model_text"], 34)] if several["model_text"] else []
        parts += [str(row["device_text"])] if several["device_text"] else []
        place = shape.place_name(row["placement_text"]).replace("\n", ", ")
        label = str(row["placement"])
        texts = [] if place == label else [place]
        if pd.notna(row.get("distance")):
            texts.append(f"distance {row['distance']:.0f}")
        parts.append(f"{label} ({', '.join(texts)})" if texts else label)
        names.append("  ".join(parts))
    return names


def _effect(axes: Axes, y: float, row: Mapping[Any, Any], height: float) -> None:
    """One comparison: the band of undetectable effects, the interval, the estimate."""
    look = style.get_placement_style(str(row["placement"]))
    change, low, high, undetectable = (
        100 * float(row[k]) - shift
        for k, shift in (("ratio", 100), ("low", 100), ("high", 100), ("detectable", 0))
    )
    if math.isfinite(undetectable):
        axes.add_patch(
            Rectangle(
                (-undetectable, y - height / 2),
                2 * undetectable,
                height,
                color="#e4e4e4",
                linewidth=0,
            )
        )
        axes.update_datalim([(-undetectable, y), (undetectable, y)])
    if math.isfinite(low) and math.isfinite(high):
        axes.plot([low, high], [y, y], color=style.INK, linewidth=1.6, zorder=2)
    claimed = bool(row["claimed"])
    axes.plot(
        change, y, look.marker, color=look.color if claimed else "white", zorder=3,
        markersize=7, markeredgecolor=look.color if not claimed else style.INK,
        markeredgewidth=1.2 if not claimed else 0.6,
    )  # fmt: skip
    axes.autoscale_view(scaley=False)


def _percent_axis(axes: Axes) -> None:
    axes.axvline(0, color=style.INK, linewidth=1)
    axes.set_xlabel("change from local (%)")
    axes.grid(axis="x")


def _legend(figure: Figure, table: pd.DataFrame, note: str = "") -> None:
    labels = style.order_placements(table["placement"])
    handles = [style.legend_entry(label, style.get_placement_style(label)) for label in labels]
    if not table["claimed"].astype(bool).all():
        handles.append(style.legend_entry("hollow: not significant", style.Look("white", "o", "")))
    band = Patch(color="#e4e4e4", label="too small for this study to detect")
    figure.legend(
        handles=[*handles, *([band] if np.isfinite(table["detectable"]).any() else [])],
        loc="outside lower left",
        ncols=5,
        title=note or None,
        alignment="left",
    )


@style.with_style
def plot_comparison(table: pd.DataFrame, title: str) -> Figure | None:
    """After against before for every cell that both studies have (`stats.compare`)."""
    table = table[np.isfinite(table["ratio"].astype(float))] if len(table) else table
    if table.empty:
        return None
    table = table.reindex((table["ratio"] - 1).abs().sort_values(ascending=False).index)
    extra = len(table) - _ROWS
    table = table.head(_ROWS)
    figure = style.make_figure(1.5 + 0.27 * len(table), title=title)
    axes = figure.add_subplot()
    for y, row in enumerate(table.to_dict("records")):
        _effect(axes, y, row, height=0.8)
        axes.text(
            1.015, y, style.format_percent(row["ratio"] - 1), transform=axes.get_yaxis_transform(),
            va="center", fontsize=8.5,
        )  # fmt: skip
    axes.set_yticks(range(len(table)), _row_names(table))
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.axvline(0, color=style.INK, linewidth=1)
    axes.set_xlabel("change from before to after (%)")
    axes.grid(axis="x")
    _legend(figure, table, f"the {_ROWS} largest changes, {extra} more in the table" * (extra > 0))
    return figure
