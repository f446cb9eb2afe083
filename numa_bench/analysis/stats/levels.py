"""Pure: remove the levels of studies that are pooled.

Whatever moves a whole study (the day, a reboot, another neighbour) is shared by its cells, so it
can be separated from placement where studies have cells in common.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numa_bench.analysis.stats.robust import Array, nan_median, robust_location, rough_scale

#: Alternations between cells and levels. Chosen: one is enough for studies of the same cells;
#: studies that share only some approach the solution step by step.
_SWEEPS = 50
#: Stop when no level moves by more than this, far below any noise.
_STILL = 1e-9


def fit_levels(centres: Array) -> tuple[Array, int]:
    """Level of each study, and the degrees of freedom that this costs.

    `centres` are centres of logarithms, shape (cells, studies), NaN where a study has not measured
    a cell. A two-way fit by turns: cells without the levels, then levels as the robust mean over
    the cells. Levels are relative: studies that are linked by common cells, also through others,
    have levels around 0, those that share no cell are left as they are. The cost is one level per
    study, less one for each set of linked studies.
    """
    linked = link_studies(np.isfinite(centres))
    levels = np.zeros(centres.shape[1])
    for members in np.unique(linked):
        chosen = linked == members
        if chosen.sum() > 1:
            levels[chosen] = _fit_linked(centres[:, chosen])
    return levels, len(linked) - len(np.unique(linked))


def link_studies(present: NDArray[np.bool_]) -> NDArray[np.int_]:
    """For each study the number of its set; studies of a set are linked by common cells.

    `present` has the shape (cells, studies).
    """
    linked = np.arange(present.shape[1])
    for cell in present:
        sets = np.unique(linked[cell])
        if len(sets) > 1:
            linked[np.isin(linked, sets)] = sets[0]
    return linked


def _fit_linked(centres: Array) -> Array:
    """Levels of studies of one set, around 0. A cell of one study only says nothing about them."""
    shared = np.isfinite(centres).sum(axis=1) > 1
    centres = centres[shared]
    levels = np.zeros(centres.shape[1])
    for _ in range(_SWEEPS):
        cells = _mean(centres - levels)
        rest = centres - cells[:, None]
        # What is left after the levels of the last turn is the scale of outlying cells.
        rough, _ = rough_scale((rest - nan_median(rest.T)).reshape(1, -1), np.array([len(levels)]))
        scale = np.full(len(levels), max(float(rough[0]), 1e-12))
        fitted = robust_location(rest.T, scale)[0]
        fitted = fitted - fitted.mean()
        moved, levels = float(np.abs(fitted - levels).max()), fitted
        if moved < _STILL:
            break
    return levels


def _mean(values: Array) -> Array:
    """Mean of each row without NaN."""
    return np.asarray(np.nanmean(values, axis=1))
