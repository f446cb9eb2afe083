"""Pure: location and scale that resist a few slow runs, for many small samples at once.

The last axis of each array is that of runs; a missing run is NaN. Values are logarithms, so a
difference is a ratio and a scale is relative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import polygamma, psi
from scipy.stats import chi2

Array = NDArray[np.float64]

#: Scales from the centre up to which a run has full weight, and from which it has none. The shape
#: of the weights is Hampel's (1974); the two bounds are chosen: normal noise exceeds 2.5 in 1.2 %
#: of runs, and 4.5 practically never. benchmarks/honesty.py checks the method as a whole.
WHOLE, NONE = 2.5, 4.5
#: Share of a sample's weight that must remain. Chosen so that 2 outliers among 5 runs (0.6) count
#: as no majority and 1 (0.8) is an outlier.
MAJORITY = 0.7
#: Reweighting steps. Chosen: few, because the median is a good start.
_STEPS = 3
#: Factor from median absolute deviation to standard deviation of a normal distribution, and the
#: efficiency of the former (Rousseeuw and Croux 1993).
MAD_TO_SD, MAD_EFFICIENCY = 1.4826, 0.37
#: Small samples: n / (n - 0.8) corrects the bias of the median absolute deviation of n values
#: (Croux and Rousseeuw 1992, who give it for n > 9; used here for fewer runs too).
_SMALL_SAMPLE = 0.8
#: Most degrees of freedom that a prior is worth. Chosen: at 200 Student's quantiles differ from
#: the normal ones by about one percent, and a larger prior would change little.
_MOST_PRIOR = 200.0
#: Guards divisions; relative noise of real runs is many orders larger.
_TINY = 1e-12
#: Detectable sizes are computed with an upper limit of the noise: what a study shows of it is as
#: often too small as too large, and verdicts of no difference select the former. By simulation
#: (benchmarks/honesty.py), an effect of that size is then claimed in about 80 % of studies. The
#: one-sided level without outliers, what each share of outliers adds, and the highest. Where runs
#: are outliers now and then, a study with few of them looks quieter than the next will be.
_LEVEL, _PER_OUTLIER, _HIGHEST = 0.64, 4.5, 0.90


def nan_median(values: Array) -> Array:
    """Median over the last axis without NaN; 0 where all are NaN."""
    ordered = np.sort(values, axis=-1)  # NaN goes last
    n = np.isfinite(values).sum(axis=-1, keepdims=True)
    low = np.take_along_axis(ordered, np.maximum(n - 1, 0) // 2, axis=-1)
    high = np.take_along_axis(ordered, np.minimum(n // 2, values.shape[-1] - 1), axis=-1)
    median: Array = np.where(n > 0, (low + high) / 2, 0.0)[..., 0]
    return median


def hampel_weights(values: Array, centre: Array, scale: Array) -> Array:
    """Weight of each run in 0..1 by its distance from the centre (Hampel 1974).

    Hampel's function without its middle part: 1 up to `WHOLE`, falling to 0 at `NONE`.
    """
    far = np.abs(values - centre[..., None]) / scale[..., None]
    # psi(x) / x of Hampel's descending part with a = b = WHOLE and c = NONE.
    falling = WHOLE / np.maximum(far, WHOLE) * (NONE - far) / (NONE - WHOLE)
    weight: Array = np.where(far <= WHOLE, 1.0, np.clip(falling, 0.0, 1.0))
    return np.where(np.isfinite(values), weight, 0.0)


def robust_location(values: Array, scale: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Robust mean over the last axis, the weight of each run, and which samples have no majority.

    An M-estimate with known `scale`, by reweighting from the median (Huber 1981). Where less than
    `MAJORITY` of the weight remains it is unclear which part is the outlier: all runs count.
    """
    present = np.isfinite(values)
    filled = np.where(present, values, 0.0)
    centre = nan_median(values)
    for _ in range(_STEPS):
        weight = hampel_weights(values, centre, scale)
        centre = (weight * filled).sum(axis=-1) / np.maximum(weight.sum(axis=-1), _TINY)
    n = present.sum(axis=-1)
    mixed: NDArray[np.bool_] = weight.sum(axis=-1) < MAJORITY * n
    weight = np.where(mixed[..., None], present, weight)
    mean = filled.sum(axis=-1) / np.maximum(n, 1)
    return np.where(mixed, mean, centre), weight, mixed


def rough_scale(residuals: Array, cells: Array) -> tuple[Array, Array]:
    """Standard deviation of each row, and its degrees of freedom, from median absolute deviations.

    `cells` is the number of medians that were subtracted from each row.
    """
    n = np.isfinite(residuals).sum(axis=-1)
    # The bias is that of runs around the median of their own cell, hence runs per cell.
    per_cell = np.maximum(n / np.maximum(cells, 1), 1.0)
    small = per_cell / np.maximum(per_cell - _SMALL_SAMPLE, 1 - _SMALL_SAMPLE)
    scale = MAD_TO_SD * small * nan_median(np.abs(residuals))
    return scale, np.maximum(MAD_EFFICIENCY * (n - cells), 0.5)


@dataclass(frozen=True)
class Prior:
    """The variance that samples have in common, `worth` so many degrees of freedom.

    `log_error` is the standard error of the variance's logarithm. With a worth of 0 the samples
    have nothing in common.
    """

    variance: float = 1.0
    worth: float = 0.0
    log_error: float = 0.0

    def moderate_variance(
        self, variance: Array, freedom: Array, jitter: Array | float = 1.0
    ) -> Array:
        """Each variance, moved towards the common one by degrees of freedom (Smyth 2004).

        `jitter` multiplies the common variance.
        """
        common = self.worth * self.variance * jitter
        moderated: Array = (common + freedom * variance) / np.maximum(self.worth + freedom, _TINY)
        return np.maximum(moderated, _TINY**2)


def fit_prior(variance: Array, freedom: Array) -> Prior:
    """The prior of samples with these variances and degrees of freedom.

    Estimated from moments of the logarithm of the variances (Smyth 2004, section 6.2). Fewer than
    three samples give no prior: their spread is not known. Samples without variance are left out.
    """
    good = (variance > _TINY**2) & (freedom > 0)
    if good.sum() < 3:
        return Prior()
    half = freedom[good] / 2
    # Under normal noise log s^2 has mean log sigma^2 + psi(d/2) - log(d/2), variance trigamma(d/2).
    level = np.log(variance[good]) - psi(half) + np.log(half)
    middle, spread = float(level.mean()), float(level.var(ddof=1))
    expected = float(polygamma(1, half).mean())
    log_error = float(np.sqrt(max(spread, expected) / good.sum()))
    # A prior is worth at most the degrees of freedom from which it was estimated.
    most = min(_MOST_PRIOR, float(freedom[good].sum()))
    # No more spread than chance: as far as can be seen all have the same variance.
    if spread <= expected:
        return Prior(float(np.exp(middle)), most, log_error)
    # The spread beyond chance is trigamma of half the prior's degrees of freedom.
    half_prior = min(_trigamma_inverse(spread - expected), _MOST_PRIOR / 2)
    level_prior = float(np.exp(middle + psi(half_prior) - np.log(half_prior)))
    return Prior(level_prior, min(2 * half_prior, most), log_error)


def _trigamma_inverse(value: float) -> float:
    """x with trigamma(x) = value, by Newton's method on 1/trigamma (Smyth 2004, appendix)."""
    # Smyth's start, from which the steps approach the solution from one side.
    x = 0.5 + 1 / value
    for _ in range(50):
        tri = float(polygamma(1, x))
        step = tri * (1 - tri / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-8 * x:
            break
    return x


def find_level(outliers: float) -> float:
    """The level of the upper limit for detectable sizes; `outliers` is their share of all runs."""
    return min(_HIGHEST, _LEVEL + _PER_OUTLIER * outliers)


def limit_noise(freedom: Array | float, level: float) -> Array:
    """The factor on an estimated standard deviation that gives its upper limit (chi-square)."""
    return np.asarray(np.sqrt(freedom / chi2.ppf(1 - level, freedom)))
