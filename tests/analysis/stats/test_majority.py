"""A cell most of whose runs are in the slow state by chance is no proof of an effect."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from numa_bench.analysis.stats.majority import bound_p
from numa_bench.analysis.stats.permutation import fit_cells
from numa_bench.analysis.stats.robust import Array

SLOW = 0.04


def two_states() -> Array:
    """Six settings, local and remote, five runs each; one run of each of the first ten cells is
    slow."""
    values = np.random.default_rng(0).normal(0, 0.0005, (6, 2, 5))
    values[:5, :, 1] -= SLOW
    return np.asarray(values)


def test_p_is_at_least_the_probability_of_such_a_majority() -> None:
    values = two_states()
    values[5, 1, :4] -= SLOW
    bound = bound_p(values, fit_cells(values))
    # One run is far from the others in each of eleven cells, and none in the last base.
    rate = 11 / 60
    four, five = (binom.sf(n - 1, 5, rate) for n in (4, 5))
    assert bound[5, 1] == pytest.approx(four + five, rel=0.02)
    assert bound[0, 1] == pytest.approx(2 * four, rel=0.02)


def test_a_difference_larger_than_that_of_the_states_is_not_explained_by_them() -> None:
    values = two_states()
    values[5, 1] -= 3 * SLOW
    bound = bound_p(values, fit_cells(values))
    assert bound[5, 1] == 0
    assert bound[0, 1] > 0


def test_without_far_runs_there_is_no_bound() -> None:
    values = np.random.default_rng(0).uniform(-0.001, 0.001, (6, 2, 5))
    values[3, 1, 4] = np.nan
    assert not bound_p(values, fit_cells(values)).any()
