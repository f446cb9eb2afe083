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
    build,
    change,
    count,
    fixed,
    interval,
    known,
    numbers,
    place,
    probability,
    share,
    text,
)

_WHERE = (text("device_text", "device"), text("model_text", "model"))
_PLACE = (text("placement", "placement"), text("placement_text", "where", place))


def effects(table: pd.DataFrame, verdicts: Mapping[str, tuple[str, str]], csv: str) -> Table:
    """Every comparison, and what is said of it: `verdicts` has outcome and sentence by cell."""

    def said(row: Record) -> tuple[str, str]:
        text = str(row.get("text") or ABSENT)
        return verdicts.get(str(row.get("cell")), (outcome(row, "no difference"), text))

    columns = (
        *_WHERE,
        *_PLACE,
        Column("runs", _runs, numeric=True, title="runs of this cell × runs it is compared with"),
        Column("outcome", lambda row: Cell(said(row)[0])),
        numbers("ratio", "change", change),
        interval("low", "high", "95 % interval", change),
        numbers("p_holm", "p (Holm)", probability, "corrected for the number of comparisons"),
        numbers("detectable", "would have shown", share, "smallest effect the study could see"),
        Column("in words", lambda row: Cell(said(row)[1])),
    )
    return build(columns, table, csv)


def outcome(row: Record, otherwise: str) -> str:
    """ "slower" or "faster" where a difference is claimed."""
    if not known(row.get("claimed")) or not row["claimed"]:
        return otherwise
    return "slower" if row["ratio"] < 1 else "faster"


def _runs(row: Record) -> Cell:
    n, base = row.get("n"), row.get("n_base")
    return Cell(f"{n} × {base}", float(n)) if known(n) else Cell(ABSENT)  # type: ignore[arg-type]


def cells(table: pd.DataFrame, latency: pd.DataFrame, csv: str) -> Table:
    """Every cell with its median throughput and latency."""
    p95 = dict(zip(latency["cell"], latency["median"], strict=True)) if len(latency) else {}
    table = table.assign(p95=table["cell"].map(p95))
    columns = (
        *_WHERE,
        *_PLACE,
        numbers("n", "n", count),
        numbers("median", "samples/s", style.number, "median throughput over runs"),
        interval("low", "high", "95 % interval", style.number),
        numbers("spread", "spread", share, "robust standard deviation over the median"),
        numbers("p95", "latency p95 (ms)", style.number),
        numbers("excluded", "left out", count, "runs that are not in the statistics"),
        text("marks", "marks"),
    )
    return build(columns, table, csv)


_SETTING = (
    text("device_text", "device"),
    text("vit_name", "model"),
    text("placement", "placement"),
)
_RATE = (
    numbers("n", "n", count),
    numbers("median_samples_per_s", "samples/s", style.number),
    interval("low", "high", "95 % interval", style.number),
)
_SIZES = (
    numbers("tflop_per_s", "TFLOP/s", style.number),
    numbers("copy_share", "copies", share, "share of copies in the sum of stage times"),
    text("bound", "bound by"),
)
_LATENCY = numbers("latency_p50_ms", "latency p50 (ms)", style.number)
QUESTIONS: dict[str, tuple[str, tuple[Column, ...]]] = {
    "compile": (
        "Is compilation worth it?",
        (
            *_SETTING,
            text("compile_mode", "mode"),
            numbers("n", "n", count),
            numbers("eager_samples_per_s", "eager (samples/s)", style.number),
            numbers("compiled_samples_per_s", "compiled (samples/s)", style.number),
            numbers("speedup", "speedup", fixed(3)),
            interval("low", "high", "95 % interval", fixed(3)),
            numbers("p_holm", "p (Holm)", probability),
            numbers("compile_s", "compile (s)", style.number),
            numbers("break_even_samples", "break-even (samples)", style.number),
            text("text", "in words"),
        ),
    ),
    "scaling": (
        "How does it scale with depth and dim?",
        (
            *_SETTING,
            text("series", "series"),
            numbers("depth", "depth", count),
            numbers("dim", "dim", count),
            *_RATE,
            numbers("gflop_per_sample", "GFLOP a sample", style.number),
            *_SIZES,
        ),
    ),
    "batch": (
        "Which batch size?",
        (*_SETTING, numbers("batch_size", "batch size", count), *_RATE, _LATENCY, *_SIZES),
    ),
    "resolution": (
        "What does resolution cost?",
        (*_SETTING, numbers("image_size", "image side", count), *_RATE, _LATENCY, *_SIZES),
    ),
    "pipeline": (
        "How deep a pipeline?",
        (*_SETTING, numbers("pipeline_depth", "buffers", count), *_RATE, _LATENCY, *_SIZES),
    ),
    "bandwidth": (
        "How fast are the copies?",
        (
            numbers("gpu_id", "GPU", count),
            numbers("gpu_numa_node", "its node", count),
            text("placement", "placement"),
            numbers("numa_node", "CPU node", count),
            numbers("memory_node", "memory node", count),
            numbers("n", "n", count),
            numbers("h2d_gb_per_s", "H2D (GB/s)", fixed(2)),
            numbers("h2d_share", "of the limit", share),
            numbers("d2h_gb_per_s", "D2H (GB/s)", fixed(2)),
            numbers("d2h_share", "of the limit", share),
            numbers("link_gb_per_s", "link limit (GB/s)", fixed(2)),
        ),
    ),
}
PROFILES = (
    *_WHERE,
    text("placement", "placement"),
    numbers("repeat", "repeat", count),
    text("window", "window"),
    numbers("kernels", "kernels", count),
    numbers("overlap_fraction", "copies hidden", share),
    numbers("exposed_copy_ms", "exposed (ms)", style.number),
    numbers("gpu_idle_fraction", "GPU idle", share),
    numbers("gap_p95_us", "gap p95 (µs)", style.number),
    numbers("launch_latency_p50_us", "launch p50 (µs)", style.number),
    numbers("profiler_overhead", "overhead", share, "time a sample in the profiled window costs"),
    text("problem", "problem"),
)
EXCLUDED = (
    text("status", "status"),
    text("error", "reason"),
    text("run_id", "run"),
    *_WHERE,
    text("placement", "placement"),
    text("study_dir", "study"),
)
GROUPS = (
    text("group", "group"),
    text("host", "host"),
    text("gpu_name", "GPU"),
    text("env_nvidia_driver", "driver"),
    text("env_torch", "torch"),
    text("env_kernel", "kernel"),
    text("env_cpu_model", "CPU"),
    text("profiler", "profiler"),
    numbers("runs", "runs", count),
    numbers("passed", "in statistics", count),
)


def plain(table: pd.DataFrame, csv: str = "") -> Table:
    """A table as it is, all texts (what differs between groups)."""
    return build([text(str(key), str(key)) for key in table.columns], table, csv)


def question(name: str, table: pd.DataFrame, csv: str) -> Table:
    """The table of one question, without columns that it does not have."""
    return without_empty(build(QUESTIONS[name][1], table, csv))


def without_empty(rows: Table) -> Table:
    """The table without columns in which nothing stands."""
    wanted = rows.columns
    keep = [i for i, _ in enumerate(wanted) if any(r[i].text != ABSENT for r in rows.rows)]
    shown = [[row[i] for i in keep] for row in rows.rows]
    return Table([wanted[i] for i in keep], shown, rows.csv, rows.left_out)
