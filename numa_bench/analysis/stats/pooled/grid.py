"""Pure: from the cells of a family to their differences from local, by model, unit and class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from numa_bench.analysis.stats.majority import bound_p, find_blocked_share, find_rare
from numa_bench.analysis.stats.permutation import (
    ALPHA,
    LEAST_RUNS,
    Fit,
    find_class_freedom,
    fit_cells,
    inflate_tails,
)
from numa_bench.analysis.stats.pooled.estimate import Grid
from numa_bench.analysis.stats.robust import Array

Index = NDArray[np.intp]


@dataclass(frozen=True)
class Cells:
    """A family whose runs are in columns by block, and where its cells belong.

    `values` are logarithms without drift, shape (settings, placements, blocks), NaN where there is
    no run; placement 0 is the base. `model` and `unit` number each setting's, shape (settings,),
    and `place` each cell's class, shape (settings, placements), -1 for the base and for no cell.
    `spent`: the cost of removing drift in degrees of freedom per run.
    """

    values: Array
    model: Index
    unit: Index
    place: Index
    spent: float


def make_grid(cells: Cells) -> Grid:
    """Average each model's and unit's differences by class.

    Several cells of a class, such as two far nodes, count as one: their mean.
    """
    # Noise may differ by class; the base is a class of its own.
    fitted = fit_cells(cells.values, cells.place + 1, spent=cells.spent)
    residual = _pseudo_residuals(cells.values, fitted)
    rare = find_rare(cells.values, fitted)
    bound = bound_p(cells.values, fitted, rare)
    shape = (cells.model.max() + 1, cells.unit.max() + 1, cells.place.max() + 1)
    blocks = cells.values.shape[-1]
    difference, variance, doubt = (np.full(shape, np.nan) for _ in range(3))
    by_block = np.full((*shape, blocks), np.nan)
    rows, columns = np.nonzero(np.isfinite(fitted.difference) & (cells.place >= 0))
    at = np.stack([cells.model[rows], cells.unit[rows], cells.place[rows, columns]], axis=1)
    for m, u, c in np.unique(at, axis=0):
        of = (at == (m, u, c)).all(axis=1)
        i, j = rows[of], columns[of]
        difference[m, u, c] = fitted.difference[i, j].mean()
        # The base is shared by the cells of a setting, so its variance does not average out.
        variance[m, u, c] = fitted.variance[i, j].sum() / len(i) ** 2
        variance[m, u, c] += fitted.variance[i, 0].mean()
        doubt[m, u, c] = bound[i, j].max()
        by_block[m, u, c] = (residual[i, j] - residual[i, 0]).mean(axis=0)
    runs = np.isfinite(cells.values).sum(axis=-1)
    # Few runs of a noisy class know less of its noise than all runs together.
    known = find_class_freedom(fitted, runs, cells.place + 1)[np.isfinite(fitted.difference)]
    freedom = float(min(fitted.freedom.min(), known.min(initial=np.inf)))
    tails = inflate_tails(fitted)
    repeats = int(np.median(runs[runs > 0]))
    noise = _compare_noise(fitted, cells.place)
    variance = variance * tails**2
    blocked = find_blocked_share(rare, repeats, ALPHA)
    return Grid(difference, variance, doubt, by_block, noise, freedom, repeats, rare.rate, blocked)


def _compare_noise(fitted: Fit, place: Index) -> Array:
    """The noise of each class over that of the base, which is the same for all settings."""
    ratio = fitted.factors / fitted.factors[:, :1]
    return np.array([np.median(ratio[place == c]) for c in range(place.max() + 1)])


def _pseudo_residuals(values: Array, fitted: Fit) -> Array:
    """Weighted distances of runs from their cell's robust mean, as uncertain as that mean.

    The mean of centre plus these is the robust mean (the idea of Salibian-Barrera and Zamar 2002).
    """
    counts = np.isfinite(values).sum(axis=-1)
    share = fitted.weight / np.maximum(counts, 1)
    stretch = np.sqrt(1 / (1 - fitted.shared.spent))
    with np.errstate(divide="ignore", invalid="ignore"):
        pulled = fitted.run_weight * (values - fitted.centre[..., None]) / share[..., None]
    enough = (counts >= LEAST_RUNS)[..., None]
    return np.where(enough, stretch * pulled, np.nan)
