"""What else did a command report? Its metrics beside the one that placements are compared by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from numa_bench.analysis.questions.base import ColumnSpec, Question
from numa_bench.analysis.read.commands import select_commands
from numa_bench.labels import find_base_label
from numa_bench.metric_registry import HIGHER, LOWER, NAMED

METRIC_COLUMNS = (
    "group", "cell", "device_text", "gpu_id", "vit_name", "placement", "placement_text", "metric",
    "unit", "better", "n", "median", "least", "greatest", "change", "outcome",
)  # fmt: skip


def tabulate_metrics(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per cell and metric but the headline; columns are `METRIC_COLUMNS`.

    `change` is the median over that of the local cell, minus 1, of the value as it is: without a
    test, so `outcome` only says which direction is better. Nothing is claimed of it.
    """
    empty = pd.DataFrame(columns=list(METRIC_COLUMNS))
    runs = select_commands(frame)
    if runs.empty:
        return empty
    runs = runs[runs["in_statistics"].astype(bool)]
    rows = [
        row for _, setting in runs.groupby("setting", sort=False) for row in _list_rows(setting)
    ]
    return pd.DataFrame(rows, columns=list(METRIC_COLUMNS)) if rows else empty


def _list_rows(setting: pd.DataFrame) -> Iterator[dict[str, Any]]:
    named = [
        (NAMED + name, unit, better) for name, unit, better in setting["command_metrics"].iloc[0]
    ]
    base_label = find_base_label(setting["placement"])
    for key, unit, better in [*named, ("wall_s", "s", LOWER)]:
        if key == setting["headline"].iloc[0] or key not in setting:
            continue
        base = setting.loc[setting["placement"] == base_label, key].median()
        for _, cell in setting.groupby("cell", sort=False):
            values = cell[key].dropna()
            if values.empty:
                continue
            first = cell.iloc[0]
            median = float(values.median())
            change = median / base - 1 if base and first["placement"] != base_label else np.nan
            yield {
                **{name: first[name] for name in METRIC_COLUMNS if name in first},
                "metric": "wall time" if key == "wall_s" else key.removeprefix(NAMED),
                "unit": unit,
                "better": better,
                "n": len(values),
                "median": median,
                "least": float(values.min()),
                "greatest": float(values.max()),
                "change": change,
                "outcome": _name_outcome(change, better),
            }


def _name_outcome(change: float, better: str) -> str:
    if not np.isfinite(change) or change == 0:
        return ""
    return "better" if (change > 0) == (better == HIGHER) else "worse"


QUESTION = Question(
    key="command_metrics",
    title="What else did the command report?",
    order=14,
    make_table=tabulate_metrics,
    columns=(
        ColumnSpec("device_text", "device"),
        ColumnSpec("vit_name", "command"),
        ColumnSpec("placement", "placement"),
        ColumnSpec("metric", "metric"),
        ColumnSpec("better", "better"),
        ColumnSpec("n", "n", "count"),
        ColumnSpec("median", "median", "three_decimals"),
        ColumnSpec("unit", "unit"),
        ColumnSpec("least", "range", "three_decimals", high_key="greatest"),
        ColumnSpec("change", "to local", "share", tooltip="medians, without a test"),
        ColumnSpec("outcome", "direction"),
    ),
    caption="Metrics beside the one that placements are compared by: medians, without a test.",
)
