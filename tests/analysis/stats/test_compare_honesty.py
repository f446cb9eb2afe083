"""Rates of false and of missed claims when a study is measured again on another day.

Seeded, so a test here passes always or never. The same on a larger scale:
benchmarks/compare_honesty.py.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, t

from numa_bench.analysis.stats.compare import day_tests
from numa_bench.analysis.stats.compare.day_tests import compute_fall_p, correct_weighted_holm
from numa_bench.analysis.stats.compare.days import fit_days
from tests.fake_days import Days, fit_simulated, judge_days, simulate_days
from tests.fake_pipeline import Noise

DESIGN = Days(cells=12, before=3)
COMPARISONS = 80
STILL = Noise(sd=1e-4, drift=0.0, outliers=0.0)


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(day_tests, "_MOST_DRAWS", 3_000)


def most_by_chance(rate: float) -> float:
    """The share that a true `rate` exceeds once in a thousand times."""
    return float(binom.ppf(0.999, COMPARISONS, rate)) / COMPARISONS


@pytest.mark.slow
@pytest.mark.parametrize(
    "design",
    [
        DESIGN,
        replace(DESIGN, cell_sd=0.01),
        replace(DESIGN, before=2, cell_sd=0.005),
        replace(DESIGN, cells=4, before=5, cell_sd=0.01),
        replace(DESIGN, level_sd=0.03),
    ],
    ids=["levels", "cells too", "two days", "four cells", "wild days"],
)
def test_days_that_differ_are_no_change_and_no_alarm(design: Days) -> None:
    found = judge_days(design, COMPARISONS, seed=1)
    assert found.claims <= most_by_chance(0.05)
    assert found.alarms <= most_by_chance(0.05)
    assert found.shift_coverage >= 1 - most_by_chance(0.05)
    assert found.own_coverage >= 0.93


@pytest.mark.slow
def test_a_fall_of_one_cell_is_found_and_is_not_blamed_on_the_others() -> None:
    found = judge_days(replace(DESIGN, single=-0.05, cell_sd=0.005), 40, seed=2)
    assert found.single >= 0.8
    assert found.others <= 0.1


@pytest.mark.slow
def test_a_fall_of_all_cells_is_found_as_such_from_four_days() -> None:
    found = judge_days(replace(DESIGN, shift=-0.05, before=4), 60, seed=3)
    assert found.shift >= 0.6
    assert found.alarms >= 0.7
    assert found.single + found.others <= 0.1


def test_a_shift_that_is_called_detectable_is_detected_four_times_of_five() -> None:
    """In units of its true error; how well days show that error is another matter."""
    rng = np.random.default_rng(9)
    effects = fit_simulated(simulate_days(DESIGN, rng))
    size = effects.detectable()[0] / effects.shift_error
    spread = np.sqrt(rng.chisquare(effects.freedom, 20_000) / effects.freedom)
    critical = t.ppf(1 - 0.05 * 0.75 / 2, effects.freedom)
    share = (rng.normal(size, 1, 20_000) / spread > critical).mean()
    assert share == pytest.approx(0.8, abs=0.01)


def test_the_parts_of_a_change_are_separated_without_noise() -> None:
    design = replace(DESIGN, cells=6, level_sd=0.0, noise=STILL, shift=-0.04, single=0.03)
    effects = fit_simulated(simulate_days(design, np.random.default_rng(4)))
    assert np.expm1(effects.shift) == pytest.approx(-0.04, abs=1e-3)
    assert np.expm1(effects.own[0]) == pytest.approx(0.03, abs=1e-3)
    assert effects.own[1:] == pytest.approx(0.0, abs=1e-3)
    assert np.expm1(effects.total[0]) == pytest.approx(0.96 * 1.03 - 1, abs=1e-3)


def test_the_spread_of_days_is_estimated_from_both_sides() -> None:
    design = replace(DESIGN, cells=48, before=29, level_sd=0.01, cell_sd=0.004, noise=STILL)
    throughput = simulate_days(design, np.random.default_rng(5))
    half = np.arange(30) >= 15
    effects = fit_days(np.log(throughput), half)
    assert effects.freedom == 28
    assert effects.own_freedom == 2 * 14 * 47
    assert effects.level_sd == pytest.approx(0.01, rel=0.3)
    assert effects.cell_sd == pytest.approx(0.004, rel=0.1)
    one_after = fit_days(np.log(throughput), np.arange(30) == 29)
    assert one_after.shift_error > 2 * effects.shift_error


def test_missing_cells_and_days_with_too_few_runs_do_not_count() -> None:
    throughput = simulate_days(replace(DESIGN, noise=STILL), np.random.default_rng(6))
    throughput[0, 0] = np.nan
    throughput[1, -1] = np.nan
    throughput[2, 1, :3] = np.nan
    effects = fit_days(np.log(throughput), np.arange(4) == 3)
    # 12 cells on 3 days, less two that are missing, less 12 cells and 2 levels.
    assert effects.own_freedom == 36 - 2 - 12 - 2
    assert np.isnan(effects.own).tolist() == [False, True, *[False] * 10]
    assert effects.own_error[0] > effects.own_error[5]


def test_one_day_on_each_side_is_refused() -> None:
    with pytest.raises(ValueError, match="does not show"):
        fit_days(np.zeros((3, 2, 5)), np.array([False, True]))


def test_one_cell_has_a_shift_and_nothing_of_its_own() -> None:
    throughput = simulate_days(replace(DESIGN, cells=1), np.random.default_rng(7))
    effects = fit_days(np.log(throughput), np.arange(4) == 3)
    assert np.isnan(effects.own).all()
    assert effects.total == pytest.approx(effects.shift)
    shift, cells = correct_weighted_holm(*effects.p_values())
    assert shift == pytest.approx(effects.p_values()[0])
    assert np.isnan(cells).all()


def test_the_correction_spares_the_shift_and_passes_on_what_it_leaves() -> None:
    shift, cells = correct_weighted_holm(0.03, np.array([0.001, 0.5]))
    assert shift == pytest.approx(0.03 / 0.75 * (1 - 0.125))
    assert cells[0] == pytest.approx(0.001 * 8)
    # With the shift rejected, the cells have the whole rate.
    _, cells = correct_weighted_holm(0.0001, np.array([0.02, 0.9]))
    assert cells[0] == pytest.approx(0.04)


def test_a_fall_beyond_the_limit_is_more_than_a_fall() -> None:
    design = replace(DESIGN, before=5, noise=STILL, level_sd=0.002, shift=-0.05)
    effects = fit_simulated(simulate_days(design, np.random.default_rng(8)))
    all_small, cells_small = compute_fall_p(effects, 0.01)
    all_large, cells_large = compute_fall_p(effects, 0.06)
    assert all_small < 0.01
    assert (cells_small < 0.01).all()
    assert all_large > 0.5
    assert (cells_large > 0.5).all()
