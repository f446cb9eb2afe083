"""Pooled contrasts: their mean, what their error includes, correction and advice."""

from __future__ import annotations

import numpy as np
import pytest

from numa_bench.analysis.stats.pooled.estimate import (
    Pooled,
    Selection,
    pool_differences,
    shared_variance,
)
from numa_bench.analysis.stats.pooled.grid import Cells, make_grid
from numa_bench.analysis.stats.robust import Array

UNITS, REPEATS = 8, 5


def draw(sd: float = 0.01, seed: int = 0, units: int = UNITS, models: int = 3) -> Array:
    """Runs of models on units, local and one placement, in blocks."""
    return np.random.default_rng(seed).normal(0, sd, (models, units, 2, REPEATS))


def arrange(values: Array) -> Cells:
    models, units = values.shape[:2]
    return Cells(
        values=values.reshape(-1, *values.shape[2:]),
        model=np.repeat(np.arange(models), units),
        unit=np.tile(np.arange(units), models),
        place=np.tile([-1, 0], (models * units, 1)),
        spent=0.0,
    )


def pool(values: Array, target: float = 0.02, by_model: bool = False) -> Pooled:
    models, units = range(values.shape[0]), tuple(range(values.shape[1]))
    groups = [(m,) for m in models] if by_model else [tuple(models)]
    grid = make_grid(arrange(values))
    return pool_differences(grid, [Selection(group, units, 0) for group in groups], target)


def test_an_effect_is_the_mean_over_models_and_units() -> None:
    values = draw(sd=0.001)
    values[:, :, 1] -= np.array([0.01, 0.02, 0.03])[:, None, None]
    one = pool(values)
    assert one.estimate[0] == pytest.approx(-0.02, abs=0.001)
    assert one.low[0] < -0.02 < one.high[0]
    assert one.claimed[0]
    assert one.units[0] == UNITS
    assert pool(values, by_model=True).estimate == pytest.approx([-0.01, -0.02, -0.03], abs=0.001)


def test_units_that_differ_make_the_error_larger_than_their_runs_do() -> None:
    alike, unlike = draw(sd=0.002), draw(sd=0.002)
    levels = np.random.default_rng(1).normal(0, 0.01, UNITS)
    unlike[:, :, 1] += levels[:, None]
    expected = levels.std(ddof=1) / np.sqrt(UNITS)
    assert pool(unlike).error[0] == pytest.approx(expected, rel=0.3)
    assert pool(alike).error[0] < expected / 4


def test_a_unit_with_disturbed_runs_counts_less() -> None:
    values = draw(sd=0.001)
    rng = np.random.default_rng(2)
    values[:, 0] = rng.normal(0, 0.1, values[:, 0].shape)
    values[:, 0, 1] -= 0.1
    # Unweighted, an eighth of 10 % would be seen.
    assert abs(pool(values).estimate[0]) < 0.006


def test_two_units_have_the_error_of_their_runs() -> None:
    values = draw(units=2)
    values[:, 0, 1] -= 0.05
    pooled = pool(values)
    # Mean of 6 differences, each of two means of 5 runs with 1 % noise.
    assert pooled.error[0] == pytest.approx(0.01 * np.sqrt(2 / 5 / 6), rel=0.4)


def test_an_error_that_a_block_shares_is_part_of_the_error() -> None:
    sd = 0.01
    alone, together = [], []
    for seed in range(30):
        values = draw(sd=0.002, seed=seed)
        alone.append(shared_variance(make_grid(arrange(values)))[0])
        values += np.random.default_rng(100 + seed).normal(0, sd, (2, REPEATS))
        grid = make_grid(arrange(values))
        together.append(shared_variance(grid)[0])
        assert pool(values).error[0] ** 2 >= together[-1]
    # The two placements of each block, averaged over blocks.
    assert np.mean(together) == pytest.approx(2 * sd**2 / REPEATS, rel=0.3)
    assert np.mean(alone) < 0.02 * np.mean(together)


def test_contrasts_are_corrected_together() -> None:
    values = draw()
    pooled = pool(values, by_model=True)
    smallest = int(pooled.p.argmin())
    assert pooled.p_holm[smallest] == pytest.approx(min(1.0, 3 * pooled.p[smallest]))
    assert (pooled.p_holm >= pooled.p).all()


def test_detectable_effects_and_repeats_follow_the_noise() -> None:
    quiet, noisy = pool(draw(sd=0.002, units=1)), pool(draw(sd=0.02, units=1))
    assert 5 < noisy.detectable[0] / quiet.detectable[0] < 20
    assert noisy.detectable[0] > noisy.high[0] - noisy.estimate[0]
    assert quiet.repeats[0] == 3
    needed = [pool(draw(sd=0.04, units=1), target).repeats[0] for target in (0.02, 0.01, 1e-5)]
    assert REPEATS < needed[0] < needed[1]
    assert np.isnan(needed[2])
