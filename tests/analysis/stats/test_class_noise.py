"""Noise of placements: found where it differs, left alone where it does not."""

from __future__ import annotations

import numpy as np
import pytest

from numa_bench.analysis.stats.class_noise import estimate_factors
from numa_bench.analysis.stats.permutation import number_columns
from numa_bench.analysis.stats.robust import Array


def draw(scales: list[float], settings: int = 100, runs: int = 5) -> Array:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, (settings, len(scales), runs))
    return np.asarray(noise * np.array(scales)[:, None])


def ratio(values: Array) -> float:
    """The noise of placement 1 over that of local, which is the same in all settings."""
    factors = estimate_factors(values, number_columns(values))
    assert np.ptp(factors, axis=0).max() == 0
    return float(factors[0, 1] / factors[0, 0])


def test_a_placement_with_three_times_the_noise_is_seen_as_such() -> None:
    assert ratio(draw([1.0, 3.0])) == pytest.approx(3.0, rel=0.2)
    assert ratio(draw([3.0, 1.0])) == pytest.approx(1 / 3, rel=0.25)


def test_placements_that_differ_by_chance_only_are_taken_as_alike() -> None:
    assert ratio(draw([1.0, 1.0])) == pytest.approx(1.0, abs=0.1)


def test_the_noise_of_a_setting_is_not_that_of_a_placement() -> None:
    values = draw([1.0, 3.0])
    before = ratio(values)
    values[:7] *= 4
    assert ratio(values) == pytest.approx(before, rel=1e-6)


def test_slow_runs_of_one_placement_are_not_its_noise() -> None:
    values = draw([1.0, 1.0])
    values[::4, 1, 2] -= 0.3
    assert ratio(values) < 1.6


def test_placements_without_runs_have_no_factor() -> None:
    values = np.random.default_rng(4).normal(0, 0.01, (6, 2, 20))
    values[:, 1] = np.nan
    assert (estimate_factors(values, number_columns(values)) == 1).all()
