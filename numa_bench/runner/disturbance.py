"""What disturbed a run, as warnings for its record. Pure.

A warning is "code: what was observed"; `marks.KINDS` has the mark and the meaning of each code.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise

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
#: A pause: a single batch, or gap between two, that takes this share of the window more than the
#: median, and is "far out" among the others: above the upper quartile by more than three
#: interquartile ranges (Tukey, Exploratory Data Analysis, 1977, section 2D).
PAUSE = 0.02
FAR_OUT = 3.0
#: A burst: one reading above this fraction of the measured CPUs' time, if it alone brings the mean
#: of the window above the limit for all readings. Five times these limits.
FOREIGN_BURST = 0.10
STEAL_BURST = 0.05
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
    stages += [samples[name] for name in ("host_ms",) if name in samples]
    # Batches of a CUDA graph are not timed singly; its replays are.
    busy = list(samples.get("replay_ms", ())) or [sum(b) for b in zip(*stages, strict=True)]
    if len(busy) < _LEAST_BATCHES:
        return [*found, f"few: only {len(busy)} batches were measured"]
    middle = statistics.median(busy)
    low, _, high = statistics.quantiles(busy, n=4)
    found += find_pauses(busy, samples.get("start_ms", ()))
    if high - low > SPREAD * middle:
        found.append(f"spread: the middle half of batch times spans {(high - low) / middle:.0%}")
    change = measure_trend(busy)
    if abs(change) > TREND:
        found.append(f"trend: batch times changed by {change:+.1%} within the window")
    return found


def find_pauses(busy: Sequence[float], starts: Sequence[float]) -> list[str]:
    """A warning if single batches, or gaps between two, take a sizeable share of the window.

    `busy` are the batches' stage times and `starts` their starts, in ms; the second may be empty.
    A worker that is stopped on a GPU shows in the starts alone: no kernel runs longer for it.
    """
    steps = [after - before for before, after in pairwise(starts)]
    # Stages of different batches overlap; the window ends with the last one.
    window = sum(steps) + busy[-1] if steps else sum(busy)
    worst = max((_measure_pause(values, window) for values in (busy, steps)), key=lambda p: p[1])
    count, longest = worst
    if not count:
        return []
    others = f"; {count} such batches" if count > 1 else ""
    return [
        f"pause: a batch took {longest:.0f} ms more than the median, {longest / window:.0%} of the "
        f"window{others}"
    ]


def _measure_pause(values: Sequence[float], window: float) -> tuple[int, float]:
    """How many values are pauses, and by how much the longest exceeds the median."""
    if len(values) < 2:
        return 0, 0.0
    low, middle, high = statistics.quantiles(values, n=4)
    fence = max(high + FAR_OUT * (high - low), middle + PAUSE * window)
    pauses = [value - middle for value in values if value > fence]
    return len(pauses), max(pauses, default=0.0)


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

    reasons = decode_throttle_reasons(int(greatest("throttle_reasons")))
    if reasons:
        found.append(f"throttled: {', '.join(reasons)} (in up to {samples} readings)")
    # A link drops to a lower generation while its GPU idles, so its maximum counts.
    for name, unit in (("generation", "generation "), ("width", "x")):
        now, best = greatest(f"pcie_{name}"), greatest(f"pcie_max_{name}")
        if 0 < now < best:
            found.append(f"pcie: the link ran at {unit}{now:.0f}; its maximum is {unit}{best:.0f}")
    found += _find_foreign_processes(summary)
    found += _find_lost_cpu_time(summary, samples)
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


def _find_lost_cpu_time(summary: Summary, samples: int) -> list[str]:
    """Warnings if others had the measured CPUs: all the time, or so much once that it counts."""
    found = []
    for name, limit, burst, what in (
        ("cpu_foreign", FOREIGN_CPU, FOREIGN_BURST, "foreign_cpu: other processes used"),
        ("cpu_steal", STEAL, STEAL_BURST, "steal: the hypervisor took"),
    ):
        reading = summary.get(name)
        if reading is None:
            continue
        middle, greatest = reading["median"], reading["max"]
        if middle > limit:
            found.append(f"{what} {middle:.1%} of the measured CPUs")
        # Less is noise of the reading itself, or is over before it changes a throughput.
        elif greatest > burst and greatest / max(1, samples) > limit:
            found.append(f"{what} {greatest:.0%} of the measured CPUs in one reading")
    return found
