"""Arithmetic of time intervals, on whole arrays: O(n log n) at most.

An interval is [start, end) in integer nanoseconds; an empty one (end <= start) counts for nothing.
A `Cover` is a set of them that are sorted, disjoint and not touching: the canonical form in which
union, intersection and difference are cheap, and a total is the plain sum of lengths.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from numa_bench.analysis.profiles.activity import Int


class Cover(NamedTuple):
    """Sorted disjoint intervals: two arrays of shape (n,)."""

    start: Int
    end: Int


EMPTY = Cover(np.empty(0, np.int64), np.empty(0, np.int64))


def unite_intervals(start: Int, end: Int) -> Cover:
    """The points that any of the intervals covers. Shapes (n,), any order."""
    full = end > start
    if not full.all():
        start, end = start[full], end[full]
    if not len(start):
        return EMPTY
    if not is_sorted(start):
        order = np.argsort(start, kind="stable")
        start, end = start[order], end[order]
    # The furthest end so far. Only a start beyond it opens a new piece, so touching ones join.
    reach = np.maximum.accumulate(end)
    first = np.concatenate([[True], start[1:] > reach[:-1]])
    last = np.concatenate([first[1:], [True]])
    return Cover(start[first], reach[last])


def unite_covers(*covers: Cover) -> Cover:
    """The union of several covers."""
    full = [cover for cover in covers if len(cover.start)]
    if len(full) <= 1:
        return full[0] if full else EMPTY
    return unite_intervals(
        np.concatenate([c.start for c in full]), np.concatenate([c.end for c in full])
    )


def total_length(cover: Cover) -> int:
    """Summed length in ns."""
    return int((cover.end - cover.start).sum())


def intersect_covers(a: Cover, b: Cover) -> Cover:
    """The points that both cover."""
    if len(a.start) > len(b.start):
        a, b = b, a  # the search is for each interval of the first
    # Partners of an interval are those that end after its start and start before its end.
    low = np.searchsorted(b.end, a.start, side="right")
    high = np.searchsorted(b.start, a.end, side="left")
    pairs = np.maximum(high - low, 0)
    mine = np.repeat(np.arange(len(a.start)), pairs)
    # The k-th partner of an interval is `low + k`: count up inside each run of equal `mine`.
    begin = np.cumsum(pairs) - pairs
    other = np.arange(len(mine)) - begin[mine] + low[mine]
    return Cover(np.maximum(a.start[mine], b.start[other]), np.minimum(a.end[mine], b.end[other]))


def find_gaps(cover: Cover) -> Cover:
    """The intervals between those of a cover."""
    return Cover(cover.end[:-1], cover.start[1:])


def clip_cover(cover: Cover, low: int, high: int) -> Cover:
    """The part of a cover inside [low, high)."""
    first = np.searchsorted(cover.end, low, side="right")
    last = np.searchsorted(cover.start, high, side="left")
    if first >= last or low >= high:
        return EMPTY
    # Only the outer two can be cut. Copied, because slices share the cover's memory.
    start, end = cover.start[first:last].copy(), cover.end[first:last].copy()
    start[0], end[-1] = max(start[0], low), min(end[-1], high)
    return Cover(start, end)


def covered_length(cover: Cover, start: Int, end: Int) -> Int:
    """Length in ns of each interval's part inside `cover`; shape (n,) like `start` and `end`."""
    # The usual window is one interval, which needs no search.
    if len(cover.start) == 1:
        inside = np.minimum(end, cover.end[0]) - np.maximum(start, cover.start[0])
    else:
        # Covered length is additive: what is before the end minus what is before the start.
        inside = _before(cover, end) - _before(cover, start)
    lengths: Int = np.maximum(inside, 0)
    return lengths


def _before(cover: Cover, at: Int) -> Int:
    """Length of the cover's part before each point."""
    if not len(cover.start):
        return np.zeros_like(at)
    sums = np.concatenate([[0], np.cumsum(cover.end - cover.start)])
    index = np.searchsorted(cover.start, at, side="right")
    last = np.maximum(index - 1, 0)
    # The last interval that began may reach beyond the point.
    beyond = np.maximum(cover.end[last] - np.maximum(at, cover.start[last]), 0)
    before: Int = np.where(index > 0, sums[index] - beyond, 0)
    return before


def is_sorted(values: Int) -> bool:
    """Whether the values never fall."""
    return bool((values[1:] >= values[:-1]).all())
