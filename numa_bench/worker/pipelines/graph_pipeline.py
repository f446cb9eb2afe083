"""The CUDA pipeline as one CUDA graph: copies and forward passes of many batches replayed at once.

A light model costs the host more to submit than the GPU to run. A replay is a single launch, so
the host does nothing per operation. A replay starts when the one before has ended, so it holds as
many batches as the host pools, up to MOST_STEPS, to make that gap small.

Single batches are not timed inside a replay: the window's `replay` holds one value for each replay,
and stage times come from `time_stages`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numa_bench.worker.buffers import BatchRing
from numa_bench.worker.cuda_runtime import CudaRuntime, Event
from numa_bench.worker.pipelines.cuda_pipeline import MOST_TIMED, CudaPipeline
from numa_bench.worker.pipelines.pipeline import Limits, Model, Window, quiet_collector
from numa_bench.worker.recorder import NO_MARKS, Marks

#: Most batches in one graph: a forward pass can be hundreds of nodes, and capturing takes time.
MOST_STEPS = 64
#: Eager batches before the capture: libraries allocate and choose kernels on first use, which a
#: capture forbids (torch.cuda.graph's documentation asks for a few).
_EAGER_BATCHES = 3


class GraphPipeline(CudaPipeline):
    """`CudaPipeline` whose batches are replayed from one graph, captured on the first run."""

    def __init__(
        self, model: Model, pool: BatchRing, outputs: BatchRing, depth: int, runtime: CudaRuntime
    ) -> None:
        super().__init__(model, pool, outputs, depth, runtime, static_output=False)
        self._stream = runtime.new_stream()
        # A multiple of the depth: every replay starts with slot 0, as the capture did.
        self._steps = depth * math.ceil(min(pool.batches, MOST_STEPS) / depth)
        self._replay: Callable[[], None] | None = None
        self._end = (0, 0)
        self._pairs: list[tuple[Event, Event]] = []

    def run(self, limits: Limits, marks: Marks = NO_MARKS) -> Window:
        """See `Pipeline.run`. Whole replays are run, so a window may be longer by one of them."""
        if self._replay is None:
            super().run(Limits(_EAGER_BATCHES))
            self._replay = self._capture()
            # Replays take another time per batch than the eager batches.
            self._batch_s = None
        replays = math.ceil(self._count_batches(limits) / self._steps)
        stride = math.ceil(replays / MOST_TIMED)
        runtime, replay = self._runtime, self._replay
        while len(self._pairs) < math.ceil(replays / stride):
            self._pairs.append((runtime.new_event(), runtime.new_event()))
        runtime.synchronize()
        with quiet_collector(), runtime.use_stream(self._stream):
            marks.open_window()
            begin = runtime.host_time()
            for index in range(replays):
                start, end = self._pairs[index // stride]
                if index % stride == 0:
                    start.record(self._stream)
                replay()
                if index % stride == 0:
                    end.record(self._stream)
            submitted = runtime.host_time()
            marks.close_window()
            runtime.synchronize()
            wall_s = runtime.host_time() - begin
        self._move_to_end()
        batches = replays * self._steps
        self._batch_s = wall_s / batches
        window = Window(
            wall_s=wall_s,
            batches=batches,
            stride=stride,
            submit_s=submitted - begin,
            begin_s=begin,
        )
        first = self._pairs[0][0]
        for start, end in self._pairs[: math.ceil(replays / stride)]:
            window.start.append(first.elapsed_time(start))
            window.replay.append(start.elapsed_time(end))
        return window

    def _run_eagerly(self, limits: Limits) -> Window:
        return super().run(limits)

    def _move_to_end(self) -> None:
        """Put pool and outputs where a replay leaves them: it always uses the captured batches,
        and eager ones may have run since."""
        of_pool, of_outputs = self._end
        self.pool.move_to(of_pool)
        self._outputs.move_to(of_outputs)

    def _capture(self) -> Callable[[], None]:
        """Capture the steps: three streams that fork from one and join it again."""
        self._runtime.synchronize()
        fork, slots = self._runtime.new_event(), self._slots
        for slot in slots:  # events from before the capture must not be waited for inside it
            slot.input_free = slot.output_free = slot.output = None

        def submit() -> None:
            fork.record(self._stream)
            streams: tuple[Any, ...] = (self._h2d, self._compute, self._d2h)
            # A stream joins a capture by waiting for an event of the capturing stream (CUDA C++
            # Programming Guide, "Cross-stream Dependencies and Events").
            for stream in streams:
                stream.wait_event(fork)
            for index in range(self._steps):
                slot = slots[index % len(slots)]
                self._submit(slot, slot.events, NO_MARKS, timing=False)
            # Every stream must be joined again before the capture ends, or CUDA refuses the graph.
            for slot in slots:
                for event in (slot.events.h2d_end, slot.events.compute_end, slot.events.d2h_end):
                    self._stream.wait_event(event)

        replay = self._runtime.capture_graph(submit, self._stream)
        self._end = self.pool.position(), self._outputs.position()
        for slot in slots:  # nor events of inside it after it
            slot.input_free = slot.output_free = None
        return replay
