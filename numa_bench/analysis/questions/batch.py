"""Which batch size: throughput and latency over `batch_size`, all else equal."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from numa_bench.analysis.plots.series import plot_setting
from numa_bench.analysis.questions.base import (
    LATENCY_COLUMN,
    LIMIT_COLUMNS,
    RATE_COLUMNS,
    SETTING_COLUMNS,
    ColumnSpec,
    Question,
)
from numa_bench.analysis.questions.points import make_series


def tabulate_batch_sizes(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per batch size and cell; columns are `points.POINT_COLUMNS`."""
    return make_series(frame, "batch_size", ("test_batch_size",))


def plot_batch_sizes(table: pd.DataFrame) -> Figure | None:
    return plot_setting(table, "batch_size", "batch size (samples)", "Batch size")


QUESTION = Question(
    key="batch",
    title="Which batch size?",
    order=30,
    make_table=tabulate_batch_sizes,
    columns=(
        *SETTING_COLUMNS,
        ColumnSpec("batch_size", "batch size", "count"),
        *RATE_COLUMNS,
        LATENCY_COLUMN,
        *LIMIT_COLUMNS,
    ),
    plot_figure=plot_batch_sizes,
    caption="Larger batches: the throughput they add, and the latency they cost.",
)
