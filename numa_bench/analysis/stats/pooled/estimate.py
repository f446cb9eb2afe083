"""Pure: differences from local pooled over GPUs and models, with errors that are honest about both.

A pooled contrast is a mean over models and units of the robust differences of one class of
placements. A unit is a GPU, or, without GPUs, the node whose local cell is the base.
docs/statistics.md explains the method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from numa_bench.analysis.stats.contrasts import LEVEL, MOST_REPEATS
from numa_bench.analysis.stats.permutation import ALPHA, POWER, correct_holm
from numa_bench.analysis.stats.robust import Array, find_level, fit_prior, limit_noise

#: Fewest units whose spread is the error of their mean. With fewer, the error is that of the runs
#: and holds for these units only.
LEAST_UNITS = 3
#: Correlation of the differences of two classes: half of each variance is that of their base.
_SHARED_BASE = 0.5
#: Level of the upper limit of the error (see `robust`) by which needed repeats are computed.
_REPEATS_LIMIT = 0.40
#: Largest power to which contrasts that can be claimed make up for those that cannot. Chosen.
_MOST_POWER = 0.95
_TINY = 1e-12


@dataclass(frozen=True)
class Grid:
    """The differences of a family from local, as logarithms.

    Shape (models, units, classes): `difference`, NaN where not comparable; `variance` of its
    estimate, from the noise of runs; `doubt`, the probability that most runs of one of its cells
    are in a rare state (see `majority`). Shape (models, units, classes, blocks): `residual`, the
    difference within a block minus `difference`, NaN where a run is missing. Shape (classes,):
    `noise`, the noise of a class's runs over that of local ones. `freedom` is that of `variance`,
    `repeats` the runs of a cell, `outliers` their share of all runs, and `blocked` the share of
    comparisons with a cell that has no majority (`majority.find_blocked_share`).
    """

    difference: Array
    variance: Array
    doubt: Array
    residual: Array
    noise: Array
    freedom: float
    repeats: int
    outliers: float = 0.0
    blocked: float = 0.0


@dataclass(frozen=True)
class Selection:
    """A contrast: models and units, by index, whose differences of one class are averaged."""

    models: tuple[int, ...]
    units: tuple[int, ...]
    place: int


@dataclass(frozen=True)
class Pooled:
    """One value per contrast; `estimate`, `low`, `high` and `detectable` are logarithms.

    `error` is the standard error with `freedom` degrees of freedom. `repeats`: what an effect of
    interest needs, NaN where `MOST_REPEATS` are not enough. `units`: how many were averaged.
    """

    estimate: Array
    error: Array
    freedom: Array
    low: Array
    high: Array
    p: Array
    p_holm: Array
    detectable: Array
    repeats: Array
    units: NDArray[np.intp]

    @property
    def claimed(self) -> NDArray[np.bool_]:
        return self.p_holm < ALPHA


@dataclass(frozen=True)
class _Error:
    """The variance of a contrast and its degrees of freedom.

    `runs`: the part that repeats reduce.
    """

    variance: float
    freedom: float
    runs: float


def pool_differences(grid: Grid, selections: Sequence[Selection], target: float) -> Pooled:
    """Estimate all contrasts of a family, corrected together after Holm.

    `target` is the effect of interest, a fraction, for which repeats are computed. Every selection
    must contain a known difference.
    """
    units = [_average_models(grid, s) for s in selections]
    spreads = _moderate_spreads(units, [s.models for s in selections])
    shared, shared_freedom = shared_variance(grid)
    errors = [
        _find_error(u, spread, grid.freedom, shared, shared_freedom)
        for u, spread in zip(units, spreads, strict=True)
    ]
    estimate = np.array([u.mean for u in units])
    error = np.sqrt(np.array([e.variance for e in errors]))
    freedom = np.array([e.freedom for e in errors])
    doubt = np.array([u.doubt if u.spread is None else 0.0 for u in units])
    p = np.maximum(np.asarray(2 * t.sf(np.abs(estimate) / error, freedom)), doubt)
    half = np.asarray(t.ppf((1 + LEVEL) / 2, freedom)) * error
    # Outliers make units differ, which their spread shows; that of few units is not known.
    few = np.array([u.spread is None for u in units])
    # As many more of the contrasts that can be claimed must be.
    possible = max(1 - grid.blocked, POWER / _MOST_POWER)
    power = np.where(few, POWER / possible, POWER)
    size = np.asarray(t.ppf(1 - ALPHA / (2 * len(p)), freedom) + t.ppf(power, freedom))
    level = find_level(grid.outliers)
    limit = np.where(few, limit_noise(freedom, level), limit_noise(freedom, find_level(0.0)))
    return Pooled(
        estimate=estimate,
        error=error,
        freedom=freedom,
        low=estimate - half,
        high=estimate + half,
        p=p,
        p_holm=correct_holm(p),
        detectable=size * limit * error,
        repeats=_needed_repeats(grid.repeats, errors, size, target),
        units=np.array([u.count for u in units]),
    )


@dataclass(frozen=True)
class _Units:
    """The units of a contrast: their weighted mean, its variance by the weights, and more.

    `spread`: by how much units vary more than the weights say, as a ratio of variances with
    `count` - 1 degrees of freedom; None with too few units. `runs`: the variance of the mean that
    the noise of runs explains. `doubt`: a lower bound of p.
    """

    mean: float
    variance: float
    runs: float
    spread: float | None
    count: int
    doubt: float


def _average_models(grid: Grid, selection: Selection) -> _Units:
    """Each unit's mean over the models, and their mean over units.

    Units are weighted by the variance of their runs plus that between units (DerSimonian and Laird
    1986): one whose runs are disturbed counts less.
    """
    part = np.ix_(selection.models, selection.units)
    difference, variance, doubt = (
        table[part][..., selection.place] for table in (grid.difference, grid.variance, grid.doubt)
    )
    known = np.isfinite(difference)
    models = known.sum(axis=0)
    some = models > 0
    mean = np.where(known, difference, 0.0).sum(axis=0)[some] / models[some]
    noise = np.where(known, variance, 0.0).sum(axis=0)[some] / models[some] ** 2
    count = len(mean)
    weight = 1 / np.maximum(noise, _TINY**2)
    centre = float((weight * mean).sum() / weight.sum())
    if count >= LEAST_UNITS:
        excess = float((weight * (mean - centre) ** 2).sum()) - (count - 1)
        scale = float(weight.sum() - (weight**2).sum() / weight.sum())
        weight = 1 / (noise + max(0.0, excess / scale))
        centre = float((weight * mean).sum() / weight.sum())
    total = float(weight.sum())
    spread = float((weight * (mean - centre) ** 2).sum()) / max(1, count - 1)
    return _Units(
        mean=centre,
        variance=1 / total,
        runs=float((weight**2 * noise).sum()) / total**2,
        spread=spread if count >= LEAST_UNITS else None,
        count=count,
        doubt=min(1.0, float(np.nansum(doubt))),
    )


def _moderate_spreads(
    units: Sequence[_Units], models: Sequence[tuple[int, ...]]
) -> list[tuple[float, float] | None]:
    """The spread of units of each contrast, and its degrees of freedom; None with too few units.

    Eight GPUs alone know their spread to about 25 %; contrasts are alike as far as they prove to be
    (Smyth 2004).
    """
    enough = [i for i, u in enumerate(units) if u.spread is not None]
    ratio = np.array([units[i].spread for i in enough], dtype=np.float64)
    freedom = np.array([units[i].count - 1.0 for i in enough])
    prior = fit_prior(ratio, freedom)
    # Classes share their base, so that only models are independent of each other.
    most = float(freedom.max(initial=0.0)) * len({m for i in enough for m in models[i]})
    prior = replace(prior, worth=min(prior.worth, most))
    spreads: list[tuple[float, float] | None] = [None] * len(units)
    moderated = prior.moderate_variance(ratio, freedom)
    for i, v, d in zip(enough, moderated, freedom + prior.worth, strict=True):
        spreads[i] = (float(v), float(d))
    return spreads


def _find_error(
    units: _Units,
    spread: tuple[float, float] | None,
    freedom: float,
    shared: float,
    shared_freedom: float,
) -> _Error:
    """The variance of a contrast: of units or of runs, plus what all runs of a block share.

    With units enough, their weighted spread is the error (Hartung and Knapp 2001), and never less
    than what the runs' noise explains.
    """
    own, own_freedom = units.runs, freedom
    if spread is not None:
        own, own_freedom = units.variance * max(1.0, spread[0]), spread[1]
    variance = max(own + shared, _TINY**2)
    # More cautious than Satterthwaite's formula, which is too sure where few degrees of freedom
    # make the shared part look small by chance.
    parts = own / own_freedom + (shared / shared_freedom if shared_freedom else 0.0)
    runs = min(units.runs, own) + shared
    return _Error(variance, variance / max(parts, _TINY**2), runs)


def shared_variance(grid: Grid) -> tuple[float, float]:
    """Variance of a class's mean difference from errors that all of a block share, and its freedom.

    Such an error, of a placement in a block, moves all models and units alike, so that their
    spread does not show it: it is what the mean residuals of blocks vary beyond the noise of runs.
    """
    models, units, places, blocks = grid.residual.shape
    flat = grid.residual.reshape(models * units, places, blocks)
    known = np.isfinite(flat)
    count = known.sum(axis=0)
    mean = np.where(known, flat, 0.0).sum(axis=0) / np.maximum(count, 1)
    usable = (count > 1).sum(axis=-1) > 1
    if not usable.any():
        return 0.0, 0.0
    n = np.maximum((count > 1).sum(axis=-1), 2)
    of_blocks = (mean**2).sum(axis=-1) / ((n - 1) * n)
    squares = np.where(known, flat, 0.0) ** 2
    per_cell = squares.sum(axis=-1) / np.maximum(known.sum(axis=-1) - 1, 1)
    cells = np.maximum(known.any(axis=-1).sum(axis=0), 2)
    of_runs = per_cell.sum(axis=0) / cells**2 / n
    # The noise of runs has the shared error in it, hence the factor.
    excess = ((of_blocks - of_runs) / (1 - 1 / cells))[usable]
    classes = int(usable.sum())
    # Classes share the base: they are fewer independent estimates than there are.
    independent = classes / (1 + (classes - 1) * _SHARED_BASE**2)
    freedom = float((n[usable] - 1).mean() * independent)
    return max(0.0, float(excess.mean())), freedom


def _needed_repeats(repeats: int, errors: Sequence[_Error], size: Array, target: float) -> Array:
    """Repeats after which an effect of `target` is detected; NaN where none are enough."""
    needed = np.full(len(errors), np.nan)
    goal = -np.log1p(-target)
    for i, error in enumerate(errors):
        limit = float(limit_noise(error.freedom, _REPEATS_LIMIT))
        allowed = (goal / size[i] / limit) ** 2
        fixed = max(0.0, error.variance - error.runs)
        if allowed > fixed:
            n = np.ceil(repeats * error.runs / (allowed - fixed))
            needed[i] = max(n, 3.0) if n <= MOST_REPEATS else np.nan
    return needed
