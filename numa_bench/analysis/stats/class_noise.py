"""Pure: how much noisier the runs of one placement are than those of another.

Values are logarithms, shape (..., settings, placements, runs), NaN where a run is missing.
`classes` has a number for each cell, shape (settings, placements), from 0 on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numa_bench.analysis.stats.robust import MAD_TO_SD, Array, nan_median

Classes = NDArray[np.intp]
#: Deviations count as at most so many scales, so that outliers of one placement are no noise of it.
#: Chosen; a placement of three times the noise is seen as such after a few steps.
_MOST = 3.0
#: Steps: scales of settings, then factors of classes, then both again. With 2, a placement of three
#: times the noise had a factor of 2.8 and pooled contrasts of one GPU claimed too much (simulation:
#: 19 % instead of 7 % of studies with noisy local runs). More than 4 change nothing.
_STEPS = 4
#: Efficiency of the capped squares. Chosen: that of squares is 1, that of the median absolute
#: deviation 0.37.
_EFFICIENCY = 0.7
#: Guards divisions; relative noise of real runs is many orders larger.
_TINY = 1e-12


def estimate_factors(values: Array, classes: Classes) -> Array:
    """Noise of each cell's class over that of its setting, shape (..., settings, placements).

    A factor comes from the classes' mean squares of
    deviations from the cells' medians, in units of each setting's scale, which are moved towards
    their common value by what chance alone explains (the positive-part estimator of James and
    Stein 1961, on logarithms). Settings keep noise of their own.
    """
    present = np.isfinite(values)
    n = present.sum(axis=-1)
    deviation = np.where(present, np.abs(values - nan_median(values)[..., None]), np.nan)
    members = np.equal.outer(np.arange(classes.max() + 1), classes).astype(np.float64)
    # Deviations of n runs from their own median are too small by about the root of n / (n - 1).
    spread = np.where(n > 1, n / np.maximum(n - 1, 1), 0.0)
    weight = np.where(n > 1, n - 1.0, 0.0)
    freedom = np.einsum("...sp,ksp->...k", weight, members)
    # The variance of half the logarithm of a variance with d degrees of freedom is 1 / (2 d).
    chance = 1 / (2 * np.maximum(_EFFICIENCY * freedom, 1.0))
    level = np.zeros(freedom.shape)
    for _ in range(_STEPS):
        unit = deviation / np.exp(level)[..., classes][..., None]
        scale = nan_median(unit.reshape(*unit.shape[:-2], -1))[..., None, None]
        squares = np.minimum(unit / np.maximum(MAD_TO_SD * scale, _TINY), _MOST) ** 2
        square = np.nansum(squares, axis=-1) / np.maximum(n, 1) * spread
        mean = np.einsum("...sp,ksp->...k", weight * square, members) / np.maximum(freedom, 1)
        level = level + _centre_levels(mean, freedom)
    # Shrunk at the end: each step by itself is within chance soon, and the last would be lost. Not
    # with one setting, where a difference in noise that chance can explain is as likely real, and
    # each side has its own, as in Welch's test.
    if len(classes) > 1:
        level = _shrink(level, chance, freedom > 0)
    return np.asarray(np.exp(level)[..., classes])


def _centre_levels(mean: Array, freedom: Array) -> Array:
    """Logarithms of the classes' noise around their mean, from mean squares; 0 without any."""
    known = (freedom > 0) & (mean > _TINY)
    level = np.where(known, 0.5 * np.log(np.maximum(mean, _TINY)), 0.0)
    count = np.maximum(known.sum(axis=-1, keepdims=True), 1)
    return np.where(known, level - level.sum(axis=-1, keepdims=True) / count, 0.0)


def _shrink(level: Array, chance: Array, known: NDArray[np.bool_]) -> Array:
    """Levels moved towards their mean, 0; `chance` is the variance of a level."""
    count = np.maximum(known.sum(axis=-1, keepdims=True), 1)
    seen = (level**2).sum(axis=-1, keepdims=True)
    expected = np.where(known, chance, 0.0).sum(axis=-1, keepdims=True) * (count - 1) / count
    kept = np.maximum(0.0, 1 - expected / np.maximum(seen, _TINY))
    return np.asarray(kept * level)
