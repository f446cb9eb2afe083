"""The cost of resolution: throughput and latency over `image_size`."""

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


def tabulate_resolutions(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per image size and cell; columns are `points.POINT_COLUMNS`.

    The batch size may differ along a series, as large images need smaller batches.
    """
    return make_series(
        frame, "image_size", ("test_image_size", "test_batch_size", "vit_input_shape")
    )


def plot_resolutions(table: pd.DataFrame) -> Figure | None:
    return plot_setting(table, "image_size", "image side (pixels)", "Resolution")


QUESTION = Question(
    key="resolution",
    title="What does resolution cost?",
    order=40,
    make_table=tabulate_resolutions,
    columns=(
        *SETTING_COLUMNS,
        ColumnSpec("image_size", "image side", "count"),
        *RATE_COLUMNS,
        LATENCY_COLUMN,
        *LIMIT_COLUMNS,
    ),
    plot_figure=plot_resolutions,
    caption=("Larger images: the drop in samples per second, and how the share of copies changes."),
)
