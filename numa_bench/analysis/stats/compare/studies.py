"""Compare studies: before and after a change of driver, BIOS, kernel or program."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd

from numa_bench.analysis.read.groups import compare_values
from numa_bench.analysis.stats.compare.tables import (
    NAMES,
    CommonShift,
    Side,
    compare_days,
    compare_single_days,
)
from numa_bench.analysis.stats.compare.text import describe_comparison, describe_days
from numa_bench.analysis.stats.families import HEADLINE, select_usable_runs
from numa_bench.errors import StoreError

#: What may differ between the two studies; differences are reported.
_REPORTED = (
    "host", "gpu_name", "env_nvidia_driver", "env_torch", "env_kernel", "env_cpu_model",
    "env_python", "env_git_commit", "env_simulated", "env_numa_mode", "pcie_link_max", "pcie_link",
    "profiler", "shared_host", "environment",
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Every cell that both sides have, after against before.

    In `table` (columns: `tables.COMPARISON_COLUMNS`), `ratio` is after over before,
    `n_base` and `base_median` belong to before, and `regression` marks cells whose throughput fell
    by significantly more than the limit. `shift` is what all cells have in common. `unmatched` are
    cells of only one side (`side`), `differences` the settings of the environment that are not the
    same. `regressed`: at least one cell, or all together, have a regression. `details` are
    sentences that belong to `text`.
    """

    table: pd.DataFrame
    shift: CommonShift
    unmatched: pd.DataFrame
    differences: pd.DataFrame
    regressed: bool
    text: str
    details: tuple[str, ...] = ()


def compare_studies(
    before: pd.DataFrame,
    after: pd.DataFrame,
    fail_on_regression: float | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare throughput cell by cell; cells are the same model, settings, GPU number and place.

    Each side has the runs of one day or of several (`assign_days`). With several on at least one
    side, what days differ by is part of every error; with one on each it cannot be known.
    `fail_on_regression` is a fraction, 0.03 for 3 %. Raises StoreError when a side has no run, or
    the same cell in several environments, which must not be pooled.
    """
    frames = {"before": _prepare_side(before, "before"), "after": _prepare_side(after, "after")}
    sides = {
        side: Side(frame, select_usable_runs(frame, HEADLINE)) for side, frame in frames.items()
    }
    keys = {side: set(frame["match"]) for side, frame in frames.items()}
    rows = [key for key in dict.fromkeys(frames["after"]["match"]) if key in keys["before"]]
    unmatched = pd.concat(
        [
            frame[~frame["match"].isin(rows)]
            .drop_duplicates("match")[list(NAMES)]
            .assign(side=side)
            for side, frame in frames.items()
        ],
        ignore_index=True,
    )
    # Days count where the same cells have enough runs on both sides.
    measured = [set(side.list_cell_days()["match"]) for side in sides.values()]
    common = measured[0] & measured[1] & set(rows)
    several = max(side.count_days(common) for side in sides.values()) > 1
    build = compare_days if several else compare_single_days
    table, shift = build(rows, sides["before"], sides["after"], fail_on_regression, seed)
    return Comparison(
        table=table,
        shift=shift,
        unmatched=unmatched,
        differences=compare_values(
            {side: _reported_values(frame) for side, frame in frames.items()}
        ),
        regressed=bool(table["regression"].any()) or shift.regression,
        text=describe_comparison(table, shift, len(unmatched), fail_on_regression),
        details=describe_days(table, shift),
    )


def _prepare_side(frame: pd.DataFrame, side: str) -> pd.DataFrame:
    """A side's runs with the key by which they are matched, `match`, and their day, `day`."""
    if frame.empty:
        raise StoreError(f"compare: {side} has no run")
    # Not the key `cell`: that has environment and UUID in it, which may be just what has changed.
    parts = [c for c in map(str, frame) if c.startswith(("vit_", "test_"))]
    parts += ["device", "gpu_id", "numa_node", "memory_text", "placement", "workload_key"]
    keys = [json.dumps(row, default=str) for row in frame[parts].astype(object).to_numpy().tolist()]
    # Frames of several studies, put together, may number their runs alike.
    frame = frame.assign(match=keys).reset_index(drop=True)
    pooled = frame.groupby("match")["group"].nunique().max()
    if pooled > 1:
        raise StoreError(
            f"compare: {side} has the same cell in {pooled} environments; name studies of one, or "
            "filter by date or host"
        )
    return frame.assign(day=assign_days(frame))


def assign_days(frame: pd.DataFrame) -> pd.Series[int]:
    """The day of each run, 0, 1, ... in the order of their start; `frame` has `match`.

    A study directory is a day. Directories that share no cell, such as the jobs of one sweep, are
    parts of the same day: between them nothing shows how much days differ.
    """
    starts = frame.groupby("study_dir")["start_time"].min().sort_values(kind="stable")
    cells = {str(k): set(v) for k, v in frame.groupby("study_dir")["match"].unique().items()}
    days: dict[str, int] = {}
    day, measured = 0, set[str]()
    for study in map(str, starts.index):
        if measured & cells[study]:
            day, measured = day + 1, set[str]()
        measured |= cells[study]
        days[study] = day
    assigned: pd.Series[int] = frame["study_dir"].map(days).astype(np.int64)
    return assigned


def _reported_values(frame: pd.DataFrame) -> dict[str, str]:
    return {
        key: ", ".join(sorted({str(v) for v in frame[key].dropna()}))
        for key in _REPORTED
        if key in frame
    }
