"""Pure: raw batch times to the metrics of a record."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from numa_bench.worker.pipeline import Window


def compute_percentile(values: Sequence[float], percent: float) -> float:
    """Linear interpolation between order statistics (Hyndman and Fan 1996, type 7)."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def window_metrics(
    window: Window, batch_size: int, in_bytes: int, out_bytes: int
) -> dict[str, float | None]:
    """Metrics of a timed window. `in_bytes` and `out_bytes` are those of one batch."""
    samples = window.batches * batch_size
    return {
        "throughput_samples_per_s": samples / window.wall_s,
        "latency_p50_ms": compute_percentile(window.latency, 50),
        "latency_p95_ms": compute_percentile(window.latency, 95),
        "latency_p99_ms": compute_percentile(window.latency, 99),
        "h2d_ms": statistics.median(window.h2d),
        "compute_ms": statistics.median(window.compute),
        "d2h_ms": statistics.median(window.d2h),
        "h2d_gb_per_s": _gb_per_s(in_bytes, window.h2d),
        "d2h_gb_per_s": _gb_per_s(out_bytes, window.d2h),
        "overlap_efficiency": overlap_efficiency(window),
        "measured_samples": samples,
        "measured_s": window.wall_s,
    }


def overlap_efficiency(window: Window) -> float | None:
    """Stage time that was hidden over the stage time that could have been: (S - W) / (S - M).

    S sums all stages of all batches, W is the wall time, M the busiest stage's sum, below which
    no schedule gets. 1: only the busiest stage is seen; 0: as slow as one stage after another;
    below 0: slower. None when nothing could be hidden (a single batch).
    """
    stages = (sum(window.h2d), sum(window.compute), sum(window.d2h))
    serial, wall = sum(stages), window.wall_s * 1e3
    hideable = serial - max(stages)
    if window.batches < 2 or hideable <= 0:
        return None
    return (serial - wall) / hideable


def _gb_per_s(batch_bytes: int, times_ms: Sequence[float]) -> float | None:
    total = sum(times_ms)
    return batch_bytes * len(times_ms) / (total * 1e6) if total > 0 else None
