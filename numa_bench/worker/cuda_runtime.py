"""The CUDA calls that the worker needs, as a protocol: streams, events, copies, pinned memory.

`torch_cuda.TorchCuda` is the real thing. Everything else in the worker talks to the protocol, so
that the pipeline can be proven on a simulated device (tests/simulation) in another's place.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from numa_bench.worker.host_stage.lanes import HostLane


class Event(Protocol):
    """A point in a stream's work; `torch.cuda.Event` is one."""

    def record(self, stream: Any = None) -> None: ...

    def query(self) -> bool:
        """Whether the recorded work has completed."""
        ...

    def synchronize(self) -> None:
        """Wait until the recorded work has completed; from any thread of the host."""
        ...

    def elapsed_time(self, end_event: Any) -> float:
        """Milliseconds from this event to `end_event`; both must have completed."""
        ...


class Stream(Protocol):
    """A queue of device work; `torch.cuda.Stream` is one."""

    def wait_event(self, event: Any) -> None: ...


@dataclass(frozen=True)
class DeviceProperties:
    """What a run needs to know of its GPU. `uuid` is NVML's, with the prefix "GPU-"."""

    name: str
    uuid: str
    capability: tuple[int, int]


class CudaRuntime(Protocol):
    """One CUDA device, as the worker uses it. Tensors live on `device`."""

    device: torch.device

    def properties(self) -> DeviceProperties: ...

    def new_stream(self) -> Stream: ...

    def new_event(self) -> Event:
        """An event that times, created on the device already: the first record costs nothing."""
        ...

    def use_stream(self, stream: Any) -> AbstractContextManager[Any]:
        """Work submitted inside goes to `stream`."""
        ...

    def synchronize(self) -> None:
        """Wait until all submitted work is done."""
        ...

    def hold_stream(self, seconds: float) -> None:
        """Keep the current stream busy for at least so long, so that what is submitted meanwhile
        runs without gaps."""
        ...

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Uninitialised device memory."""
        ...

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Submit an asynchronous copy to the current stream; host memory must be registered."""
        ...

    def copy_pageable(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Submit a copy to or from host memory that is not page-locked. The host may wait for it;
        when this returns, the host memory may be used again."""
        ...

    def call_model(self, model: Callable[[Any], Any], batch: torch.Tensor) -> torch.Tensor:
        """Submit a forward pass to the current stream; return its output, on the device."""
        ...

    def clone(self, tensor: torch.Tensor) -> torch.Tensor:
        """Submit a copy on the device to the current stream; return the copy."""
        ...

    def to_device(self, value: Any) -> Any:
        """A tensor or module on the device, synchronously."""
        ...

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        """A host copy, synchronously."""
        ...

    def mark_graph_step(self) -> None:
        """Say that the outputs of earlier CUDA graph replays are no longer needed."""
        ...

    def capture_graph(self, submit: Callable[[], None], stream: Any) -> Callable[[], None]:
        """Record what `submit` submits, on `stream` and those that fork from it and join it again,
        as one CUDA graph; return what replays it on the current stream."""
        ...

    def register_host(self, address: int, nbytes: int) -> None:
        """Page-lock host memory. Raises MachineError."""
        ...

    def unregister_host(self, address: int) -> None: ...

    def empty_pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Page-locked host memory of the driver's, uninitialised. Raises MachineError."""
        ...

    def new_host_lane(self) -> HostLane:
        """A thread of the host for work beside the submissions."""
        ...

    def time_host_work(self, work: Callable[[], None]) -> float:
        """Do `work` on the calling thread; the seconds that it took."""
        ...

    def reset_peak_memory(self) -> None: ...

    def peak_memory_bytes(self) -> int: ...

    def start_capture(self) -> None:
        """Open the profiler's capture range (cudaProfilerStart)."""
        ...

    def stop_capture(self) -> None: ...

    def host_time(self) -> float:
        """Seconds of the host's clock, which waits of this runtime advance."""
        ...

    def wait_until(self, moment: float) -> None:
        """Sleep until the host's clock is at `moment`."""
        ...
