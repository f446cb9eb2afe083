"""Pure: bootstrap intervals of many small samples at once."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from scipy.stats import bootstrap, norm, t

from numa_bench.analysis.stats.robust import Array

#: Bootstrap resamples. Chosen: each end of a 95 % interval then rests on about 100 of them.
RESAMPLES = 4_000
#: Values in memory at once, about 4 MB per array.
_BATCH = 500_000
#: Rows at once: scipy keeps the statistics of all resamples, twice for a moment.
_ROWS = 400
#: scipy renamed the argument in 1.15.
_SEED = "rng" if "rng" in inspect.signature(bootstrap).parameters else "random_state"


def expand_level(level: float, n: Array, freedom: Array) -> Array:
    """Level at which a percentile interval of n runs covers as often as Student's interval.

    Resamples of n runs have (n - 1) / n of their variance, and normal instead of t quantiles; a
    higher level makes up for both (Hesterberg 2015, "expanded percentile").
    """
    wide = np.sqrt(n / (n - 1)) * t.ppf((1 + level) / 2, freedom)
    return np.asarray(1 - 2 * norm.sf(wide))


def bootstrap_interval(
    samples: list[Array], statistic: Any, level: float, seed: int, resamples: int = RESAMPLES
) -> tuple[Array, Array]:
    """Low and high ends by scipy's percentile bootstrap; `samples` have shape (rows, runs).

    scipy draws the same runs for each row, so that it does not matter which rows are done together.
    """
    starts = range(0, len(samples[0]), _ROWS)
    parts = [
        _bootstrap_rows([s[i : i + _ROWS] for s in samples], statistic, level, seed, resamples)
        for i in starts
    ]
    lows, highs = zip(*parts, strict=True)
    return np.concatenate(lows), np.concatenate(highs)


def _bootstrap_rows(
    samples: list[Array], statistic: Any, level: float, seed: int, resamples: int
) -> tuple[Array, Array]:
    rows, most = samples[0].shape[0], max(sample.shape[1] for sample in samples)
    # A new generator for each call: an interval does not depend on what was computed before.
    seeded: Any = {_SEED: np.random.default_rng(seed)}
    result = bootstrap(
        tuple(samples),
        statistic,
        n_resamples=resamples,
        batch=max(1, _BATCH // (rows * most)),
        vectorized=True,
        axis=-1,
        confidence_level=level,
        method="percentile",
        **seeded,
    )
    interval = result.confidence_interval
    return np.asarray(interval.low), np.asarray(interval.high)
