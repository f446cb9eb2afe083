"""A cell most of whose runs are in the slow state by chance is no proof of an effect."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from numa_bench.analysis.stats.majority import Rare, bound_p, find_blocked_share, find_rare
from numa_bench.analysis.stats.permutation import fit_cells
from numa_bench.analysis.stats.robust import Array

SLOW = 0.04


def two_states() -> Array:
    """Six settings, local and remote, five runs each; one run of each of the first ten cells is
    slow."""
    values = np.random.default_rng(0).normal(0, 0.0005, (6, 2, 5))
    values[:5, :, 1] -= SLOW
    return np.asarray(values)


def bound_of(values: Array) -> Array:
    fitted = fit_cells(values)
    return bound_p(values, fitted, find_rare(values, fitted))


def test_p_is_at_least_the_probability_of_such_a_majority() -> None:
    values = two_states()
    values[5, 1, :4] -= SLOW
    bound = bound_of(values)
    # One run is far from the others in each of eleven cells, and none in the last base; the bound
    # adds one standard error and that some of the eleven may be four.
    four, five = (binom.sf(n - 1, 5, 11 / 60) for n in (4, 5))
    assert four + five < bound[5, 1] < 5 * (four + five)
    assert 2 * four < bound[0, 1] < 10 * four
    # Four against one is more likely than five against none.
    assert bound[0, 1] > bound[5, 1]


def test_the_rate_counts_cells_in_which_the_rare_state_has_the_majority() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0, 0.0005, (300, 2, 5)) - SLOW * (rng.random((300, 2, 5)) < 0.3)
    values[0] = rng.normal(0, 0.0005, (2, 5))
    values[0, 1] -= SLOW
    # All of five on one side: 0.3 to the fifth for either. Counting the fewer runs of each cell
    # alone gives a rate of 0.25, and less than half of that.
    assert bound_of(values)[0, 1] == pytest.approx(2 * 0.3**5, rel=0.3)


def test_a_difference_larger_than_that_of_the_states_is_not_explained_by_them() -> None:
    values = two_states()
    values[5, 1] -= 3 * SLOW
    bound = bound_of(values)
    assert bound[5, 1] == 0
    assert bound[0, 1] > 0


def test_without_far_runs_there_is_no_bound() -> None:
    values = np.random.default_rng(0).uniform(-0.001, 0.001, (6, 2, 5))
    values[3, 1, 4] = np.nan
    assert not bound_of(values).any()


def test_the_share_of_comparisons_that_rare_states_block_is_that_of_simulated_ones() -> None:
    rare, step = Rare(rate=0.2, upper=0.25, depth=0.04), 0.05 / 6
    # Minimal p: one far run in either cell gives P(X >= 4) + P(X >= 5) = 0.016, none 0.002.
    far = np.random.default_rng(2).random((20_000, 2, 5)) < rare.rate
    blocked = 1 - (~far.any(axis=-1) | far.all(axis=-1)).all(axis=-1).mean()
    assert find_blocked_share(rare, 5, step) == pytest.approx(blocked, abs=0.01)
    # Two or three of five leave no majority.
    mixed = np.isin(far.sum(axis=-1), (2, 3)).any(axis=-1).mean()
    assert find_blocked_share(rare, 5, step=1.0) == pytest.approx(mixed, abs=0.01)
    assert find_blocked_share(Rare(0.0, 0.0, 0.0), 5, step) == 0
