"""Pure: tests of the common shift and of all cells together, after against before.

`days` has the model; docs/statistics.md, "Two studies", explains it.
"""

from __future__ import annotations

import numpy as np

from numa_bench.analysis.stats.compare.days import SHIFT_WEIGHT, DayEffects
from numa_bench.analysis.stats.robust import Array

#: Values drawn for the test of regressions, in all and at most per cell. Chosen: 20,000 draws give
#: p = 0.05 to 0.0015 (one standard error), the first bounds memory.
_VALUES, _MOST_DRAWS, _LEAST_DRAWS = 8_000_000, 20_000, 2_000


def correct_weighted_holm(shift: float, own: Array) -> tuple[float, Array]:
    """p of the shift and of the cells, corrected together (Holm 1979, the weighted procedure).

    The shift has `SHIFT_WEIGHT` of the error rate, the cells share the rest evenly; what is
    rejected leaves its part to the others. NaN are not tested.
    """
    tested = np.isfinite(own)
    corrected = np.full(len(own), np.nan)
    if not tested.any():
        return shift, corrected
    p = np.concatenate([[shift], own[tested]])
    cells = len(p) - 1
    weight = np.array([SHIFT_WEIGHT, *[(1 - SHIFT_WEIGHT) / cells] * cells])
    order = np.argsort(p / weight, kind="stable")
    left = np.cumsum(weight[order][::-1])[::-1]
    stepped = np.maximum.accumulate(p[order] / weight[order] * left)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    corrected[tested] = adjusted[1:]
    return float(adjusted[0]), corrected


def compute_fall_p(effects: DayEffects, limit: float, seed: int = 0) -> tuple[float, Array]:
    """One-sided p that the shift, and each cell's total change, is a fall of at most `limit`.

    `limit` is a fraction. Corrected for all of them together: the largest statistic is drawn under
    the hypothesis, in which all cells share the error of the shift (the joint distribution that
    Behrens and Fisher give to a sum of two estimates; the single-step procedure of Westfall and
    Young 1993). NaN where the total change is not known.
    """
    edge = float(np.log1p(-limit))
    known = np.isfinite(effects.total)
    own = effects.cell_error[known]
    scale = np.concatenate([[effects.shift_error], effects.total_error[known]])
    fall = (edge - np.concatenate([[effects.shift], effects.total[known]])) / scale
    largest = _draw_largest(effects, np.concatenate([[0.0], own]), scale, seed)
    # The observed statistic counts too, so that no p is 0 (Phipson and Smyth 2010).
    above = len(largest) - np.searchsorted(largest, fall, side="left")
    p = (above + 1) / (len(largest) + 1)
    cells = np.full(len(effects.own), np.nan)
    cells[known] = p[1:]
    return float(p[0]), cells


def _draw_largest(effects: DayEffects, own: Array, scale: Array, seed: int) -> Array:
    """Sorted draws of the largest statistic without any true change."""
    rng = np.random.default_rng(seed)
    draws = int(np.clip(_VALUES // len(own), _LEAST_DRAWS, _MOST_DRAWS))
    chunk = max(1, 1_000_000 // len(own))
    largest = []
    for start in range(0, draws, chunk):
        count = min(chunk, draws - start)
        common = effects.shift_error * rng.standard_t(effects.freedom, (count, 1))
        # One estimate of the cells' variance serves all of them.
        freedom = max(effects.own_freedom, 1)
        spread = np.sqrt(freedom / rng.chisquare(freedom, (count, 1)))
        single = own * spread * rng.standard_normal((count, len(own)))
        largest.append(((common + single) / scale).max(axis=1))
    return np.sort(np.concatenate(largest))
