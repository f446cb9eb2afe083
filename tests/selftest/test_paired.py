"""Alternated pairs, their median and its interval."""

from __future__ import annotations

import random
import statistics

import pytest

from numa_bench.selftest.paired import compare_pairs, find_median_interval, take_pairs


def test_pairs_alternate_and_keep_their_sides() -> None:
    order: list[str] = []

    def measure(name: str, value: float) -> float:
        order.append(name)
        return value

    pairs = take_pairs(lambda: measure("a", 1.0), lambda: measure("b", 2.0), 3)

    assert order == ["a", "b", "b", "a", "a", "b"]
    assert pairs == [(1.0, 2.0)] * 3


def test_six_values_are_the_fewest_with_an_interval() -> None:
    assert find_median_interval([3, 1, 2, 6, 5, 4]) == (1, 6)
    with pytest.raises(ValueError, match="5 pairs give no interval"):
        find_median_interval([1, 2, 3, 4, 5])


@pytest.mark.parametrize(("count", "ends"), [(8, (1, 8)), (20, (6, 15))])
def test_the_interval_is_that_of_the_tables(count: int, ends: tuple[int, int]) -> None:
    """Ranks of the 95 % interval of the median in tables of the sign test."""
    assert find_median_interval(list(range(1, count + 1))) == ends


def test_the_interval_covers_the_median_as_often_as_it_says() -> None:
    generator = random.Random(0)
    covered = 0
    for _ in range(1000):
        low, high = find_median_interval([generator.lognormvariate(0, 1) for _ in range(20)])
        covered += low <= 1 <= high

    assert covered >= 950


def test_a_slow_drift_cancels_within_pairs() -> None:
    clock = iter(1 + index / 100 for index in range(100))

    comparison = compare_pairs(
        take_pairs(lambda: 2 * next(clock), lambda: next(clock), 20),
    )

    assert comparison.median == pytest.approx(2, rel=0.01)
    assert comparison.low < comparison.median < comparison.high
    assert comparison.decides
    assert comparison.median == statistics.median(comparison.ratios)


def test_pairs_that_scatter_decide_nothing() -> None:
    generator = random.Random(1)

    comparison = compare_pairs([(generator.uniform(0.5, 2), 1.0) for _ in range(8)])

    assert not comparison.decides
