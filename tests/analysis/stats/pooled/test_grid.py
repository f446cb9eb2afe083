"""Differences from local, by model, unit and class of placements."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from numa_bench.analysis.stats.pooled.grid import Cells, make_grid

NOISE = 0.001


def arrange(models: int = 2, units: int = 2, repeats: int = 6) -> Cells:
    """Local and three placements: class 0 (1 % slower), class 1 twice (2 and 4 % slower)."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, NOISE, (models * units, 4, repeats))
    values += np.array([0.0, -0.01, -0.02, -0.04])[:, None]
    return Cells(
        values=values,
        model=np.repeat(np.arange(models), units),
        unit=np.tile(np.arange(units), models),
        place=np.tile([-1, 0, 1, 1], (models * units, 1)),
        spent=0.0,
    )


def test_placements_of_a_class_are_averaged() -> None:
    grid = make_grid(arrange())
    assert grid.difference.shape == (2, 2, 2)
    assert grid.difference[..., 0].ravel() == pytest.approx(-0.01, abs=0.002)
    assert grid.difference[..., 1].ravel() == pytest.approx(-0.03, abs=0.002)
    assert grid.repeats == 6


def test_the_base_is_shared_so_that_two_placements_have_more_than_half_the_variance() -> None:
    grid = make_grid(arrange())
    one, two = grid.variance[..., 0], grid.variance[..., 1]
    # Means of n runs: 1/n + 1/n of one, 1/2n + 1/n of two, as far as noise is alike.
    assert two / one == pytest.approx(0.75, abs=0.15)
    assert np.sqrt(one) == pytest.approx(NOISE * np.sqrt(2 / 6), rel=0.5)


def test_residuals_are_differences_within_blocks() -> None:
    cells = arrange()
    grid = make_grid(cells)
    within = cells.values[1, 1] - cells.values[1, 0]
    assert np.corrcoef(grid.residual[0, 1, 0], within)[0, 1] > 0.99
    assert grid.residual.mean(axis=-1) == pytest.approx(0.0, abs=1e-4)


def test_a_cell_with_too_few_runs_is_left_out() -> None:
    cells = arrange()
    cells.values[1, 1, :4] = np.nan
    grid = make_grid(cells)
    assert np.isnan(grid.difference[0, 1, 0])
    assert np.isfinite(grid.difference).sum() == 7
    # Of two placements of a class the other one remains.
    cells.values[1, 3, :4] = np.nan
    assert make_grid(cells).difference[0, 1, 1] == pytest.approx(-0.02, abs=0.002)


def test_the_order_of_settings_does_not_matter() -> None:
    cells = arrange()
    back = replace(
        cells,
        values=cells.values[::-1],
        model=cells.model[::-1],
        unit=cells.unit[::-1],
        place=cells.place[::-1],
    )
    assert make_grid(back).difference == pytest.approx(make_grid(cells).difference)
