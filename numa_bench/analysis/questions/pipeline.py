"""How deep a pipeline: throughput and latency over `pipeline_depth`, all else equal."""

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


def tabulate_pipeline_depths(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per pipeline depth and cell, with `overlap_efficiency`; columns are
    `points.POINT_COLUMNS`."""
    return make_series(frame, "pipeline_depth", ("test_pipeline_depth",))


def plot_pipeline_depths(table: pd.DataFrame) -> Figure | None:
    return plot_setting(table, "pipeline_depth", "pipeline depth (buffers)", "Pipeline depth")


QUESTION = Question(
    key="pipeline",
    title="How deep a pipeline?",
    order=50,
    make_table=tabulate_pipeline_depths,
    columns=(
        *SETTING_COLUMNS,
        ColumnSpec("pipeline_depth", "buffers", "count"),
        *RATE_COLUMNS,
        LATENCY_COLUMN,
        *LIMIT_COLUMNS,
    ),
    plot_figure=plot_pipeline_depths,
    caption=(
        "More buffers in flight hide copies behind compute until all copies are hidden; beyond "
        "that they only add latency."
    ),
)
