"""The order of numa_bench/worker/cuda_pipeline.py, written against `CudaRuntime`.

It is used for as long as the worker's own pipeline does not take a runtime.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from numa_bench.worker.pipeline import Window


class MinimalPipeline:
    """See `CudaPipeline`."""

    def __init__(
        self,
        model: Callable[[torch.Tensor], torch.Tensor],
        pool: Any,
        out_shape: tuple[int, ...],
        depth: int,
        runtime: Any,
        *,
        static_output: bool,
    ) -> None:
        self.model, self.pool, self.runtime, self.static = model, pool, runtime, static_output
        self._h2d, self._compute, self._d2h = (runtime.new_stream() for _ in range(3))
        batch = pool.first_batch()
        self._slots = []
        for _ in range(depth):
            target = torch.empty(out_shape, dtype=batch.dtype)
            runtime.register_host(target.data_ptr(), target.numel() * target.element_size())
            slot = SimpleNamespace(input=runtime.empty(tuple(batch.shape), batch.dtype))
            slot.host, slot.output, slot.input_free, slot.output_free = target, None, None, None
            self._slots.append(slot)
        self._last = 0

    def run(self, batches: int, _budget_s: float) -> Window:
        """See `CudaPipeline.run`."""
        runtime = self.runtime
        events = [[runtime.new_event() for _ in range(6)] for _ in range(batches)]
        runtime.synchronize()
        begin = runtime.host_time()
        for index, own in enumerate(events):
            self._submit(self._slots[index % len(self._slots)], own)
        runtime.synchronize()
        window = Window(wall_s=runtime.host_time() - begin)
        self._last = (batches - 1) % len(self._slots)
        for a, b, c, d, e, f in events:
            window.add_batch(
                events[0][0].elapsed_time(a),
                a.elapsed_time(b),
                c.elapsed_time(d),
                e.elapsed_time(f),
                a.elapsed_time(f),
            )
        return window

    def last_output(self) -> torch.Tensor:
        """See `CudaPipeline.last_output`."""
        output: torch.Tensor = self._slots[self._last].host
        return output

    def _submit(self, slot: Any, events: list[Any]) -> None:
        runtime = self.runtime
        h2d_start, h2d_end, compute_start, compute_end, d2h_start, d2h_end = events
        with runtime.use_stream(self._h2d):
            if slot.input_free is not None:
                self._h2d.wait_event(slot.input_free)
            h2d_start.record(self._h2d)
            runtime.copy(slot.input, self.pool.next_batch())
            h2d_end.record(self._h2d)
        with runtime.use_stream(self._compute):
            self._compute.wait_event(h2d_end)
            if slot.output_free is not None:
                self._compute.wait_event(slot.output_free)
            slot.output = None
            compute_start.record(self._compute)
            output = runtime.call_model(self.model, slot.input)
            if self.static:
                output = runtime.clone(output)
            compute_end.record(self._compute)
        slot.output = output
        with runtime.use_stream(self._d2h):
            self._d2h.wait_event(compute_end)
            d2h_start.record(self._d2h)
            runtime.copy(slot.host, output)
            d2h_end.record(self._d2h)
        no_op = output.data_ptr() == slot.input.data_ptr()
        serial = no_op or len(self._slots) == 1
        slot.input_free = d2h_end if serial else compute_end
        slot.output_free = d2h_end
