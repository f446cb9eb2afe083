"""The stages H2D copy, forward pass, D2H copy over a stream of batches, with raw times out.

Both pipelines do the same work in the same order on the same buffers: batch i uses slot
i mod pipeline_depth. On CUDA the three stages run on three streams and overlap; on the CPU they
run one after another on the calling thread (helper threads would take the cores that are being
measured), so depth only changes the memory that is used.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch

from numa_bench.records import STAGES
from numa_bench.worker.buffers import HostBuffer, SamplePool
from numa_bench.worker.recorder import NO_MARKS, Marks

Model = Callable[[torch.Tensor], torch.Tensor]


@dataclass
class Window:
    """Raw times of consecutive batches, in milliseconds, one value per batch.

    `start` counts from the first batch's start; `latency` spans the start of a batch's H2D to
    the end of its D2H, waiting included. `wall_s` is host time from before the first batch was
    submitted until all were finished.
    """

    start: list[float] = field(default_factory=list)
    h2d: list[float] = field(default_factory=list)
    compute: list[float] = field(default_factory=list)
    d2h: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    wall_s: float = 0.0

    @property
    def batches(self) -> int:
        return len(self.latency)

    def add_batch(
        self, start: float, h2d: float, compute: float, d2h: float, latency: float
    ) -> None:
        """Append one batch."""
        self.start.append(start)
        self.h2d.append(h2d)
        self.compute.append(compute)
        self.d2h.append(d2h)
        self.latency.append(latency)

    def extend(self, other: Window) -> None:
        """Append a later window; its starts are counted from this one's end."""
        offset = self.wall_s * 1e3
        self.start += [offset + value for value in other.start]
        for name in ("h2d", "compute", "d2h", "latency"):
            getattr(self, name).extend(getattr(other, name))
        self.wall_s += other.wall_s

    def busy_ms(self) -> list[float]:
        """Sum of the three stages of each batch, waiting not included."""
        return [sum(stages) for stages in zip(self.h2d, self.compute, self.d2h, strict=True)]

    def to_samples(self) -> dict[str, list[float]]:
        """The lists under the names that result.json uses."""
        names = ("start", "h2d", "compute", "d2h", "latency")
        return {f"{name}_ms": [round(v, 6) for v in getattr(self, name)] for name in names}


class Pipeline(Protocol):
    """What the worker drives. `host_buffers` are all host memory the copies touch."""

    host_buffers: list[HostBuffer]

    def run(self, batches: int, budget_s: float, marks: Marks = NO_MARKS) -> Window:
        """Process up to `batches` batches (at least one) in about `budget_s` seconds.

        `marks` bracket the stages of every batch for a profiler.
        """
        ...

    def last_output(self) -> torch.Tensor:
        """Host copy of the last batch's output."""
        ...


class CpuPipeline:
    """The stages over host memory: pool -> input slot -> model -> output slot."""

    def __init__(
        self, model: Model, pool: SamplePool, out_shape: tuple[int, ...], depth: int
    ) -> None:
        self.model = model
        self.pool = pool
        in_shape, dtype = tuple(pool.first_batch().shape), pool.first_batch().dtype
        self._inputs = [HostBuffer(in_shape, dtype, register=False) for _ in range(depth)]
        self._outputs = [HostBuffer(out_shape, dtype, register=False) for _ in range(depth)]
        self.host_buffers = [pool.buffer, *self._inputs, *self._outputs]
        self._slots = [
            (i.tensor, o.tensor) for i, o in zip(self._inputs, self._outputs, strict=True)
        ]
        self._last = 0

    def run(self, batches: int, budget_s: float, marks: Marks = NO_MARKS) -> Window:
        """See `Pipeline.run`. Stops after the batch in which the budget ends."""
        push, pop = marks.push, marks.pop
        h2d, compute, d2h = STAGES
        model, pool, slots, depth = self.model, self.pool, self._slots, len(self._slots)
        clock = time.perf_counter_ns
        times: list[tuple[int, int, int, int]] = []
        begin = clock()
        deadline = begin + budget_s * 1e9
        for index in range(batches):
            source, target = slots[index % depth]
            t0 = clock()
            push(h2d)
            source.copy_(pool.next_batch())
            pop()
            t1 = clock()
            push(compute)
            output = model(source)
            pop()
            t2 = clock()
            push(d2h)
            target.copy_(output)
            pop()
            t3 = clock()
            times.append((t0, t1, t2, t3))
            if t3 >= deadline:
                break
        window = Window(wall_s=(clock() - begin) / 1e9)
        for t0, t1, t2, t3 in times:
            window.add_batch(
                *((b - a) / 1e6 for a, b in ((begin, t0), (t0, t1), (t1, t2), (t2, t3), (t0, t3)))
            )
        self._last = (len(times) - 1) % depth
        return window

    def last_output(self) -> torch.Tensor:
        """See `Pipeline.last_output`."""
        return self._slots[self._last][1]
