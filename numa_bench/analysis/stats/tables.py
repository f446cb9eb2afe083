"""Tables of cells and of comparisons with local. Pure and seeded: same runs, same numbers.

`cell_table` has one row per cell with n, median, a 95 % interval and spread; `effect_table` one row
per comparison with local. Ratios are cell over local, so below 1 is slower for throughput; of a
headline metric where lower is better they are local over cell, so that below 1 is slower too.
docs/statistics.md explains each number and names the sources of the formulas.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from numa_bench.analysis.stats.bootstrap import bootstrap_interval, expand_level
from numa_bench.analysis.stats.contrasts import (
    LEVEL,
    Contrasts,
    compare_cells,
)
from numa_bench.analysis.stats.disturbed import (
    explain_effect,
    is_seen,
    measure_pairs,
    withhold_claims,
)
from numa_bench.analysis.stats.families import (
    Family,
    build_families,
    find_direction,
    select_usable_runs,
)
from numa_bench.analysis.stats.permutation import LEAST_RUNS
from numa_bench.analysis.stats.robust import Array, nan_median, rough_scale
from numa_bench.metric_registry import METRICS

THROUGHPUT = "throughput_samples_per_s"
#: Smallest effect of interest as a fraction: a convention, the setting `target_percent`.
TARGET = 0.02
_NAMES = (
    "group",
    "setting",
    "cell",
    "device",
    "device_text",
    "gpu_id",
    "gpu_name",
    "model_text",
    "vit_name",
)
#: Why a throughput is what it is: medians over the runs of a cell; NaN where not measured.
_HOST = ("overlap_efficiency", "host_submit_fraction", "busiest_stage_fraction")
_PLACE = (
    *("placement", "placement_text", "numa_node", "memory_node"),
    *("distance_class", "distance", "distance_text"),
)
CELL_COLUMNS = (
    *_NAMES, *_PLACE, "metric", "unit", "n", "median", "low", "high", "spread", "least", "greatest",
    "marks", "host_bound", *_HOST, "excluded", "studies",
)  # fmt: skip
EFFECT_COLUMNS = (
    *_NAMES, *_PLACE, "base_cell", "metric", "n", "n_base", "median", "base_median", "ratio", "low",
    "high", "p_value", "p_holm", "claimed", "family", "family_size", "detectable", "repeats_needed",
    "interleaved", "marks", "note", "held_back",
)  # fmt: skip


def build_each_metric(
    frame: pd.DataFrame, build: Callable[..., pd.DataFrame], **settings: Any
) -> pd.DataFrame:
    """A table of all runs, those of each headline metric by themselves.

    Runs with different metrics are of different groups, so no comparison is lost.
    """
    metrics = [] if frame.empty else list(dict.fromkeys(frame["headline"]))
    if len(metrics) < 2:
        return build(frame, metric=metrics[0] if metrics else THROUGHPUT, **settings)
    parts = [build(frame[frame["headline"] == m], metric=m, **settings) for m in metrics]
    return pd.concat([part for part in parts if not part.empty] or parts[:1], ignore_index=True)


def cell_table(frame: pd.DataFrame, metric: str = THROUGHPUT, seed: int = 0) -> pd.DataFrame:
    """One row per cell, in the order of the runs; columns are `CELL_COLUMNS`.

    `low` and `high` are a 95 % bootstrap interval of the median over runs (NaN below 3 runs);
    `spread` is a robust standard deviation over the median; `excluded` counts runs that are not in
    the statistics. Units are those of the metric. A cell without any valid run has n = 0.
    `host_bound`: as in `find_host_bound`.
    """
    if frame.empty:
        return pd.DataFrame(columns=list(CELL_COLUMNS))
    table = frame.drop_duplicates("cell").set_index("cell", drop=False)
    runs = select_usable_runs(frame, metric)
    by_cell = {str(k): v.to_numpy(dtype=float) for k, v in runs.groupby("cell", sort=False)[metric]}
    none = np.array([])
    values = [by_cell.get(str(cell), none) for cell in table.index]
    table = table[[*_NAMES, *_PLACE]].assign(
        metric=metric,
        unit=METRICS[metric].unit if metric in METRICS else frame["headline_unit"].iloc[0],
        n=[len(v) for v in values],
        median=[float(np.median(v)) if len(v) else np.nan for v in values],
        spread=_spread(values),
        least=[v.min() if len(v) else np.nan for v in values],
        greatest=[v.max() if len(v) else np.nan for v in values],
        marks=_marks(frame).reindex(table.index).to_numpy(),
        host_bound=find_host_bound(frame).reindex(table.index).to_numpy(),
        **runs.groupby("cell")[list(_HOST)].median().reindex(table.index),
        excluded=frame.groupby("cell").size().reindex(table.index) - [len(v) for v in values],
        studies=frame.groupby("cell")["study_dir"].nunique().reindex(table.index),
    )
    table["low"], table["high"] = _median_intervals(values, seed)
    return table.reindex(columns=list(CELL_COLUMNS)).reset_index(drop=True)


def effect_table(
    frame: pd.DataFrame, metric: str = THROUGHPUT, seed: int = 0, target: float = TARGET
) -> pd.DataFrame:
    """One row per cell that can be compared to a local one; columns are `EFFECT_COLUMNS`.

    `ratio` is of robust means, with a 95 % interval; `p_value` from a permutation test,
    `p_holm` corrected over the `family_size` comparisons of the group; `claimed` where both agree
    that there is an effect; `detectable` the smallest effect that is detected with a power of 80 %,
    as a fraction; `repeats_needed` the runs per cell that `target` needs. All but `ratio` are NaN
    with fewer than 3 runs on either side. `held_back` says why nothing is said of an effect that
    the runs show: a disturbance explains it (see `stats.disturbed`).
    """
    effects = [
        _effects(family, _compare(family, target, seed)) for family in build_families(frame, metric)
    ]
    if not effects:
        return pd.DataFrame(columns=list(EFFECT_COLUMNS))
    table = pd.concat(effects, ignore_index=True)
    cells = frame.drop_duplicates("cell").set_index("cell")
    names = [name for name in (*_NAMES, *_PLACE) if name != "cell"]
    table = table.join(cells[names], on="cell")
    runs = select_usable_runs(frame, metric)
    medians = runs.groupby("cell")[metric].median()
    studies = runs.groupby("cell")["study_dir"].agg(frozenset)
    base = table["base_cell"]
    table["metric"] = metric
    table["median"], table["base_median"] = table["cell"].map(medians), base.map(medians)
    # Too few runs for a fit: the ratio of medians, which has no interval.
    direction = runs.assign(way=find_direction(runs, metric)).groupby("cell")["way"].first()
    medians_ratio = (table["median"] / table["base_median"]) ** base.map(direction)
    table["ratio"] = table["ratio"].fillna(medians_ratio)
    # Measured by the same studies, so that drift met both alike.
    table["interleaved"] = (table["cell"].map(studies) == base.map(studies)).astype(bool)
    table["marks"] = table["cell"].map(_marks(frame))
    table["note"] = np.where(
        table["interleaved"], "", "not interleaved with local: drift may look like placement"
    )
    table["held_back"] = _explain_effects(table, runs, metric)
    return withhold_claims(table).reindex(columns=list(EFFECT_COLUMNS))


def _explain_effects(table: pd.DataFrame, runs: pd.DataFrame, metric: str) -> list[str]:
    """Why each effect that is seen cannot be attributed to placement; "" for all others."""
    lower = metric in METRICS and METRICS[metric].higher_is_better is False
    # As a headline such a metric enters as its reciprocal.
    lower = lower and bool((find_direction(runs, metric) > 0).all())
    pairs = measure_pairs(runs, list(table["cell"]), list(table["base_cell"]))
    base = dict(zip(runs["cell"], runs["placement"], strict=True))
    return [
        explain_effect(
            pairs,
            np.array([i]),
            float(row["ratio"]),
            (str(row["placement"]), str(base[row["base_cell"]])),
            lower=lower,
        )
        if is_seen(row)
        else ""
        for i, row in enumerate(table.to_dict("records"))
    ]


def _compare(family: Family, target: float, seed: int) -> Contrasts:
    return compare_cells(family.values, family.spent, target, seed, classes=family.classes)


def _effects(family: Family, contrasts: Contrasts) -> pd.DataFrame:
    """The comparisons of one family, without the columns that describe their cells."""
    counts = np.isfinite(family.values).sum(axis=-1)
    at = [(i, j) for i, row in enumerate(family.cells) for j, c in enumerate(row) if j and c]
    i, j = np.array(at).T
    return pd.DataFrame(
        {
            "cell": [family.cells[a][b] for a, b in at],
            "base_cell": [family.cells[a][0] for a in i],
            "n": counts[i, j],
            "n_base": counts[i, 0],
            "ratio": np.exp(contrasts.difference[i, j]),
            "low": np.exp(contrasts.low[i, j]),
            "high": np.exp(contrasts.high[i, j]),
            "p_value": contrasts.p[i, j],
            "p_holm": contrasts.p_holm[i, j],
            "claimed": contrasts.claimed[i, j],
            "family": family.group,
            "family_size": contrasts.size,
            "detectable": -np.expm1(-contrasts.detectable[i, j]),
            "repeats_needed": contrasts.repeats[i, j],
        }
    )


def join_cell_marks(runs: pd.DataFrame) -> pd.Series[str]:
    """The marks of each cell's runs, each letter once, by cell."""
    return runs.groupby("cell")["marks"].agg(lambda m: "".join(sorted(set("".join(m)))))


def find_host_bound(frame: pd.DataFrame) -> pd.Series[bool]:
    """Whether half or more of a cell's runs in the statistics are marked as host bound, by cell."""
    counted = frame[frame["in_statistics"].astype(bool)]
    share = counted.groupby("cell")["host_bound"].mean()
    found: pd.Series[bool] = share.reindex(frame["cell"].unique()) >= 0.5
    return found


def _marks(frame: pd.DataFrame) -> pd.Series[str]:
    """The marks of each cell's runs that are in the statistics; "" for a cell without such runs."""
    marks = join_cell_marks(frame[frame["in_statistics"].astype(bool)])
    return marks.reindex(frame["cell"].unique()).fillna("")


def _spread(values: list[Array]) -> list[float]:
    """Robust standard deviation of the logarithm of each sample; NaN below 3 runs."""
    spreads = []
    for sample in values:
        if len(sample) < LEAST_RUNS:
            spreads.append(np.nan)
            continue
        logs = np.log(sample)[None]
        scale, _ = rough_scale(logs - nan_median(logs)[:, None], np.array([1]))
        spreads.append(float(scale[0]))
    return spreads


def _median_intervals(values: list[Array], seed: int) -> tuple[Array, Array]:
    """95 % intervals of the medians of many samples; samples of equal size in one call."""
    sizes = np.array([len(v) for v in values])
    low, high = np.full(len(values), np.nan), np.full(len(values), np.nan)
    for n in np.unique(sizes[sizes >= LEAST_RUNS]):
        rows = np.flatnonzero(sizes == n)
        level = float(expand_level(LEVEL, np.array(n), np.array(n - 1)))
        sample = np.stack([values[row] for row in rows])
        low[rows], high[rows] = bootstrap_interval([sample], np.median, level, seed)
    return low, high
