"""Pure: the tables of the page, each cell with the value by which it is sorted."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from numa_bench.analysis.plots import style
from numa_bench.analysis.questions.base import NOT_TIMED, Question
from numa_bench.analysis.report.columns import (
    ABSENT,
    Cell,
    Column,
    Record,
    Table,
    build_column,
    build_table,
    format_change,
    format_count,
    format_place,
    format_probability,
    format_share,
    has_value,
    interval_column,
    marks_column,
    number_column,
    text_column,
    without_empty,
)

_WHERE = (text_column("device_text", "device"), text_column("model_text", "model"))
_PLACE = (
    text_column("placement", "placement"),
    text_column("placement_text", "where", format_place),
)
_DISTANCE = text_column("distance_text", "distance")


def _place(table: pd.DataFrame) -> tuple[Column, ...]:
    """Columns of the placement; without the distance where no record has it."""
    known = "distance_text" in table and table["distance_text"].notna().any()
    return (*_PLACE, _DISTANCE) if known else _PLACE


def effects_table(table: pd.DataFrame, verdicts: Mapping[str, tuple[str, str]], csv: str) -> Table:
    """Every comparison with its verdict; `verdicts` has outcome and sentence by cell."""

    def verdict_of(row: Record) -> tuple[str, str]:
        text = str(row.get("text") or ABSENT)
        return verdicts.get(str(row.get("cell")), (outcome_text(row, "no difference"), text))

    columns = (
        *_WHERE,
        *_place(table),
        Column("runs", _runs, numeric=True, title="runs of this cell × runs it is compared with"),
        Column("outcome", lambda row: Cell(verdict_of(row)[0])),
        number_column("ratio", "change", format_change),
        interval_column("low", "high", "95 % interval", format_change),
        number_column(
            "p_holm", "p (Holm)", format_probability, "corrected for the number of comparisons"
        ),
        number_column(
            "detectable", "detectable", format_share, "smallest effect that this study could detect"
        ),
        marks_column("disturbances of this cell's runs; see Marks"),
        Column("in words", lambda row: Cell(verdict_of(row)[1])),
    )
    return build_table(columns, table, csv)


def comparison_table(table: pd.DataFrame, csv: str) -> Table:
    """After against before, cell by cell; against several days also beyond the common shift."""
    columns = [
        *_WHERE,
        *_PLACE,
        Column("runs", _runs, numeric=True, title="runs after × runs before"),
        number_column("days", "days after", format_count),
        number_column("days_base", "days before", format_count),
        Column("outcome", lambda row: Cell(outcome_text(row, "no difference"))),
        number_column("ratio", "change", format_change),
        interval_column("low", "high", "95 % interval", format_change),
    ]
    if table["own_ratio"].notna().any():
        columns += [
            number_column(
                "own_ratio", "beyond the shift", format_change, "beyond what all cells share"
            ),
            interval_column("own_low", "own_high", "its 95 % interval", format_change),
        ]
    columns += [
        number_column(
            "p_holm", "p (Holm)", format_probability, "corrected for the number of comparisons"
        ),
        number_column(
            "detectable", "detectable", format_share, "smallest change that could be detected"
        ),
        Column("in words", lambda row: Cell(str(row["text"]))),
    ]
    return build_table(columns, table, csv)


def outcome_text(row: Record, otherwise: str) -> str:
    """ "slower" or "faster" where a difference is claimed."""
    if not has_value(row.get("claimed")) or not row["claimed"]:
        return otherwise
    # Against several days the claim is about the change beyond the common shift.
    ratio = row["own_ratio"] if has_value(row.get("own_ratio")) else row["ratio"]
    return "slower" if ratio < 1 else "faster"


def _runs(row: Record) -> Cell:
    n, base = row.get("n"), row.get("n_base")
    return Cell(f"{n} × {base}", float(n)) if has_value(n) else Cell(ABSENT)  # type: ignore[arg-type]


def cells_table(table: pd.DataFrame, latency: pd.DataFrame, csv: str) -> Table:
    """Every cell with its median rate, what limited it, and latency.

    The rate is a throughput in samples/s, or the bandwidth that a bandwidth study compares.
    """
    units = " or ".join(dict.fromkeys(table["unit"].astype(str)))
    p95 = dict(zip(latency["cell"], latency["median"], strict=True)) if len(latency) else {}
    table = table.assign(p95=table["cell"].map(p95))
    columns = (
        *_WHERE,
        *_place(table),
        number_column("n", "n", format_count),
        number_column("median", units, style.format_number, "median over runs"),
        Column("host", _host, title="whether the GPU waited for the host (mark B)"),
        interval_column("low", "high", "95 % interval", style.format_number),
        number_column(
            "spread", "spread", format_share, "robust standard deviation over the median"
        ),
        number_column(
            "overlap_efficiency",
            "overlap",
            format_share,
            "stage time hidden behind other stages, of what could be hidden",
        ),
        Column("latency p95 (ms)", _latency, numeric=True),
        number_column("excluded", "left out", format_count, "runs that are not in the statistics"),
        marks_column(),
    )
    return without_empty(build_table(columns, table, csv))


def _host(row: Record) -> Cell:
    """ "host bound", or nothing; no value where the host's time was not measured."""
    if row["host_bound"]:
        return Cell("host bound", "host bound")
    return Cell("" if has_value(row["host_submit_fraction"]) else ABSENT)


def _latency(row: Record) -> Cell:
    """The 95th percentile; runs with a throughput but without one replayed a CUDA graph."""
    cell = number_column("p95", "", style.format_number).cell(row)
    batches = row["metric"] == "throughput_samples_per_s"
    return Cell(NOT_TIMED) if cell.value is None and row["n"] and batches else cell


PROFILES = (
    *_WHERE,
    text_column("placement", "placement"),
    number_column("repeat", "repeat", format_count),
    text_column("window", "window"),
    number_column("kernels", "kernels", format_count),
    number_column("overlap_fraction", "copies hidden", format_share),
    number_column("exposed_copy_ms", "exposed (ms)", style.format_number),
    number_column("gpu_idle_fraction", "GPU idle", format_share),
    number_column("gap_p95_us", "gap p95 (µs)", style.format_number),
    number_column("launch_latency_p50_us", "launch p50 (µs)", style.format_number),
    number_column(
        "profiler_overhead",
        "overhead",
        format_share,
        "extra time per sample while profiled",
    ),
    text_column("problem", "problem"),
)
EXCLUDED = (
    text_column("status", "status"),
    text_column("error", "reason"),
    text_column("run_id", "run"),
    *_WHERE,
    text_column("placement", "placement"),
    text_column("study_dir", "study"),
)
NVBANDWIDTH = (
    text_column("device_text", "device"),
    text_column("copies", "copies"),
    number_column("n", "n", format_count),
    number_column("ours", "this study (GB/s)", style.format_number),
    number_column("nvbandwidth", "nvbandwidth (GB/s)", style.format_number),
    number_column("difference", "difference", format_change, "this study over it, minus 1"),
)
GROUPS = (
    text_column("group", "group"),
    text_column("host", "host"),
    text_column("gpu_name", "GPU"),
    text_column("env_nvidia_driver", "driver"),
    text_column("env_torch", "torch"),
    text_column("env_kernel", "kernel"),
    text_column("env_cpu_model", "CPU"),
    text_column("env_numa_mode", "NUMA mode"),
    text_column("profiler", "profiler"),
    text_column("shared_host", "shared host", {"True": "yes", "False": "no"}.__getitem__),
    number_column("runs", "runs", format_count),
    number_column("passed", "in statistics", format_count),
)


def plain_table(table: pd.DataFrame, csv: str = "") -> Table:
    """A table with all columns as texts, such as the differences between groups."""
    return build_table([text_column(str(key), str(key)) for key in table.columns], table, csv)


def question_table(question: Question, table: pd.DataFrame, csv: str) -> Table:
    """The table of one question, without columns that are empty here."""
    return without_empty(build_table([build_column(c) for c in question.columns], table, csv))
