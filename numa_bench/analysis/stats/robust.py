"""Pure: location and scale that a few slow runs do not move, for many small samples at once.

Arrays end in the axis of runs; a run that is not there is NaN. Values are logarithms, so that a
difference is a ratio and a scale is a relative one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import polygamma, psi

Array = NDArray[np.float64]

#: Hampel's weights: whole up to this many scales from the centre, none from there on.
WHOLE, NONE = 2.5, 4.5
#: Share of a sample that must agree.
MAJORITY = 0.7
_STEPS = 3
#: Median absolute deviation to standard deviation of a normal distribution, and the former's
#: efficiency (Rousseeuw and Croux 1993).
MAD_TO_SD, MAD_EFFICIENCY = 1.4826, 0.37
#: A prior known better than by this many degrees of freedom is not told apart from a certain one.
_MOST_PRIOR = 200.0
_TINY = 1e-12


def nan_median(values: Array) -> Array:
    """Median over the last axis without NaN; 0 where nothing is there."""
    ordered = np.sort(values, axis=-1)  # NaN goes last
    n = np.isfinite(values).sum(axis=-1, keepdims=True)
    low = np.take_along_axis(ordered, np.maximum(n - 1, 0) // 2, axis=-1)
    high = np.take_along_axis(ordered, np.minimum(n // 2, values.shape[-1] - 1), axis=-1)
    found: Array = np.where(n > 0, (low + high) / 2, 0.0)[..., 0]
    return found


def hampel_weights(values: Array, centre: Array, scale: Array) -> Array:
    """Weight of each run in 0..1 by its distance from the centre (Hampel 1974, two parts)."""
    far = np.abs(values - centre[..., None]) / scale[..., None]
    falling = WHOLE / np.maximum(far, WHOLE) * (NONE - far) / (NONE - WHOLE)
    found: Array = np.where(far <= WHOLE, 1.0, np.clip(falling, 0.0, 1.0))
    return np.where(np.isfinite(values), found, 0.0)


def robust_location(values: Array, scale: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Robust mean over the last axis, the weights that it gave, and where it found no majority.

    An M-estimate by reweighting from the median on (Huber 1981), with a known scale. Where less
    than `MAJORITY` of a sample stays, nobody can say which part is the outlier: all of it counts.
    """
    there = np.isfinite(values)
    filled = np.where(there, values, 0.0)
    centre = nan_median(values)
    for _ in range(_STEPS):
        weight = hampel_weights(values, centre, scale)
        centre = (weight * filled).sum(axis=-1) / np.maximum(weight.sum(axis=-1), _TINY)
    n = there.sum(axis=-1)
    mixed: NDArray[np.bool_] = weight.sum(axis=-1) < MAJORITY * n
    weight = np.where(mixed[..., None], there, weight)
    mean = filled.sum(axis=-1) / np.maximum(n, 1)
    return np.where(mixed, mean, centre), weight, mixed


def rough_scale(residuals: Array, cells: Array) -> tuple[Array, Array]:
    """Standard deviation of each row from its median absolute deviation, and what it is worth in
    degrees of freedom. `cells` is the number of medians that were subtracted from each row."""
    n = np.isfinite(residuals).sum(axis=-1)
    per_cell = np.maximum(n / np.maximum(cells, 1), 1.0)
    small = per_cell / np.maximum(per_cell - 0.8, 0.2)  # Croux and Rousseeuw 1992, small samples
    found = MAD_TO_SD * small * nan_median(np.abs(residuals))
    return found, np.maximum(MAD_EFFICIENCY * (n - cells), 0.5)


@dataclass(frozen=True)
class Prior:
    """What samples have in common: a variance, and how many degrees of freedom it is worth.

    `log_error` is the standard error of the variance's logarithm. Worth 0: nothing in common.
    """

    variance: float = 1.0
    worth: float = 0.0
    log_error: float = 0.0

    def moderate_variance(
        self, variance: Array, freedom: Array, jitter: Array | float = 1.0
    ) -> Array:
        """Each variance drawn towards the common one by degrees of freedom (Smyth 2004).

        `jitter` multiplies the common one.
        """
        common = self.worth * self.variance * jitter
        found: Array = (common + freedom * variance) / np.maximum(self.worth + freedom, _TINY)
        return np.maximum(found, _TINY**2)


def fit_prior(variance: Array, freedom: Array) -> Prior:
    """The prior of samples with these variances and degrees of freedom.

    Moments of the logarithm of the variances (Smyth 2004, section 6.2). With fewer than three
    samples there is nothing to learn from. Samples without any variance are left out.
    """
    good = (variance > _TINY**2) & (freedom > 0)
    if good.sum() < 3:
        return Prior()
    half = freedom[good] / 2
    level = np.log(variance[good]) - psi(half) + np.log(half)
    middle, spread = float(level.mean()), float(level.var(ddof=1))
    expected = float(polygamma(1, half).mean())
    log_error = float(np.sqrt(max(spread, expected) / good.sum()))
    # Worth at most the degrees of freedom that it was learnt from.
    most = min(_MOST_PRIOR, float(freedom[good].sum()))
    if spread <= expected:
        return Prior(float(np.exp(middle)), most, log_error)
    half_prior = min(_trigamma_inverse(spread - expected), _MOST_PRIOR / 2)
    level_prior = float(np.exp(middle + psi(half_prior) - np.log(half_prior)))
    return Prior(level_prior, min(2 * half_prior, most), log_error)


def _trigamma_inverse(value: float) -> float:
    """x with trigamma(x) = value, by Newton's method on 1/trigamma (Smyth 2004, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(50):
        tri = float(polygamma(1, x))
        step = tri * (1 - tri / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-8 * x:
            break
    return x
