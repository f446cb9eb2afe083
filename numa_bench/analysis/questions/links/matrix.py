"""How fast is memory from every node? Bandwidth of a bandwidth study, CPU node x memory node."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from numa_bench.analysis.plots import style
from numa_bench.analysis.plots.matrices import Matrix, draw_matrices
from numa_bench.analysis.questions.base import MARKS_COLUMN, ColumnSpec, Question
from numa_bench.analysis.read.series import LINK_COLUMNS
from numa_bench.analysis.stats.tables import cell_table, join_cell_marks
from numa_bench.pcie import make_link
from numa_bench.records import BANDWIDTH

Record = Mapping[Any, Any]
_GPU_RATES = {
    "h2d_gb_per_s": "H2D, host to device",
    "d2h_gb_per_s": "D2H, device to host",
    "duplex_gb_per_s": "both at once",
}
_CPU_RATES = {"read_gb_per_s": "read", "write_gb_per_s": "write", "copy_gb_per_s": "copy"}
RATES = {**_GPU_RATES, **_CPU_RATES}
MATRIX_COLUMNS = (
    "group", "cell", "device", "device_text", "gpu_id", "placement", "placement_text", "numa_node",
    "memory_node", "n", *RATES, "low", "high", "to_best", "link", "link_gb_per_s", "h2d_share",
    "d2h_share", "marks",
)  # fmt: skip
#: Most GPUs in the figure; the table has all.
_MOST_DEVICES = 8


def tabulate_matrix(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per cell of bandwidth runs: medians over runs in GB/s; columns `MATRIX_COLUMNS`.

    `low` and `high` are the 95 % interval of the headline metric, H2D or read; `to_best` is its
    change from the fastest cell of the same device. Shares are of the PCIe link's limit in one
    direction, from the generation and width that NVML reported.
    """
    if frame.empty or not (frame["workload"] == BANDWIDTH).any():
        return pd.DataFrame(columns=list(MATRIX_COLUMNS))
    runs = frame[(frame["workload"] == BANDWIDTH) & frame["in_statistics"].astype(bool)]
    if runs.empty:
        return pd.DataFrame(columns=list(MATRIX_COLUMNS))
    runs = runs.assign(**{name: np.nan for name in LINK_COLUMNS if name not in runs})
    cells = runs.groupby("cell", sort=False)
    table = runs.drop_duplicates("cell").set_index("cell", drop=False)
    names = [name for name in MATRIX_COLUMNS if name in table and name not in (*RATES, "marks")]
    table = table[names].join(cells[list(RATES)].median())
    intervals = [
        cell_table(part, metric=str(metric)).set_index("cell")[["low", "high", "median"]]
        for metric, part in runs.groupby("headline", sort=False)
    ]
    table = table.join(pd.concat(intervals))
    best = table.groupby(["group", "device_text"])["median"].transform("max")
    table["to_best"] = table["median"] / best - 1
    # max leaves out runs whose monitor read nothing.
    sizes = cells[list(LINK_COLUMNS)].max().loc[table.index].to_numpy(float)
    links = [make_link(generation, width, "the record") for generation, width in sizes]
    table["link"] = [None if link is None else str(link) for link in links]
    table["link_gb_per_s"] = [np.nan if link is None else link.gb_per_s for link in links]
    for direction in ("h2d", "d2h"):
        table[f"{direction}_share"] = table[f"{direction}_gb_per_s"] / table["link_gb_per_s"]
    table["n"], table["marks"] = cells.size(), join_cell_marks(runs)
    order = ["group", "gpu_id", "numa_node", "memory_node"]
    table = table.reindex(columns=list(MATRIX_COLUMNS)).sort_values(order, na_position="last")
    return table.reset_index(drop=True)


@style.with_style
def plot_matrix(table: pd.DataFrame) -> Figure | None:
    """A matrix CPU node x memory node for each device and direction; None for one cell each."""
    if table["placement_text"].nunique() < 2:
        return None  # single numbers are in the table
    devices = list(table["device_text"].drop_duplicates())[:_MOST_DEVICES]
    rates = [name for name in RATES if table[name].notna().any()]
    matrices = []
    for device in devices:
        mine = table[table["device_text"] == device]
        for name in rates:
            matrices.append(
                Matrix(
                    title=f"{device}: {RATES[name]}",
                    rows=[_node(value) for value in mine["numa_node"]],
                    columns=[_node(value) for value in mine["memory_node"]],
                    values=[float(value) for value in mine[name]],
                    framed=[label == "local" for label in mine["placement"]],
                    notes=_shares(mine, name),
                )
            )
    limits = table["link_gb_per_s"].dropna().unique()
    title = "Bandwidth (GB/s) by node of CPUs and of memory"
    if len(limits) == 1:
        title += f", PCIe limit {limits[0]:.1f} GB/s each way"
    return draw_matrices(matrices, title, across=len(rates))


def summarize_matrix(table: pd.DataFrame) -> str:
    """The fastest pair of nodes in words."""
    fastest = table.sort_values("to_best", ascending=False, kind="stable").iloc[0].to_dict()
    rates = [
        f"{RATES[name].partition(',')[0]} {fastest[name]:.1f}"
        for name in RATES
        if math.isfinite(fastest[name])
    ]
    which = f", the fastest of {len(table)} placements" if len(table) > 1 else ""
    where = f"{fastest['device_text']}, {fastest['placement_text']}"
    return f"Bandwidth in GB/s of {where}: {', '.join(rates)}{which}."


def _shares(table: pd.DataFrame, name: str) -> list[str]:
    column = name.replace("_gb_per_s", "_share")
    if column not in table:
        return [""] * len(table)
    return [
        f"{style.format_percent(share, 0, sign=False)}" if math.isfinite(share) else ""
        for share in table[column].astype(float)
    ]


def _node(value: Any) -> str:
    return "any" if pd.isna(value) else str(int(value))


QUESTION = Question(
    key="link_matrix",
    title="How fast is memory from every node?",
    order=70,
    make_table=tabulate_matrix,
    columns=(
        ColumnSpec("device_text", "device"),
        ColumnSpec("numa_node", "CPU node", "count"),
        ColumnSpec("memory_node", "memory node", "count"),
        ColumnSpec("placement", "placement"),
        ColumnSpec("n", "n", "count"),
        ColumnSpec("h2d_gb_per_s", "H2D (GB/s)", "two_decimals"),
        ColumnSpec("h2d_share", "of the limit", "share"),
        ColumnSpec("d2h_gb_per_s", "D2H (GB/s)", "two_decimals"),
        ColumnSpec("d2h_share", "of the limit", "share"),
        ColumnSpec("duplex_gb_per_s", "both at once (GB/s)", "two_decimals"),
        ColumnSpec("read_gb_per_s", "read (GB/s)", "two_decimals"),
        ColumnSpec("write_gb_per_s", "write (GB/s)", "two_decimals"),
        ColumnSpec("copy_gb_per_s", "copy (GB/s)", "two_decimals"),
        ColumnSpec(
            "low",
            "95 % interval",
            "two_decimals",
            high_key="high",
            tooltip="of H2D with a GPU, of read on the CPU",
        ),
        ColumnSpec(
            "to_best",
            "from the fastest",
            "share",
            tooltip="change of H2D or read from the fastest pair of nodes of this device",
        ),
        ColumnSpec("link_gb_per_s", "link limit, one way (GB/s)", "two_decimals"),
        MARKS_COLUMN,
    ),
    plot_figure=plot_matrix,
    caption=(
        "Bandwidth at the largest size, medians over runs; in brackets the share of the PCIe "
        "link's limit in that direction (before packet headers). Rows: node of the CPUs; columns: "
        "node of the memory. Framed cells are local. Paler is slower within one panel's direction."
    ),
    summarize=summarize_matrix,
)
