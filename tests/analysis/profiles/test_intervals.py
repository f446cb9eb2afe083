"""Interval arithmetic against a reference that counts every nanosecond."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from numa_bench.analysis.profiles.activity import Int
from numa_bench.analysis.profiles.intervals import (
    EMPTY,
    Cover,
    clip_cover,
    covered_length,
    find_gaps,
    intersect_covers,
    total_length,
    unite_covers,
    unite_intervals,
)

Pairs = list[tuple[int, int]]
#: Small numbers, so that touching, nested, equal and empty intervals are common.
PAIRS: st.SearchStrategy[Pairs] = st.lists(
    st.tuples(st.integers(-20, 60), st.integers(-3, 15)).map(lambda p: (p[0], p[0] + p[1])),
    max_size=12,
)


def arrays(pairs: Pairs) -> tuple[Int, Int]:
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def cover(pairs: Pairs) -> Cover:
    return unite_intervals(*arrays(pairs))


def points(pairs: Pairs) -> set[int]:
    """Every nanosecond that is inside, one by one."""
    return {at for start, end in pairs for at in range(start, end)}


def points_of(found: Cover) -> set[int]:
    return points([(int(a), int(b)) for a, b in zip(found.start, found.end, strict=True)])


def is_canonical(found: Cover) -> bool:
    return bool((found.end > found.start).all() and (found.start[1:] > found.end[:-1]).all())


@given(PAIRS)
def test_union_covers_the_same_points_once(pairs: Pairs) -> None:
    found = cover(pairs)

    assert is_canonical(found)
    assert points_of(found) == points(pairs)
    assert total_length(found) == len(points(pairs))


@given(PAIRS, PAIRS)
def test_intersection_covers_what_both_do(a: Pairs, b: Pairs) -> None:
    both = intersect_covers(cover(a), cover(b))

    assert points_of(both) == points(a) & points(b)
    assert is_canonical(both)


@given(PAIRS, PAIRS, PAIRS)
def test_merge_is_the_union_of_covers(a: Pairs, b: Pairs, c: Pairs) -> None:
    found = unite_covers(cover(a), cover(b), cover(c))

    assert is_canonical(found)
    assert points_of(found) == points(a + b + c)


@given(PAIRS)
def test_gaps_are_what_is_missing_in_between(pairs: Pairs) -> None:
    inside = points(pairs)
    between = set(range(min(inside), max(inside))) if inside else set()

    assert points_of(find_gaps(cover(pairs))) == between - inside


@example([(0, 9)], 4, 0)
@given(PAIRS, st.integers(-25, 80), st.integers(0, 40))
def test_clip_keeps_the_part_inside(pairs: Pairs, low: int, length: int) -> None:
    found = clip_cover(cover(pairs), low, low + length)

    assert points_of(found) == points(pairs) & set(range(low, low + length))
    assert is_canonical(found)


@given(PAIRS, PAIRS)
def test_covered_measures_each_interval_by_itself(pairs: Pairs, window: Pairs) -> None:
    start, end = arrays(pairs)

    found = covered_length(cover(window), start, end)

    expected = [len(points([pair]) & points(window)) for pair in pairs]
    assert found.tolist() == expected


def test_nothing_is_nothing() -> None:
    assert total_length(EMPTY) == 0
    assert total_length(unite_covers()) == 0
    assert not len(find_gaps(EMPTY).start)
    assert not len(intersect_covers(EMPTY, cover([(0, 5)])).start)


def test_nanoseconds_since_1970_lose_no_digit() -> None:
    epoch = 1_700_000_000_000_000_000
    found = unite_intervals(np.array([epoch + 1, epoch + 3]), np.array([epoch + 2, epoch + 7]))

    assert total_length(found) == 5
    assert covered_length(found, np.array([epoch]), np.array([epoch + 4])).tolist() == [2]
