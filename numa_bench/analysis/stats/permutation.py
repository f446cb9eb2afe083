"""Pure: test whether a placement's throughput differs from local, over a whole family at once.

A family is an array of logarithms, shape (settings, placements, runs); placement 0 is the base, and
missing runs are NaN. docs/statistics.md explains the method and its sources.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from numa_bench.analysis.stats.class_noise import Classes, estimate_factors
from numa_bench.analysis.stats.robust import (
    Array,
    Prior,
    fit_prior,
    nan_median,
    robust_location,
    rough_scale,
)
from numa_bench.metric_registry import LEAST_REPEATS

#: Fewest runs of a cell that enter a comparison.
LEAST_RUNS = LEAST_REPEATS
#: Conventions: the rate of false claims per family, and the power of "detectable".
ALPHA = 0.05
POWER = 0.80
#: Statistics drawn under the null hypothesis over the whole family. Chosen for precision: with 144
#: comparisons Holm's first step asks for p < 0.05 / 144, which then rests on about 70 draws.
DRAWS = 200_000
#: Fewest and most reshuffles. Chosen: bounds for very large and very small families.
_FEWEST, _MOST = 200, 10_000
#: Most values dealt in all, which caps the reshuffles of large families.
_VALUES = 40_000_000
#: Null statistics are enlarged by this factor, plus the second over the root of the family's
#: degrees of freedom: robust fits to few runs leave residuals that are too much alike, and p too
#: small. Found by simulation: with them about 5 % of the families of benchmarks/honesty.py hold a
#: false claim.
_MARGIN, _SMALL_MARGIN = 1.04, 0.20
#: Values in memory at once, about 6 MB per array.
_CHUNK = 750_000


@dataclass(frozen=True)
class Shared:
    """What the settings of a family have in common.

    `scale` is the variance by which outliers are judged, `variance` that of runs. `spent` is the
    cost of removing drift, in degrees of freedom per run.
    """

    scale: Prior = Prior()
    variance: Prior = Prior()
    spent: float = 0.0


@dataclass(frozen=True)
class Fit:
    """A family's fit.

    Shape (..., settings, placements):
    - `centre`: robust mean of a cell's runs, of which `weight` count;
    - `difference`: centre minus that of the base, NaN where not comparable; `error` its standard
      error;
    - `mixed`: the cell has no majority;
    - `variance`: that of `centre`.

    Shape (..., settings, placements, runs): `run_weight`, the weight of each run in 0..1.

    Shape (..., settings, placements): `factors`, the noise of the cell's class over that of its
    setting.

    Shape (..., settings): `scale`, by which outliers are judged; `sd`, the moderated standard
    deviation of runs, and `freedom`, its degrees of freedom.
    """

    centre: Array
    weight: Array
    run_weight: Array
    mixed: NDArray[np.bool_]
    variance: Array
    difference: Array
    error: Array
    scale: Array
    sd: Array
    factors: Array
    freedom: Array
    shared: Shared

    @property
    def studentised_differences(self) -> Array:
        """Differences in units of their standard errors."""
        return self.difference / self.error


def fit_cells(
    values: Array,
    classes: Classes | None = None,
    shared: Shared | None = None,
    spent: float = 0.0,
    jitter: Array | float = 1.0,
) -> Fit:
    """Fit robust centres to all cells, and noise that settings share as far as they are alike.

    `classes` numbers the cells whose noise may differ from that of others (`class_noise`); None:
    each placement by itself. `shared` None: estimated from these values. `jitter` multiplies the
    shared variance.
    """
    if classes is None:
        classes = number_columns(values)
    present = np.isfinite(values)
    cells = present.any(axis=-1).sum(axis=-1)
    rows = (*values.shape[:-2], -1)
    # All below is in units of each class's noise, or the runs of a noisy one would be outliers.
    factors = estimate_factors(values, classes)
    unit = factors[..., None]
    # The scale comes first, from deviations around medians, which outliers hardly move.
    rough, worth = rough_scale(
        ((values - nan_median(values)[..., None]) / unit).reshape(rows), cells
    )
    scale_prior = fit_prior(rough**2, worth) if shared is None else shared.scale
    scale = np.sqrt(scale_prior.moderate_variance(rough**2, worth))
    # One standard error above the estimate (1 / sqrt(2 n) for a standard deviation with n degrees
    # of freedom): while the scale is uncertain, fewer runs are treated as outliers.
    scale = scale * (1 + 1 / np.sqrt(2 * (worth + scale_prior.worth)))
    centre, weight, mixed = robust_location(values, scale[..., None] * factors)
    squares = weight * np.where(present, (values - centre[..., None]) / unit, 0.0) ** 2
    counts, runs = weight.sum(axis=-1), present.sum(axis=-1)
    # Cells without a majority do not inform the noise of others; they have their own.
    kept = ~mixed & (runs > 0)
    lost = kept.sum(axis=-1) + (spent if shared is None else shared.spent) * runs.sum(axis=-1)
    freedom = np.maximum((counts * kept).sum(axis=-1) - lost, 1.0)
    variance = (squares.sum(axis=-1) * kept).sum(axis=-1) / freedom
    variance_prior = fit_prior(variance, freedom) if shared is None else shared.variance
    sd = np.sqrt(variance_prior.moderate_variance(variance, freedom, jitter))
    own = np.where(mixed, squares.sum(axis=-1) / np.maximum(runs - 1, 1), 0.0)
    # Never less than a cell without majority shows itself: a claim about it is unlikely.
    noise = np.maximum(sd[..., None] ** 2, own) * factors**2
    usable = (runs >= LEAST_RUNS) & (runs[..., :1] >= LEAST_RUNS)
    usable[..., 0] = False
    with np.errstate(divide="ignore", invalid="ignore"):
        variance_of_centre = noise / counts
    # The two cells are independent: variances of their means add up.
    error = np.sqrt(variance_of_centre + variance_of_centre[..., :1])
    return Fit(
        centre=centre,
        weight=counts,
        run_weight=weight,
        mixed=mixed,
        variance=variance_of_centre,
        difference=np.where(usable, centre - centre[..., :1], np.nan),
        error=error,
        scale=scale,
        sd=sd,
        factors=factors,
        freedom=freedom + variance_prior.worth,
        shared=shared or Shared(scale_prior, variance_prior, spent),
    )


def find_class_freedom(fitted: Fit, counts: NDArray[np.intp], classes: Classes) -> Array:
    """Degrees of freedom of each comparison's error where each class of cells has its own noise.

    Welch's (1947), with those of all cells of a class for its variance. Null statistics deal all
    residuals to both sides, so that in a small family they do not know how little of the noise of
    the noisier side was seen.
    """
    spare = np.maximum(counts - 1, 0)
    of_class = np.bincount(classes.ravel(), weights=spare.ravel())[classes]
    parts = fitted.variance**2 / np.maximum(of_class, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = fitted.error**4 / (parts + parts[:, :1])
    return np.where(np.isfinite(freedom), np.maximum(freedom, 1.0), 1.0)


def number_columns(values: Array) -> Classes:
    """Classes of noise where every placement has its own."""
    return np.broadcast_to(np.arange(values.shape[-2]), values.shape[-3:-1])


def null_statistics(
    values: Array, classes: Classes, fitted: Fit, seed: int = 0, size: int = DRAWS
) -> Array:
    """About `size` statistics of the family under the hypothesis of no effect, sorted.

    Residuals in units of their setting's noise are permuted over all cells of the family (ter Braak
    1992) and scaled with noise drawn from its own uncertainty; then everything is fitted again.
    """
    shared, present = fitted.shared, np.isfinite(values)
    # One deck for the family: 5 x 5 runs alone give no p small enough for a large one.
    deck = _residuals(values, fitted).reshape(1, -1)
    comparisons = max(1, int(np.isfinite(fitted.difference).sum()))
    most = min(_MOST, max(_FEWEST, _VALUES // present.size))
    draws = int(np.clip(size // comparisons, _FEWEST, most))
    chunk = max(1, _CHUNK // present.size)
    rng = np.random.default_rng(seed)
    statistics = []
    for start in range(0, draws, chunk):
        count = min(chunk, draws - start)
        dealt = _shuffle(deck, present.reshape(deck.shape), count, rng)
        dealt = dealt.reshape(count, *values.shape)
        # A variance with n degrees of freedom is uncertain as a chi-square over n.
        chance = rng.chisquare(fitted.freedom, (count, len(values))) / fitted.freedom
        dealt = dealt * (fitted.sd / np.sqrt(chance))[..., None, None] * fitted.factors[..., None]
        # The shared variance is an estimate too, and its error is that of its logarithm.
        jitter = np.exp(rng.normal(0, shared.variance.log_error, (count, 1)))
        # The same robust fit as of the data, with the weights of outliers, but the same priors.
        statistic = fit_cells(dealt, classes, shared, jitter=jitter).studentised_differences
        statistics.append(statistic[np.isfinite(statistic)])
    null: Array = np.sort(np.concatenate(statistics)) * inflate_tails(fitted)
    return null


def inflate_tails(fitted: Fit) -> float:
    """By how much the tails of statistics of robust fits to few runs are longer than they show."""
    # Degrees of freedom of the runs themselves, without those of the prior.
    known = float((fitted.freedom - fitted.shared.variance.worth).sum())
    return float(_MARGIN + _SMALL_MARGIN / np.sqrt(max(known, 1.0)))


def _residuals(values: Array, fitted: Fit) -> Array:
    """Errors of all runs in units of their setting's noise: residuals, enlarged by what the fit
    absorbed (the root of runs over degrees of freedom)."""
    n = np.isfinite(values).sum(axis=(-1, -2))
    lost = np.isfinite(values).any(axis=-1).sum(axis=-1) + fitted.shared.spent * n
    stretch = np.sqrt(n / np.maximum(n - lost, 1))
    # The mean of a cell without a majority is far from all of its runs; its median is not.
    middle = np.where(fitted.mixed, nan_median(values), fitted.centre)
    residuals: Array = (values - middle[..., None]) * (stretch / fitted.sd)[:, None, None]
    return residuals / fitted.factors[..., None]


def _shuffle(
    deck: Array, present: NDArray[np.bool_], count: int, rng: np.random.Generator
) -> Array:
    """`count` permutations of each row of the deck; missing runs keep their places."""
    keys = np.where(present, rng.random((count, *deck.shape)), 2.0)
    source = np.take_along_axis(deck[None], np.argsort(keys, axis=-1), axis=-1)
    # Missing runs are sorted behind the others (key 2), and their places are filled last.
    place = np.argsort(~present, axis=-1, kind="stable")
    np.put_along_axis(keys, np.broadcast_to(place, keys.shape), source, axis=-1)
    return keys


def p_values(statistic: Array, null: Array) -> Array:
    """Two-sided p-values: the share of `null` statistics at least as far from 0.

    `null` has the draws of the whole family. The observed statistic counts too, so that no p is 0
    (Phipson and Smyth 2010).
    """
    far = np.sort(np.abs(null))
    # The factor keeps equal statistics equal in spite of rounding.
    above = len(far) - np.searchsorted(far, np.abs(statistic) * (1 - 1e-9), side="left")
    return np.asarray((above + 1) / (len(far) + 1))


def correct_holm(p: Array) -> Array:
    """Holm's step-down correction (Holm 1979), in the order given."""
    order = np.argsort(p)
    # The smallest p times m, the next times m - 1 and so on, and never less than the one before.
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(stepped)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected
