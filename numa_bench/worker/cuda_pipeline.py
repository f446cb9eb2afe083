"""The stages on a CUDA device: three streams, events between them, pinned buffers.

For batch i in slot s = i mod depth, with arrows for "waits for" (a no-op's input is free when its
D2H has ended, because its output is its input):

    H2D(i)     -> the slot's input is free:  compute(i - depth)
    compute(i) -> H2D(i), and the slot's output is free:  D2H(i - depth)
    D2H(i)     -> compute(i)

The host never waits inside a window; it synchronises once, at its end.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from numa_bench.records import STAGES
from numa_bench.worker.buffers import HostBuffer, SamplePool
from numa_bench.worker.pipeline import Model, Window
from numa_bench.worker.recorder import NO_MARKS, Marks

#: Fewest batches of a window, so that percentiles and overlap mean something.
LEAST_BATCHES = 3


class _Events:
    """Six timing events of one batch: start and end of each stage."""

    def __init__(self) -> None:
        self.h2d_start, self.h2d_end = _event(), _event()
        self.compute_start, self.compute_end = _event(), _event()
        self.d2h_start, self.d2h_end = _event(), _event()


@dataclass
class _Slot:
    device_input: torch.Tensor
    host_output: HostBuffer
    output: torch.Tensor | None = None
    input_free: torch.cuda.Event | None = None
    output_free: torch.cuda.Event | None = None


class CudaPipeline:
    """pool (pinned) -> device input slot -> model -> host output slot (pinned).

    `static_output`: the model replays a CUDA graph and returns the same memory each time, so its
    output is cloned on the compute stream before the next replay overwrites it.
    """

    def __init__(
        self,
        model: Model,
        pool: SamplePool,
        out_shape: tuple[int, ...],
        depth: int,
        device: torch.device,
        *,
        static_output: bool,
    ) -> None:
        self.model = model
        self.pool = pool
        self.static_output = static_output
        batch = pool.first_batch()
        self._h2d, self._compute, self._d2h = (torch.cuda.Stream(device) for _ in range(3))
        self._slots = [
            _Slot(
                torch.empty(batch.shape, dtype=batch.dtype, device=device),
                HostBuffer(out_shape, batch.dtype, register=True),
            )
            for _ in range(depth)
        ]
        self.host_buffers = [pool.buffer, *(slot.host_output for slot in self._slots)]
        self._last = 0
        self._batch_s: float | None = None

    def run(self, batches: int, budget_s: float, marks: Marks = NO_MARKS) -> Window:
        """See `Pipeline.run`. The host cannot watch the budget without waiting for the device,
        so the number of batches comes from the time per batch of the window before."""
        if self._batch_s:
            batches = min(batches, max(LEAST_BATCHES, int(budget_s / self._batch_s)))
        events = [_Events() for _ in range(batches)]
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for index, batch in enumerate(events):
            self._submit(self._slots[index % len(self._slots)], batch, marks)
        torch.cuda.synchronize()
        wall_s = time.perf_counter() - begin
        self._last = (batches - 1) % len(self._slots)
        self._batch_s = wall_s / batches
        window = Window(wall_s=wall_s)
        first = events[0].h2d_start
        for m in events:
            window.add_batch(
                first.elapsed_time(m.h2d_start),
                m.h2d_start.elapsed_time(m.h2d_end),
                m.compute_start.elapsed_time(m.compute_end),
                m.d2h_start.elapsed_time(m.d2h_end),
                m.h2d_start.elapsed_time(m.d2h_end),
            )
        return window

    def last_output(self) -> torch.Tensor:
        """See `Pipeline.last_output`."""
        return self._slots[self._last].host_output.tensor

    def _submit(self, slot: _Slot, event: _Events, marks: Marks) -> None:
        h2d, compute, d2h = self._h2d, self._compute, self._d2h
        marks.push(STAGES[0])
        with torch.cuda.stream(h2d):
            if slot.input_free is not None:
                h2d.wait_event(slot.input_free)
            event.h2d_start.record(h2d)
            slot.device_input.copy_(self.pool.next_batch(), non_blocking=True)
            event.h2d_end.record(h2d)
        marks.pop()
        marks.push(STAGES[1])
        with torch.cuda.stream(compute):
            compute.wait_event(event.h2d_end)
            if slot.output_free is not None:
                compute.wait_event(slot.output_free)
            # Let go of the slot's last output only here: the allocator gives its memory back to
            # this stream, which from now on runs after the copy that read it.
            slot.output = None
            event.compute_start.record(compute)
            if self.static_output:
                torch.compiler.cudagraph_mark_step_begin()
            output = self.model(slot.device_input)
            if self.static_output:
                output = output.clone()
            event.compute_end.record(compute)
        marks.pop()
        slot.output = output
        marks.push(STAGES[2])
        with torch.cuda.stream(d2h):
            d2h.wait_event(event.compute_end)
            event.d2h_start.record(d2h)
            slot.host_output.tensor.copy_(output, non_blocking=True)
            event.d2h_end.record(d2h)
        marks.pop()
        no_op = output.data_ptr() == slot.device_input.data_ptr()
        # With one slot nothing may overlap: that is what synchronous means.
        serial = no_op or len(self._slots) == 1
        slot.input_free = event.d2h_end if serial else event.compute_end
        slot.output_free = event.d2h_end


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)
