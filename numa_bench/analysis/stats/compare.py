"""Compare two studies: before and after a change of driver, BIOS, kernel or program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from numa_bench.analysis.read.groups import compare_values
from numa_bench.analysis.stats.contrasts import Contrasts, compare_cells
from numa_bench.analysis.stats.families import (
    group_by_key,
    remove_study_drift,
    select_usable_runs,
    stack_cells,
)
from numa_bench.analysis.stats.permutation import ALPHA, correct_holm
from numa_bench.analysis.stats.robust import Array
from numa_bench.analysis.stats.sentences import describe_change, describe_detectable
from numa_bench.analysis.stats.tables import TARGET
from numa_bench.errors import StoreError

_NAMES = ("device_text", "gpu_id", "model_text", "vit_name", "placement", "placement_text")
COMPARISON_COLUMNS = (
    *_NAMES, "metric", "n", "n_base", "median", "base_median", "ratio", "low", "high", "p_value",
    "p_holm", "claimed", "detectable", "regression", "text",
)  # fmt: skip
#: What may differ between the two studies; differences are reported.
_REPORTED = (
    "host", "gpu_name", "env_nvidia_driver", "env_torch", "env_kernel", "env_cpu_model",
    "env_numa_mode", "pcie_link_max", "pcie_link", "env_python", "env_git_commit", "env_simulated",
    "profiler", "environment",
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Every cell that both studies have, after against before.

    In `table`, `ratio` is after over before, `n_base` and `base_median` belong to before, and
    `regression` marks cells whose throughput fell by significantly more than the limit.
    `unmatched` are cells of only one side (`side`), `differences` the settings of the environment
    that are not the same. `regressed`: at least one cell has a regression.
    """

    table: pd.DataFrame
    unmatched: pd.DataFrame
    differences: pd.DataFrame
    regressed: bool
    text: str


#: The column of the metric that a run's workload is about.
_HEADLINE = "headline_value"


def compare_studies(
    before: pd.DataFrame,
    after: pd.DataFrame,
    fail_on_regression: float | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare throughput cell by cell; cells are the same model, settings, GPU number and place.

    `fail_on_regression` is a fraction, 0.03 for 3 %. Raises StoreError when a side has no run, or
    the same cell in several environments, which must not be pooled.
    """
    sides = {"before": _side(before, "before"), "after": _side(after, "after")}
    runs = {side: select_usable_runs(frame, _HEADLINE) for side, frame in sides.items()}
    keys = {side: set(frame["match"]) for side, frame in sides.items()}
    rows = [key for key in dict.fromkeys(sides["after"]["match"]) if key in keys["before"]]
    unmatched = pd.concat(
        [
            frame[~frame["match"].isin(rows)]
            .drop_duplicates("match")[list(_NAMES)]
            .assign(side=side)
            for side, frame in sides.items()
        ],
        ignore_index=True,
    )
    table = _table(rows, sides, runs, fail_on_regression, seed)
    return Comparison(
        table=table,
        unmatched=unmatched,
        differences=compare_values(
            {side: _reported_values(frame) for side, frame in sides.items()}
        ),
        regressed=bool(table["regression"].any()),
        text=_text(table, len(unmatched), fail_on_regression),
    )


def _side(frame: pd.DataFrame, side: str) -> pd.DataFrame:
    """A side's runs with the key by which they are matched."""
    if frame.empty:
        raise StoreError(f"compare: {side} has no run")
    # Not the key `cell`: that has environment and UUID in it, which may be just what has changed.
    parts = [c for c in map(str, frame) if c.startswith(("vit_", "test_"))]
    parts += ["device", "gpu_id", "numa_node", "memory_text", "placement", "workload_key"]
    keys = [json.dumps(row, default=str) for row in frame[parts].astype(object).to_numpy().tolist()]
    frame = frame.assign(match=keys)
    pooled = frame.groupby("match")["group"].nunique().max()
    if pooled > 1:
        raise StoreError(
            f"compare: {side} has the same cell in {pooled} environments; name one study, or "
            "filter by date or host"
        )
    return frame


def _table(
    rows: list[str],
    sides: dict[str, pd.DataFrame],
    runs: dict[str, pd.DataFrame],
    limit: float | None,
    seed: int,
) -> pd.DataFrame:
    if not rows:
        return pd.DataFrame(columns=list(COMPARISON_COLUMNS))
    values: dict[str, Array] = {}
    spent = 0.0
    # Drift is removed from each study by itself: their blocks have nothing in common.
    for side, members in runs.items():
        logs, cost = remove_study_drift(members, _HEADLINE)
        values |= {f"{side} {key}": v for key, v in group_by_key(logs, members["match"]).items()}
        # One cost for both sides; the larger one is the cautious choice.
        spent = max(spent, cost)
    names = [[f"before {key}", f"after {key}"] for key in rows]
    none = np.array([])
    _, stack = stack_cells(names, {n: values.get(n, none) for row in names for n in row})
    contrasts = compare_cells(stack, spent, TARGET, seed)
    counts = np.isfinite(stack).sum(axis=-1)
    medians = {s: frame.groupby("match")[_HEADLINE].median() for s, frame in runs.items()}
    table = sides["after"].drop_duplicates("match").set_index("match").loc[rows, list(_NAMES)]
    table = table.assign(
        metric=sides["after"].drop_duplicates("match").set_index("match").loc[rows, "headline"],
        n=counts[:, 1],
        n_base=counts[:, 0],
        median=medians["after"].reindex(rows),
        base_median=medians["before"].reindex(rows),
        ratio=np.exp(contrasts.difference[:, 1]),
        low=np.exp(contrasts.low[:, 1]),
        high=np.exp(contrasts.high[:, 1]),
        p_value=contrasts.p[:, 1],
        p_holm=contrasts.p_holm[:, 1],
        claimed=contrasts.claimed[:, 1],
        # As a fall, 1 - exp(-d).
        detectable=-np.expm1(-contrasts.detectable[:, 1]),
        regression=_regressions(contrasts, limit),
    )
    # Too few runs for a fit: the ratio of medians, which has no interval.
    table["ratio"] = table["ratio"].fillna(table["median"] / table["base_median"])
    table["text"] = [_row_text(row) for row in table.to_dict("records")]
    return table.reindex(columns=list(COMPARISON_COLUMNS)).reset_index(drop=True)


def _regressions(contrasts: Contrasts, limit: float | None) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where throughput fell by more than `limit`, a fraction; shape (cells,).

    The null hypothesis is a fall of exactly `limit` (non-inferiority), tested one-sided and
    corrected after Holm; the whole interval must be beyond the limit too.
    """
    difference = contrasts.difference[:, 1]
    regressed = np.zeros(len(difference), dtype=bool)
    known = np.isfinite(difference)
    if limit is None or not known.any():
        return regressed
    edge = np.log1p(-limit)
    statistic = ((difference - edge) / contrasts.fitted.error[:, 1])[known]
    null = contrasts.null
    # The observed statistic counts too, so that no p is 0 (Phipson and Smyth 2010).
    p = (np.searchsorted(null, statistic, side="right") + 1) / (len(null) + 1)
    regressed[known] = (correct_holm(p) < ALPHA) & (contrasts.high[known, 1] < edge)
    return regressed


def _row_text(row: Mapping[Any, Any]) -> str:
    if np.isnan(row["p_holm"]):
        return f"no verdict (n = {row['n']} x {row['n_base']})"
    if row["claimed"]:
        return describe_change(row)
    return f"no difference; {describe_detectable(row['detectable'])}"


def _reported_values(frame: pd.DataFrame) -> dict[str, str]:
    return {
        key: ", ".join(sorted({str(v) for v in frame[key].dropna()}))
        for key in _REPORTED
        if key in frame
    }


def _text(table: pd.DataFrame, unmatched: int, limit: float | None) -> str:
    if table.empty:
        return "The two studies have no cell in common."
    slower = int((table["claimed"].astype(bool) & (table["ratio"] < 1)).sum())
    faster = int((table["claimed"].astype(bool) & (table["ratio"] > 1)).sum())
    parts = [f"{len(table)} cells compared: {slower} slower, {faster} faster"]
    if unmatched:
        parts.append(f"{unmatched} on one side only")
    if limit is not None:
        count = int(table["regression"].sum())
        text = f"{count} slower by significantly more than {100 * limit:g} %"
        worst = table.loc[table["regression"].astype(bool)].sort_values("ratio").head(1)
        for row in worst.to_dict("records"):
            where = f"{row['model_text']} on {row['device_text']}, {row['placement_text']}"
            text += f", the slowest: {where}: {row['text']}"
        parts.append(text)
    return "; ".join(parts) + "."
