"""Link work on the GPU to the host's calls that launched it, by process and correlation id."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from numa_bench.analysis.profiles.activity import Calls, Int, Ranges, Work
from numa_bench.analysis.profiles.intervals import is_sorted

#: Ids of calls are looked up in a table while it is at most so many times as long as their list.
_DENSE = 4


@dataclass(frozen=True)
class Launches:
    """For every item of work the index of its call in `calls`, -1 where none is known: (n,)."""

    calls: Calls
    index: Int


def link_launches(work: Work, calls: Calls) -> Launches:
    """Find each item's call. Of calls with the same id in one process the first one counts."""
    if not len(calls) or not len(work):
        return Launches(calls, np.full(len(work), -1, np.int64))
    keys = _key(calls.process, calls.correlation)
    order = None if is_sorted(keys) else np.argsort(keys, kind="stable")
    if order is not None:
        keys = keys[order]
    wanted = _key(work.process, work.correlation)
    at = _find_first(keys, wanted)
    # -1 is "unknown" on both sides, and no match.
    known = (keys[at] == wanted) & (work.correlation >= 0)
    return Launches(calls, np.where(known, at if order is None else order[at], -1))


def _find_first(keys: Int, wanted: Int) -> Int:
    """The index in sorted `keys` of the first that is equal to each value, or any index if none."""
    span = int(keys[-1]) - int(keys[0]) + 1
    if span > _DENSE * len(keys):
        # The leftmost match in a stable order is the first call with that id.
        return np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    # Ids of one process are nearly consecutive: a table is several times quicker than searching.
    table = np.zeros(span, np.int64)
    table[keys[::-1] - keys[0]] = np.arange(len(keys) - 1, -1, -1)  # the first one is written last
    found: Int = table[np.clip(wanted - keys[0], 0, span - 1)]
    return found


def _key(process: Int, correlation: Int) -> Int:
    """One number for both: correlation ids have 32 bits, pids less than 31."""
    return (process << 32) | (correlation & 0xFFFFFFFF)


def measure_latencies_ns(work: Work, launches: Launches) -> Int:
    """Start of the work minus start of its call, in ns; of a CUDA graph only the first item."""
    known = launches.index >= 0
    index, start = launches.index[known], work.start_ns[known]
    # By call, then by time: the first item of each call comes first in its group.
    if not (index[1:] > index[:-1]).all():
        order = np.lexsort((start, index))
        index, start = index[order], start[order]
    first = np.concatenate([[True], index[1:] != index[:-1]]) if len(index) else index == 0
    # Comparable, because the profiler writes host and GPU times on one clock.
    late: Int = start[first] - launches.calls.start_ns[index[first]]
    return late


def sum_launched_ns(ranges: Ranges, launches: Launches, time_ns: Int) -> Int:
    """GPU time in ns of the work that each range's thread launched inside it; shape (ranges,).

    `time_ns` is the time of each item of work. Nested ranges count the same work once each.
    """
    sums_ns = np.zeros(len(ranges), np.int64)
    if not len(ranges) or not len(launches.index):
        return sums_ns
    known = launches.index >= 0
    index, calls = launches.index[known], launches.calls
    # Sums of integers below 2^53: exact in the doubles that bincount adds.
    per_call = np.bincount(index, time_ns[known], len(calls)).astype(np.int64)
    for thread in np.unique(ranges.thread):
        # Calls of other threads during the range are not its work.
        mine, own = ranges.thread == thread, calls.thread == thread
        at, took = calls.start_ns[own], per_call[own]
        if not is_sorted(at):
            order = np.argsort(at, kind="stable")
            at, took = at[order], took[order]
        # Running sums over the calls, so that each range is a difference of two.
        sums = np.concatenate([[0], np.cumsum(took)])
        low = np.searchsorted(at, ranges.start_ns[mine])
        high = np.searchsorted(at, ranges.end_ns[mine])
        sums_ns[mine] = sums[high] - sums[low]
    return sums_ns
