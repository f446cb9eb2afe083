"""One run of the bandwidth study on a CUDA device: copies of every size, direction and memory.

Points are measured in rounds (`rounds.py`), each copy as `copies.py` describes; buffers are placed
by numactl's policy and proven as those of the pipeline are.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from numa_bench.labels import list_first
from numa_bench.machine.page_placement import observe_placement
from numa_bench.records import BandwidthSpec, JsonDict, RunSpec
from numa_bench.worker.bandwidth.copies import (
    BOTH,
    D2H,
    H2D,
    LAUNCH,
    SMALL_BYTES,
    SMALL_COPY,
    CopyTimer,
    Sample,
)
from numa_bench.worker.bandwidth.copy_memory import (
    HUGE,
    PAGEABLE,
    PINNED,
    KindOfMemory,
    allocate_kind,
    choose_sizes,
)
from numa_bench.worker.bandwidth.copy_runtime import CopyRuntime
from numa_bench.worker.bandwidth.rounds import Rounds, measure_in_rounds
from numa_bench.worker.devices import prepare_device
from numa_bench.worker.lifeline import wait_for_lock
from numa_bench.worker.part import Part
from numa_bench.worker.placement_checks import check_placement, require_page_locations

#: The direction of a BandwidthSpec that asks for latencies.
LATENCY = "latency"
#: Below this part of common time a figure of both directions is mostly one of a single one.
_LEAST_OVERLAP = 0.5
#: Buffers below this many bytes have few huge pages or none: their ends are not aligned.
_LEAST_HUGE_BYTES = 16 << 20
#: Less of a buffer in huge pages is worth a warning.
_MOSTLY = 0.9
_US = "latency_us"


@dataclass(frozen=True)
class Point:
    """What is measured: `size_bytes` and `memory` are None for a launch, which copies nothing."""

    operation: str
    size_bytes: int | None = None
    memory: str | None = None


def measure_device_bandwidth(
    spec: RunSpec,
    *,
    wait_for: Path | None = None,
    trace: Path | None = None,  # noqa: ARG001
) -> Iterator[Part]:
    """Measure the copies of one run; yields parts of its result as `measurement.measure_run`.

    Arguments are those of a workload; there is no profiled window, so `trace` is not written.
    Raises Waived, MachineError, RuntimeError.
    """
    wanted = spec.bandwidth
    assert wanted is not None
    device = prepare_device(spec)
    runtime = cast(CopyRuntime, device.runtime)
    sizes, size_warnings = choose_sizes(spec, runtime)
    yield Part(
        warnings=(*device.warnings, *size_warnings),
        observed={"gpu_name": device.gpu_name} if device.gpu_name else {},
    )
    kinds = {
        name: allocate_kind(name, sizes[-1], runtime, spec.test.seed) for name in wanted.memory
    }
    buffers = [buffer for kind in kinds.values() for buffer in kind.buffers]
    require_page_locations(spec.placement, buffers)  # before a measurement that could not count
    if wait_for is not None:
        yield Part(observed={"waited_s": wait_for_lock(wait_for)})
    timer = CopyTimer(runtime, sizes[-1])
    timer.fill(next(iter(kinds.values())).pair)
    points = list_points(wanted, sizes)
    begin = time.monotonic()
    rounds = measure_in_rounds(
        points,
        lambda point: _measure_point(timer, kinds, point),
        rounds=wanted.rounds,
        budget_s=wanted.budget_s,
        seed=spec.test.seed,
        now=runtime.host_time,
    )
    end = time.monotonic()
    series = [_describe(*pair) for pair in zip(points, rounds.samples, strict=True)]
    yield Part(
        series=tuple(series),
        metrics=make_headlines(series),
        observed={"window_monotonic_s": [begin, end], "rounds": rounds.count},
        warnings=_series_warnings(wanted, points, rounds),
    )
    yield _check_copies(timer, kinds, sizes)
    yield _observe_memory(kinds)
    yield check_placement(spec.placement, buffers, {"cpu_threads": torch.get_num_threads()})


def list_points(wanted: BandwidthSpec, sizes: Sequence[int]) -> list[Point]:
    """Everything to measure.

    Both directions at once are not measured from pageable memory: a copy of it blocks the thread
    that submits it, so one thread cannot have two under way.
    """
    points = [
        Point(direction, size, memory)
        for memory, direction, size in itertools.product(wanted.memory, wanted.directions, sizes)
        if direction in (H2D, D2H) or (direction == BOTH and not memory.startswith(PAGEABLE))
    ]
    if LATENCY in wanted.directions:
        small = min(SMALL_BYTES, sizes[-1])
        points += [Point(SMALL_COPY, small, memory) for memory in wanted.memory]
        points.append(Point(LAUNCH))
    return points


def _measure_point(
    timer: CopyTimer, kinds: dict[str, KindOfMemory], point: Point
) -> Sample | float:
    if point.memory is None or point.size_bytes is None:
        return timer.time_launch()
    pair = kinds[point.memory].pair
    if point.operation == SMALL_COPY:
        return timer.time_small_copy(pair)
    return timer.time_copies(point.operation, pair, point.size_bytes)


def _describe(point: Point, samples: list[Sample | float]) -> JsonDict:
    """One entry of the result's series: the point, medians, and the raw samples."""
    series: JsonDict = {
        "operation": point.operation,
        "size_bytes": point.size_bytes,
        "memory": point.memory,
    }
    times = [value for value in samples if isinstance(value, float)]
    if times:
        return {**series, "timed_by": "host", _US: statistics.median(times), "samples": times}
    copies = [value for value in samples if isinstance(value, Sample)]
    rates = [sample.gb_per_s for sample in copies]
    by_host = point.memory is not None and point.memory.startswith(PAGEABLE)
    series |= {
        "timed_by": "host" if by_host else "events",
        "gb_per_s": statistics.median(rates),
        "samples": rates,
    }
    if point.operation == BOTH:
        for name in ("h2d_gb_per_s", "d2h_gb_per_s", "overlap"):
            series[name] = statistics.median(getattr(sample, name) for sample in copies)
    return series


def make_headlines(series: Sequence[JsonDict]) -> dict[str, float | None]:
    """The metrics of the record: of the first kind of memory in the series, at its largest size."""
    names = {
        H2D: "h2d_gb_per_s",
        D2H: "d2h_gb_per_s",
        BOTH: "duplex_gb_per_s",
        SMALL_COPY: "copy_latency_us",
        LAUNCH: "launch_latency_us",
    }
    metrics: dict[str, float | None] = {}
    for operation, name in names.items():
        points = [point for point in series if point["operation"] == operation]
        first = [point for point in points if point["memory"] == points[0]["memory"]]
        if first:
            largest = max(first, key=lambda point: point["size_bytes"] or 0)
            metrics[name] = largest.get("gb_per_s", largest.get(_US))
    return metrics


def _series_warnings(
    wanted: BandwidthSpec, points: Sequence[Point], rounds: Rounds[Sample | float]
) -> tuple[str, ...]:
    found = []
    if rounds.count < wanted.rounds:
        found.append(f"rounds: {rounds.count} of {wanted.rounds} in {wanted.budget_s:g} s")
    copies = [
        (point, sample)
        for point, samples in zip(points, rounds.samples, strict=True)
        for sample in samples
        if isinstance(sample, Sample)
    ]
    late = {_name(point) for point, sample in copies if not sample.held}
    if late:
        found.append(f"stage_gaps: host gaps are in copies of {list_first(sorted(late), 3)}")
    apart = {
        _name(point)
        for point, sample in copies
        if sample.overlap is not None and sample.overlap < _LEAST_OVERLAP
    }
    if apart:
        found.append(f"series: both directions hardly overlapped in {list_first(sorted(apart), 3)}")
    return tuple(found)


def _name(point: Point) -> str:
    return f"{point.operation} {point.memory} {point.size_bytes} B"


def _check_copies(timer: CopyTimer, kinds: dict[str, KindOfMemory], sizes: Sequence[int]) -> Part:
    """Smallest and largest copies of every kind return what was sent, or the run is invalid."""
    wrong = [
        f"{size} bytes of {name} memory"
        for name, kind in kinds.items()
        for size in {sizes[0], sizes[-1]}
        if not timer.returns_pattern(kind.pair, size)
    ]
    if not wrong:
        return Part(observed={"copies_checked": True})
    return Part(
        observed={"copies_checked": False},
        problem=f"copies to the device and back changed {', '.join(wrong)}",
    )


def _observe_memory(kinds: dict[str, KindOfMemory]) -> Part:
    """What is known of each kind's pages beside where they are bound."""
    huge = {name: kind.huge_fraction() for name, kind in kinds.items() if kind.buffers}
    large = {name for name in huge if kinds[name].pair.source.numel() >= _LEAST_HUGE_BYTES}
    warnings = [
        f"huge_pages: {name}: only {fraction:.0%} of it is in huge pages"
        for name, fraction in huge.items()
        if fraction is not None and name.endswith(HUGE) and name in large and fraction < _MOSTLY
    ]
    observed: JsonDict = {"huge_page_fraction": huge}
    if PINNED in kinds:
        seen = observe_placement(list(kinds[PINNED].driver_memory))
        observed["pinned_pages"] = seen["pages"]
        if not seen["pages"]:
            warnings.append(
                "series: the node of pinned memory cannot be observed, the driver allocated it"
            )
    return Part(observed=observed, warnings=tuple(warnings))
