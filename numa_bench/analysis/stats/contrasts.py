"""Pure: differences between cells with interval, corrected p-value and detectable size.

Works on a family as `permutation` defines it; the method is in docs/statistics.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import comb
from scipy.stats import chi2, t

from numa_bench.analysis.stats.class_noise import Classes
from numa_bench.analysis.stats.majority import (
    EXPLAINED,
    Rare,
    bound_p,
    find_blocked_share,
    find_rare,
)
from numa_bench.analysis.stats.permutation import (
    ALPHA,
    DRAWS,
    LEAST_RUNS,
    POWER,
    Fit,
    correct_holm,
    find_class_freedom,
    fit_cells,
    inflate_tails,
    null_statistics,
    number_columns,
    p_values,
)
from numa_bench.analysis.stats.robust import Array

#: Convention.
LEVEL = 0.95
#: Most repeats that a verdict advises. Chosen.
MOST_REPEATS = 1_000
#: Detectable sizes and repeats are computed with these one-sided upper limits of the noise: what
#: was seen is as often too small as too large, and verdicts of no difference select the former.
#: Found by simulation: an effect of that size is then claimed in about 80 % of studies.
_DETECTABLE_LIMIT, _REPEATS_LIMIT = 0.70, 0.50


@dataclass(frozen=True)
class Contrasts:
    """One value per comparison, shape (settings, placements); column 0, the base, is NaN.

    `difference`, `low` and `high` are logarithms of ratios to the base; `detectable` is a size on
    the same scale, NaN where there are too few runs to detect anything. `p` is raw and `p_holm`
    corrected. `repeats` is the number of runs that each cell needs for the target (NaN: more than
    `MOST_REPEATS`). `size` is the number of comparisons in the family.
    """

    difference: Array
    low: Array
    high: Array
    p: Array
    p_holm: Array
    detectable: Array
    repeats: Array
    size: int
    fitted: Fit
    null: Array

    @property
    def claimed(self) -> NDArray[np.bool_]:
        """Where both the corrected test and the interval show an effect."""
        with np.errstate(invalid="ignore"):
            # NaN compares as False: what was not tested is never claimed.
            return (self.p_holm < ALPHA) & ((self.low > 0) | (self.high < 0))


def compare_cells(
    values: Array,
    spent: float,
    target: float,
    seed: int = 0,
    effort: float = 1.0,
    classes: Classes | None = None,
) -> Contrasts:
    """Compare every placement of a family to its base.

    `values` are logarithms, shape (settings, placements, runs), NaN where there is no run; `spent`
    is the cost of removing drift in degrees of freedom per run; `target` is the effect, a fraction,
    for which `repeats` is computed. `effort` below 1 draws less, for simulations. `classes` numbers
    the cells whose noise may differ (see `class_noise`); None: each placement by itself.
    """
    if classes is None:
        classes = number_columns(values)
    fitted = fit_cells(values, classes, spent=spent)
    tested = np.isfinite(fitted.difference)
    size = int(tested.sum())
    counts = np.isfinite(values).sum(axis=-1)
    least = np.broadcast_to(_least_p(counts, counts[:, :1], size), tested.shape)
    null = np.array([])
    tails, own_freedom = inflate_tails(fitted), find_class_freedom(fitted, counts, classes)
    p, p_holm = np.full(tested.shape, np.nan), np.full(tested.shape, np.nan)
    rare = find_rare(values, fitted)
    if size:
        null = null_statistics(values, classes, fitted, seed, int(effort * DRAWS))
        own = 2 * t.sf(np.abs(fitted.studentised_differences) / tails, own_freedom)
        bound = np.maximum(np.maximum(least, bound_p(values, fitted, rare)), own)
        seen_p = p_values(fitted.studentised_differences[tested], null)
        p[tested] = np.maximum(seen_p, bound[tested])
        p_holm[tested] = correct_holm(p[tested])
    wide = np.asarray(t.ppf((1 + LEVEL) / 2, own_freedom)) * tails
    half = np.maximum(_null_quantile(null, 1 - LEVEL), wide) * fitted.error
    step = ALPHA / max(size, 1)
    strict = np.asarray(t.ppf(1 - step / 2, own_freedom)) * tails
    critical = np.maximum(_null_quantile(null, step), strict)
    runs = int(np.median(counts[counts > 0])) if size else 0
    blocked = find_blocked_share(rare, runs, step) if size else 0.0
    seen = _find_detectable(critical, fitted, null, rare, blocked)
    return Contrasts(
        difference=fitted.difference,
        low=fitted.difference - half,
        high=fitted.difference + half,
        p=p,
        p_holm=p_holm,
        # Where even the smallest possible p is above alpha, nothing can be detected.
        detectable=np.where(tested & (least < ALPHA), seen, np.nan),
        repeats=np.where(tested, _needed_repeats(target, fitted, counts, critical, size), np.nan),
        size=size,
        fitted=fitted,
        null=null,
    )


def _null_quantile(null: Array, beyond: float) -> float:
    """The size that the share `beyond` of null statistics exceeds; NaN without any."""
    return float(np.quantile(np.abs(null), 1 - beyond)) if null.size else np.nan


def _find_detectable(
    critical: Array, fitted: Fit, null: Array, rare: Rare, blocked: float
) -> Array:
    """The size that is claimed with probability `POWER`, where a share is `blocked` (`majority`).

    As many more of the others must be claimed, or, where that cannot be, the effect must be larger
    than what the rare state differs by.
    """
    freedom = np.broadcast_to(fitted.freedom[:, None], fitted.error.shape)
    error = _limit_noise(freedom, _DETECTABLE_LIMIT) * fitted.error
    if blocked >= 1 - POWER:
        larger = np.maximum(_detectable(critical, freedom) * error, rare.depth + EXPLAINED * error)
        return np.asarray(larger)
    # Statistics with outliers have longer tails than Student's t.
    share = POWER / (1 - blocked)
    above = np.maximum(t.ppf(share, freedom), np.quantile(null, share) if null.size else np.nan)
    return np.asarray((critical + above) * error)


def _detectable(critical: Array, freedom: Array) -> Array:
    """The size in standard errors at which an effect is detected with probability `POWER`.

    `critical` is the size from which one is claimed, at the first and strictest step of Holm's
    correction.
    """
    return np.asarray(critical + t.ppf(POWER, freedom))


def _limit_noise(freedom: Array, level: float) -> Array:
    """The factor on an estimated standard deviation that gives its upper limit."""
    return np.asarray(np.sqrt(freedom / chi2.ppf(1 - level, freedom)))


def _needed_repeats(
    target: float, fitted: Fit, counts: NDArray[np.intp], critical: Array, size: int
) -> Array:
    """Runs per cell that detect an effect of `target`, shape (settings, placements).

    NaN where `MOST_REPEATS` are not enough.
    """
    prior = fitted.shared.variance.worth
    freedom = np.broadcast_to(fitted.freedom[:, None], counts.shape)
    # Null statistics have longer tails than Student's t, by a factor that more runs keep.
    tails = critical / t.ppf(1 - ALPHA / (2 * max(size, 1)), freedom)
    # Degrees of freedom that each further run of all cells of the setting adds.
    cells = (counts > 0).sum(axis=-1)
    spare = np.maximum(counts.sum(axis=-1) - cells, 1)
    per_run = ((fitted.freedom - prior) / spare * cells)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        # The standard error is that of two means; of one run on each side it is larger.
        single = fitted.error * np.sqrt(2 / (1 / counts + (1 / counts)[:, :1]))
    single = single * _limit_noise(freedom, _REPEATS_LIMIT)

    def is_enough(n: Array) -> NDArray[np.bool_]:
        more = np.maximum(prior + per_run * (n - 1), 1.0)
        step = tails * t.ppf(1 - ALPHA / (2 * max(size, 1)), more)
        shown = _detectable(step, more) * single / np.sqrt(n) <= -np.log1p(-target)
        return np.asarray(shown & (_least_p(n, n, size) < ALPHA))

    # By bisection: more runs never show less.
    low = np.full(counts.shape, LEAST_RUNS - 1.0)
    high = np.full(counts.shape, MOST_REPEATS + 1.0)
    while (high - low > 1).any():
        middle = np.floor((low + high) / 2)
        enough = is_enough(middle)
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(high <= MOST_REPEATS, high, np.nan)


def _least_p(n: Array, n_base: Array, size: int) -> Array:
    """Smallest p that a comparison may have.

    A single comparison gets no smaller p than an exact permutation test of its two cells could
    give. Among several, each draws on the noise of all, and there is no such bound.
    """
    return np.asarray(2 / comb(n + n_base, n)) if size == 1 else np.zeros(np.shape(n))
