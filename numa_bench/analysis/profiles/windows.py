"""The part of a report that is measured: all of it, or the NVTX ranges of one name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from numa_bench.analysis.profiles.activity import Activity, Int, Mask
from numa_bench.analysis.profiles.intervals import (
    Cover,
    clip_cover,
    covered_length,
    intersect_covers,
    total_length,
    unite_intervals,
)
from numa_bench.errors import ReportError
from numa_bench.records import PROFILED_WINDOW

WHOLE = "all"


@dataclass(frozen=True)
class Window:
    """A part of a report's time. `name` is a range's, or WHOLE; `count` ranges make it up."""

    name: str
    cover: Cover
    count: int = 1

    @property
    def length_ns(self) -> int:
        return total_length(self.cover)

    @property
    def start_ns(self) -> int:
        return int(self.cover.start[0]) if len(self.cover.start) else 0

    def inside_ns(self, start: Int, end: Int) -> Int:
        """Length in ns of the part of each interval inside the window; shape (n,)."""
        return covered_length(self.cover, start, end)

    def clip_cover(self, cover: Cover) -> Cover:
        """The part of a cover inside the window."""
        if len(self.cover.start) == 1:
            return clip_cover(cover, int(self.cover.start[0]), int(self.cover.end[0]))
        return intersect_covers(cover, self.cover)

    def contains_times(self, at: Int) -> Mask:
        """Mask of the points inside the window; shape (n,)."""
        # The last interval that starts at or before the point; has it ended by then?
        index = np.searchsorted(self.cover.start, at, side="right") - 1
        inside: Mask = index >= 0
        inside[inside] = at[inside] < self.cover.end[index[inside]]
        return inside


def choose_window(activity: Activity, name: str | None = None) -> Window:
    """The window of that name; None: the recorder's profiled window if there is one, else all.

    Raises ReportError when the report has no such range; the message names those it has.
    """
    ranges = activity.ranges
    if name is None:
        name = PROFILED_WINDOW if PROFILED_WINDOW in ranges.names else WHOLE
    if name == WHOLE:
        low, high = activity.span_ns()
        return Window(WHOLE, unite_intervals(np.array([low]), np.array([high])), 1)
    if name not in ranges.names:
        known = ", ".join(sorted(ranges.names)[:12]) or "no NVTX ranges at all"
        raise ReportError(f"{activity.source.path}: no range {name!r}; it has {known}")
    chosen = ranges.select_rows(ranges.name == ranges.names.index(name))
    return Window(name, unite_intervals(chosen.start_ns, chosen.end_ns), len(chosen))
