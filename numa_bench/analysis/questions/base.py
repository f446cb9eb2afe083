"""What a question is made of: its table, how the page shows it, its figure.

Each module of this room with a `QUESTION` asks one; `registry.load_questions` finds them. So a new
question is one new file here, and its test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from matplotlib.figure import Figure

#: How a value is written; `report.columns.FORMATS` has a function for each but "text".
ValueFormat = Literal[
    "text", "count", "number", "two_decimals", "three_decimals", "share", "probability"
]


@dataclass(frozen=True)
class ColumnSpec:
    """One column of a question's table on the page, as plain data.

    `key` is a column of the table. With `high_key` the cell shows the interval from `key` to
    `high_key`. `tooltip` explains the heading; `absent` says why a value is missing, where that is
    known.
    """

    key: str
    label: str
    format: ValueFormat = "text"
    high_key: str = ""
    tooltip: str = ""
    absent: str = ""


@dataclass(frozen=True)
class Question:
    """One question: how it is computed and how the page shows it.

    `key` names its table in `Analysis.questions`, its CSV and its picture; `order` is its position
    on the page. `make_table` turns the table of runs into the question's table, which has the
    columns `group` and `placement`, and no row where the study does not answer the question.
    `plot_figure` gets the rows of one group and returns None when there is nothing to show;
    `caption` says how to read the figure. `summarize` gets the same rows and answers in a sentence,
    for a study without a verdict on placement; "" where there is nothing to say.
    """

    key: str
    title: str
    order: int
    make_table: Callable[[pd.DataFrame], pd.DataFrame]
    columns: tuple[ColumnSpec, ...]
    caption: str
    plot_figure: Callable[[pd.DataFrame], Figure | None] = lambda _: None
    summarize: Callable[[pd.DataFrame], str] = lambda _: ""


#: Of runs that have a throughput but no latency: a CUDA graph replays many batches at once.
NOT_TIMED = "not timed"
#: Columns that questions share: where a cell was measured,
SETTING_COLUMNS = (
    ColumnSpec("device_text", "device"),
    ColumnSpec("variant_text", "model"),
    ColumnSpec("placement", "placement"),
)
#: its throughput,
RATE_COLUMNS = (
    ColumnSpec("n", "n", "count"),
    ColumnSpec("median_samples_per_s", "samples/s", "number"),
    ColumnSpec("low", "95 % interval", "number", high_key="high"),
)
LATENCY_COLUMN = ColumnSpec("latency_p50_ms", "latency p50 (ms)", "number", absent=NOT_TIMED)
HOST_COLUMN = ColumnSpec(
    "host_submit_fraction",
    "host submitting",
    "share",
    tooltip="share of the timed window in which the host submitted work to the GPU",
)
MARKS_COLUMN = ColumnSpec("marks", "marks")
#: and what limits it.
LIMIT_COLUMNS = (
    ColumnSpec("tflop_per_s", "TFLOP/s", "number"),
    ColumnSpec(
        "copy_share", "copies", "share", tooltip="share of copies in the sum of stage times"
    ),
    HOST_COLUMN,
    ColumnSpec("bound", "bound by"),
    MARKS_COLUMN,
)
