"""Pure: how likely it is that most runs of a cell are in a state that is rare in its family.

A robust mean follows the majority of a cell's runs. Where many runs of a family are slow, such as
in a second state of the clock, some cells have a majority of slow runs by chance, and then look
like an effect with hardly any noise.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import binom

from numa_bench.analysis.stats.permutation import Fit
from numa_bench.analysis.stats.robust import Array, hampel_weights, nan_median

#: Quantile of the distances of far runs up to which a difference may be one of states, and how many
#: standard errors of the difference are added. Chosen.
_DEPTH, _ERRORS = 0.95, 3.0


def bound_p(values: Array, fitted: Fit) -> Array:
    """The smallest p of each comparison: the probability of such a majority on one of its sides.

    Runs are far from the others of their cell independently, at the rate of the whole family. Where
    m of n runs are far, it may be the other n - m instead, with the probability of that many or
    more. 0 where the difference is larger than the distance of far runs.
    """
    far, distance = _far_runs(values, fitted)
    present = np.isfinite(values)
    seen = far.sum() / max(1, present.sum())
    if seen == 0:
        return np.zeros(fitted.difference.shape)
    n = present.sum(axis=-1)
    rate = _unfold_rate(seen, int(np.median(n[n > 0])), int(present.sum()))
    apart = np.rint(far.sum(axis=-1))
    # P(X >= n - m)
    reverse = binom.sf(n - apart - 1, n, rate)
    depth = np.quantile(distance[far > 0.5], _DEPTH) if (far > 0.5).any() else 0.0
    with np.errstate(invalid="ignore"):
        explained = np.abs(fitted.difference) <= depth + _ERRORS * fitted.error
    bound: Array = np.where(explained, np.minimum(reverse + reverse[:, :1], 1.0), 0.0)
    return bound


def _unfold_rate(seen: float, n: int, runs: int) -> float:
    """The rate of the rare state, from the share of runs that are far from their cell's majority.

    Where the rare state has the majority, the others count as far, so that the share is that of
    min(X, n - X) for a binomial X of `n` runs. One standard error of `runs` runs is added: a rate
    that looks small by chance makes majorities look impossible.
    """
    x = np.arange(n + 1)
    rates = np.linspace(0.0, 0.5, 501)
    folded = (binom.pmf(x, n, rates[:, None]) * np.minimum(x, n - x)).sum(axis=-1) / n
    rate = float(np.interp(seen, folded, rates))
    return min(0.5, rate + float(np.sqrt(rate * (1 - rate) / runs)))


def _far_runs(values: Array, fitted: Fit) -> tuple[Array, Array]:
    """How far each run is from its cell's middle: 0 near to 1 far, and as a distance."""
    # The mean of a cell without a majority is far from all of its runs; its median is not.
    middle = np.where(fitted.mixed, nan_median(values), fitted.centre)
    scale = fitted.scale[:, None] * fitted.factors
    weight = hampel_weights(values, middle, scale)
    distance = np.where(np.isfinite(values), np.abs(values - middle[..., None]), 0.0)
    return np.where(np.isfinite(values), 1 - weight, 0.0), distance
