"""Simulated comparisons of studies whose truth is known: days that differ, and runs with noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from numa_bench.analysis.stats.compare.day_tests import compute_fall_p, correct_weighted_holm
from numa_bench.analysis.stats.compare.days import DayEffects, fit_days
from numa_bench.analysis.stats.compare.tables import find_regressions
from numa_bench.analysis.stats.contrasts import compare_cells
from numa_bench.analysis.stats.drift import remove_drift
from numa_bench.analysis.stats.permutation import ALPHA
from numa_bench.analysis.stats.robust import Array
from numa_bench.analysis.stats.tables import TARGET
from tests.fake_pipeline import Noise

#: Fixed before the method was tuned: runs differ by 1 %, a study drifts by 3 %, 5 % are outliers.
REAL = Noise(drift=-0.03)


@dataclass(frozen=True)
class Days:
    """A comparison: `cells` measured `repeats` times on each of `before` days and one day after.

    `level_sd` is the standard deviation of the days' levels, `cell_sd` that of one cell on one
    day, both as fractions. After has changed by `shift` in all cells, and by `single` in one.
    """

    cells: int = 12
    before: int = 3
    repeats: int = 5
    level_sd: float = 0.01
    cell_sd: float = 0.0
    shift: float = 0.0
    single: float = 0.0
    noise: Noise = REAL


def simulate_days(design: Days, rng: np.random.Generator) -> Array:
    """Throughput (cells, days, runs), each day in shuffled blocks; the last day is after."""
    shape = (design.cells, design.before + 1, design.repeats)
    found = np.exp(
        rng.normal(0, design.level_sd, shape[1])[:, None]
        + rng.normal(0, design.cell_sd, shape[:2])[..., None]
        + np.zeros(shape)
    )
    block = np.repeat(np.arange(design.repeats), design.cells)
    for day in range(shape[1]):
        order = np.concatenate([rng.permutation(design.cells) for _ in range(design.repeats)])
        found[order, day, block] *= design.noise.factors(rng, len(order))
    found[:, -1] *= 1 + design.shift
    found[0, -1] *= 1 + design.single
    return 1000.0 * found


def fit_simulated(throughput: Array) -> DayEffects:
    """What the comparison estimates from it; the drift of each day is removed as in studies."""
    flat = [remove_drift(np.log(throughput[:, day])) for day in range(throughput.shape[1])]
    after = np.arange(throughput.shape[1]) == throughput.shape[1] - 1
    return fit_days(np.stack([logs for logs, _ in flat], axis=1), after, flat[0][1])


@dataclass(frozen=True)
class DaysOutcome:
    """Shares of many comparisons: `claims` something, claims the common `shift` (one day on each
    side: claims every cell), the changed cell as `single`, another cell (`others`); an alarm at 1 %
    (`alarms`); intervals of the shift and of the cells' own changes that hold the truth."""

    claims: float
    shift: float
    single: float
    others: float
    alarms: float
    shift_coverage: float
    own_coverage: float


def judge_days(design: Days, comparisons: int, seed: int = 0, limit: float = 0.01) -> DaysOutcome:
    """Simulate and judge so many comparisons."""
    rng = np.random.default_rng(seed)
    rows = []
    own = np.zeros(design.cells)
    own[0] = np.log1p(design.single)
    for index in range(comparisons):
        effects = fit_simulated(simulate_days(design, rng))
        shift, cells = correct_weighted_holm(*effects.p_values())
        claimed = np.nan_to_num(cells, nan=1.0) < ALPHA
        fall, falls = compute_fall_p(effects, limit, seed + index)
        alarm = fall < ALPHA or bool((np.nan_to_num(falls, nan=1.0) < ALPHA).any())
        low, high = effects.shift_interval()
        lows, highs = effects.own_intervals()
        rows.append(
            (
                shift < ALPHA or claimed.any(),
                shift < ALPHA,
                claimed[0],
                claimed[1:].any(),
                alarm,
                low <= np.log1p(design.shift) <= high,
                ((lows <= own) & (own <= highs)).mean(),
            )
        )
    return DaysOutcome(*(float(v) for v in np.array(rows, dtype=float).mean(axis=0)))


def judge_single_day(
    design: Days, comparisons: int, seed: int = 0, limit: float = 0.01, effort: float = 0.05
) -> DaysOutcome:
    """The same with one day before, which is judged by the noise within the days alone."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(comparisons):
        throughput = simulate_days(replace(design, before=1), rng)
        flat = [remove_drift(np.log(throughput[:, day])) for day in (0, 1)]
        stack = np.stack([logs for logs, _ in flat], axis=1)
        contrasts = compare_cells(stack, flat[0][1], TARGET, seed + index, effort)
        claimed = contrasts.claimed[:, 1]
        alarm = find_regressions(contrasts, limit).any()
        rows.append((claimed.any(), claimed.all(), claimed[0], claimed[1:].any(), alarm))
    shares = [float(v) for v in np.array(rows, dtype=float).mean(axis=0)]
    return DaysOutcome(*shares, *[float("nan")] * 2)
