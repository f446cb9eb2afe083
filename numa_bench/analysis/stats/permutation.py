"""Pure: is a placement's throughput another one than local's, judged over a whole family at once.

A family is an array (settings, placements, runs) of logarithms; placement 0 is the base, and runs
that are not there are NaN. What each number means, and why it is done so: docs/statistics.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from numa_bench.analysis.stats.robust import (
    Array,
    Prior,
    fit_prior,
    nan_median,
    robust_location,
    rough_scale,
)

#: Fewest runs of a cell that enter a comparison.
LEAST_RUNS = 3
ALPHA = 0.05
POWER = 0.80
#: Statistics drawn under the null hypothesis, over the whole family; fewest and most reshuffles.
DRAWS = 200_000
_FEWEST, _MOST = 200, 10_000
#: Values dealt at most, which caps the reshuffles of large families.
_VALUES = 40_000_000
#: Null statistics are told larger than they were drawn, and more so the fewer degrees of freedom a
#: family has: robust fits to few runs leave residuals too alike. Found by simulation
#: (benchmarks/honesty.py).
_MARGIN, _SMALL_MARGIN = 1.04, 0.20
_CHUNK = 1_500_000  # values at once


@dataclass(frozen=True)
class Shared:
    """What the settings of a family have in common: the scale that outliers are judged by, and
    the variance of runs. `spent` is the share of degrees of freedom that removing drift took."""

    scale: Prior = Prior()
    variance: Prior = Prior()
    spent: float = 0.0


@dataclass(frozen=True)
class Fit:
    """A family's fit. Shapes: (..., settings, placements) for `centre`, `weight`, `difference` and
    `error`; (..., settings) for `sd` and `freedom`.

    `difference` is centre - base centre, NaN where not comparable; `error` its standard error.
    `weight` is the number of runs that count, `run_weight` (..., settings, placements, runs) each
    run's share in it; `mixed` marks cells without a majority. `sd` is the moderated standard
    deviation of runs, `freedom` the degrees of freedom that it is worth, `scale` what outliers are
    judged by.
    """

    centre: Array
    weight: Array
    run_weight: Array
    mixed: NDArray[np.bool_]
    difference: Array
    error: Array
    scale: Array
    sd: Array
    freedom: Array
    shared: Shared

    @property
    def studentised_differences(self) -> Array:
        """Studentised differences."""
        return self.difference / self.error


def fit_cells(
    values: Array, shared: Shared | None = None, spent: float = 0.0, jitter: Array | float = 1.0
) -> Fit:
    """Robust centres of all cells, and a noise that settings share as far as they are alike.

    `shared` None: learnt from these values. `jitter` multiplies the shared variance.
    """
    there = np.isfinite(values)
    cells = there.any(axis=-1).sum(axis=-1)
    rows = (*values.shape[:-2], -1)
    rough, worth = rough_scale((values - nan_median(values)[..., None]).reshape(rows), cells)
    scale_prior = fit_prior(rough**2, worth) if shared is None else shared.scale
    scale = np.sqrt(scale_prior.moderate_variance(rough**2, worth))
    # An upper bound: with an uncertain scale nobody is called an outlier lightly.
    scale = scale * (1 + 1 / np.sqrt(2 * (worth + scale_prior.worth)))
    centre, weight, mixed = robust_location(
        values, np.broadcast_to(scale[..., None], values.shape[:-1])
    )
    squares = weight * np.where(there, values - centre[..., None], 0.0) ** 2
    counts, runs = weight.sum(axis=-1), there.sum(axis=-1)
    # Cells without a majority say nothing of the others' noise, and have their own.
    kept = ~mixed & (runs > 0)
    lost = kept.sum(axis=-1) + (spent if shared is None else shared.spent) * runs.sum(axis=-1)
    freedom = np.maximum((counts * kept).sum(axis=-1) - lost, 1.0)
    variance = (squares.sum(axis=-1) * kept).sum(axis=-1) / freedom
    variance_prior = fit_prior(variance, freedom) if shared is None else shared.variance
    sd = np.sqrt(variance_prior.moderate_variance(variance, freedom, jitter))
    own = np.where(mixed, squares.sum(axis=-1) / np.maximum(runs - 1, 1), 0.0)
    noise = np.maximum(sd[..., None] ** 2, own)
    usable = (runs >= LEAST_RUNS) & (runs[..., :1] >= LEAST_RUNS)
    usable[..., 0] = False
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(noise / counts + (noise / counts)[..., :1])
    return Fit(
        centre=centre,
        weight=counts,
        run_weight=weight,
        mixed=mixed,
        difference=np.where(usable, centre - centre[..., :1], np.nan),
        error=error,
        scale=scale,
        sd=sd,
        freedom=freedom + variance_prior.worth,
        shared=shared or Shared(scale_prior, variance_prior, spent),
    )


def null_statistics(values: Array, fitted: Fit, seed: int = 0, size: int = DRAWS) -> Array:
    """About `size` statistics of the family when placement has no effect, sorted.

    Residuals in units of their setting's noise are dealt anew to the cells of the whole family (ter
    Braak 1992), noise is as uncertain as it is, and everything is computed again.
    """
    shared, there = fitted.shared, np.isfinite(values)
    deck = _residuals(values, fitted).reshape(1, -1)
    comparisons = max(1, int(np.isfinite(fitted.difference).sum()))
    most = min(_MOST, max(_FEWEST, _VALUES // there.size))
    draws = int(np.clip(size // comparisons, _FEWEST, most))
    chunk = max(1, _CHUNK // there.size)
    rng = np.random.default_rng(seed)
    found = []
    for start in range(0, draws, chunk):
        count = min(chunk, draws - start)
        dealt = _deal(deck, there.reshape(deck.shape), count, rng).reshape(count, *values.shape)
        chance = rng.chisquare(fitted.freedom, (count, len(values))) / fitted.freedom
        dealt = dealt * (fitted.sd / np.sqrt(chance))[..., None, None]
        jitter = np.exp(rng.normal(0, shared.variance.log_error, (count, 1)))
        statistic = fit_cells(dealt, shared, jitter=jitter).studentised_differences
        found.append(statistic[np.isfinite(statistic)])
    known = float((fitted.freedom - shared.variance.worth).sum())
    margin = _MARGIN + _SMALL_MARGIN / np.sqrt(max(known, 1.0))
    null: Array = np.sort(np.concatenate(found)) * margin
    return null


def _residuals(values: Array, fitted: Fit) -> Array:
    """Errors of all runs in units of their setting's noise: residuals, stretched by what the fit
    took from them."""
    n = np.isfinite(values).sum(axis=(-1, -2))
    lost = np.isfinite(values).any(axis=-1).sum(axis=-1) + fitted.shared.spent * n
    stretch = np.sqrt(n / np.maximum(n - lost, 1))
    # From the median: the mean of a cell without a majority is near to none of its runs.
    middle = np.where(fitted.mixed, nan_median(values), fitted.centre)
    found: Array = (values - middle[..., None]) * (stretch / fitted.sd)[:, None, None]
    return found


def _deal(deck: Array, there: NDArray[np.bool_], count: int, rng: np.random.Generator) -> Array:
    """`count` reshuffles of each row of the deck; what is not there stays where it is."""
    keys = np.where(there, rng.random((count, *deck.shape)), 2.0)
    source = np.take_along_axis(deck[None], np.argsort(keys, axis=-1), axis=-1)
    # Runs that are not there sorted behind the others, and their places are filled last.
    place = np.argsort(~there, axis=-1, kind="stable")
    np.put_along_axis(keys, np.broadcast_to(place, keys.shape), source, axis=-1)
    return keys


def p_values(statistic: Array, null: Array) -> Array:
    """Two-sided p: the share of null statistics at least as far from 0.

    The observed one counts too, so that no p is 0 (Phipson and Smyth 2010). `null` holds the draws
    of the whole family.
    """
    far = np.sort(np.abs(null))
    above = len(far) - np.searchsorted(far, np.abs(statistic) * (1 - 1e-9), side="left")
    return np.asarray((above + 1) / (len(far) + 1))


def correct_holm(p: Array) -> Array:
    """Holm's step-down correction (Holm 1979), in the order given."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    found = np.empty_like(stepped)
    found[order] = np.minimum(stepped, 1.0)
    return found
