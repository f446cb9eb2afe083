"""Stages by themselves: one operation at a time on a device that does nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from numa_bench.records.measuring import ALONE_REPEATS
from numa_bench.worker.cuda_runtime import CudaRuntime

#: Copies in one go. The driver queues about a thousand launches, so a model with hundreds of
#: kernels is held one forward pass at a time.
COPIES_AT_ONCE = 8
#: First guess of how long the host needs to submit what is held, and how often to double it.
_HOLD_S = 2e-3
_HOLD_TRIES = 6


class AloneTimes(NamedTuple):
    """Times of one stage in milliseconds, and whether they are free of gaps."""

    ms: tuple[float, ...]
    held: bool


def time_held(
    runtime: CudaRuntime, submit: Callable[[], Any], stream: Any, at_once: int
) -> AloneTimes:
    """Times of one operation by the device's clock, `at_once` of them in one go.

    A spinning kernel holds the stream until the operations and the events around them are queued
    (the method of nvbandwidth), so that the time in which the host prepares them does not count.
    """
    pairs = [(runtime.new_event(), runtime.new_event()) for _ in range(at_once)]
    holding = runtime.new_event()
    times: list[float] = []
    hold_s, tries, held = _HOLD_S, 0, True
    while len(times) < ALONE_REPEATS:
        runtime.synchronize()
        begin = runtime.host_time()
        with runtime.use_stream(stream):
            runtime.hold_stream(hold_s)
            holding.record(stream)
            for start, end in pairs:
                start.record(stream)
                submit()
                end.record(stream)
            # `holding` completes when the spin ends. If it has by now, operations ran while
            # others were not queued yet: spin longer, or the gaps count.
            late = holding.query()
        took_s = runtime.host_time() - begin
        runtime.synchronize()
        if late and tries < _HOLD_TRIES:
            tries += 1
            hold_s = 2 * max(hold_s, took_s)
            continue
        held = held and not late
        times += [start.elapsed_time(end) for start, end in pairs]
    return AloneTimes(tuple(times), held)


def time_waiting(runtime: CudaRuntime, submit: Callable[[], Any], stream: Any) -> AloneTimes:
    """Times of one operation by the host's clock, from its submission until the device is idle.

    For operations that the host waits for anyway: behind a spinning kernel they would hold it up.
    """
    times: list[float] = []
    for _ in range(ALONE_REPEATS):
        runtime.synchronize()
        begin = runtime.host_time()
        with runtime.use_stream(stream):
            submit()
        runtime.synchronize()
        times.append(1e3 * (runtime.host_time() - begin))
    return AloneTimes(tuple(times), held=True)
