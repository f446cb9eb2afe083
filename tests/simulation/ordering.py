"""A CUDA device whose operations run in the worst order that streams and events allow.

Nothing runs when it is submitted: operations wait in a queue, and a seeded random number picks the
next among those that streams and events do not hold back. Data really moves, so outputs show what
went wrong; vector clocks show it on schedules that happened to go well, and name the missing wait:

    runtime = OrderingRuntime(seed=1)
    ... # streams, events, copies
    runtime.synchronize()
    assert runtime.races == []
"""

from __future__ import annotations

import contextlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch

from numa_bench.errors import MachineError
from numa_bench.worker.cuda_runtime import DeviceProperties
from tests.simulation.capture import Capture
from tests.simulation.handles import OrderedEvent, OrderedStream, StaticOutputModel
from tests.simulation.host_lanes import LaneHost, OrderedLane
from tests.simulation.memory import MemoryMap, Region
from tests.simulation.races import Clock, Operation, Race, RaceDetector, join
from tests.simulation.schedule import Run, Schedule


class OrderingRuntime(LaneHost[OrderedLane]):
    """`CudaRuntime` on the CPU, in adversarial order. Models must be functions of their input."""

    def __init__(self, seed: int = 0) -> None:
        self.device = torch.device("cpu")
        self.memory = MemoryMap()
        #: What every copy to the host brought, in the order in which they ran.
        self.delivered: list[torch.Tensor] = []
        self._detector = RaceDetector()
        self._random = random.Random(seed)
        self._default = OrderedStream(self, 0)
        self._streams = [self._default]
        self._current = [self._default]
        self._schedule = Schedule()
        self._counts: dict[str, int] = defaultdict(int)
        self._host: Clock = {}
        self._lanes: list[OrderedLane] = []
        self._steps = 0
        self._eagerness = 0.0
        self._static: dict[StaticOutputModel, torch.Tensor] = {}
        self._capture: Capture | None = None
        self._graphs = 0

    @property
    def races(self) -> list[Race]:
        """Every pair of accesses that nothing holds apart, as far as was submitted."""
        return self._detector.races

    def properties(self) -> DeviceProperties:
        """See `CudaRuntime.properties`."""
        return DeviceProperties("ordering simulation", "GPU-ordering", (9, 0))

    def new_stream(self) -> OrderedStream:
        """See `CudaRuntime.new_stream`."""
        self._streams.append(OrderedStream(self, len(self._streams)))
        return self._streams[-1]

    def new_event(self) -> OrderedEvent:
        """See `CudaRuntime.new_event`."""
        return OrderedEvent(self)

    @contextlib.contextmanager
    def use_stream(self, stream: OrderedStream) -> Iterator[None]:
        """See `CudaRuntime.use_stream`."""
        self._current.append(stream)
        try:
            yield
        finally:
            self._current.pop()

    def synchronize(self) -> None:
        """See `CudaRuntime.synchronize`."""
        self._refuse_capture("synchronising")
        for lane in self._lanes:
            lane.finish()
        while self._schedule:
            self._run_one()
        for stream in self._streams:
            self._host = join(self._host, *(end.clock for end in stream.ends()))
        # How far the device lags behind the host until the next time: anything from all to none.
        self._eagerness = self._random.choice((0.0, 0.3, 0.6, 1.0))

    def hold_stream(self, seconds: float) -> None:  # noqa: ARG002 - there is no time here
        """See `CudaRuntime.hold_stream`. It holds for as long as the order of operations has it."""
        self._submit("hold", [], [], lambda: None)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """See `CudaRuntime.empty`."""
        return self.memory.allocate(tuple(shape), dtype, self._owner())

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """See `CudaRuntime.copy`. Raises MachineError for host memory that is not registered."""
        to, origin = self._region(target), self._region(source)
        kind = {(True, False): "H2D", (False, True): "D2H"}.get(
            (origin.buffer.on_host, to.buffer.on_host), "copy"
        )

        def run() -> None:
            to.tensor.copy_(origin.tensor)
            if kind == "D2H":
                self.delivered.append(to.tensor.clone())

        self._submit(kind, [origin], [to], run)

    def copy_pageable(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """See `CudaRuntime.copy_pageable`. The host waits, whichever way the copy goes."""
        to, origin = self.memory.find(target), self.memory.find(source)
        kind = "H2D" if origin is None else "D2H"

        def run() -> None:
            target.copy_(source if origin is None else origin.tensor)
            if kind == "D2H":
                self.delivered.append(target.clone())

        regions = [origin] if origin else [], [to] if to else []
        self._finish(self._submit(kind, *regions, run))

    def call_model(self, model: Callable[[Any], Any], batch: torch.Tensor) -> torch.Tensor:
        """See `CudaRuntime.call_model`. A result that is a view of its input costs nothing."""
        probe = torch.zeros_like(batch)
        result = model(probe)
        if result.untyped_storage().data_ptr() == probe.untyped_storage().data_ptr():
            self._submit("compute", [], [], lambda: None)
            return torch.as_strided(batch, result.shape, result.stride(), batch.storage_offset())
        output = self._output(model, tuple(result.shape), result.dtype)
        to, origin = self._region(output), self._region(batch)
        self._submit("compute", [origin], [to], lambda: void(to.tensor.copy_(model(origin.tensor))))
        return output

    def clone(self, tensor: torch.Tensor) -> torch.Tensor:
        """See `CudaRuntime.clone`."""
        copied = self.empty(tuple(tensor.shape), tensor.dtype)
        to, origin = self._region(copied), self._region(tensor)
        self._submit("clone", [origin], [to], lambda: void(to.tensor.copy_(origin.tensor)))
        return copied

    def to_device(self, value: Any) -> Any:
        """See `CudaRuntime.to_device`. A module's weights are read by nobody but itself."""
        if not isinstance(value, torch.Tensor):
            return value
        copied, pageable = self.empty(tuple(value.shape), value.dtype), value.clone()
        to = self._region(copied)
        self._finish(self._submit("upload", [], [to], lambda: void(to.tensor.copy_(pageable))))
        return copied

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        """See `CudaRuntime.to_host`."""
        copied, origin = torch.empty(tensor.shape, dtype=tensor.dtype), self._region(tensor)
        self._finish(
            self._submit("download", [origin], [], lambda: void(copied.copy_(origin.tensor)))
        )
        return copied

    def mark_graph_step(self) -> None:
        """See `CudaRuntime.mark_graph_step`. What it allows shows in the races."""

    def capture_graph(self, submit: Callable[[], None], stream: OrderedStream) -> Run:
        """See `CudaRuntime.capture_graph`. Raises RuntimeError where CUDA would."""
        self._refuse_capture("capturing")
        self._graphs += 1
        capture = self._capture = Capture(stream, self._graphs)
        try:
            with self.use_stream(stream):
                submit()
            capture.require_joined()
        finally:
            self._capture = None
        return lambda: self._replay(capture)

    def register_host(self, address: int, nbytes: int) -> None:
        """See `CudaRuntime.register_host`."""
        self.memory.register(address, nbytes)

    def unregister_host(self, address: int) -> None:
        """See `CudaRuntime.unregister_host`."""
        self._detector.forget(self.memory.unregister(address))

    def empty_pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """See `CudaRuntime.empty_pinned`."""
        tensor = torch.empty(shape, dtype=dtype)
        self.memory.register(tensor.data_ptr(), tensor.numel() * tensor.element_size())
        return tensor

    def new_host_lane(self) -> OrderedLane:
        """See `CudaRuntime.new_host_lane`."""
        self._lanes.append(OrderedLane(self, len(self._lanes)))
        return self._lanes[-1]

    def time_host_work(self, work: Callable[[], None]) -> float:
        """See `CudaRuntime.time_host_work`. A microsecond for each operation in it."""
        begin = self._steps
        work()
        return (self._steps - begin) * 1e-6

    def reset_peak_memory(self) -> None:
        """See `CudaRuntime.reset_peak_memory`."""
        self.memory.peak_bytes = self.memory.live_bytes

    def peak_memory_bytes(self) -> int:
        """See `CudaRuntime.peak_memory_bytes`."""
        return self.memory.peak_bytes

    def start_capture(self) -> None:
        """See `CudaRuntime.start_capture`. There is no profiler."""

    def stop_capture(self) -> None:
        """See `CudaRuntime.stop_capture`."""

    def host_time(self) -> float:
        """A microsecond for each operation that ran."""
        return self._steps * 1e-6

    def write_host(self, target: torch.Tensor, values: torch.Tensor) -> None:
        """A write of a thread of the host to registered memory, at this moment."""
        lane = self._on_lane
        name = "main thread" if lane is None else f"lane {lane.number}"
        operation = Operation(
            f"host {self._counts['host']}", "host", name, [], [], [self._region(target)]
        )
        self._counts["host"] += 1
        self._detector.add(operation, self.host_clock)
        self._steps += 1
        operation.step = self._steps
        target.copy_(values)
        self.learn(operation.clock)

    @property
    def host_clock(self) -> Clock:
        """What the thread of the host that runs now knows to be over."""
        return self._host if self._on_lane is None else self._on_lane.clock

    def learn(self, clock: Clock) -> None:
        """The thread of the host that runs now waited for this."""
        if self._on_lane is None:
            self._host = join(self._host, clock)
        else:
            self._on_lane.clock = join(self._on_lane.clock, clock)

    def choose(self) -> bool:
        """Whether a lane works now or later."""
        return self._random.random() < 0.5

    def wait_for(self, operations: list[Operation]) -> None:
        """Let the thread of the host that runs now wait for operations."""
        for operation in operations:
            while operation.step is None:
                self._run_one()
            self.learn(operation.clock)

    def wait_until(self, moment: float) -> None:
        """See `CudaRuntime.wait_until`. Nothing here waits for other processes."""

    def add_wait(self, stream: OrderedStream, event: OrderedEvent) -> None:
        """What the next operation on a stream waits for."""
        capture = self._capture
        if capture is None or not capture.add_wait(stream, event.point):
            stream.pending += event.point

    def record_point(self, stream: OrderedStream | None) -> list[Operation]:
        """What has ended when all that a stream (None: the current one) holds now has."""
        stream = stream or self._current[-1]
        if self._capture is not None and self._capture.holds(stream):
            return self._capture.ends(stream)
        return stream.ends()

    def _owner(self) -> object:
        """Whose block it is: of the stream, or of the graph that is being captured, for good."""
        return self._current[-1] if self._capture is None else (self._capture, self._current[-1])

    def _output(self, model: object, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        if not isinstance(model, StaticOutputModel):
            return self.empty(shape, dtype)
        if model not in self._static:
            self._static[model] = self.empty(shape, dtype)
        return self._static[model]

    def _region(self, tensor: torch.Tensor) -> Region:
        region = self.memory.find(tensor)
        if region is None:
            raise MachineError("a copy of host memory that is not registered is not asynchronous")
        return region

    def _submit(self, kind: str, reads: list[Region], writes: list[Region], run: Run) -> Operation:
        stream = self._current[-1]
        if self._capture is not None:
            return self._capture.add(stream, kind, reads, writes, run)
        operation = self._enqueue(kind, stream, stream.ends(), reads, writes, run)
        stream.tail, stream.pending = operation, []
        while self._schedule and self._random.random() < self._eagerness:
            self._run_one()
        return operation

    def _enqueue(
        self,
        kind: str,
        lane: object,
        waits: list[Operation],
        reads: list[Region],
        writes: list[Region],
        run: Run,
    ) -> Operation:
        operation = Operation(f"{kind} {self._counts[kind]}", kind, lane, waits, reads, writes)
        self._counts[kind] += 1
        self._detector.add(operation, self._host)
        self._schedule.add(operation, run)
        return operation

    def _replay(self, capture: Capture) -> None:
        """A whole graph after its last replay, between two operations on the current stream."""
        stream = self._current[-1]
        stream.pending += capture.last_end
        start = self._submit("graph start", [], [], lambda: None)
        made: dict[Operation, Operation] = {}
        for node in capture.nodes:
            operation, run = node
            waits = [start, *(made[earlier] for earlier in operation.waits)]
            lane = (capture.number, operation.lane)
            made[operation] = self._enqueue(
                operation.kind, lane, waits, operation.reads, operation.writes, run
            )
        stream.pending += made.values()
        capture.last_end = [self._submit("graph end", [], [], lambda: None)]

    def _refuse_capture(self, what: str) -> None:
        if self._capture is not None:
            raise RuntimeError(f"operation not permitted when stream is capturing: {what}")

    def _finish(self, operation: Operation) -> None:
        """Let the host wait for one operation."""
        self._refuse_capture("a synchronous copy")
        self.wait_for([operation])

    def _run_one(self) -> None:
        """Run one of the operations that nothing holds back."""
        operation, run = self._schedule.pop(self._random)
        with torch.inference_mode():
            run()
        self._steps += 1
        operation.step = self._steps
        operation.waits = []  # a long run keeps no chain of all its operations
        self._schedule.release_followers(operation)


def void(_: object) -> None:
    """Nothing, of something."""
