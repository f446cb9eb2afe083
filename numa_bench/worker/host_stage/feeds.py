"""Batches that host threads prepare: ahead of the copies on a GPU, in order on the CPU.

Ahead, for batch i in row r = i mod rows of the ring, with "->" for "waits for":

    host(i) -> host(i - 1), and the row is free: H2D(i - rows)
    H2D(i)  -> host(i)

A window begins with nothing prepared and ends with nothing left over, so all host work on its
batches, and no other, is inside it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from numa_bench.records import HOST_STAGE
from numa_bench.worker.buffers import (
    BatchRing,
    HostBuffer,
    HostTimes,
    MemoryKind,
    WindowMarks,
)
from numa_bench.worker.cuda_runtime import CudaRuntime, Event
from numa_bench.worker.host_stage.images import HostWork
from numa_bench.worker.host_stage.lanes import Pending
from numa_bench.worker.recorder import NO_MARKS

#: Rows beyond one for each batch in flight: one that is ready, one that is being written.
ROWS_AHEAD = 2
#: Host work that runs by itself: batches, unless they take longer than this many seconds.
_ALONE_BATCHES = (3, 24)
_ALONE_S = 1.0


class HostFeed(BatchRing):
    """A ring whose batches `work` writes when they are asked for; who asks waits meanwhile."""

    def __init__(
        self,
        batch_shape: Sequence[int],
        dtype: torch.dtype,
        work: HostWork,
        *,
        depth: int,
        memory: MemoryKind,
    ) -> None:
        super().__init__(
            batch_shape,
            dtype,
            nbytes=0,
            least=depth + ROWS_AHEAD,
            registrar=memory.registrar,
            huge_pages=memory.huge_pages,
            pinner=memory.pinner,
        )
        self._work = work
        self._written = 0
        self._given = 0
        self._marks: WindowMarks = NO_MARKS
        self._times: list[float] = []
        self._waited_s = 0.0

    def host_buffers(self) -> list[HostBuffer]:
        """See `BatchRing.host_buffers`: the images, and the batches that are made of them."""
        return [*self._work.buffers, self.buffer]

    def open_window(self, batches: int, marks: WindowMarks) -> None:  # noqa: ARG002 - in order
        """See `BatchRing.open_window`."""
        self._marks = marks
        self._times, self._waited_s = [], 0.0

    def next_batch(self) -> torch.Tensor:
        """See `BatchRing.next_batch`."""
        row = self.next_row()
        seconds = self._write(self._written, row, self._marks)
        self._written += 1
        self._given = self._written
        self._times.append(1e3 * seconds)
        self._waited_s += seconds
        return row

    def close_window(self) -> HostTimes:
        """See `BatchRing.close_window`."""
        return HostTimes(tuple(self._times), self._waited_s)

    def reference_batch(self) -> torch.Tensor:
        """See `BatchRing.reference_batch`: from the raw images, by another path."""
        batch = self.last_batch()
        return self._work.compute_reference(self._given - 1).to(batch.dtype)

    def _write(self, index: int, row: torch.Tensor, marks: WindowMarks) -> float:
        """Write one batch; the seconds that it took."""
        marks.push(HOST_STAGE)
        seconds = self._time_work(partial(self._work.write_batch, index, row))
        marks.pop()
        return seconds

    def _time_work(self, work: Callable[[], None]) -> float:
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin


class AheadFeed(HostFeed):
    """Batches that a lane of the host prepares while others are copied and computed."""

    def __init__(
        self,
        batch_shape: Sequence[int],
        dtype: torch.dtype,
        work: HostWork,
        *,
        depth: int,
        memory: MemoryKind,
        runtime: CudaRuntime,
    ) -> None:
        super().__init__(batch_shape, dtype, work, depth=depth, memory=memory)
        self._runtime = runtime
        self._lane = runtime.new_host_lane()
        # One for each row, recorded after its copy. Those of the pipeline are recorded again
        # before the row is.
        self._copied = [runtime.new_event() for _ in range(self.batches)]
        self._pending: deque[Pending] = deque()
        self._remaining = 0
        self._next_write = 0

    def open_window(self, batches: int, marks: WindowMarks) -> None:
        """See `BatchRing.open_window`. The lane begins at once."""
        super().open_window(batches, marks)
        self._remaining, self._next_write = batches, self.position()
        for _ in range(min(batches, self.batches)):
            self._prepare_next()

    def next_batch(self) -> torch.Tensor:
        """See `BatchRing.next_batch`. Waits until the lane has written it."""
        begin = self._runtime.host_time()
        seconds = self._pending.popleft().result()
        self._waited_s += self._runtime.host_time() - begin
        self._times.append(1e3 * seconds)
        self._given += 1
        return self.next_row()

    def release_batch(self, stream: Any) -> None:
        """See `BatchRing.release_batch`."""
        self._copied[self.position() - 1].record(stream)
        if self._remaining:
            self._prepare_next()

    def time_host_work(self) -> tuple[float, ...]:
        """See `BatchRing.time_host_work`."""
        times: list[float] = []
        least, most = _ALONE_BATCHES
        while len(times) < least or (len(times) < most and sum(times) < 1e3 * _ALONE_S):
            row = self.position()
            work = partial(self._prepare, len(times), self.next_row(), self._copied[row], NO_MARKS)
            times.append(1e3 * self._lane.submit(work).result())
        return tuple(times)

    def _prepare_next(self) -> None:
        """Let the lane write the next row as soon as it is free."""
        row, index = self._next_write, self._written
        self._next_write = (row + 1) % self.batches
        self._written += 1
        self._remaining -= 1
        task = partial(self._prepare, index, self.row(row), self._copied[row], self._marks)
        self._pending.append(self._lane.submit(task))

    def _prepare(self, index: int, row: torch.Tensor, copied: Event, marks: WindowMarks) -> float:
        """On the lane: write a row that nothing reads any more; the seconds that it took."""
        copied.synchronize()
        return self._write(index, row, marks)

    def _time_work(self, work: Callable[[], None]) -> float:
        return self._runtime.time_host_work(work)
