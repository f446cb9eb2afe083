"""Pure: what changed between two sides of several days each, given how much days differ.

The model, in logarithms: centre of a cell on a day = cell + level of the day + deviation of this
cell on this day + error of its runs. Days of one side differ by chance alone, so they show how
large the second and third part are. docs/statistics.md, "Two studies", explains it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import nctdtrinc
from scipy.stats import t

from numa_bench.analysis.stats.permutation import ALPHA, LEAST_RUNS, POWER, fit_cells
from numa_bench.analysis.stats.robust import Array, nan_median, robust_location

#: Share of the error rate of 5 % that the test of the common shift gets; the cells share the rest.
#: Chosen by power: the shift is judged from few days, cells from many deviations, and a smaller
#: level costs them less (benchmarks/compare_honesty.py).
SHIFT_WEIGHT = 0.75
#: Alternations between cells and days in the two-way fit; one is exact when no cell is missing.
_SWEEPS = 20
_TINY = 1e-12


@dataclass(frozen=True)
class DayEffects:
    """Changes from before to after as logarithms of ratios, with standard errors.

    `shift` is common to all cells, `own` (shape (cells,)) what a cell changed beyond it; a total
    change is their sum. Errors contain how much days differ, with degrees of freedom `freedom`
    (of the shift) and `own_freedom`. `level_sd` is the standard deviation of the days' levels,
    `cell_sd` that of a cell on a day beyond its day's level and the noise of its runs. NaN in
    `own`: the cell was not measured often enough on both sides, or is the only one.
    """

    shift: float
    shift_error: float
    freedom: int
    own: Array
    own_error: Array
    own_freedom: int
    level_sd: float
    cell_sd: float

    @property
    def total(self) -> Array:
        """Total change of each cell, shape (cells,)."""
        return self.shift + np.where(len(self.own) == 1, 0.0, self.own)

    @property
    def total_error(self) -> Array:
        """Standard error of the total changes; shift and own change are independent."""
        return np.hypot(self.shift_error, self.cell_error)

    @property
    def cell_error(self) -> Array:
        """Standard error that a cell's total change has beyond that of the shift."""
        return np.where(len(self.own) == 1, 0.0, self.own_error)

    def shift_interval(self) -> tuple[float, float]:
        """The 95 % interval of the shift: Student's, with days - sides degrees of freedom."""
        half = float(t.ppf(1 - ALPHA / 2, self.freedom)) * self.shift_error
        return self.shift - half, self.shift + half

    def own_intervals(self) -> tuple[Array, Array]:
        """95 % intervals of the cells' own changes."""
        half = t.ppf(1 - ALPHA / 2, max(self.own_freedom, 1)) * self.own_error
        return self.own - half, self.own + half

    def total_intervals(self) -> tuple[Array, Array]:
        """95 % intervals of the total changes.

        The sum of two estimates with different degrees of freedom: their quantiles are weighted by
        the variances, which is on the safe side (Cochran and Cox 1957).
        """
        shift, cell = self.shift_error**2, self.cell_error**2
        freedom = np.array([self.freedom, max(self.own_freedom, 1)])
        wide = np.asarray(t.ppf(1 - ALPHA / 2, freedom))
        half = (shift * wide[0] + cell * wide[1]) / np.sqrt(shift + cell)
        return self.total - half, self.total + half

    def p_values(self) -> tuple[float, Array]:
        """Two-sided p of the shift and of each own change, NaN where there is none."""
        shift = 2 * float(t.sf(abs(self.shift) / self.shift_error, self.freedom))
        return shift, 2 * t.sf(np.abs(self.own) / self.own_error, max(self.own_freedom, 1))

    def detectable(self) -> tuple[float, Array]:
        """The shift and the own changes that are detected with probability `POWER`.

        For the first step of the correction, on the scale of logarithms: the noncentral t whose
        share `POWER` is beyond the critical value. Few degrees of freedom make that much more than
        the sum of two quantiles of Student's t.
        """
        tested = max(int(np.isfinite(self.own).sum()), 1)
        weight = SHIFT_WEIGHT if np.isfinite(self.own).any() else 1.0
        levels = ALPHA * np.array([weight, (1 - SHIFT_WEIGHT) / tested])
        freedom = np.array([self.freedom, max(self.own_freedom, 1)])
        seen = np.asarray(nctdtrinc(freedom, 1 - POWER, t.ppf(1 - levels / 2, freedom)))
        return float(seen[0] * self.shift_error), np.asarray(seen[1] * self.own_error)


def fit_days(values: Array, after: NDArray[np.bool_], spent: float = 0.0) -> DayEffects:
    """Fit the model to runs; shape of `values` (cells, days, runs), logarithms, NaN where none.

    `after` marks the days of the second side; drift within days is removed already and has cost
    `spent` degrees of freedom per run. A cell with fewer than `LEAST_RUNS` runs on a day does not
    count on that day. At least one side has two days or more (ValueError).
    """
    centre, noise = _centres(values, spent)
    fits = [_fit_side(centre[:, side], noise[:, side]) for side in (~after, after)]
    freedom = sum(fit.freedom for fit in fits)
    if freedom < 1:
        raise ValueError("one day on each side does not show how much days differ")
    cell_variance = _cell_variance(fits)
    own_freedom = sum(fit.cell_freedom for fit in fits)
    variance = fits[0].cell_error(cell_variance) + fits[1].cell_error(cell_variance)
    change = fits[1].cell - fits[0].cell
    known = np.isfinite(change)
    level = sum(float((fit.level**2).sum()) for fit in fits) / freedom
    # The mean of cells varies at least as much as its cells do by themselves; two or three days
    # may by chance lie closer together.
    cells = max(int(known.sum()), 1)
    least = float(np.nanmean(noise) + cell_variance) / cells
    error = np.sqrt(max(level, least) * sum(1 / max(len(fit.level), 1) for fit in fits))
    shift, weight = _locate_shift(change[known], variance[known])
    own, own_error = np.full(len(change), np.nan), np.full(len(change), np.nan)
    if own_freedom > 0 and cells > 1:
        own[known] = change[known] - shift
        own_error[known] = _own_error(variance[known], weight)
    own[~np.isfinite(own_error)] = np.nan
    return DayEffects(
        shift=shift,
        shift_error=float(error),
        freedom=freedom,
        own=own,
        own_error=own_error,
        own_freedom=own_freedom,
        level_sd=float(np.sqrt(level)),
        cell_sd=float(np.sqrt(cell_variance)),
    )


@dataclass(frozen=True)
class _Side:
    """Two-way fit of one side: `cell` (cells,), `level` (days,) around 0, `residual` and `noise`
    (cells, days), the latter the variance of a centre from the noise of its runs."""

    cell: Array
    level: Array
    residual: Array
    noise: Array

    @property
    def freedom(self) -> int:
        return max(len(self.level) - 1, 0)

    @property
    def cell_freedom(self) -> int:
        """Degrees of freedom of the deviations of cells from their days."""
        present = np.isfinite(self.residual)
        cells = present.any(axis=1).sum()
        return max(int(present.sum() - cells - len(self.level) + 1), 0)

    def cell_error(self, cell_variance: float) -> Array:
        """Variance of `cell` with this variance of a cell on a day, without the days' levels."""
        present = np.isfinite(self.residual)
        parts = np.where(present, self.noise + cell_variance, 0.0).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(parts / present.sum(axis=1) ** 2)


def _centres(values: Array, spent: float) -> tuple[Array, Array]:
    """Robust mean of each cell on each day, and its variance; NaN below `LEAST_RUNS` runs."""
    fitted = fit_cells(values, spent=spent)
    counts = np.isfinite(values).sum(axis=-1)
    filled = np.where(np.isfinite(values), values - fitted.centre[..., None], 0.0)
    # A cell without a majority has its own noise, if that is larger.
    alone = (filled**2).sum(axis=-1) / np.maximum(counts - 1, 1)
    own = (fitted.sd[:, None] * fitted.factors) ** 2
    noise = np.maximum(own, np.where(fitted.mixed, alone, 0.0))
    usable = counts >= LEAST_RUNS
    centre = np.where(usable, fitted.centre, np.nan)
    return centre, np.where(usable, noise / np.maximum(fitted.weight, _TINY), np.nan)


def _fit_side(centre: Array, noise: Array) -> _Side:
    """Cells and levels of the days of one side, by least squares."""
    days = np.isfinite(centre).any(axis=0)
    centre, noise = centre[:, days], noise[:, days]
    present = np.isfinite(centre)
    per_cell, per_day = present.sum(axis=1), present.sum(axis=0)
    filled, level = np.where(present, centre, 0.0), np.zeros(centre.shape[1])
    cell = np.zeros(len(centre))
    for _ in range(_SWEEPS):
        cell = (filled - present * level).sum(axis=1) / np.maximum(per_cell, 1)
        level = (filled - present * cell[:, None]).sum(axis=0) / np.maximum(per_day, 1)
        level = level - level.mean() if len(level) else level
    cell = np.where(per_cell > 0, cell, np.nan)
    return _Side(cell, level, centre - cell[:, None] - level, noise)


def _cell_variance(fits: list[_Side]) -> float:
    """Variance of a cell on a day beyond the noise of its runs, from the deviations of all cells.

    The value at which the sum of squares in units of its own variance is its expectation, the
    degrees of freedom (Paule and Mandel 1982); 0 where noise alone explains more.
    """
    freedom = sum(fit.cell_freedom for fit in fits)
    parts = [
        (fit.residual[kept] ** 2, fit.noise[kept])
        for fit in fits
        for kept in [np.isfinite(fit.residual)]
        if fit.cell_freedom
    ]
    if not freedom or not parts:
        return 0.0
    squares = np.concatenate([square for square, _ in parts])
    noise = np.concatenate([part for _, part in parts])

    def excess(variance: float) -> float:
        return float((squares / np.maximum(noise + variance, _TINY**2)).sum()) - freedom

    if excess(0.0) <= 0:
        return 0.0
    return float(brentq(excess, 0.0, float(squares.sum()) / freedom + _TINY))


def _locate_shift(change: Array, variance: Array) -> tuple[float, Array]:
    """The change that most cells share, and the weight of each cell in it."""
    if not len(change):
        return float("nan"), change
    scale = np.sqrt(nan_median(variance[None]))
    shift, weight, _ = robust_location(change[None], scale)
    return float(shift[0]), weight[0]


def _own_error(variance: Array, weight: Array) -> Array:
    """Standard errors of the changes beyond the shift.

    A cell is compared with the mean of the others, for it may have pulled the shift itself; the
    difference from the shift is that comparison, reduced by the cell's part of the shift.
    """
    others = weight.sum() - weight
    spread = (weight**2 * variance).sum() - weight**2 * variance
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(variance + spread / others**2) * (1 - weight / weight.sum())
    return np.asarray(np.where(others > 0, error, np.nan))
