"""Raw batch times to the metrics of a record. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from numa_bench.worker.pipelines.pipeline import StageTimes, Window

#: A window is host bound when the host was submitting for most of it while the busiest stage of
#: the device had nothing to do for a tenth of the time or more. A chosen convention: below it the
#: host costs at most a tenth of the throughput.
HOST_SUBMITTING = 0.9
DEVICE_BUSY = 0.9


def compute_percentile(values: Sequence[float], percent: float) -> float:
    """Linear interpolation between order statistics (Hyndman and Fan 1996, type 7)."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def window_metrics(
    window: Window,
    batch_size: int,
    in_bytes: int,
    out_bytes: int,
    alone: StageTimes | None = None,
) -> dict[str, float | None]:
    """Metrics of a timed window. `in_bytes` and `out_bytes` are those of one batch.

    Stage times are those that ran alone where there are any; the pipeline's own, in which copies in
    both directions share the link, are kept beside them.
    """
    samples = window.batches * batch_size
    stages = (alone.h2d, alone.compute, alone.d2h) if alone else _copied_stages(window)
    metrics: dict[str, float | None] = {
        "throughput_samples_per_s": samples / window.wall_s,
        **_latency_metrics(window),
        "h2d_ms": statistics.median(stages[0]),
        "compute_ms": statistics.median(stages[1]),
        "d2h_ms": statistics.median(stages[2]),
        "h2d_gb_per_s": _gb_per_s(in_bytes, stages[0]),
        "d2h_gb_per_s": _gb_per_s(out_bytes, stages[2]),
        "overlap_efficiency": overlap_efficiency(window, alone),
        "measured_samples": samples,
        "measured_s": window.wall_s,
    }
    if alone and window.h2d:
        for name, times in zip(("h2d", "compute", "d2h"), _copied_stages(window), strict=True):
            metrics[f"{name}_pipelined_ms"] = statistics.median(times)
    metrics.update(_host_metrics(window, alone))
    if window.submit_s is not None:
        metrics["host_submit_fraction"] = window.submit_s / window.wall_s
        metrics["busiest_stage_fraction"] = _busiest_fraction(window, alone)
    return metrics


def _host_metrics(window: Window, alone: StageTimes | None) -> dict[str, float | None]:
    """Metrics of host work; none without any."""
    if not window.host:
        return {}
    inside = statistics.median(window.host)
    metrics: dict[str, float | None] = {
        "host_ms": statistics.median(alone.host) if alone else inside,
        "host_wait_fraction": window.host_wait_s / window.wall_s,
    }
    if alone:
        metrics["host_pipelined_ms"] = inside
    return metrics


def overlap_efficiency(window: Window, alone: StageTimes | None = None) -> float | None:
    """Stage time that was hidden over the stage time that could have been: (S - W) / (S - M).

    S sums the stages of all batches as they run alone, host work included; W is the wall time, M
    the busiest stage's sum, below which no schedule gets. 1: only the busiest stage is seen; 0: as
    slow as one stage after another; below 0: slower. None when nothing could be hidden (a single
    batch). With times taken inside the pipeline, copies that slow each other down would count as
    hidden.
    """
    stages = _stage_sums(window, alone)
    serial, wall = sum(stages), window.wall_s * 1e3
    hideable = serial - max(stages)
    if window.batches < 2 or hideable <= 0:
        return None
    return (serial - wall) / hideable


def is_host_bound(metrics: dict[str, float | None]) -> bool:
    """Whether the device waited for the host to submit work.

    Waiting for host work is no submitting: it is a stage, which sets the pace where it is the
    busiest.
    """
    submitting = metrics.get("host_submit_fraction")
    busy = metrics.get("busiest_stage_fraction")
    if submitting is None or busy is None:
        return False
    return submitting > HOST_SUBMITTING and busy < DEVICE_BUSY


def _latency_metrics(window: Window) -> dict[str, float | None]:
    """Percentiles of batch latency; None where single batches were not timed."""
    percents = (50, 95, 99)
    if not window.latency:
        return {f"latency_p{percent}_ms": None for percent in percents}
    return {
        f"latency_p{percent}_ms": compute_percentile(window.latency, percent)
        for percent in percents
    }


def _copied_stages(window: Window) -> tuple[Sequence[float], ...]:
    return window.h2d, window.compute, window.d2h


def _stage_sums(window: Window, alone: StageTimes | None) -> tuple[float, ...]:
    """Milliseconds that each stage takes for all batches of the window, run by itself."""
    # The mean of times inside a window gives their sum; of few times alone the median is steadier.
    if alone is None:
        return tuple(window.batches * statistics.fmean(times) for times in window.stages())
    medians = map(statistics.median, alone.stages())
    return tuple(window.batches * middle for middle in medians)


def _busiest_fraction(window: Window, alone: StageTimes | None) -> float:
    return max(_stage_sums(window, alone)) / (window.wall_s * 1e3)


def _gb_per_s(batch_bytes: int, times_ms: Sequence[float]) -> float | None:
    total = sum(times_ms)
    # Bytes per millisecond over 1e6 are GB/s, with 1 GB = 1e9 bytes.
    return batch_bytes * len(times_ms) / (total * 1e6) if total > 0 else None
