"""Tables of a comparison: each cell after against before, and what all cells have in common."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numa_bench.analysis.stats.compare.day_tests import compute_fall_p, correct_weighted_holm
from numa_bench.analysis.stats.compare.days import DayEffects, fit_days
from numa_bench.analysis.stats.compare.text import describe_cell
from numa_bench.analysis.stats.contrasts import Contrasts, compare_cells
from numa_bench.analysis.stats.families import (
    HEADLINE,
    group_by_key,
    remove_study_drift,
    stack_cells,
)
from numa_bench.analysis.stats.permutation import ALPHA, LEAST_RUNS, correct_holm
from numa_bench.analysis.stats.robust import Array, nan_median, robust_location
from numa_bench.analysis.stats.tables import TARGET
from numa_bench.records import JsonDict

#: The column of the metric that a run's workload is about.
NAMES = ("device_text", "gpu_id", "model_text", "vit_name", "placement", "placement_text")
#: `ratio`, `low` and `high` are of the total change; `own_*` of the change beyond the common shift,
#: NaN where days were not repeated. p, `claimed` and `detectable` are of the latter where it is
#: known.
COMPARISON_COLUMNS = (
    *NAMES, "metric", "n", "n_base", "days", "days_base", "median", "base_median", "ratio", "low",
    "high", "own_ratio", "own_low", "own_high", "p_value", "p_holm", "claimed", "detectable",
    "regression", "text",
)  # fmt: skip


@dataclass(frozen=True)
class CommonShift:
    """What all cells have in common, after over before, and how much days differ.

    `ratio` with its 95 % interval `low` to `high`, p-values (`p_holm` corrected together with the
    cells) and the smallest shift that would be `detectable`, a fraction; `regression`: a fall by
    significantly more than the limit. `days` and `days_base` are the days after and before.
    `day_sd` is the standard deviation of the levels of days with `day_freedom` degrees of freedom,
    `cell_sd` (`cell_freedom`) that of a single cell on a day beyond its day and the noise of its
    runs; both are fractions. NaN, and 0 degrees of freedom, where no side has two days.
    """

    cells: int
    days: int
    days_base: int
    ratio: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p_value: float = math.nan
    p_holm: float = math.nan
    claimed: bool = False
    detectable: float = math.nan
    regression: bool = False
    day_sd: float = math.nan
    day_freedom: int = 0
    cell_sd: float = math.nan
    cell_freedom: int = 0

    def to_dict(self) -> JsonDict:
        """As in verdict.json; NaN is null."""
        return {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in asdict(self).items()
        }


@dataclass(frozen=True)
class Side:
    """One side's runs with `match` and `day`: all, and those in the statistics (`usable`)."""

    frame: pd.DataFrame
    usable: pd.DataFrame

    def list_cell_days(self) -> pd.DataFrame:
        """Cells and days (`match`, `day`) with `LEAST_RUNS` runs in the statistics or more."""
        counts = self.usable.groupby(["match", "day"]).size()
        return counts[counts >= LEAST_RUNS].index.to_frame(index=False)

    def count_days(self, rows: Collection[str]) -> int:
        """The days on which a cell of `rows` was measured `LEAST_RUNS` times or more."""
        measured = self.list_cell_days()
        return int(measured.loc[measured["match"].isin(rows), "day"].nunique())


def compare_single_days(
    rows: list[str], before: Side, after: Side, limit: float | None, seed: int
) -> tuple[pd.DataFrame, CommonShift]:
    """One day on each side: noise within the studies is all that is known."""
    days = (after.count_days(rows), before.count_days(rows))
    if not rows:
        return pd.DataFrame(columns=list(COMPARISON_COLUMNS)), CommonShift(0, *days)
    sides = {"before": before, "after": after}
    values: dict[str, Array] = {}
    spent = 0.0
    # Drift is removed from each study by itself: their blocks have nothing in common.
    for name, side in sides.items():
        logs, cost = remove_study_drift(side.usable, HEADLINE)
        values |= {
            f"{name} {key}": v for key, v in group_by_key(logs, side.usable["match"]).items()
        }
        # One cost for both sides; the larger one is the cautious choice.
        spent = max(spent, cost)
    names = [[f"before {key}", f"after {key}"] for key in rows]
    none = np.array([])
    _, stack = stack_cells(names, {n: values.get(n, none) for row in names for n in row})
    contrasts = compare_cells(stack, spent, TARGET, seed)
    counts = np.isfinite(stack).sum(axis=-1)
    table = _describe_rows(rows, before, after).assign(
        n=counts[:, 1],
        n_base=counts[:, 0],
        ratio=np.exp(contrasts.difference[:, 1]),
        low=np.exp(contrasts.low[:, 1]),
        high=np.exp(contrasts.high[:, 1]),
        p_value=contrasts.p[:, 1],
        p_holm=contrasts.p_holm[:, 1],
        claimed=contrasts.claimed[:, 1],
        # As a fall, 1 - exp(-d).
        detectable=-np.expm1(-contrasts.detectable[:, 1]),
        regression=find_regressions(contrasts, limit),
    )
    return _complete(table), CommonShift(
        len(rows), *days, ratio=_common_ratio(contrasts.difference[:, 1], contrasts)
    )


def _common_ratio(difference: Array, contrasts: Contrasts) -> float:
    """The change that most cells share; without an error, which one day cannot show."""
    known = np.isfinite(difference)
    if not known.any():
        return math.nan
    scale = nan_median(contrasts.fitted.error[known, 1][None])
    return float(np.exp(robust_location(difference[known][None], scale)[0][0]))


def find_regressions(contrasts: Contrasts, limit: float | None) -> NDArray[np.bool_]:
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


def compare_days(
    rows: list[str], before: Side, after: Side, limit: float | None, seed: int
) -> tuple[pd.DataFrame, CommonShift]:
    """Several days on at least one side, from which follows how much days differ."""
    stack, is_after, spent = _stack_days(rows, before, after)
    effects = fit_days(stack, is_after, spent)
    p_shift, p_own = effects.p_values()
    holm_shift, holm_own = correct_weighted_holm(p_shift, p_own)
    seen_shift, seen_own = effects.detectable()
    fell_all, fell = False, np.zeros(len(rows), dtype=bool)
    if limit is not None:
        p_all, p_each = compute_fall_p(effects, limit, seed)
        # NaN compares as False: what was not tested is no regression.
        fell_all, fell = p_all < ALPHA, p_each < ALPHA
    single = len(rows) == 1
    if single:  # one cell: its change is the common shift
        p_own, holm_own, seen_own = (np.array([v]) for v in (p_shift, holm_shift, seen_shift))
    low, high = effects.total_intervals()
    own_low, own_high = effects.own_intervals()
    counts = np.isfinite(stack).sum(axis=-1)
    table = _describe_rows(rows, before, after).assign(
        n=counts[:, is_after].sum(axis=-1),
        n_base=counts[:, ~is_after].sum(axis=-1),
        ratio=np.exp(effects.total), low=np.exp(low), high=np.exp(high),
        own_ratio=np.exp(effects.own), own_low=np.exp(own_low), own_high=np.exp(own_high),
        p_value=p_own, p_holm=holm_own, claimed=holm_own < ALPHA,
        detectable=-np.expm1(-seen_own), regression=fell,
    )  # fmt: skip
    shift = _summarize_shift(effects, rows, before, after, (p_shift, holm_shift, seen_shift))
    return _complete(table), CommonShift(**{**asdict(shift), "regression": bool(fell_all)})


def _stack_days(
    rows: list[str], before: Side, after: Side
) -> tuple[Array, NDArray[np.bool_], float]:
    """Runs without drift, shape (cells, days, runs), which days are after, and the cost."""
    columns, values, spent = [], dict[str, Array](), 0.0
    for side, runs in (("before", before.usable), ("after", after.usable)):
        runs = runs[runs["match"].isin(rows)]
        # Levels of days stay: they are what is compared.
        logs, cost = remove_study_drift(runs, HEADLINE, levels=False)
        spent = max(spent, cost)
        days = runs["day"].astype(str)
        columns += [f"{side} {day} " for day in dict.fromkeys(days)]
        values |= group_by_key(logs, side + " " + days + " " + runs["match"])
    names = [[column + key for column in columns] for key in rows]
    none = np.array([])
    _, stack = stack_cells(names, {n: values.get(n, none) for row in names for n in row})
    return stack, np.array([c.startswith("after ") for c in columns]), spent


def _summarize_shift(
    effects: DayEffects,
    rows: list[str],
    before: Side,
    after: Side,
    tested: tuple[float, float, float],
) -> CommonShift:
    low, high = np.exp(effects.shift_interval())
    p, p_holm, seen = tested
    return CommonShift(
        cells=len(rows),
        days=after.count_days(rows),
        days_base=before.count_days(rows),
        ratio=float(np.exp(effects.shift)),
        low=float(low),
        high=float(high),
        p_value=p,
        p_holm=p_holm,
        claimed=p_holm < ALPHA,
        detectable=float(-np.expm1(-seen)),
        day_sd=float(np.expm1(effects.level_sd)),
        day_freedom=effects.freedom,
        cell_sd=float(np.expm1(effects.cell_sd)) if effects.own_freedom else math.nan,
        cell_freedom=effects.own_freedom,
    )


def _describe_rows(rows: list[str], before: Side, after: Side) -> pd.DataFrame:
    """Names, medians and days of the cells, in this order."""
    first = after.frame.drop_duplicates("match").set_index("match").loc[rows]
    runs = {"": after.usable.groupby("match"), "base_": before.usable.groupby("match")}
    columns: dict[str, Any] = {
        f"{side}median": group[HEADLINE].median().reindex(rows) for side, group in runs.items()
    }
    for key, side in (("days", ""), ("days_base", "base_")):
        counted = runs[side]["day"].nunique().reindex(rows)
        columns[key] = counted.fillna(0).astype(int)
    return first[list(NAMES)].assign(metric=first["headline"], **columns)


def _complete(table: pd.DataFrame) -> pd.DataFrame:
    """All columns in order, with the sentence of each row."""
    # Too few runs for a fit: the ratio of medians, which has no interval.
    table["ratio"] = table["ratio"].fillna(table["median"] / table["base_median"])
    for column in ("own_ratio", "own_low", "own_high"):
        if column not in table:
            table[column] = np.nan
    table["text"] = [describe_cell(row) for row in table.to_dict("records")]
    return table.reindex(columns=list(COMPARISON_COLUMNS)).reset_index(drop=True)
