"""A CUDA device with a virtual clock, small enough to know its times by heart.

Operations are done at once, in the order of submission; their times follow from rates, streams,
events and three engines: one for each copy direction, one for kernels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from numa_bench.errors import MachineError
from numa_bench.worker.cuda_runtime import DeviceProperties
from numa_bench.worker.host_stage.lanes import HostLane


@dataclass
class FakeStream:
    """What is queued ends at `free_at`."""

    free_at: float = 0.0

    def wait_event(self, event: FakeEvent) -> None:
        self.free_at = max(self.free_at, event.at)


class FakeEvent:
    """A point of the virtual clock."""

    def __init__(self, runtime: FakeCuda) -> None:
        self._runtime = runtime
        self.at = 0.0

    def record(self, stream: FakeStream | None = None) -> None:
        stream = stream or self._runtime.current
        self.at = max(stream.free_at, self._runtime.now)

    def query(self) -> bool:
        return self.at <= self._runtime.now

    def synchronize(self) -> None:
        raise NotImplementedError

    def elapsed_time(self, end_event: FakeEvent) -> float:
        return (end_event.at - self.at) * 1e3


class FakeCuda:
    """`CudaRuntime` with rates in bytes per second and costs in seconds."""

    def __init__(
        self,
        rate: float = 50e9,
        out_rate: float | None = None,
        compute_s: float = 0.0,
        launch_s: float = 1e-7,
    ) -> None:
        self.device = torch.device("cpu")
        self.rates = {"H2D": rate, "D2H": out_rate or rate}
        self.compute_s = compute_s
        self.launch_s = launch_s
        self.now = 0.0
        self.current = self._default = FakeStream()
        self.damage = False  # flip a bit of what is copied to the host
        self._engines = dict.fromkeys(("H2D", "D2H", "compute"), 0.0)
        self._on_device: dict[int, torch.Tensor] = {}
        self._registered: dict[int, int] = {}

    def properties(self) -> DeviceProperties:
        return DeviceProperties("fake", "GPU-fake", (9, 0))

    def new_stream(self) -> FakeStream:
        return FakeStream()

    def new_event(self) -> FakeEvent:
        return FakeEvent(self)

    @contextlib.contextmanager
    def use_stream(self, stream: FakeStream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def synchronize(self) -> None:
        self.now = max(self.now, self._default.free_at, *self._engines.values())

    def hold_stream(self, seconds: float) -> None:
        self._submit("compute", seconds)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return self._keep(torch.zeros(shape, dtype=dtype))

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        inwards = target.data_ptr() in self._on_device
        self._require_registered(source if inwards else target)
        name = "H2D" if inwards else "D2H"
        self._submit(name, source.numel() * source.element_size() / self.rates[name])
        target.copy_(source)
        if self.damage and not inwards:
            target.view(-1)[0] += 1

    def copy_pageable(self, target: torch.Tensor, source: torch.Tensor) -> None:
        raise NotImplementedError

    def empty_pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        raise NotImplementedError

    def new_host_lane(self) -> HostLane:
        raise NotImplementedError

    def time_host_work(self, work: Callable[[], None]) -> float:
        raise NotImplementedError

    def call_model(self, model: Callable[[Any], Any], batch: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = model(batch)
        if output.data_ptr() == batch.data_ptr():
            return output
        self._submit("compute", self.compute_s)
        return self._keep(output)

    def clone(self, tensor: torch.Tensor) -> torch.Tensor:
        self._submit("compute", 0.0)
        return self._keep(tensor.clone())

    def to_device(self, value: Any) -> Any:
        return value.clone() if isinstance(value, torch.Tensor) else value

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.clone()

    def mark_graph_step(self) -> None:
        return

    def capture_graph(self, submit: Callable[[], None], stream: Any) -> Callable[[], None]:
        raise NotImplementedError

    def register_host(self, address: int, nbytes: int) -> None:
        self._registered[address] = nbytes

    def unregister_host(self, address: int) -> None:
        del self._registered[address]

    def reset_peak_memory(self) -> None:
        return

    def peak_memory_bytes(self) -> int:
        return 0

    def start_capture(self) -> None:
        return

    def stop_capture(self) -> None:
        return

    def host_time(self) -> float:
        return self.now

    def wait_until(self, moment: float) -> None:
        """See `CudaRuntime.wait_until`. Nothing here waits for other processes."""

    def _submit(self, engine: str, seconds: float) -> None:
        self.now += self.launch_s
        begin = max(self.now, self.current.free_at, self._engines[engine])
        self._engines[engine] = self.current.free_at = begin + seconds

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        self._on_device[tensor.data_ptr()] = tensor
        return tensor

    def _require_registered(self, tensor: torch.Tensor) -> None:
        begin, nbytes = tensor.data_ptr(), tensor.numel() * tensor.element_size()
        for address, size in self._registered.items():
            if address <= begin and begin + nbytes <= address + size:
                return
        raise MachineError(f"{nbytes} bytes at {begin:#x} are not registered")
