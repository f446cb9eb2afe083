"""A CUDA device that does nothing and says how long it took: a virtual clock for host and device.

Every submission costs the host what the machine's model says; an operation begins when it was
submitted, its stream and the events it waits for are through, and its engine (one per copy
direction, one for kernels) is free. Two copies in opposite directions share what the link, or the
link between the sockets, carries of both. So stage times, overlap and windows have a known truth.

Values: a host tensor holds the right output when it was the target of the last copy to the host
before `synchronize`, and what `to_host` returns is right; all else is left out, to be fast.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from numa_bench.errors import MachineError
from numa_bench.worker.cuda_runtime import DeviceProperties
from tests.simulation.copies import PlainCopies, fit_values
from tests.simulation.engines import D2H, H2D, Engines, Stamp, TimedEvent, TimedStream
from tests.simulation.host_lanes import LaneHost, TimedLane
from tests.simulation.links import EVALUATE_FLOP, Links
from tests.simulation.model_cost import Content, ModelCost, ModelRunner
from tests.simulation.timed_memory import DeviceMemory, HostRanges

#: Values of noise made once and used in turn; a prime, so that stages do not fall into step.
_NOISE_VALUES = 4093


class TimingRuntime(LaneHost[TimedLane], PlainCopies):
    """`CudaRuntime` whose times follow from `links`. The same seed gives the same times.

    Models of more than `evaluate_flop` are not really computed, see `ModelRunner`.
    """

    def __init__(
        self,
        links: Links,
        name: str = "timing simulation",
        uuid: str = "GPU-timing",
        *,
        seed: object = 0,
        evaluate_flop: float = EVALUATE_FLOP,
    ) -> None:
        self.device = torch.device("cpu")
        self.links = links
        self._properties = DeviceProperties(name, uuid, (9, 0))
        self._models = ModelRunner(evaluate_flop)
        self._engines = Engines(
            links.h2d_bytes_per_s, links.d2h_bytes_per_s, links.both_bytes_per_s
        )
        self._now = 0.0
        self._current = [self.new_stream()]
        self._captured: list[Callable[[], None]] | None = None
        self._replaying = False
        self._host = HostRanges()
        self._memory = DeviceMemory()
        self._delivered: tuple[torch.Tensor, Content] | None = None
        self._pinned: list[torch.Tensor] = []
        self._noise = itertools.cycle(_make_noise(links, seed))

    def properties(self) -> DeviceProperties:
        """See `CudaRuntime.properties`."""
        return self._properties

    def new_stream(self) -> TimedStream:
        """See `CudaRuntime.new_stream`."""
        return self._engines.new_stream(self._wait_event)

    def new_event(self) -> TimedEvent:
        """See `CudaRuntime.new_event`."""
        return TimedEvent(self.record_event, self.has_happened, self.wait_for)

    @contextlib.contextmanager
    def use_stream(self, stream: TimedStream) -> Iterator[None]:
        """See `CudaRuntime.use_stream`."""
        self._current.append(stream)
        try:
            yield
        finally:
            self._current.pop()

    def synchronize(self) -> None:
        """See `CudaRuntime.synchronize`."""
        if self._captured is not None:
            raise RuntimeError("operation not permitted when stream is capturing: synchronising")
        self._now = max(self._now, self._engines.drain())
        if self._delivered is not None:
            target, content = self._delivered
            target.copy_(fit_values(self._models.evaluate(content), target))
            self._delivered = None

    def hold_stream(self, seconds: float) -> None:
        """See `CudaRuntime.hold_stream`. One kernel that lasts exactly so long."""
        self._do(self._hold, seconds, self._current[-1])

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """See `CudaRuntime.empty`. Memory that is never touched costs the real host nothing."""
        return self._memory.allocate(tuple(shape), dtype)

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """See `CudaRuntime.copy`. Raises MachineError for host memory that is not registered."""
        inwards = self.is_on_device(target)
        self._host.require(source if inwards else target)
        self._do(self._copy, target, source, self._current[-1], inwards)

    def copy_pageable(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """See `CudaRuntime.copy_pageable`. The host waits for it."""
        stream, inwards = self._current[-1], self.is_on_device(target)
        if self._captured is not None or self._host.holds(source if inwards else target):
            raise MachineError("a copy of pageable memory of what is registered, or in a graph")
        self._copy(target, source, stream, inwards, self.links.pageable_bytes_per_s)
        self.wait_for(stream.add_record(self._now))

    def call_model(self, model: Callable[[Any], Any], batch: torch.Tensor) -> torch.Tensor:
        """See `CudaRuntime.call_model`. A result that is a view of its input costs nothing."""
        cost = self._models.cost(model, batch)
        if cost.no_op:
            return batch if cost.shape == batch.shape else batch.view(cost.shape)
        output = self.empty(cost.shape, cost.dtype)
        self._do(self._call, model, batch, output, cost, self._current[-1])
        return output

    def clone(self, tensor: torch.Tensor) -> torch.Tensor:
        """See `CudaRuntime.clone`. Device memory is fast: it costs one kernel."""
        copied = self.empty(tuple(tensor.shape), tensor.dtype)
        self._do(self._clone, copied, tensor, self._current[-1])
        return copied

    def to_device(self, value: Any) -> Any:
        """See `CudaRuntime.to_device`."""
        if isinstance(value, torch.nn.Module):
            weights = [*value.parameters(), *value.buffers()]
            self._memory.track(value, sum(w.numel() * w.element_size() for w in weights))
        if not isinstance(value, torch.Tensor):
            return value
        copied = self.empty(tuple(value.shape), value.dtype)
        self._memory.contents[copied.data_ptr()] = Content(value.clone())
        self._finish(value, self.links.h2d_bytes_per_s)
        return copied

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        """See `CudaRuntime.to_host`."""
        self._finish(tensor, self.links.d2h_bytes_per_s)
        return self._models.evaluate(self._memory.content(tensor)).clone()

    def mark_graph_step(self) -> None:
        """See `CudaRuntime.mark_graph_step`."""

    def capture_graph(self, submit: Callable[[], None], stream: TimedStream) -> Callable[[], None]:
        """See `CudaRuntime.capture_graph`. A replay costs the host one submission.

        That streams join and are joined again is for the ordering simulation to check.
        """
        if self._captured is not None:
            raise RuntimeError("operation not permitted when stream is capturing: capturing")
        captured = self._captured = []
        try:
            with self.use_stream(stream):
                submit()
        finally:
            self._captured = None
        return lambda: self._replay(captured, stream)

    def register_host(self, address: int, nbytes: int) -> None:
        """See `CudaRuntime.register_host`."""
        self._host.register(address, nbytes)

    def unregister_host(self, address: int) -> None:
        """See `CudaRuntime.unregister_host`."""
        self._host.unregister(address)

    def empty_pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """See `CudaRuntime.empty_pinned`."""
        tensor = torch.empty(shape, dtype=dtype)
        self._host.register(tensor.data_ptr(), tensor.numel() * tensor.element_size())
        return tensor

    def new_host_lane(self) -> TimedLane:
        """See `CudaRuntime.new_host_lane`."""
        return TimedLane(self)

    def time_host_work(self, work: Callable[[], None]) -> float:
        """See `CudaRuntime.time_host_work`. It takes `host_work_s`, whatever it is."""
        work()
        seconds = self.links.host_work_s * next(self._noise)
        self.wait_until(self.host_time() + seconds)
        return seconds

    def reset_peak_memory(self) -> None:
        """See `CudaRuntime.reset_peak_memory`."""
        self._memory.peak_bytes = self._memory.live_bytes

    def peak_memory_bytes(self) -> int:
        """See `CudaRuntime.peak_memory_bytes`."""
        return self._memory.peak_bytes

    def start_capture(self) -> None:
        """See `CudaRuntime.start_capture`. There is no profiler."""

    def stop_capture(self) -> None:
        """See `CudaRuntime.stop_capture`."""

    def host_time(self) -> float:
        """Seconds of the virtual clock: submissions and waits, no work of Python itself."""
        return self._now if self._on_lane is None else self._on_lane.time

    def wait_until(self, moment: float) -> None:
        """The thread of the host that runs now goes on then, or is later anyway."""
        if self._on_lane is None:
            self._now = max(self._now, moment)
        else:
            self._on_lane.time = max(self._on_lane.time, moment)

    def wait_for(self, stamp: Stamp) -> None:
        """The thread of the host that runs now waits for a recording."""
        self.wait_until(self._engines.advance_to(stamp))

    def record_event(self, event: TimedEvent, stream: TimedStream | None) -> None:
        """Submit an event to a stream (None: the current one)."""
        self._do(self._record, event, stream or self._current[-1])

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        """Whether a host tensor is in registered memory."""
        return self._host.holds(tensor)

    def is_on_device(self, tensor: torch.Tensor) -> bool:
        """Whether the tensor is memory of the device."""
        return tensor.data_ptr() in self._memory.contents

    def has_happened(self, stamp: Stamp) -> bool:
        """Whether a recording was reached by now."""
        self._engines.advance(self._now)
        return stamp.time is not None and stamp.time <= self._now

    def _wait_event(self, stream: TimedStream, event: TimedEvent) -> None:
        self._do(self._wait, stream, event)

    def _do(self, step: Callable[..., None], *arguments: Any) -> None:
        """Submit now, or with every replay of the graph that is being captured."""
        if self._captured is None:
            step(*arguments)
        else:
            self._captured.append(partial(step, *arguments))

    def _pay(self, seconds: float) -> None:
        """Host time of a submission. A graph's operations are submitted with its launch."""
        if not self._replaying:
            self._now += seconds

    def _record(self, event: TimedEvent, stream: TimedStream) -> None:
        self._pay(self.links.event_s)
        event.stamp = stream.add_record(self._now)

    def _wait(self, stream: TimedStream, event: TimedEvent) -> None:
        self._pay(self.links.event_s)
        if event.stamp is not None:
            stream.add_wait(event.stamp)

    def _hold(self, seconds: float, stream: TimedStream) -> None:
        self._pay(self.links.launch_s)
        stream.add_kernel(self._now, seconds)

    def _copy(
        self,
        target: torch.Tensor,
        source: torch.Tensor,
        stream: TimedStream,
        inwards: bool,
        most_bytes_per_s: float = math.inf,
    ) -> None:
        links, contents = self.links, self._memory.contents
        self._pay(links.submit_s)
        rate = min(most_bytes_per_s, links.h2d_bytes_per_s if inwards else links.d2h_bytes_per_s)
        seconds = links.latency_s + source.numel() * source.element_size() / rate
        stream.add_copy(self._now, H2D if inwards else D2H, seconds * next(self._noise))
        if inwards:
            contents[target.data_ptr()] = Content(source)
        else:
            self._delivered = target, self._memory.content(source)

    def _call(
        self,
        model: Callable[[Any], Any],
        batch: torch.Tensor,
        output: torch.Tensor,
        cost: ModelCost,
        stream: TimedStream,
    ) -> None:
        links = self.links
        seconds = max(cost.flop / links.flop_per_s, cost.kernels * links.kernel_s)
        seconds *= next(self._noise)
        self._pay(links.launch_s)
        begin = self._now
        self._pay(links.launch_s * (cost.kernels - 1))
        # The last kernel runs after its launch, however early the first one was there.
        stream.add_kernel(begin, seconds, self._now + seconds / cost.kernels)
        self._memory.contents[output.data_ptr()] = Content(self._memory.content(batch), model)

    def _clone(self, target: torch.Tensor, source: torch.Tensor, stream: TimedStream) -> None:
        self._pay(self.links.launch_s)
        stream.add_kernel(self._now, self.links.kernel_s * next(self._noise))
        self._memory.contents[target.data_ptr()] = self._memory.content(source)

    def _replay(self, captured: list[Callable[[], None]], stream: TimedStream) -> None:
        """Submit what was captured, after the current stream's work, and let that wait for it."""
        self._pay(self.links.submit_s)
        current = self._current[-1]
        stream.add_wait(current.add_record(self._now))
        self._replaying = True
        try:
            for step in captured:
                step()
        finally:
            self._replaying = False
        current.add_wait(stream.add_record(self._now))

    def _finish(self, tensor: torch.Tensor, rate: float) -> None:
        """A synchronous copy: wait for the device, then for the bytes."""
        self.synchronize()
        nbytes = tensor.numel() * tensor.element_size()
        self._now += self.links.submit_s + self.links.latency_s + nbytes / rate


def _make_noise(links: Links, seed: object) -> list[float]:
    """Factors of times around 1, around the process's own factor."""
    noise = random.Random(f"noise {seed}")
    own = 1 + noise.gauss(0, links.run_noise)
    return [max(0.1, own * (1 + noise.gauss(0, links.noise))) for _ in range(_NOISE_VALUES)]
