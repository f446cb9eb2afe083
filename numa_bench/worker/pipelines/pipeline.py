"""The stages H2D copy, forward pass, D2H copy over a stream of batches, with raw times out.

Both pipelines do the same work in the same order on the same buffers: batch i uses slot
i mod pipeline_depth. On CUDA the three stages run on three streams and overlap; on the CPU they
run one after another on the calling thread (helper threads would take the cores that are being
measured), so depth only changes the memory that is used.
"""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch

from numa_bench.records import STAGES
from numa_bench.worker.buffers import BatchRing, HostBuffer, HostTimes
from numa_bench.worker.recorder import NO_MARKS, Marks

Model = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Limits:
    """How long a window lasts: at least `batches` batches and `least_s` seconds, and never (about)
    longer than `budget_s`, which wins. One batch is always processed."""

    batches: int
    budget_s: float = math.inf
    least_s: float = 0.0


@dataclass
class Window:
    """Raw times of consecutive batches, in milliseconds.

    `batches` counts them; the lists hold one value for each batch, or for every `stride`-th where
    there are too many to time each. `start` counts from the first batch's start; `latency` spans
    the start of a batch's H2D to the end of its D2H, waiting included. Batches of a CUDA graph are
    not timed singly: `replay` has one value for each replay. `wall_s` is host time from
    before the first batch was submitted until all were finished; `submit_s` the part of it in which
    the host was submitting (None on the CPU, where it does the work itself). `begin_s` is the
    host's clock at the start of `wall_s`.

    With host work `host` has its times, which precede the H2D copy, and `host_wait_s` is the time
    in which the submitting thread waited for it; `submit_s` does not include that.
    """

    start: list[float] = field(default_factory=list)
    h2d: list[float] = field(default_factory=list)
    compute: list[float] = field(default_factory=list)
    d2h: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    replay: list[float] = field(default_factory=list)
    host: list[float] = field(default_factory=list)
    host_wait_s: float = 0.0
    wall_s: float = 0.0
    batches: int = 0
    stride: int = 1
    submit_s: float | None = None
    begin_s: float = 0.0

    def add_batch(
        self, start: float, h2d: float, compute: float, d2h: float, latency: float
    ) -> None:
        """Append the times of one batch; the caller counts batches."""
        self.start.append(start)
        self.h2d.append(h2d)
        self.compute.append(compute)
        self.d2h.append(d2h)
        self.latency.append(latency)

    def extend(self, other: Window) -> None:
        """Append a later window; its starts are counted from this one's end."""
        offset = self.wall_s * 1e3
        self.start += [offset + value for value in other.start]
        for name in ("h2d", "compute", "d2h", "latency", "replay", "host"):
            getattr(self, name).extend(getattr(other, name))
        self.host_wait_s += other.host_wait_s
        self.wall_s += other.wall_s
        self.batches += other.batches
        self.stride = max(self.stride, other.stride)

    def busy_ms(self) -> list[float]:
        """Sum of the stages of each timed batch, waiting not included; or replay times."""
        if self.replay:
            return list(self.replay)
        return [sum(batch) for batch in zip(*self.stages(), strict=True)]

    def add_host_times(self, times: HostTimes) -> None:
        """The host work of all batches of the window; those of timed batches are kept."""
        self.host += times.ms[:: self.stride]
        self.host_wait_s += times.waited_s

    def stages(self) -> tuple[list[float], ...]:
        """The times of each stage, in order; host work first where there is any."""
        stages = (self.h2d, self.compute, self.d2h)
        return (self.host, *stages) if self.host else stages

    def to_samples(self) -> dict[str, list[float]]:
        """The lists under the names that result.json uses."""
        optional = [name for name in ("host", "replay") if getattr(self, name)]
        names = ["start", "h2d", "compute", "d2h", "latency", *optional]
        return {f"{name}_ms": [round(v, 6) for v in getattr(self, name)] for name in names}


@dataclass(frozen=True)
class StageTimes:
    """Times of single stages that ran alone, in milliseconds: one copy direction at a time, no gap
    before an operation. `gaps` names stages whose times may contain gaps after all. `host` is empty
    without host work."""

    h2d: tuple[float, ...]
    compute: tuple[float, ...]
    d2h: tuple[float, ...]
    gaps: tuple[str, ...] = ()
    host: tuple[float, ...] = ()

    def stages(self) -> tuple[tuple[float, ...], ...]:
        """As `Window.stages`."""
        stages = (self.h2d, self.compute, self.d2h)
        return (self.host, *stages) if self.host else stages


class Pipeline(Protocol):
    """What the worker drives. `host_buffers` are all host memory the copies touch."""

    pool: BatchRing
    host_buffers: list[HostBuffer]

    def run(self, limits: Limits, marks: Marks = NO_MARKS) -> Window:
        """Process batches within `limits`; `marks` bracket their stages for a profiler."""
        ...

    def time_stages(self) -> StageTimes | None:
        """Stage times that run alone; None where stages never overlap."""
        ...

    def last_output(self) -> torch.Tensor:
        """Host copy of the last batch's output."""
        ...


class CpuPipeline:
    """The stages over host memory: pool -> input slot -> model -> output ring.

    Host work comes first, batch by batch: its threads work while the calling thread waits.
    """

    def __init__(self, model: Model, pool: BatchRing, outputs: BatchRing, depth: int) -> None:
        self.model = model
        self.pool = pool
        self._outputs = outputs
        shape, dtype = tuple(pool.first_batch().shape), pool.first_batch().dtype
        self._inputs = [HostBuffer(shape, dtype) for _ in range(depth)]
        self.host_buffers = [*pool.host_buffers(), *self._inputs, outputs.buffer]

    def run(self, limits: Limits, marks: Marks = NO_MARKS) -> Window:
        """See `Pipeline.run`. Stops after the batch in which a limit is reached."""
        with quiet_collector():
            return self._run(limits, marks)

    def time_stages(self) -> None:
        """See `Pipeline.time_stages`."""
        return

    def last_output(self) -> torch.Tensor:
        """See `Pipeline.last_output`."""
        return self._outputs.last_batch()

    def _run(self, limits: Limits, marks: Marks) -> Window:
        # Local names: attribute lookups would be paid in every batch.
        push, pop = marks.push, marks.pop
        h2d, compute, d2h = STAGES
        model, slots, depth = self.model, [b.tensor for b in self._inputs], len(self._inputs)
        next_input, next_output = self.pool.next_batch, self._outputs.next_batch
        clock = time.monotonic_ns  # of `begin_s`, and of the other workers of a set
        times: list[tuple[int, int, int, int]] = []
        # Opening and closing the window may start and stop a profiler, which takes up to a second.
        marks.open_window()
        self.pool.open_window(limits.batches, marks)
        begin = clock()
        deadline, least = begin + limits.budget_s * 1e9, begin + limits.least_s * 1e9
        while True:
            # Before the clock is read, host work included: H2D is the copy alone, as on CUDA.
            source, slot, target = next_input(), slots[len(times) % depth], next_output()
            t0 = clock()
            push(h2d)
            slot.copy_(source)
            pop()
            t1 = clock()
            push(compute)
            output = model(slot)
            pop()
            t2 = clock()
            push(d2h)
            target.copy_(output)
            pop()
            t3 = clock()
            times.append((t0, t1, t2, t3))
            if t3 >= deadline or (len(times) >= limits.batches and t3 >= least):
                break
        end = clock()
        marks.close_window()
        window = Window(wall_s=(end - begin) / 1e9, batches=len(times), begin_s=begin / 1e9)
        window.add_host_times(self.pool.close_window())
        for t0, t1, t2, t3 in times:
            window.add_batch(
                *((b - a) / 1e6 for a, b in ((begin, t0), (t0, t1), (t1, t2), (t2, t3), (t0, t3)))
            )
        return window


@contextlib.contextmanager
def quiet_collector() -> Iterator[None]:
    """Keep the garbage collector out of a window: a full collection takes a tenth of a second.

    Where it is off already, nothing changes: windows inside such a block follow each other without
    a collection in between, in which the device would idle.
    """
    if not gc.isenabled():
        yield
        return
    # Now, so that garbage of the set-up is not carried through the window.
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.enable()
