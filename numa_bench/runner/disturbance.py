"""What disturbed a run, as warnings for its record. Pure.

A warning is "code: what was observed"; `marks.KINDS` has the mark and the meaning of each code.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from numa_bench.machine.sensors import decode_throttle_reasons
from numa_bench.records import JsonDict

#: Interquartile range of the batches' stage times over their median. A convention, as are the
#: limits below: disturbances of this size can hide or imitate effects of a few percent.
SPREAD = 0.10
#: Relative change of the median stage time from the first third of a window to the last.
TREND = 0.03
#: Fractions of the measured CPUs' time: used by other processes, taken by the hypervisor.
FOREIGN_CPU = 0.02
STEAL = 0.01
#: Four batches in each third of a window, the least for which quartiles and trend are reported.
_LEAST_BATCHES = 12

Summary = Mapping[str, Mapping[str, float]]


def find_sample_warnings(samples: Mapping[str, Sequence[float]], warmup: JsonDict) -> list[str]:
    """Warnings from the raw times of the timed window, in ms, and from the end of warm-up."""
    found = []
    if warmup and not warmup.get("settled", True):
        found.append(
            f"unsettled: stage times had not settled after {warmup['batches']} batches, "
            f"{warmup['seconds']:.1f} s"
        )
    if not samples:  # a workload without batches
        return found
    # Stage times, not latency: waiting in the pipeline's queue is not a disturbance.
    stages = [samples.get(name, ()) for name in ("h2d_ms", "compute_ms", "d2h_ms")]
    # Batches of a CUDA graph are not timed singly; its replays are.
    busy = list(samples.get("replay_ms", ())) or [sum(b) for b in zip(*stages, strict=True)]
    if len(busy) < _LEAST_BATCHES:
        return [*found, f"few: only {len(busy)} batches were measured"]
    middle = statistics.median(busy)
    low, _, high = statistics.quantiles(busy, n=4)
    if high - low > SPREAD * middle:
        found.append(f"spread: the middle half of batch times spans {(high - low) / middle:.0%}")
    change = measure_trend(busy)
    if abs(change) > TREND:
        found.append(f"trend: batch times changed by {change:+.1%} within the window")
    return found


def measure_trend(values: Sequence[float]) -> float:
    """Relative change of the median from the first third to the last, 0 when noise explains it.

    Noise: three standard errors of a difference of medians, 1.2533 sigma / sqrt(n) each, with
    sigma as 1.4826 x the median absolute deviation (Rousseeuw and Croux 1993).
    """
    third = len(values) // 3
    first, last = values[:third], values[-third:]
    before, after = statistics.median(first), statistics.median(last)
    variance = 0.0
    for part, middle in ((first, before), (last, after)):
        # 1.4826 makes it an estimate of sigma for normal values; 1.2533 is sqrt(pi / 2), by which a
        # median's standard error exceeds a mean's.
        sigma = 1.4826 * statistics.median(abs(value - middle) for value in part)
        variance += (1.2533 * sigma) ** 2 / third
    if before <= 0 or abs(after - before) <= 3 * variance**0.5:
        return 0.0
    return after / before - 1


def find_monitor_warnings(summary: Summary | None, samples: int) -> list[str]:
    """Warnings from the sensors' summary over the timed window, which held `samples` readings.

    None: it held none. Empty: the monitor is off.
    """
    if summary is None:
        return [
            "no_reading: no sensor was read inside the timed window; what disturbed it is unknown"
        ]
    found = []

    def greatest(name: str) -> float:
        return summary[name]["max"] if name in summary else 0.0

    def middle(name: str) -> float:
        return summary[name]["median"] if name in summary else 0.0

    reasons = decode_throttle_reasons(int(greatest("throttle_reasons")))
    if reasons:
        found.append(f"throttled: {', '.join(reasons)} (in up to {samples} readings)")
    # A link drops to a lower generation while its GPU idles, so its maximum counts.
    for name, unit in (("generation", "generation "), ("width", "x")):
        now, best = greatest(f"pcie_{name}"), greatest(f"pcie_max_{name}")
        if 0 < now < best:
            found.append(f"pcie: the link ran at {unit}{now:.0f}; its maximum is {unit}{best:.0f}")
    found += _find_foreign_processes(summary)
    # Medians: a burst in a single reading is no reason for a mark.
    if middle("cpu_foreign") > FOREIGN_CPU:
        found.append(
            f"foreign_cpu: other processes used {middle('cpu_foreign'):.0%} of the measured CPUs"
        )
    if middle("cpu_steal") > STEAL:
        found.append(f"steal: the hypervisor took {middle('cpu_steal'):.1%} of the measured CPUs")
    if greatest("swap_traffic_mb") > 0:
        found.append(f"swap: {greatest('swap_traffic_mb'):.1f} MB moved between two readings")
    return found


def _find_foreign_processes(summary: Summary) -> list[str]:
    """A warning if other processes were on the GPU, or if that cannot be known."""
    count = summary["foreign_processes"]["max"] if "foreign_processes" in summary else None
    if count is None and "foreign_unknown" in summary:
        return [
            "foreign_unknown: NVML does not name the worker in this container, so whether other "
            "processes used the GPU is unknown"
        ]
    return [f"foreign_gpu: {count:.0f} other processes on the GPU"] if count else []
