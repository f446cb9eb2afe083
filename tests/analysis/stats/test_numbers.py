"""Location, scale, drift, correction and p-values: each against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from numa_bench.analysis.stats.drift import remove_drift
from numa_bench.analysis.stats.permutation import correct_holm, fit_cells, null_statistics, p_values
from numa_bench.analysis.stats.robust import fit_prior, nan_median, robust_location


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=8))
@settings(max_examples=50, deadline=None)
def test_the_median_ignores_runs_that_are_not_there(values: list[float]) -> None:
    padded = np.array([[*values, np.nan, np.nan]])
    assert nan_median(padded)[0] == pytest.approx(np.median(values))


def test_the_location_is_the_mean_without_outliers_and_nearly_so_with_one() -> None:
    quiet = np.array([[0.0, 0.01, -0.01, 0.005, -0.005]])
    scale = np.array([0.01])
    assert robust_location(quiet, scale)[0][0] == pytest.approx(0.0, abs=1e-12)
    slow = np.array([[0.0, 0.01, -0.01, 0.005, -0.2]])
    assert robust_location(slow, scale)[0][0] == pytest.approx(0.00125)


def test_two_of_five_runs_elsewhere_leave_no_majority_and_all_count() -> None:
    centre, weight, mixed = robust_location(
        np.array([[0.0, 0.0, 0.0, -0.1, -0.1]]), np.array([0.01])
    )
    assert mixed[0]
    assert centre[0] == pytest.approx(-0.04)
    assert weight.sum() == 5


def test_the_prior_of_like_variances_is_worth_much_and_of_unlike_ones_little() -> None:
    rng = np.random.default_rng(0)
    freedom = np.full(40, 8.0)
    like = rng.chisquare(8, 40) / 8
    unlike = like * np.exp(rng.normal(0, 1.5, 40))
    assert fit_prior(like, freedom).worth > 30
    assert fit_prior(unlike, freedom).worth < 5
    assert fit_prior(like, freedom).variance == pytest.approx(1.0, rel=0.2)
    assert fit_prior(like[:2], freedom[:2]).worth == 0


def test_holm_agrees_with_its_definition() -> None:
    p = np.array([0.01, 0.04, 0.03, 0.005])
    # Worked by hand: 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 not below the one before.
    assert correct_holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_single_comparisons_agree_with_exact_permutation_tests_on_the_whole() -> None:
    classes = np.array([[0, 1]])
    ratios = []
    for seed in range(20):
        pairs = np.random.default_rng(seed).normal(0, 0.01, (2, 5))
        pairs[1] += 0.012
        fitted = fit_cells(pairs[None], classes)
        null = null_statistics(pairs[None], classes, fitted, 0, 20_000)
        p = p_values(fitted.studentised_differences[:, 1], null)[0]
        exact = scipy_stats.permutation_test(
            (pairs[0], pairs[1]), lambda a, b: scipy_stats.ttest_ind(a, b).statistic
        ).pvalue
        ratios.append(p / exact)
    # Each side has its own noise here, as in Welch's test, so that single pairs differ by more.
    assert 0.6 < np.median(ratios) < 1.7


def test_p_is_never_zero() -> None:
    assert p_values(np.array([99.0]), np.zeros(999))[0] == pytest.approx(1 / 1000)


@pytest.mark.parametrize("cells", [2, 12])
def test_drift_is_taken_out_and_the_cells_keep_their_differences(cells: int) -> None:
    rng = np.random.default_rng(2)
    level = rng.normal(0, 0.5, (cells, 1))
    drift = np.linspace(0, -0.2, 5)
    still, spent = remove_drift(level + drift + rng.normal(0, 0.001, (cells, 5)))
    assert np.ptp(still - level, axis=1).max() < 0.01
    assert still.mean(axis=1) - level[:, 0] == pytest.approx(drift.mean(), abs=0.003)
    assert 0 < spent < 0.2


def test_drift_of_missing_runs_changes_nothing_else() -> None:
    values = np.tile(np.linspace(0, -0.1, 6), (10, 1))
    values[3, 2] = values[4] = np.nan
    still, _ = remove_drift(values)
    assert np.isnan(still[3, 2])
    assert np.nanmax(np.abs(np.diff(still[[0, 1, 2]], axis=1))) < 1e-9
