"""Pure: idle gaps and latencies in figures."""

from __future__ import annotations

import numpy as np

from numa_bench.analysis.profiles.activity import Int
from numa_bench.analysis.profiles.intervals import Cover, gaps
from numa_bench.analysis.profiles.metrics import GapClass, Gaps, Latency
from numa_bench.analysis.profiles.windows import Window

NS_PER_US = 1e3
NS_PER_MS = 1e6
#: Upper edges of the classes of idle gaps, in ns; the last class is open.
GAP_EDGES_NS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
GAP_CLASSES = ("<1 us", "1-10 us", "10-100 us", "0.1-1 ms", "1-10 ms", "10-100 ms", ">=100 ms")


def idle_gaps(busy: Cover, window: Window) -> Gaps:
    """Idle time between the first and the last work; what the window leaves out is not idle."""
    idle = gaps(busy)
    idle = window.part(idle)
    length = idle.end - idle.start
    which = np.searchsorted(GAP_EDGES_NS, length, side="right")
    counts = np.bincount(which, minlength=len(GAP_CLASSES))
    sums = np.bincount(which, length, len(GAP_CLASSES))
    p50, p95, longest = _percentiles(length) or (None, None, None)
    return Gaps(
        count=len(length),
        total_ms=int(length.sum()) / NS_PER_MS,
        p50_us=p50,
        p95_us=p95,
        max_us=longest,
        distribution=tuple(
            GapClass(name, int(n), float(ns) / NS_PER_MS)
            for name, n, ns in zip(GAP_CLASSES, counts, sums, strict=True)
        ),
    )


def _percentiles(values_ns: Int) -> tuple[float, float, float] | None:
    """Median, 95th percentile and maximum in us; None of nothing."""
    if not len(values_ns):
        return None
    p50, p95 = np.percentile(values_ns, (50, 95))
    return float(p50) / NS_PER_US, float(p95) / NS_PER_US, int(values_ns.max()) / NS_PER_US


def latency(values_ns: Int) -> Latency | None:
    found = _percentiles(values_ns)
    return Latency(len(values_ns), *found) if found else None
