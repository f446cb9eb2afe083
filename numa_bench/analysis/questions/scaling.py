"""How throughput scales with the depth and the width (dim) of the model."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from numa_bench.analysis.plots.series import (
    COPY_SHARE_ROW,
    MOST_COLUMNS,
    TFLOP_ROW,
    THROUGHPUT_ROW,
    SeriesColumn,
    plot_series,
)
from numa_bench.analysis.plots.shape import find_bound_blocks
from numa_bench.analysis.questions.base import (
    LIMIT_COLUMNS,
    RATE_COLUMNS,
    SETTING_COLUMNS,
    ColumnSpec,
    Question,
)
from numa_bench.analysis.questions.points import POINT_COLUMNS, make_series


def tabulate_scaling(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per model size and cell: `POINT_COLUMNS`, `series` ("depth at dim 512"), `varied`
    ("depth" or "dim") and `turns`, the sizes between which what limits the series changes, such as
    from transfer to compute ("" where it does not).

    A series is two or more values of one size with everything else equal.
    """
    tables = []
    for size, other in (("depth", "dim"), ("dim", "depth")):
        # Heads and the MLP's width usually grow with a model: a series need not hold them.
        free = (f"vit_{size}", "vit_name", "vit_heads", "vit_dim_head", "vit_mlp_dim")
        # A model without layers measures copies and is no point of such a curve.
        table = make_series(frame[frame["vit_depth"] > 0] if len(frame) else frame, size, free)
        if not table.empty:
            variant = table["variant"].map(lambda text: f", {text}" if text else "")
            table["series"] = f"{size} at {other} " + table[other].astype(str) + variant
            table["varied"] = size
            tables.append(_with_turns(table, size))
    if not tables:
        return pd.DataFrame(columns=[*POINT_COLUMNS, "series", "varied", "turns"])
    return pd.concat(tables, ignore_index=True)


def _with_turns(table: pd.DataFrame, size: str) -> pd.DataFrame:
    """Add a sentence to each series along which what limits changes."""
    place = ["group", "device_text", "placement_text", "series", "batch_size", "image_size"]
    table["turns"] = ""
    for _, rows in table.groupby(place, sort=False, dropna=False):
        blocks = find_bound_blocks(rows.set_index(size)["bound"])
        if len(blocks) > 1:
            parts = [f"{block.bound} bound up to {block.most:g}" for block in blocks[:-1]]
            parts[0] = parts[0].replace("up to", f"up to {size}")
            parts.append(f"{blocks[-1].bound} bound from {blocks[-1].least:g}")
            table.loc[rows.index, "turns"] = ", ".join(parts)
    return table


def plot_scaling(table: pd.DataFrame) -> Figure | None:
    """Throughput, TFLOP/s and share of copies over depth and dim, a column for each series."""
    columns = []
    for name in list(dict.fromkeys(table["series"].dropna()))[:MOST_COLUMNS]:
        mine = table[table["series"] == name]
        key = "depth" if str(name).startswith("depth") else "dim"
        if mine[key].nunique() > 1:
            label = "depth (layers)" if key == "depth" else "dim (width of a token)"
            columns.append(SeriesColumn(str(name), mine, key, label))
    rows = (THROUGHPUT_ROW, TFLOP_ROW, COPY_SHARE_ROW)
    return plot_series(columns, rows, "Scaling with the size of the model")


QUESTION = Question(
    key="scaling",
    title="How does it scale with depth and dim?",
    order=20,
    make_table=tabulate_scaling,
    columns=(
        *SETTING_COLUMNS,
        ColumnSpec("series", "series"),
        ColumnSpec("depth", "depth", "count"),
        ColumnSpec("dim", "dim", "count"),
        *RATE_COLUMNS,
        ColumnSpec("gflop_per_sample", "GFLOP per sample", "number"),
        *LIMIT_COLUMNS,
    ),
    plot_figure=plot_scaling,
    caption=(
        "How throughput, achieved floating-point operations and the share of copies change with "
        "the size of the model. Below the dotted line at 50 % compute takes longer than both "
        "copies together. At a dashed line what limits the local cells changes, such as from the "
        "link (transfer bound) to compute; a host-bound GPU waits for work. Vertical bars are 95 % "
        "intervals, or the range over GPUs."
    ),
)
