"""What limits throughput on a GPU: the link, the host or compute, and how well stages overlap."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from numa_bench.analysis.plots import shape, style
from numa_bench.analysis.questions.base import (
    HOST_COLUMN,
    MARKS_COLUMN,
    RATE_COLUMNS,
    SETTING_COLUMNS,
    ColumnSpec,
    Question,
)
from numa_bench.analysis.questions.points import POINT_COLUMNS, tabulate_points

_STAGES = (("host", "host work"), ("h2d", "H2D"), ("compute", "compute"), ("d2h", "D2H"))
LIMIT_TABLE_COLUMNS = (*POINT_COLUMNS, *(f"{stage}_stretch" for stage, _ in _STAGES))
#: Most rows of the figure; the table has all.
_ROWS = 40
_HOST = style.Look("#000000", "s", "")
_BUSIEST = style.Look("#CC79A7", "D", "")


def tabulate_limits(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per cell whose host was timed: `POINT_COLUMNS`, and how much longer than by itself
    each stage takes inside the pipeline (`h2d_stretch`; 1: as long; NaN: not timed there)."""
    table = tabulate_points(frame)
    table = table[table["host_submit_fraction"].notna()]
    stretch = {
        f"{stage}_stretch": table[f"{stage}_pipelined_ms"] / table[f"{stage}_ms"]
        for stage, _ in _STAGES
    }
    table = table.assign(variant_text=table["model_text"], **stretch)
    return table.reindex(columns=list(LIMIT_TABLE_COLUMNS)).reset_index(drop=True)


@style.with_style
def plot_limits(table: pd.DataFrame) -> Figure | None:
    """Each cell: what the window was spent on, and how much the pipeline stretches each stage."""
    if table.empty:
        return None
    # A busy host with an idle GPU first: the cells most likely to be host bound.
    order = table.assign(gain=table["host_submit_fraction"] - table["busiest_stage_fraction"])
    order = order.sort_values("gain", ascending=False, kind="stable").head(_ROWS)
    # Drawn in the order of the table again: models, then nodes.
    chosen = table.loc[sorted(order.index)]
    stretched = chosen[[f"{stage}_stretch" for stage, _ in _STAGES]].notna().any(axis=None)
    title = f"What limits throughput, n = {shape.format_counts(chosen['n'])} in each cell"
    if len(chosen) < len(table):
        title += f", the {_ROWS} of {len(table)} cells with the least busy GPU"
    figure = style.make_figure(1.7 + 0.27 * len(chosen), title=title)
    panels = figure.subplots(1, 2 if stretched else 1, sharey=True, squeeze=False)[0]
    _draw_window(panels[0], chosen)
    handles = [
        style.legend_entry("host submitting", _HOST),
        style.legend_entry("busiest stage of the GPU by itself", _BUSIEST),
        style.legend_entry("ringed: host bound", style.Look("#ffffff", "o", "")),
    ]
    if stretched:
        _draw_stretch(panels[1], chosen)
        handles += [
            style.legend_entry(name, _stage_look(stage))
            for stage, name in _STAGES
            if chosen[f"{stage}_stretch"].notna().any()
        ]
    panels[0].set_yticks(range(len(chosen)), _row_names(chosen))
    panels[0].set_ylim(len(chosen) - 0.4, -0.6)
    style.add_legend(figure, handles, columns=3)
    return figure


def _stage_look(stage: str) -> style.Look:
    color = style.STAGES[f"{stage}_ms"][1].color
    return style.Look(color, {"host": "P", "h2d": ">", "compute": "o", "d2h": "<"}[stage], "")


def _row_names(table: pd.DataFrame) -> list[str]:
    """What differs between rows: model, device, placement, which is always named."""
    several = {c: table[c].nunique() > 1 for c in ("variant_text", "device_text", "placement_text")}
    names = []
    for row in table.to_dict("records"):
        parts = [style.shorten_middle(row["variant_text"], 30)] if several["variant_text"] else []
        parts += [shape.device_name(row["device_text"])] if several["device_text"] else []
        parts.append(str(row["placement"]))
        names.append("  ".join(parts))
    return names


def _draw_window(axes: Axes, table: pd.DataFrame) -> None:
    for y, row in enumerate(table.to_dict("records")):
        host, busiest = (
            100 * float(row[f"{name}_fraction"]) for name in ("host_submit", "busiest_stage")
        )
        if row["bound"] == "host":
            axes.plot(busiest, y, "o", markersize=15, color="none", markeredgecolor=style.INK)
        for value, look in ((host, _HOST), (busiest, _BUSIEST)):
            axes.plot(
                value, y, look.marker, color=look.color, markersize=7,
                markeredgecolor=style.INK, markeredgewidth=0.5,
            )  # fmt: skip
    # Beyond 100, so that markers there are whole.
    axes.set_xlim(0, 106)
    axes.axvline(100, color=style.QUIET, linewidth=0.9, linestyle=":")
    axes.set_xlabel("share of the timed window (%)")
    axes.grid(axis="x")


def _draw_stretch(axes: Axes, table: pd.DataFrame) -> None:
    for stage, _ in _STAGES:
        look = _stage_look(stage)
        axes.plot(
            table[f"{stage}_stretch"].astype(float), range(len(table)), look.marker,
            color=look.color, markersize=7, markeredgecolor=style.INK, markeredgewidth=0.5,
            linestyle="",
        )  # fmt: skip
    axes.axvline(1, color=style.INK, linewidth=1)
    axes.set_xlabel("time in the pipeline over time by itself (ratio)")
    axes.grid(axis="x")


QUESTION = Question(
    key="limits",
    title="What limits throughput: link, host or compute?",
    order=5,
    make_table=tabulate_limits,
    columns=(
        *SETTING_COLUMNS,
        *RATE_COLUMNS,
        ColumnSpec(
            "bound",
            "bound by",
            tooltip="transfer: the link; compute: the model; host work: what host threads do "
            "for a batch; host: the GPU waited for the host to submit",
        ),
        ColumnSpec(
            "predicted_bound",
            "predicted",
            absent="not predicted",
            tooltip="what was predicted to bound it before the study ran",
        ),
        HOST_COLUMN,
        ColumnSpec(
            "host_wait_fraction",
            "waiting for host work",
            "share",
            tooltip="share of the timed window in which the submission waited for host work",
        ),
        ColumnSpec(
            "busiest_stage_fraction",
            "busiest stage",
            "share",
            tooltip="share of the timed window that the longest stage needs by itself",
        ),
        ColumnSpec(
            "overlap_efficiency",
            "overlap",
            "share",
            tooltip="stage time hidden behind other stages, of what could be hidden",
        ),
        *(
            column
            for stage, name in _STAGES
            for column in (
                ColumnSpec(f"{stage}_ms", f"{name} (ms)", "number", tooltip="by itself"),
                ColumnSpec(
                    f"{stage}_pipelined_ms",
                    f"{name}, pipelined (ms)",
                    "number",
                    tooltip="while other stages ran",
                    # Most runs have no host work, and then no column of it.
                    **({} if stage == "host" else {"absent": "not timed"}),
                ),
            )
        ),
        MARKS_COLUMN,
    ),
    plot_figure=plot_limits,
    caption=(
        "Left: how much of the timed window the host spent submitting work, and how much the "
        "busiest stage of the GPU needs by itself. Where the diamond is near 100 % that stage sets "
        "the pace; where it is far below and the square near 100 % the GPU waits for the host "
        "(ringed, mark B): such a throughput says little about link or placement. Waiting for host "
        "work, which is a stage of its own, is not submitting. Right: how much longer each stage "
        "takes in the pipeline than by itself; copies beyond 1 share the link or the memory with "
        "the other direction."
    ),
)
