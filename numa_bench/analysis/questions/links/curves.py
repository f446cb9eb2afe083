"""How does bandwidth depend on the size of a copy? One line per kind of memory and placement."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from numa_bench.analysis.plots import style
from numa_bench.analysis.questions.base import MARKS_COLUMN, ColumnSpec, Question
from numa_bench.analysis.read.series import load_series
from numa_bench.analysis.stats.tables import join_cell_marks

CURVE_COLUMNS = (
    "group", "cell", "device", "device_text", "gpu_id", "placement", "placement_text", "operation",
    "memory", "size_bytes", "n", "gb_per_s", "least", "greatest", "timed_by", "marks",
)  # fmt: skip
OPERATIONS = {
    "h2d": "H2D, host to device",
    "d2h": "D2H, device to host",
    "both": "both at once",
    "read": "read",
    "write": "write",
    "copy": "copy",
}
_KINDS = {
    "registered_huge": "registered, huge pages",
    "pageable_huge": "pageable, huge pages",
    "huge": "pageable, huge pages",
}
#: Panels of one figure: devices that get a row of their own.
_MOST_DEVICES = 2
#: Sizes that are written below an axis.
_MOST_TICKS = 5
_KEYS = ["cell", "operation", "memory", "size_bytes"]


def tabulate_curves(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per cell, operation, kind of memory and size, in GB/s; columns `CURVE_COLUMNS`.

    `gb_per_s` is the median over runs of each run's median, `least` and `greatest` their range.
    """
    series = load_series(frame)
    series = series[series["gb_per_s"].notna()]
    if series.empty:
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    points = series.groupby(_KEYS, sort=False)["gb_per_s"]
    table = series.drop_duplicates(_KEYS).set_index(_KEYS, drop=False)
    table = table.drop(columns="gb_per_s").join(
        points.agg(gb_per_s="median", least="min", greatest="max", n="size")
    )
    table["marks"] = table["cell"].map(join_cell_marks(series.drop_duplicates(["cell", "run_id"])))
    return table.reindex(columns=list(CURVE_COLUMNS)).reset_index(drop=True)


@style.with_style
def plot_curves(table: pd.DataFrame) -> Figure | None:
    """Bandwidth over size, log-log: a panel per device and operation."""
    if table["size_bytes"].nunique() < 2:
        return None
    devices = list(table["device_text"].drop_duplicates())
    shown = devices[:_MOST_DEVICES]
    operations = [name for name in OPERATIONS if (table["operation"] == name).any()]
    kinds = list(table["memory"].drop_duplicates())
    title = "Bandwidth over size"
    if len(devices) > len(shown):
        title += f", {len(shown)} of {len(devices)} devices"
    count = len(shown) * len(operations)
    figure, panels = style.make_panels(count, title, height=3.1, columns=len(operations))
    pairs = [(device, operation) for device in shown for operation in operations]
    for axes, (device, operation) in zip(panels, pairs, strict=True):
        mine = table[(table["device_text"] == device) & (table["operation"] == operation)]
        name = OPERATIONS[operation]
        axes.set_title(f"{device}: {name}" if len(devices) > 1 else name)
        _draw_lines(axes, mine, kinds)
        axes.set_xlabel("size")
        axes.set_ylabel("GB/s")
    _add_legends(figure, table, kinds)
    return figure


def _draw_lines(axes: Axes, table: pd.DataFrame, kinds: list[str]) -> None:
    """A line for every kind of memory and placement; of several pairs of nodes with one label the
    range is shaded."""
    labels = style.order_placements(table["placement"])
    # Local last and thinnest: where lines coincide, those below it show at its sides.
    pairs = [(memory, label) for label in reversed(labels) for memory in kinds]
    for memory, label in pairs:
        rows = table[(table["memory"] == memory) & (table["placement"] == label)]
        if rows.empty:
            continue
        look = style.get_placement_style(label)
        lines = style.SERIES[kinds.index(str(memory)) % len(style.SERIES)]
        sizes = rows.groupby("size_bytes")["gb_per_s"].agg(["median", "min", "max"])
        axes.plot(
            sizes.index, sizes["median"], color=look.color, linestyle=lines.line,
            marker=lines.marker, markersize=4.5, markeredgecolor=style.INK, markeredgewidth=0.4,
            linewidth=1.4 + 1.2 * labels.index(label), zorder=3,
        )  # fmt: skip
        if rows["cell"].nunique() > 1:
            axes.fill_between(
                sizes.index, sizes["min"], sizes["max"], color=look.color, alpha=0.15, linewidth=0
            )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    every = sorted(float(size) for size in table["size_bytes"].unique())
    ticks = every[:: math.ceil(len(every) / _MOST_TICKS)]
    axes.set_xticks(ticks, [format_size(size) for size in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: style.format_tick(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(True)


def _add_legends(figure: Figure, table: pd.DataFrame, kinds: list[str]) -> None:
    labels = style.order_placements(table["placement"])
    handles: list[Line2D] = [
        Line2D([], [], color=style.get_placement_style(label).color, linewidth=3, label=label)
        for label in labels
    ]
    for index, kind in enumerate(kinds):
        look = style.SERIES[index % len(style.SERIES)]
        handles.append(
            Line2D([], [], color=style.QUIET, linestyle=look.line, marker=look.marker,
                   markersize=5, label=_KINDS.get(kind, kind))
        )  # fmt: skip
    style.add_legend(figure, handles, columns=7)


def format_size(nbytes: float) -> str:
    """Bytes with a binary prefix: "4 KiB", "1 GiB"."""
    value, unit = float(nbytes), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:g}{style.THIN}{unit}"


QUESTION = Question(
    key="link_curves",
    title="How does bandwidth depend on size?",
    order=71,
    make_table=tabulate_curves,
    columns=(
        ColumnSpec("device_text", "device"),
        ColumnSpec("placement", "placement"),
        ColumnSpec("placement_text", "where"),
        ColumnSpec("operation", "operation"),
        ColumnSpec("memory", "memory"),
        ColumnSpec("size_bytes", "bytes", "count"),
        ColumnSpec("n", "n", "count"),
        ColumnSpec("gb_per_s", "GB/s", "three_decimals"),
        ColumnSpec("least", "range over runs", "three_decimals", high_key="greatest"),
        ColumnSpec("timed_by", "timed by"),
        MARKS_COLUMN,
    ),
    plot_figure=plot_curves,
    caption=(
        "Medians over runs, both axes logarithmic. Colours are placements, line styles kinds of "
        "memory; where a placement has several pairs of nodes, the line is their median and the "
        "shade their range. GPU copies of pageable memory are timed by the host's clock, "
        "because they block it; other GPU copies by events on the device. Both directions at once "
        "are not measured from pageable memory."
    ),
)
