"""A bandwidth run on the CPU: read, write and copy bandwidth and load latency of host memory.

The buffers go where the process's policy puts them, which is proven as for any run. All CPUs of the
binding work on a bandwidth together, one thread on each physical core; a latency is one thread's.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from numa_bench.records import BandwidthSpec, RunSpec
from numa_bench.records.measuring import LINE_BYTES, OPERATIONS
from numa_bench.worker.bandwidth.host_memory import HostMemory, check_kernels, make_memory
from numa_bench.worker.bandwidth.series import SeriesPoint, sample_in_turn
from numa_bench.worker.devices import Waived, find_simulation_warnings
from numa_bench.worker.lifeline import wait_for_lock
from numa_bench.worker.memory_kernels.bandwidth import BandwidthPoint
from numa_bench.worker.memory_kernels.kernels import (
    KernelsUnavailable,
    MemoryKernels,
    load_kernels,
)
from numa_bench.worker.memory_kernels.latency import LatencyPoint
from numa_bench.worker.memory_kernels.team import ThreadTeam, choose_cpus
from numa_bench.worker.part import Part
from numa_bench.worker.placement_checks import check_placement, require_page_locations

LATENCY = "latency"
DIRECTIONS = (*OPERATIONS, LATENCY)
#: Below this, memory that was asked to be in huge pages counts as not being there.
_LEAST_HUGE = 0.9


def measure_host_bandwidth(
    spec: RunSpec,
    *,
    wait_for: Path | None = None,
    trace: Path | None = None,  # noqa: ARG001 - every workload gets it; this one has no profiled window
) -> Iterator[Part]:
    """Measure a bandwidth run on the CPU; yields parts of its result as they are known.

    The series has a point for every kind of memory, size and direction: see `SeriesPoint`. The
    metrics are those of the largest size in the first kind of memory. `wait_for` is a file that
    must not be locked meanwhile. Raises Waived without memory kernels, ValueError for a spec that
    cannot be measured on a CPU.
    """
    bandwidth = _require_bandwidth(spec)
    yield Part(warnings=(*find_simulation_warnings(), *_profiler_warnings(spec)))
    try:
        kernels = load_kernels()
    except KernelsUnavailable as reason:
        raise Waived(str(reason)) from reason
    cpus, warnings = _choose_team(spec)
    yield Part(observed={"memory_kernels": kernels.name, "team_cpus": cpus}, warnings=warnings)
    memories = [_make_memory(kind, bandwidth, spec.test.seed) for kind in bandwidth.memory]
    buffers = [buffer for memory in memories for buffer in memory.buffers]
    require_page_locations(spec.placement, buffers)  # before a measurement that could not count
    if wait_for is not None:
        yield Part(observed={"waited_s": wait_for_lock(wait_for)})
    for memory in memories:
        yield Part(problem=check_kernels(kernels, memory), warnings=_huge_warnings(memory))
    with ThreadTeam(cpus) as team:
        points = make_points(bandwidth, memories, kernels, team)
        yield _measure(points, bandwidth)
        # Last, while the threads are there: the kernel may have moved pages meanwhile.
        yield check_placement(spec.placement, buffers, {"cpu_threads": len(cpus)})


def make_points(
    bandwidth: BandwidthSpec,
    memories: Sequence[HostMemory],
    kernels: MemoryKernels,
    team: ThreadTeam,
) -> list[SeriesPoint]:
    """The points of a run, in the order in which they are sampled."""
    points = []
    for memory, size, direction in itertools.product(
        memories, bandwidth.sizes_bytes, bandwidth.directions
    ):
        point: LatencyPoint | BandwidthPoint
        if direction == LATENCY:
            point, unit = LatencyPoint(kernels, team, memory.chains[size]), "latency_ns"
        else:
            arrays = memory.arrays(size)
            point, unit = BandwidthPoint(kernels, team, direction, arrays), "gb_per_s"
        note = {"huge_page_fraction": memory.huge_fraction}
        points.append(SeriesPoint(direction, size, memory.kind, unit, point, note))
    return points


def _require_bandwidth(spec: RunSpec) -> BandwidthSpec:
    bandwidth = spec.bandwidth
    if bandwidth is None:
        raise ValueError("the spec of a bandwidth run says nothing of sizes and directions")
    strange = set(bandwidth.directions) - set(DIRECTIONS)
    if strange:
        raise ValueError(
            f"directions {sorted(strange)} are none of {', '.join(DIRECTIONS)} on the CPU"
        )
    odd = [size for size in bandwidth.sizes_bytes if size <= 0 or size % LINE_BYTES]
    if odd:
        raise ValueError(f"sizes {odd} are no positive multiples of {LINE_BYTES} bytes")
    return bandwidth


def _make_memory(kind: str, bandwidth: BandwidthSpec, seed: int) -> HostMemory:
    chained = bandwidth.sizes_bytes if LATENCY in bandwidth.directions else ()
    return make_memory(kind, max(bandwidth.sizes_bytes), chained, seed)


def _choose_team(spec: RunSpec) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """CPUs of the binding that work, and a warning where more threads were asked for."""
    allowed, threads = os.sched_getaffinity(0), spec.test.cpu_threads
    cpus = choose_cpus(allowed, threads, one_per_core=threads is None)
    if threads is not None and threads > len(cpus):
        return cpus, (f"threads: {threads} asked for, {len(cpus)} used: one for each CPU",)
    return cpus, ()


def _measure(points: Sequence[SeriesPoint], bandwidth: BandwidthSpec) -> Part:
    begin = time.monotonic()  # the monitor's clock, by which its readings are selected
    rounds = sample_in_turn(points, bandwidth.rounds, bandwidth.budget_s)
    end = time.monotonic()
    warnings: tuple[str, ...] = ()
    if rounds < bandwidth.rounds:
        warnings = (f"rounds: {rounds} of {bandwidth.rounds} in {bandwidth.budget_s:g} s",)
    series = tuple(point.to_dict() for point in points)
    largest, kind = max(bandwidth.sizes_bytes), bandwidth.memory[0]
    metrics: dict[str, float | None] = {"measured_s": end - begin}
    for point in series:
        if (point["size_bytes"], point["memory"]) == (largest, kind):
            name = point["operation"]
            if name == LATENCY:
                metrics["load_latency_ns"] = point["latency_ns"]
            else:
                metrics[f"{name}_gb_per_s"] = point["gb_per_s"]
    return Part(
        metrics=metrics,
        series=series,
        observed={"window_monotonic_s": [begin, end], "rounds": rounds},
        warnings=warnings,
    )


def _huge_warnings(memory: HostMemory) -> tuple[str, ...]:
    if memory.kind != "huge" or memory.huge_fraction is None or memory.huge_fraction > _LEAST_HUGE:
        return ()
    return (f"huge_pages: only {memory.huge_fraction:.1%} of the memory asked for is in them",)


def _profiler_warnings(spec: RunSpec) -> tuple[str, ...]:
    if spec.profile.kind == "none":
        return ()
    return (f"profiler: {spec.profile.kind} records nothing of a bandwidth run on the CPU",)
