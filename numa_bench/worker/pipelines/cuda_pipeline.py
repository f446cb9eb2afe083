"""The stages on a CUDA device: three streams, events between them, pinned buffers.

For batch i in slot s = i mod depth, with arrows for "waits for" (a no-op's input is free when its
D2H has ended, because its output is its input):

    H2D(i)     -> the slot's input is free:  compute(i - depth)
    compute(i) -> H2D(i), and the slot's output is free:  D2H(i - depth)
    D2H(i)     -> compute(i)

The host does not wait for the device inside a window; it synchronises once, at its end. Where the
pool's batches are made by host work (`host_stage.feeds`) it waits for that. Events are created
before the window, and at most MOST_TIMED batches of it are timed: the others record only the three
events that order the stages.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from numa_bench.records import STAGES
from numa_bench.worker.buffers import BatchRing
from numa_bench.worker.cuda_runtime import CudaRuntime, Event
from numa_bench.worker.pipelines.alone import COPIES_AT_ONCE, time_held, time_waiting
from numa_bench.worker.pipelines.pipeline import Limits, Model, StageTimes, Window, quiet_collector
from numa_bench.worker.recorder import NO_MARKS, Marks

#: Fewest batches of a window, so that percentiles and overlap mean something.
LEAST_BATCHES = 3
#: Most batches of a window with timing events of their own. 4096 give a 99th percentile from 41
#: values; more would only add driver calls.
MOST_TIMED = 4096
#: A window that has to last some time gets so many times the batches that the window before says,
#: because batches may be faster now. Warm-up is over when they differ by 5 % at most (warmup.py).
SPARE = 1.05


class _Events:
    """Start and end of each stage of one batch."""

    def __init__(self, new_event: Callable[[], Event]) -> None:
        self.h2d_start, self.h2d_end = new_event(), new_event()
        self.compute_start, self.compute_end = new_event(), new_event()
        self.d2h_start, self.d2h_end = new_event(), new_event()


@dataclass
class _Slot:
    device_input: torch.Tensor
    events: _Events
    output: torch.Tensor | None = None
    input_free: Event | None = None
    output_free: Event | None = None


class CudaPipeline:
    """pool (pinned) -> device input slot -> model -> output ring (pinned).

    `static_output`: the model replays a CUDA graph and returns the same memory each time, so its
    output is cloned on the compute stream before the next replay overwrites it. `pageable`: pool
    and outputs are not page-locked.
    """

    def __init__(
        self,
        model: Model,
        pool: BatchRing,
        outputs: BatchRing,
        depth: int,
        runtime: CudaRuntime,
        *,
        static_output: bool,
        pageable: bool = False,
    ) -> None:
        self.model = model
        self.pool = pool
        self.static_output = static_output
        self._outputs = outputs
        self._runtime = runtime
        batch = pool.first_batch()
        # Operations of one stream run in order; only those of different streams can overlap.
        self._h2d, self._compute, self._d2h = (runtime.new_stream() for _ in range(3))
        self._slots = [
            _Slot(runtime.empty(tuple(batch.shape), batch.dtype), _Events(runtime.new_event))
            for _ in range(depth)
        ]
        self._pageable = pageable
        self._copy = runtime.copy_pageable if pageable else runtime.copy
        self.host_buffers = [*pool.host_buffers(), outputs.buffer]
        self._timed: list[_Events] = []
        self._batch_s: float | None = None

    def run(self, limits: Limits, marks: Marks = NO_MARKS) -> Window:
        """See `Pipeline.run`. The host cannot watch the clock without waiting for the device, so
        the number of batches comes from the time per batch of the window before."""
        batches = self._count_batches(limits)
        # Of more batches than that every `stride`-th is timed, spread over the whole window.
        stride = math.ceil(batches / MOST_TIMED)
        timed = self._timing_events(math.ceil(batches / stride))
        runtime, slots = self._runtime, self._slots
        # Work from before the window must not take the device's time inside it.
        runtime.synchronize()
        with quiet_collector():
            marks.open_window()
            begin = runtime.host_time()
            self.pool.open_window(batches, marks)
            for index in range(batches):
                slot = slots[index % len(slots)]
                if index % stride:
                    self._submit(slot, slot.events, marks, timing=False)
                else:
                    self._submit(slot, timed[index // stride], marks, timing=True)
            submitted = runtime.host_time()
            # The profiler's range ends with the last submission, the wall time with the last copy.
            marks.close_window()
            runtime.synchronize()
            wall_s = runtime.host_time() - begin
        host = self.pool.close_window()
        window = Window(
            wall_s=wall_s,
            batches=batches,
            stride=stride,
            submit_s=submitted - begin - host.waited_s,
            begin_s=begin,
        )
        window.add_host_times(host)
        first = timed[0].h2d_start
        for e in timed:
            window.add_batch(
                first.elapsed_time(e.h2d_start),
                e.h2d_start.elapsed_time(e.h2d_end),
                e.compute_start.elapsed_time(e.compute_end),
                e.d2h_start.elapsed_time(e.d2h_end),
                e.h2d_start.elapsed_time(e.d2h_end),
            )
        self._batch_s = _time_per_batch(window)
        return window

    def time_stages(self) -> StageTimes:
        """See `Pipeline.time_stages`. Nothing else runs on the device meanwhile.

        What is measured is the operation, not the time in which the host prepares it; but copies of
        pageable memory, which the host takes part in, are timed by the host.
        """
        runtime, copy = self._runtime, self._copy
        device_input = self._slots[0].device_input
        output = self._forward(device_input)
        runtime.synchronize()

        def copy_in() -> None:
            copy(device_input, self.pool.next_row())

        def copy_out() -> None:
            copy(self._outputs.next_batch(), output)

        with quiet_collector():
            host = self.pool.time_host_work()
            if self._pageable:
                h2d = time_waiting(runtime, copy_in, self._h2d)
                d2h = time_waiting(runtime, copy_out, self._d2h)
            else:
                h2d = time_held(runtime, copy_in, self._h2d, COPIES_AT_ONCE)
                d2h = time_held(runtime, copy_out, self._d2h, COPIES_AT_ONCE)
            compute = time_held(runtime, lambda: self._forward(device_input), self._compute, 1)
        # The ring's last batch must again be the output of the pool's last batch.
        self._run_eagerly(Limits(len(self._slots)))
        stages = zip(STAGES, (h2d, compute, d2h), strict=True)
        return StageTimes(
            h2d=h2d.ms,
            compute=compute.ms,
            d2h=d2h.ms,
            gaps=tuple(name for name, times in stages if not times.held),
            host=host,
        )

    def last_output(self) -> torch.Tensor:
        """See `Pipeline.last_output`."""
        return self._outputs.last_batch()

    def _run_eagerly(self, limits: Limits) -> Window:
        """Batches one by one, also where `run` replays a graph of many."""
        return self.run(limits)

    def _count_batches(self, limits: Limits) -> int:
        batches = max(1, limits.batches)
        if not self._batch_s:
            return batches
        batches = max(batches, math.ceil(SPARE * limits.least_s / self._batch_s))
        # The budget wins, but leaves enough batches for percentiles.
        if limits.budget_s < batches * self._batch_s:
            batches = min(batches, max(LEAST_BATCHES, int(limits.budget_s / self._batch_s)))
        return batches

    def _timing_events(self, count: int) -> list[_Events]:
        """Events that exist on the device before the window: creating one is a driver call."""
        while len(self._timed) < count:
            self._timed.append(_Events(self._runtime.new_event))
        return self._timed[:count]

    def _forward(self, batch: torch.Tensor) -> torch.Tensor:
        if self.static_output:
            # Inductor's graphs may now reuse the memory of the last output.
            self._runtime.mark_graph_step()
        output = self._runtime.call_model(self.model, batch)
        return self._runtime.clone(output) if self.static_output else output

    def _submit(self, slot: _Slot, event: _Events, marks: Marks, *, timing: bool) -> None:
        runtime, h2d, compute, d2h = self._runtime, self._h2d, self._compute, self._d2h
        # Prepared before the first event: host time between an event and its operation would
        # count as the operation's on an idle stream.
        source, target = self.pool.next_batch(), self._outputs.next_batch()
        marks.push(STAGES[0])
        # wait_event orders the streams on the device; the host does not wait.
        with runtime.use_stream(h2d):
            if slot.input_free is not None:
                h2d.wait_event(slot.input_free)
            if timing:
                event.h2d_start.record(h2d)
            self._copy(slot.device_input, source)
            event.h2d_end.record(h2d)
            self.pool.release_batch(h2d)
        marks.pop()
        marks.push(STAGES[1])
        with runtime.use_stream(compute):
            compute.wait_event(event.h2d_end)
            if slot.output_free is not None:
                compute.wait_event(slot.output_free)
            # Release the slot's last output only here: the allocator gives its memory back to
            # this stream, which from now on runs after the copy that read it.
            slot.output = None
            if timing:
                event.compute_start.record(compute)
            output = self._forward(slot.device_input)
            event.compute_end.record(compute)
        marks.pop()
        # Held, as the allocator does not know that the D2H stream still reads it.
        slot.output = output
        marks.push(STAGES[2])
        with runtime.use_stream(d2h):
            d2h.wait_event(event.compute_end)
            if timing:
                event.d2h_start.record(d2h)
            self._copy(target, output)
            event.d2h_end.record(d2h)
        marks.pop()
        # A no-op returns the slot's input itself, which is in use until its D2H copy has ended.
        no_op = output.data_ptr() == slot.device_input.data_ptr()
        # With one slot nothing may overlap: that is what synchronous means.
        serial = no_op or len(self._slots) == 1
        slot.input_free = event.d2h_end if serial else event.compute_end
        slot.output_free = event.d2h_end


def _time_per_batch(window: Window) -> float:
    """Seconds that one more batch takes.

    The wall time of few batches is also that of the first one, which nothing overlaps. N stages in
    a row last as long as N - 1 batches more at most.
    """
    if window.batches == 1:
        return window.wall_s
    stages = window.stages()
    first_ms = window.latency[0] + sum(window.host[:1])
    later = (window.wall_s - first_ms / 1e3) / (window.batches - 1)
    return max(later, window.wall_s / (window.batches + len(stages) - 1))
