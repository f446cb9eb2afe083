"""Pure: the tables of the page, as texts with the values that they are sorted by."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from numa_bench.analysis.plots import style
from numa_bench.analysis.report.columns import (
    ABSENT,
    Cell,
    Column,
    Record,
    Table,
    build_table,
    fixed_format,
    format_change,
    format_count,
    format_place,
    format_probability,
    format_share,
    has_value,
    interval_column,
    number_column,
    text_column,
)

_WHERE = (text_column("device_text", "device"), text_column("model_text", "model"))
_PLACE = (
    text_column("placement", "placement"),
    text_column("placement_text", "where", format_place),
)


def effects_table(table: pd.DataFrame, verdicts: Mapping[str, tuple[str, str]], csv: str) -> Table:
    """Every comparison, and what is said of it: `verdicts` has outcome and sentence by cell."""

    def said(row: Record) -> tuple[str, str]:
        text = str(row.get("text") or ABSENT)
        return verdicts.get(str(row.get("cell")), (outcome_text(row, "no difference"), text))

    columns = (
        *_WHERE,
        *_PLACE,
        Column("runs", _runs, numeric=True, title="runs of this cell × runs it is compared with"),
        Column("outcome", lambda row: Cell(said(row)[0])),
        number_column("ratio", "change", format_change),
        interval_column("low", "high", "95 % interval", format_change),
        number_column(
            "p_holm", "p (Holm)", format_probability, "corrected for the number of comparisons"
        ),
        number_column(
            "detectable", "would have shown", format_share, "smallest effect the study could see"
        ),
        Column("in words", lambda row: Cell(said(row)[1])),
    )
    return build_table(columns, table, csv)


def outcome_text(row: Record, otherwise: str) -> str:
    """ "slower" or "faster" where a difference is claimed."""
    if not has_value(row.get("claimed")) or not row["claimed"]:
        return otherwise
    return "slower" if row["ratio"] < 1 else "faster"


def _runs(row: Record) -> Cell:
    n, base = row.get("n"), row.get("n_base")
    return Cell(f"{n} × {base}", float(n)) if has_value(n) else Cell(ABSENT)  # type: ignore[arg-type]


def cells_table(table: pd.DataFrame, latency: pd.DataFrame, csv: str) -> Table:
    """Every cell with its median throughput and latency."""
    p95 = dict(zip(latency["cell"], latency["median"], strict=True)) if len(latency) else {}
    table = table.assign(p95=table["cell"].map(p95))
    columns = (
        *_WHERE,
        *_PLACE,
        number_column("n", "n", format_count),
        number_column("median", "samples/s", style.format_number, "median throughput over runs"),
        interval_column("low", "high", "95 % interval", style.format_number),
        number_column(
            "spread", "spread", format_share, "robust standard deviation over the median"
        ),
        number_column("p95", "latency p95 (ms)", style.format_number),
        number_column("excluded", "left out", format_count, "runs that are not in the statistics"),
        text_column("marks", "marks"),
    )
    return build_table(columns, table, csv)


_SETTING = (
    text_column("device_text", "device"),
    text_column("vit_name", "model"),
    text_column("placement", "placement"),
)
_RATE = (
    number_column("n", "n", format_count),
    number_column("median_samples_per_s", "samples/s", style.format_number),
    interval_column("low", "high", "95 % interval", style.format_number),
)
_SIZES = (
    number_column("tflop_per_s", "TFLOP/s", style.format_number),
    number_column(
        "copy_share", "copies", format_share, "share of copies in the sum of stage times"
    ),
    text_column("bound", "bound by"),
)
_LATENCY = number_column("latency_p50_ms", "latency p50 (ms)", style.format_number)
QUESTIONS: dict[str, tuple[str, tuple[Column, ...]]] = {
    "compile": (
        "Is compilation worth it?",
        (
            *_SETTING,
            text_column("compile_mode", "mode"),
            number_column("n", "n", format_count),
            number_column("eager_samples_per_s", "eager (samples/s)", style.format_number),
            number_column("compiled_samples_per_s", "compiled (samples/s)", style.format_number),
            number_column("speedup", "speedup", fixed_format(3)),
            interval_column("low", "high", "95 % interval", fixed_format(3)),
            number_column("p_holm", "p (Holm)", format_probability),
            number_column("compile_s", "compile (s)", style.format_number),
            number_column("break_even_samples", "break-even (samples)", style.format_number),
            text_column("text", "in words"),
        ),
    ),
    "scaling": (
        "How does it scale with depth and dim?",
        (
            *_SETTING,
            text_column("series", "series"),
            number_column("depth", "depth", format_count),
            number_column("dim", "dim", format_count),
            *_RATE,
            number_column("gflop_per_sample", "GFLOP a sample", style.format_number),
            *_SIZES,
        ),
    ),
    "batch": (
        "Which batch size?",
        (
            *_SETTING,
            number_column("batch_size", "batch size", format_count),
            *_RATE,
            _LATENCY,
            *_SIZES,
        ),
    ),
    "resolution": (
        "What does resolution cost?",
        (
            *_SETTING,
            number_column("image_size", "image side", format_count),
            *_RATE,
            _LATENCY,
            *_SIZES,
        ),
    ),
    "pipeline": (
        "How deep a pipeline?",
        (
            *_SETTING,
            number_column("pipeline_depth", "buffers", format_count),
            *_RATE,
            _LATENCY,
            *_SIZES,
        ),
    ),
    "bandwidth": (
        "How fast are the copies?",
        (
            number_column("gpu_id", "GPU", format_count),
            number_column("gpu_numa_node", "its node", format_count),
            text_column("placement", "placement"),
            number_column("numa_node", "CPU node", format_count),
            number_column("memory_node", "memory node", format_count),
            number_column("n", "n", format_count),
            number_column("h2d_gb_per_s", "H2D (GB/s)", fixed_format(2)),
            number_column("h2d_share", "of the limit", format_share),
            number_column("d2h_gb_per_s", "D2H (GB/s)", fixed_format(2)),
            number_column("d2h_share", "of the limit", format_share),
            number_column("link_gb_per_s", "link limit (GB/s)", fixed_format(2)),
        ),
    ),
}
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
        "profiler_overhead", "overhead", format_share, "time a sample in the profiled window costs"
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
GROUPS = (
    text_column("group", "group"),
    text_column("host", "host"),
    text_column("gpu_name", "GPU"),
    text_column("env_nvidia_driver", "driver"),
    text_column("env_torch", "torch"),
    text_column("env_kernel", "kernel"),
    text_column("env_cpu_model", "CPU"),
    text_column("profiler", "profiler"),
    number_column("runs", "runs", format_count),
    number_column("passed", "in statistics", format_count),
)


def plain_table(table: pd.DataFrame, csv: str = "") -> Table:
    """A table as it is, all texts (what differs between groups)."""
    return build_table([text_column(str(key), str(key)) for key in table.columns], table, csv)


def question_table(name: str, table: pd.DataFrame, csv: str) -> Table:
    """The table of one question, without columns that it does not have."""
    return without_empty(build_table(QUESTIONS[name][1], table, csv))


def without_empty(rows: Table) -> Table:
    """The table without columns in which nothing stands."""
    wanted = rows.columns
    keep = [i for i, _ in enumerate(wanted) if any(r[i].text != ABSENT for r in rows.rows)]
    shown = [[row[i] for i in keep] for row in rows.rows]
    return Table([wanted[i] for i in keep], shown, rows.csv, rows.left_out)
