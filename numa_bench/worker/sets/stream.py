"""A member of a set that streams host memory: it is measured, or it loads memory in the background.

One pass after the other over arrays of its own, by threads that are pinned to its CPUs; the record
has the start and the duration of each pass.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from numa_bench.records import REHEARSAL_S, RunSpec, StreamSpec
from numa_bench.worker.buffers import HostBuffer
from numa_bench.worker.devices import Waived
from numa_bench.worker.lifeline import wait_for_lock
from numa_bench.worker.memory_kernels.bandwidth import Arrays
from numa_bench.worker.memory_kernels.kernels import KernelsUnavailable, load_kernels
from numa_bench.worker.memory_kernels.stream import StreamLoop, StreamWindow
from numa_bench.worker.part import Part
from numa_bench.worker.placement_checks import check_placement, require_page_locations
from numa_bench.worker.sets.rendezvous import Clock, Rendezvous, host_clock

#: Seconds of streaming before a worker is ready: its pages and its threads have been used then.
WARMUP_S = 0.2
#: A background worker looks so often for the end of the set, in seconds.
LOOK_S = 0.2


def measure_stream(
    spec: RunSpec,
    *,
    rendezvous: Rendezvous | None = None,
    wait_for: Path | None = None,
    trace: Path | None = None,  # noqa: ARG001 - every workload gets it; a set is not profiled
) -> Iterator[Part]:
    """Stream memory as a member of a set; yields parts of its result.

    Arguments are those of `measurement.measure_run`. Raises Waived without memory kernels, and
    ValueError without a set.
    """
    if rendezvous is None or spec.stream is None:
        raise ValueError("a stream starts with the other workers of a set; it has none")
    try:
        kernels = load_kernels()
    except KernelsUnavailable as reason:
        raise Waived(str(reason)) from reason
    stream, clock = spec.stream, host_clock()
    buffers = _make_buffers(stream)
    require_page_locations(spec.placement, buffers)
    source, target = buffers[0], buffers[-1]
    arrays = Arrays(source.address, target.address, source.nbytes)
    loop = StreamLoop(kernels, stream.operation, arrays, _choose_cpus(spec))
    if wait_for is not None:
        yield Part(observed={"waited_s": wait_for_lock(wait_for), "memory_kernels": kernels.name})
    loop.run(WARMUP_S)
    window = (
        _stream_until_stopped(loop, clock, rendezvous)
        if stream.until_stopped
        else _stream_window(loop, clock, rendezvous, spec.test.min_timed_s)
    )
    yield _describe(window)
    yield check_placement(spec.placement, buffers, {"cpu_threads": stream.threads})


def _make_buffers(stream: StreamSpec) -> list[HostBuffer]:
    """One array, or two for a copy, with every page touched."""
    count = 2 if stream.operation == "copy" else 1
    # int64, and whole cache lines.
    words = max(stream.buffer_mb * 1_000_000 // 64, stream.threads) * 8
    return [HostBuffer((words,), torch.int64) for _ in range(count)]


def _choose_cpus(spec: RunSpec) -> Sequence[int]:
    assert spec.stream is not None
    cpus = spec.placement.cpus or sorted(os.sched_getaffinity(0))
    return cpus[: spec.stream.threads]


def _stream_window(
    loop: StreamLoop, clock: Clock, rendezvous: Rendezvous, seconds: float
) -> StreamWindow:
    """The timed window of a measured worker, after the rehearsal beside the others."""
    rendezvous.start_together(clock)
    loop.run(REHEARSAL_S)
    rendezvous.start_together(clock)
    window = loop.run(seconds)
    rendezvous.report_done()
    return window


def _stream_until_stopped(loop: StreamLoop, clock: Clock, rendezvous: Rendezvous) -> StreamWindow:
    """Load memory from the rehearsal until the measured workers are done."""
    rendezvous.start_together(clock)
    windows = [loop.run(LOOK_S)]
    while not rendezvous.is_over():
        windows.append(loop.run(LOOK_S))
    return join_windows(windows)


def join_windows(windows: Sequence[StreamWindow]) -> StreamWindow:
    """Windows that follow each other as one, whose passes have the pauses between them."""
    first = windows[0]
    starts = [
        (window.begin_s - first.begin_s) * 1e3 + start
        for window in windows
        for start in window.start_ms
    ]
    return StreamWindow(
        begin_s=first.begin_s,
        end_s=windows[-1].end_s,
        pass_bytes=first.pass_bytes,
        start_ms=tuple(starts),
        pass_ms=tuple(duration for window in windows for duration in window.pass_ms),
    )


def _describe(window: StreamWindow) -> Part:
    """What a window says by itself; the runner computes the common window of the set."""
    return Part(
        metrics={
            "stream_gb_per_s": window.gb_per_s,
            "measured_s": window.end_s - window.begin_s,
        },
        samples={
            "start_ms": [round(value, 6) for value in window.start_ms],
            "pass_ms": [round(value, 6) for value in window.pass_ms],
        },
        observed={
            "window_monotonic_s": [window.begin_s, window.end_s],
            "window_host_s": [window.begin_s, window.end_s],
            "pass_bytes": window.pass_bytes,
        },
    )
