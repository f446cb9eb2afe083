"""Pure: remove the drift that all cells of a study share from block to block.

A study measures every cell once per block (`repeat`), so whatever moves a whole block (heat,
clocks, other users) can be separated from placement.
"""

from __future__ import annotations

import numpy as np

from numa_bench.analysis.stats.robust import (
    Array,
    hampel_weights,
    nan_median,
    robust_location,
    rough_scale,
)

#: Cells from which each block has a level of its own; with fewer, drift is a straight line. Chosen:
#: the mean of 12 cells has 29 % (1 / sqrt(12)) of a run's noise, less than the
#: noise of a cell's mean over 5 repeats (45 %); benchmarks/honesty.py has designs on both sides.
BLOCK_CELLS = 12
#: Alternations between cell centres and drift. Chosen: few, because cells are balanced over blocks.
_SWEEPS = 3


def remove_drift(values: Array) -> tuple[Array, float]:
    """Values of one study without its drift, and the cost in degrees of freedom per run.

    `values` are logarithms, shape (cells, blocks), NaN where a run is missing. With `BLOCK_CELLS`
    cells or more each block's robust mean is removed, with fewer a straight line over the blocks,
    the same for all cells. The mean of the study is kept. The cost is that of least squares.
    """
    cells, blocks = values.shape
    # Drift is what cells share: one cell shares nothing, and two blocks show no trend.
    if blocks < 3 or cells < 2 or not np.isfinite(values).any():
        return values, 0.0
    drift = np.zeros(blocks)
    # A two-way fit by turns: centres of cells without the drift, then drift without the centres.
    for _ in range(_SWEEPS):
        rest = values - drift
        rest = rest - nan_median(rest)[:, None]
        rough, worth = rough_scale(rest.reshape(1, -1), np.array([cells]))
        # One standard error above the estimate: 1 / sqrt(2 worth) is that of a standard deviation.
        scale = np.maximum(rough * (1 + 1 / np.sqrt(2 * worth)), 1e-12)
        centre = robust_location(values - drift, np.broadcast_to(scale, cells))[0]
        rest = values - centre[:, None]
        if cells >= BLOCK_CELLS:
            drift = robust_location(rest.T, np.broadcast_to(scale, blocks))[0]
        else:
            drift = _line(rest, drift, scale)
        # Only differences between blocks are removed; the study keeps its mean.
        drift = drift - drift.mean()
    runs = int(np.isfinite(values).sum())
    # Free parameters: the centred levels of the blocks, or one slope.
    spent = blocks - 1 if cells >= BLOCK_CELLS else 1
    return values - drift, spent / runs


def _line(rest: Array, drift: Array, scale: Array) -> Array:
    """A straight line over the blocks through all runs, with Hampel's weights around `drift`."""
    place = np.arange(rest.shape[1]) - (rest.shape[1] - 1) / 2
    # Weights around the previous line, or a steep drift would make outliers of the end blocks.
    far = (rest - drift).reshape(1, -1)
    weight = hampel_weights(far, np.zeros(1), scale).reshape(rest.shape)
    filled = np.nan_to_num(rest)
    slope = (weight * place * filled).sum() / max(float((weight * place**2).sum()), 1e-12)
    return np.asarray(slope * place)
