"""Pure: differences between cells with interval, corrected p-value and detectable size.

Works on a family as `permutation` defines it; the method is in docs/statistics.md.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import comb
from scipy.stats import bootstrap, norm, t

from numa_bench.analysis.stats.permutation import (
    ALPHA,
    DRAWS,
    LEAST_RUNS,
    POWER,
    Fit,
    correct_holm,
    fit_cells,
    null_statistics,
    p_values,
)
from numa_bench.analysis.stats.robust import Array

#: Bootstrap resamples. Chosen: each end of a 95 % interval then rests on about 100 of them.
RESAMPLES = 4_000
#: The fewest with less `effort`; too few for reports, enough for simulated coverage.
_FEWEST_RESAMPLES = 1_500
#: Convention.
LEVEL = 0.95
#: Most repeats that a verdict advises. Chosen.
MOST_REPEATS = 1_000
#: Values in memory at once, about 12 MB per array.
_BATCH = 1_500_000
#: scipy renamed the argument in 1.15.
_SEED = "rng" if "rng" in inspect.signature(bootstrap).parameters else "random_state"


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
    values: Array, spent: float, target: float, seed: int = 0, effort: float = 1.0
) -> Contrasts:
    """Compare every placement of a family to its base.

    `values` are logarithms, shape (settings, placements, runs), NaN where there is no run; `spent`
    is the cost of removing drift in degrees of freedom per run; `target` is the effect, a fraction,
    for which `repeats` is computed. `effort` below 1 draws and resamples less, for simulations.
    """
    fitted = fit_cells(values, spent=spent)
    tested = np.isfinite(fitted.difference)
    size = int(tested.sum())
    counts, prior = np.isfinite(values).sum(axis=-1), fitted.shared.variance.worth
    cells = (counts > 0).sum(axis=-1)
    least = np.broadcast_to(_least_p(counts, counts[:, :1], size), tested.shape)
    null = np.array([])
    p, p_holm = np.full(tested.shape, np.nan), np.full(tested.shape, np.nan)
    if size:
        null = null_statistics(values, fitted, seed, int(effort * DRAWS))
        p[tested] = np.maximum(
            p_values(fitted.studentised_differences[tested], null), least[tested]
        )
        p_holm[tested] = correct_holm(p[tested])
    resamples = max(_FEWEST_RESAMPLES, int(effort * RESAMPLES))
    low, high = difference_intervals(values, fitted, seed, resamples)
    repeats = compute_repeats(target, fitted.sd, prior, cells, size)
    seen = _quantiles(fitted.freedom, size)[:, None] * fitted.error
    return Contrasts(
        difference=fitted.difference,
        low=low,
        high=high,
        p=p,
        p_holm=p_holm,
        # Where even the smallest possible p is above alpha, nothing can be detected.
        detectable=np.where(tested & (least < ALPHA), seen, np.nan),
        repeats=np.where(tested, repeats[:, None], np.nan),
        size=size,
        fitted=fitted,
        null=null,
    )


def _quantiles(freedom: Array, size: int) -> Array:
    """The size in standard errors at which an effect is detected with probability `POWER`.

    For the first, strictest step of Holm's correction: t(1 - alpha / 2m) + t(power).
    """
    return np.asarray(t.ppf(1 - ALPHA / (2 * max(size, 1)), freedom) + t.ppf(POWER, freedom))


def compute_repeats(target: float, sd: Array, prior: float, cells: Array, size: int) -> Array:
    """Smallest number of runs per cell that detects an effect of `target`, by setting.

    NaN where `MOST_REPEATS` are not enough. `sd` and `cells` are the noise and the number of cells
    of each setting, `prior` the degrees of freedom of the noise that settings share, `size` the
    number of comparisons in the family.
    """
    n = np.arange(LEAST_RUNS, MOST_REPEATS + 1, dtype=np.float64)
    # Each cell's centre costs one degree of freedom; the shared noise adds its own.
    freedom = prior + np.maximum(cells[:, None], 1) * (n - 1)
    # Two cells of n runs each: the difference of their means has variance 2 sd^2 / n.
    seen = _quantiles(freedom, size) * sd[:, None] * np.sqrt(2 / n)
    enough = (seen <= -np.log1p(-target)) & (_least_p(n, n, size) < ALPHA)
    return np.where(enough.any(axis=-1), n[enough.argmax(axis=-1)], np.nan)


def _least_p(n: Array, n_base: Array, size: int) -> Array:
    """Smallest p that a comparison may have.

    A single comparison gets no smaller p than an exact permutation test of its two cells could
    give. Among several, each draws on the noise of all, and there is no such bound.
    """
    return np.asarray(2 / comb(n + n_base, n)) if size == 1 else np.zeros(np.shape(n))


def expanded_level(n: Array, freedom: Array) -> Array:
    """Level at which a percentile interval of n runs covers as often as Student's interval.

    Resamples of n runs have (n - 1) / n of their variance, and normal instead of t quantiles; a
    higher level makes up for both (Hesterberg 2015, "expanded percentile").
    """
    wide = np.sqrt(n / (n - 1)) * t.ppf((1 + LEVEL) / 2, freedom)
    return np.asarray(1 - 2 * norm.sf(wide))


def difference_intervals(
    values: Array, fitted: Fit, seed: int, resamples: int = RESAMPLES
) -> tuple[Array, Array]:
    """95 % intervals of the differences: scipy's bootstrap over runs, cells of equal size at once.

    Pseudo-values are resampled: the robust mean plus a run's weighted distance from it. Their mean
    is the robust mean, and a resample that draws an outlier twice does not get a different fit
    (the idea of Salibian-Barrera and Zamar 2002).
    """
    shape = fitted.difference.shape
    low, high = np.full(shape, np.nan), np.full(shape, np.nan)
    counts = np.isfinite(values).sum(axis=-1)
    share = fitted.weight / np.maximum(counts, 1)
    # Removing drift has made the runs too much alike.
    stretch = np.sqrt(1 / (1 - fitted.shared.spent))
    # Over the mean weight: the mean of pseudo-values is then as uncertain as the robust mean.
    pulled = stretch * fitted.run_weight * (values - fitted.centre[..., None]) / share[..., None]
    pseudo = fitted.centre[..., None] + pulled
    rows, columns = np.nonzero(np.isfinite(fitted.difference))
    sizes = np.stack([counts[rows, columns], counts[rows, 0]], axis=1)
    # scipy resamples arrays without gaps, so cells with equal numbers of runs go together.
    for n, n_base in {(int(a), int(b)) for a, b in sizes}:
        chosen = (sizes == (n, n_base)).all(axis=1)
        row, column = rows[chosen], columns[chosen]
        samples = [_packed(pseudo[row, column], n), _packed(pseudo[row, 0], n_base)]
        # The smaller cell sets the expansion: rather too wide than too narrow.
        level = expanded_level(np.array(min(n, n_base)), np.array(n + n_base - 2))
        low[row, column], high[row, column] = bootstrap_interval(
            samples, _mean_difference, float(level), seed, resamples
        )
    return low, high


def bootstrap_interval(
    samples: list[Array], statistic: Any, level: float, seed: int, resamples: int = RESAMPLES
) -> tuple[Array, Array]:
    """Low and high ends by scipy's percentile bootstrap; `samples` have shape (rows, runs)."""
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


def _mean_difference(sample: Array, base: Array, axis: int = -1) -> Array:
    difference: Array = sample.mean(axis=axis) - base.mean(axis=axis)
    return difference


def _packed(values: Array, n: int) -> Array:
    """The n finite values of each row."""
    return np.asarray(values[np.isfinite(values)].reshape(-1, n))
