"""Pure: how likely it is that most runs of a cell are in a state that is rare in its family.

A robust mean follows the majority of a cell's runs. Where many runs of a family are slow, such as
in a second state of the clock, some cells have a majority of slow runs by chance, and then look
like an effect with hardly any noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.stats import binom

from numa_bench.analysis.stats.permutation import Fit
from numa_bench.analysis.stats.robust import MAJORITY, Array, hampel_weights, nan_median

#: Quantile of the distances of far runs up to which a difference may be one of states, and how many
#: standard errors of the difference are added. Chosen.
_DEPTH, EXPLAINED = 0.95, 3.0


@dataclass(frozen=True)
class Rare:
    """A state of runs that is rare in a family.

    `rate`: the share of runs in it; `upper`: one standard error above it. `depth`: how far such
    runs are, up to which a difference may be one of states. 0 without such runs. `apart`: how many
    runs of each cell are.
    """

    rate: float
    upper: float
    depth: float
    apart: Array = field(default_factory=lambda: np.zeros(()))

    def reverse(self, n: Array, apart: Array) -> Array:
        """The probability that so many runs of a cell are in it as are not `apart`, or more."""
        return np.asarray(binom.sf(n - apart - 1, n, self.upper))


def find_rare(values: Array, fitted: Fit) -> Rare:
    """The state of the runs that are far from the others of their cell."""
    far, distance = _far_runs(values, fitted)
    present = np.isfinite(values)
    seen = far.sum() / max(1, present.sum())
    if seen == 0:
        return Rare(0.0, 0.0, 0.0)
    n = present.sum(axis=-1)
    rate = _unfold_rate(seen, int(np.median(n[n > 0])))
    # A rate that looks small by chance makes majorities look impossible.
    upper = min(0.5, rate + float(np.sqrt(rate * (1 - rate) / present.sum())))
    depth = float(np.quantile(distance[far > 0.5], _DEPTH)) if (far > 0.5).any() else 0.0
    return Rare(rate, upper, depth, np.rint(far.sum(axis=-1)))


def bound_p(values: Array, fitted: Fit, rare: Rare) -> Array:
    """The smallest p of each comparison: the probability of such a majority on one of its sides.

    Runs are far from the others of their cell independently, at the rate of the whole family. Where
    m of n runs are far, it may be the other n - m instead, with the probability of that many or
    more. 0 where the difference is larger than the distance of far runs.
    """
    if rare.rate == 0:
        return np.zeros(fitted.difference.shape)
    reverse = rare.reverse(np.isfinite(values).sum(axis=-1), rare.apart)
    with np.errstate(invalid="ignore"):
        explained = np.abs(fitted.difference) <= rare.depth + EXPLAINED * fitted.error
    bound: Array = np.where(explained, np.minimum(reverse + reverse[:, :1], 1.0), 0.0)
    return bound


def find_blocked_share(rare: Rare, n: int, step: float) -> float:
    """The share of comparisons of `n` runs each that have a cell without a majority, or whose
    smallest p is above `step`.

    Both sides have binomially many runs in the rare state.
    """
    if rare.rate == 0:
        return 0.0
    apart = np.arange(n + 1)
    chance = binom.pmf(apart, n, rare.rate)
    # Of a cell with a majority in the rare state, the others count as far.
    fewer = np.minimum(apart, n - apart)
    reverse = rare.reverse(np.array(n), fewer)
    mixed = n - fewer < MAJORITY * n
    blocked = (reverse[:, None] + reverse > step) | mixed[:, None] | mixed
    return float((chance[:, None] * chance * blocked).sum())


def _unfold_rate(seen: float, n: int) -> float:
    """The rate of the rare state, from the share of runs that are far from their cell's majority.

    Where the rare state has the majority, the others count as far, so that the share is that of
    min(X, n - X) for a binomial X of `n` runs.
    """
    x = np.arange(n + 1)
    rates = np.linspace(0.0, 0.5, 501)
    folded = (binom.pmf(x, n, rates[:, None]) * np.minimum(x, n - x)).sum(axis=-1) / n
    return float(np.interp(seen, folded, rates))


def _far_runs(values: Array, fitted: Fit) -> tuple[Array, Array]:
    """How far each run is from its cell's middle: 0 near to 1 far, and as a distance."""
    # The mean of a cell without a majority is far from all of its runs; its median is not.
    middle = np.where(fitted.mixed, nan_median(values), fitted.centre)
    scale = fitted.scale[:, None] * fitted.factors
    weight = hampel_weights(values, middle, scale)
    distance = np.where(np.isfinite(values), np.abs(values - middle[..., None]), 0.0)
    return np.where(np.isfinite(values), 1 - weight, 0.0), distance
