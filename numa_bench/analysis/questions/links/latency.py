"""How long does the smallest access take? Latencies of a bandwidth study by node."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from numa_bench.analysis.plots import style
from numa_bench.analysis.plots.matrices import Matrix, draw_matrices
from numa_bench.analysis.questions.base import MARKS_COLUMN, ColumnSpec, Question
from numa_bench.analysis.read.series import load_series
from numa_bench.analysis.stats.tables import join_cell_marks

LATENCY_COLUMNS = (
    "group", "cell", "device", "device_text", "gpu_id", "placement", "placement_text", "numa_node",
    "memory_node", "operation", "operation_text", "memory", "size_bytes", "n", "latency_us",
    "latency_ns", "least_us", "greatest_us", "value", "least", "greatest", "unit", "marks",
)  # fmt: skip
_TEXTS = {
    "small_copy": "H2D copy of 4 KiB",
    "launch": "kernel launch",
    "latency": "load from memory",
}
_KEYS = ["cell", "operation", "memory", "size_bytes"]


def tabulate_latency(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per cell and latency; columns `LATENCY_COLUMNS`, medians over runs.

    `latency_us` is in microseconds; `latency_ns` has loads from memory, which take nanoseconds.
    """
    series = load_series(frame)
    series = series[series["latency_us"].notna()].assign(memory=series["memory"].fillna("none"))
    if series.empty:
        return pd.DataFrame(columns=list(LATENCY_COLUMNS))
    series["size_bytes"] = series["size_bytes"].fillna(0)
    points = series.groupby(_KEYS, sort=False)["latency_us"]
    table = series.drop_duplicates(_KEYS).set_index(_KEYS, drop=False).drop(columns="latency_us")
    table = table.join(points.agg(latency_us="median", least_us="min", greatest_us="max", n="size"))
    table["operation_text"] = table["operation"].map(_TEXTS).fillna(table["operation"])
    table["latency_ns"] = (1e3 * table["latency_us"]).where(table["operation"] == "latency")
    # Loads take nanoseconds, all else microseconds.
    loads = table["operation"] == "latency"
    table["unit"] = loads.map({True: "ns", False: "µs"})
    for name, source in (
        ("value", "latency_us"),
        ("least", "least_us"),
        ("greatest", "greatest_us"),
    ):
        table[name] = table[source].where(~loads, 1e3 * table[source])
    table["marks"] = table["cell"].map(join_cell_marks(series.drop_duplicates(["cell", "run_id"])))
    return table.reindex(columns=list(LATENCY_COLUMNS)).reset_index(drop=True)


@style.with_style
def plot_latency_matrix(table: pd.DataFrame) -> Figure | None:
    """Latency CPU node x memory node, of the largest size in the first kind of memory."""
    if table["placement_text"].nunique() < 2:
        return None
    devices = list(table["device_text"].drop_duplicates())[:8]
    operations = list(table["operation"].drop_duplicates())
    matrices = []
    for device in devices:
        for operation in operations:
            rows = table[(table["device_text"] == device) & (table["operation"] == operation)]
            rows = rows[rows["memory"] == rows["memory"].iloc[0]]
            rows = rows[rows["size_bytes"] == rows["size_bytes"].max()]
            matrices.append(
                Matrix(
                    title=f"{device}: {_TEXTS[operation]} ({rows['unit'].iloc[0]})",
                    rows=[str(value) for value in rows["numa_node"]],
                    columns=[str(value) for value in rows["memory_node"]],
                    values=[float(value) for value in rows["value"]],
                    framed=[label == "local" for label in rows["placement"]],
                    notes=[""] * len(rows),
                )
            )
    return draw_matrices(matrices, "Latency by node of CPUs and of memory", across=len(operations))


QUESTION = Question(
    key="link_latency",
    title="How long does the smallest access take?",
    order=72,
    make_table=tabulate_latency,
    columns=(
        ColumnSpec("device_text", "device"),
        ColumnSpec("placement", "placement"),
        ColumnSpec("placement_text", "where"),
        ColumnSpec("operation_text", "what"),
        ColumnSpec("memory", "memory"),
        ColumnSpec("size_bytes", "bytes", "count"),
        ColumnSpec("n", "n", "count"),
        ColumnSpec("value", "latency", "two_decimals"),
        ColumnSpec("least", "range over runs", "two_decimals", high_key="greatest"),
        ColumnSpec("unit", "unit"),
        MARKS_COLUMN,
    ),
    plot_figure=plot_latency_matrix,
    caption=(
        "Copies and launches: from submission to the return of the synchronisation, on the host's "
        "clock. Loads: each depends on the one before it, in the largest array. Deeper blue is "
        "slower. Framed cells are local."
    ),
)
