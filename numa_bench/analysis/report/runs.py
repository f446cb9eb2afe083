"""The table of all runs, with links to the files of each."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from numa_bench.analysis.plots import style
from numa_bench.analysis.questions.base import NOT_TIMED
from numa_bench.analysis.report import columns as cols
from numa_bench.analysis.report.columns import (
    ABSENT,
    Cell,
    Column,
    Record,
    Table,
    number_column,
    text_column,
    without_empty,
)
from numa_bench.analysis.report.links import Links
from numa_bench.records import PIPELINE

#: Rows on the page; the CSV has all.
MOST_RUNS = 2000
_FILES = (
    ("stdout_log", "stdout"),
    ("stderr_log", "stderr"),
    ("nsys_report", "nsys"),
    ("nsys_sqlite", "sqlite"),
    ("torch_trace", "trace"),
)

_HOST_WORK = number_column("host_ms", "host work (ms)", style.format_number)


def runs_table(frame: pd.DataFrame, links: Links) -> Table:
    """The newest `MOST_RUNS` runs, in the order in which they started."""
    newest = frame.sort_values("start_time", kind="stable").tail(MOST_RUNS)

    def files(row: Record) -> Cell:
        study = str(row["study_dir"])
        urls = [(label, links.study_url(study, row.get(key))) for key, label in _FILES]
        return Cell("", None, tuple((label, url) for label, url in urls if url))

    def notes(row: Record) -> Cell:
        error = row.get("error")
        texts = [str(error)] if isinstance(error, str) and error else []
        texts += [str(w) for w in row.get("warnings") or ()]
        return Cell("; ".join(texts) or ABSENT, "; ".join(texts) or None)

    # By what placements are compared: samples/s, or the GB/s of a bandwidth study.
    units = " or ".join(dict.fromkeys(newest["headline_unit"].astype(str)))
    columns = (
        text_column("start_time", "started", _time),
        text_column("device_text", "device"),
        text_column("model_text", "model"),
        text_column("placement", "placement"),
        text_column("placement_text", "where", cols.format_place),
        number_column("repeat", "repeat", cols.format_count),
        text_column("status", "status"),
        number_column("headline_value", units, style.format_number),
        Column("p95 (ms)", _latency, numeric=True, title="95th percentile of batch latency"),
        *([_HOST_WORK] if frame["host_ms"].notna().any() else []),
        number_column("h2d_ms", "H2D (ms)", style.format_number),
        number_column("compute_ms", "compute (ms)", style.format_number),
        number_column("d2h_ms", "D2H (ms)", style.format_number),
        number_column(
            "host_submit_fraction",
            "host submitting",
            cols.format_share,
            "share of the timed window in which the host submitted work to the GPU",
        ),
        cols.marks_column("disturbances of the run; see Marks"),
        Column("notes", notes),
        Column("files", files),
    )
    rows = [[c.cell(row) for c in columns] for row in newest.to_dict("records")]
    states = sorted(set(frame["status"].astype(str)))
    table = Table(columns, rows, "tables/runs.csv", len(frame) - len(newest), states)
    if (frame["workload"] == PIPELINE).any():
        return table
    # Without a pipeline there are no stages.
    return replace(without_empty(table), states=states)


def _latency(row: Record) -> Cell:
    """The 95th percentile; a passed run without one replayed a CUDA graph."""
    cell = number_column("latency_p95_ms", "", style.format_number).cell(row)
    batches = row["in_statistics"] and row["workload"] == PIPELINE
    return Cell(NOT_TIMED) if cell.value is None and batches else cell


def _time(value: str) -> str:
    """A start time without fractions of a second."""
    return value.replace("T", " ")[:19]


def build_runs_csv(frame: pd.DataFrame) -> pd.DataFrame:
    """All runs as the CSV has them: lists as texts."""
    table: pd.DataFrame = frame.copy()
    for column in table.columns:
        if table[column].map(lambda v: isinstance(v, (list, dict))).any():
            table[column] = table[column].map(_joined)
    return table


def _joined(value: object) -> object:
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return str(value) if isinstance(value, dict) else value
