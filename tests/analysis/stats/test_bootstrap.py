"""Bootstrap intervals of few runs."""

from __future__ import annotations

import numpy as np
import pytest

from numa_bench.analysis.stats.bootstrap import bootstrap_interval, expand_level


def test_the_level_of_few_runs_is_expanded_and_of_many_hardly() -> None:
    few, many = expand_level(0.95, np.array([5, 5000]), np.array([4, 4999]))
    # Student's 2.776 with 4 degrees of freedom times the root of 5/4 is normal at 99.81 %.
    assert few == pytest.approx(0.9981, abs=1e-4)
    assert many == pytest.approx(0.95, abs=1e-3)


def test_the_expanded_interval_of_a_mean_is_nearly_that_of_student() -> None:
    sample = np.random.default_rng(0).normal(0, 1, (1, 20))
    level = float(expand_level(0.95, np.array(20), np.array(19)))
    low, high = bootstrap_interval([sample], np.mean, level, seed=0)
    half = 2.093 * sample.std(ddof=1) / np.sqrt(20)
    assert low[0] == pytest.approx(sample.mean() - half, abs=0.06)
    assert high[0] == pytest.approx(sample.mean() + half, abs=0.06)


def test_equal_seeds_give_equal_intervals() -> None:
    sample = np.random.default_rng(0).normal(0, 1, (3, 5))
    ends = [bootstrap_interval([sample], np.mean, 0.95, seed)[0] for seed in (1, 1, 2)]
    assert (ends[0] == ends[1]).all()
    assert (ends[0] != ends[2]).any()


def test_a_row_has_the_same_interval_whatever_other_rows_there_are() -> None:
    sample = np.random.default_rng(0).normal(0, 1, (900, 5))
    low, high = bootstrap_interval([sample], np.mean, 0.95, seed=0, resamples=200)
    alone = bootstrap_interval([sample[850:851]], np.mean, 0.95, seed=0, resamples=200)
    assert (low[850], high[850]) == (alone[0][0], alone[1][0])
