"""From the results of a set to what its workers did in the window that all have in common. Pure.

Workers start together, but the last batch of one may end later than that of another. What counts is
the time in which all of them were measuring: before and after it some had the machine to
themselves.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from numa_bench.records import MEASURED, Member, RunResult

#: The common window must be at least this share of the longest window. Then every worker spent
#: four fifths of its own window or more beside all others, so what its warm-up and its number of
#: batches were made for is what was measured. Chosen; windows that start together and are planned
#: from the rehearsal share well above nine tenths.
LEAST_COMMON = 0.8


@dataclass(frozen=True)
class CommonWindow:
    """Begin and end on the host's clock, and the share of the longest window (0: none)."""

    begin_s: float
    end_s: float
    share: float

    @property
    def length_s(self) -> float:
        return self.end_s - self.begin_s


def find_common_window(
    members: Sequence[Member], results: Mapping[str, RunResult]
) -> tuple[CommonWindow | None, str | None]:
    """The window that all measured workers have in common, and why the set is invalid.

    None without a problem; the window is None where there is none.
    """
    windows: dict[str, list[float]] = {
        m.name: results[m.name].observed.get("window_host_s") or [] for m in members
    }
    lacking = [name for name, window in windows.items() if not window]
    if lacking:
        return None, f"no timed window: {', '.join(lacking)}"
    measured = {m.name: windows[m.name] for m in members if m.role == MEASURED}
    begin = max(window[0] for window in measured.values())
    end = min(window[1] for window in measured.values())
    longest = max(window[1] - window[0] for window in measured.values())
    share = max(0.0, end - begin) / longest if longest > 0 else 0.0
    if end <= begin:
        return None, f"the workers did not run at the same time: {_spans(measured)}"
    common = CommonWindow(begin, end, share)
    if share < LEAST_COMMON:
        return common, (
            f"the workers ran together for {share:.0%} of the longest window, at least "
            f"{LEAST_COMMON:.0%} are needed: {_spans(measured)}"
        )
    for member in members:
        own = windows[member.name]
        if member.role != MEASURED and not (own[0] <= begin and own[1] >= end):
            return common, f"{member.name} did not load the machine during the whole window"
    return common, None


def measure_rate(member: Member, result: RunResult, window: CommonWindow) -> float:
    """Samples per second of a pipeline in the window, or bytes per second of a stream.

    What a worker had completed at a time is interpolated linearly between the ends of its batches:
    counting whole ones would be off by up to one batch.
    """
    begin, end = window.begin_s, window.end_s
    origin = result.observed["window_host_s"][0]
    if "pass_ms" in result.samples:
        moved = _count_passes(result, begin - origin, end - origin) * result.observed["pass_bytes"]
        return float(moved / window.length_s)
    stride, size = result.observed["timed_stride"], member.spec.test.batch_size
    total = (result.metrics["measured_samples"] or 0.0) / size
    ends = sorted(
        (start + latency) / 1e3
        for start, latency in zip(
            result.samples["start_ms"], result.samples["latency_ms"], strict=True
        )
    )
    length = result.observed["window_host_s"][1] - origin
    if stride == 1 and ends:
        # A GPU's times count from its first copy, which host work on the first batch precedes; the
        # window ends with its last batch.
        waited = max(0.0, length - ends[-1])
        ends = [waited + end for end in ends]
    times = [0.0, *ends, length]
    counts = [0.0, *(i * stride + 1.0 for i in range(len(ends))), total]
    done = _interpolate(end - origin, times, counts) - _interpolate(begin - origin, times, counts)
    return float(done * size / window.length_s)


def compute_fairness(rates: Sequence[float]) -> float | None:
    """Jain's index (sum x)^2 / (n sum x^2); None for a single worker.

    Jain, Chiu and Hawe, "A quantitative measure of fairness and discrimination for resource
    allocation in shared computer systems", DEC-TR-301, 1984.
    """
    squares = sum(rate * rate for rate in rates)
    return sum(rates) ** 2 / (len(rates) * squares) if len(rates) > 1 and squares else None


def compute_slowest_share(rates: Sequence[float]) -> float | None:
    """The slowest worker's rate over the mean; None for a single worker."""
    total = sum(rates)
    return min(rates) * len(rates) / total if len(rates) > 1 and total else None


def _count_passes(result: RunResult, begin_s: float, end_s: float) -> float:
    """Passes between two times; one that is partly inside counts by that part."""
    begin, end, count = begin_s * 1e3, end_s * 1e3, 0.0
    for start, took in zip(result.samples["start_ms"], result.samples["pass_ms"], strict=True):
        count += max(0.0, min(start + took, end) - max(start, begin)) / took
    return count


def _interpolate(time: float, times: Sequence[float], counts: Sequence[float]) -> float:
    right = min(max(bisect_right(times, time), 1), len(times) - 1)
    before, after = times[right - 1], times[right]
    part = (time - before) / (after - before) if after > before else 1.0
    return counts[right - 1] + (counts[right] - counts[right - 1]) * min(max(part, 0.0), 1.0)


def _spans(windows: Mapping[str, Sequence[float]]) -> str:
    """Each window, in seconds after the first start."""
    first = min(window[0] for window in windows.values())
    return ", ".join(
        f"{name} {window[0] - first:.2f} to {window[1] - first:.2f} s"
        for name, window in windows.items()
    )
