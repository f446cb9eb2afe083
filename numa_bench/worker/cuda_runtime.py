"""The CUDA calls of the worker, in one place: streams, events, copies, pinned memory, one device.

`TorchCuda` is the real thing. Everything else in the worker talks to the `CudaRuntime` protocol, so
that the pipeline can be proven on a simulated device (tests/simulation) in another's place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from numa_bench.errors import MachineError
from numa_bench.worker.host_stage.lanes import HostLane

#: Not called yet: that initialises CUDA.
_cudart: Any = torch.cuda.cudart
#: Clock cycles a second that no GPU exceeds, so that a spin lasts at least as long as asked.
_SPIN_HZ = 3e9


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


class TorchCuda:
    """`CudaRuntime` on device 0 of what this process may see. Raises RuntimeError without CUDA."""

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise RuntimeError(f"torch {torch.__version__} cannot use CUDA here")
        # CUDA_VISIBLE_DEVICES leaves this process one GPU, which is always number 0.
        self.device = torch.device("cuda", 0)
        torch.cuda.set_device(self.device)

    def properties(self) -> DeviceProperties:
        """See `CudaRuntime.properties`."""
        # torch writes the UUID without the prefix that NVML and CUDA_VISIBLE_DEVICES use.
        found = torch.cuda.get_device_properties(self.device)
        return DeviceProperties(
            found.name, f"GPU-{getattr(found, 'uuid', '')}", (found.major, found.minor)
        )

    def new_stream(self) -> Stream:
        """See `CudaRuntime.new_stream`."""
        stream: Stream = torch.cuda.Stream(self.device)
        return stream

    def new_event(self) -> Event:
        """See `CudaRuntime.new_event`. torch creates an event at its first record."""
        event: Event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def use_stream(self, stream: Any) -> AbstractContextManager[Any]:
        """See `CudaRuntime.use_stream`."""
        return torch.cuda.stream(stream)

    def synchronize(self) -> None:
        """See `CudaRuntime.synchronize`."""
        torch.cuda.synchronize(self.device)

    def hold_stream(self, seconds: float) -> None:
        """See `CudaRuntime.hold_stream`. A spinning kernel, as nvbandwidth uses one."""
        # Its unit is clock cycles of the GPU.
        torch.cuda._sleep(int(seconds * _SPIN_HZ))

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """See `CudaRuntime.empty`."""
        return torch.empty(shape, dtype=dtype, device=self.device)

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """See `CudaRuntime.copy`."""
        # Asynchronous only as host memory is registered; pageable memory is staged by the driver
        # (CUDA Runtime API, "API synchronization behavior").
        target.copy_(source, non_blocking=True)

    def copy_pageable(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """See `CudaRuntime.copy_pageable`. The driver copies through a page-locked buffer of its
        own; to the host it returns when the copy has completed (as above)."""
        target.copy_(source, non_blocking=True)

    def launch_kernel(self) -> None:
        """See `CopyRuntime.launch_kernel`."""
        # A spin of no cycles: one thread that reads the clock and ends, submitted without torch's
        # dispatcher.
        torch.cuda._sleep(0)

    def free_memory_bytes(self) -> int:
        """See `CopyRuntime.free_memory_bytes`."""
        return int(torch.cuda.mem_get_info(self.device)[0])

    def call_model(self, model: Callable[[Any], Any], batch: torch.Tensor) -> torch.Tensor:
        """See `CudaRuntime.call_model`."""
        output: torch.Tensor = model(batch)
        return output

    def clone(self, tensor: torch.Tensor) -> torch.Tensor:
        """See `CudaRuntime.clone`."""
        return tensor.clone()

    def to_device(self, value: Any) -> Any:
        """See `CudaRuntime.to_device`."""
        return value.to(self.device)

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        """See `CudaRuntime.to_host`."""
        return tensor.cpu()

    def mark_graph_step(self) -> None:
        """See `CudaRuntime.mark_graph_step`."""
        torch.compiler.cudagraph_mark_step_begin()

    def capture_graph(self, submit: Callable[[], None], stream: Any) -> Callable[[], None]:
        """See `CudaRuntime.capture_graph`."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            submit()
        replay: Callable[[], None] = graph.replay
        return replay

    def register_host(self, address: int, nbytes: int) -> None:
        """See `CudaRuntime.register_host`."""
        # 0 is cudaHostRegisterDefault. The result is a cudaError_t.
        code = int(_cudart().cudaHostRegister(address, nbytes, 0))
        if code:
            raise MachineError(
                f"cudaHostRegister of {nbytes / 1e6:.0f} MB failed with CUDA error {code}; "
                "lower experiment.test.memory_size_mb, or raise `ulimit -l`"
            )

    def unregister_host(self, address: int) -> None:
        """See `CudaRuntime.unregister_host`."""
        _cudart().cudaHostUnregister(address)

    def empty_pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """See `CudaRuntime.empty_pinned`. torch allocates with cudaHostAlloc."""
        try:
            return torch.empty(shape, dtype=dtype, pin_memory=True)
        except RuntimeError as error:
            raise MachineError(
                f"cudaHostAlloc failed: {str(error).splitlines()[0]}; lower "
                "experiment.test.memory_size_mb"
            ) from error

    def new_host_lane(self) -> HostLane:
        """See `CudaRuntime.new_host_lane`."""
        return ThreadPoolExecutor(1, thread_name_prefix="host-lane")

    def time_host_work(self, work: Callable[[], None]) -> float:
        """See `CudaRuntime.time_host_work`."""
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin

    def reset_peak_memory(self) -> None:
        """See `CudaRuntime.reset_peak_memory`."""
        torch.cuda.reset_peak_memory_stats(self.device)

    def peak_memory_bytes(self) -> int:
        """See `CudaRuntime.peak_memory_bytes`."""
        # What tensors occupied; the CUDA context and its libraries are not included.
        return torch.cuda.max_memory_allocated(self.device)

    def start_capture(self) -> None:
        """See `CudaRuntime.start_capture`."""
        torch.cuda.profiler.start()

    def stop_capture(self) -> None:
        """See `CudaRuntime.stop_capture`."""
        torch.cuda.profiler.stop()

    def host_time(self) -> float:
        """See `CudaRuntime.host_time`. The same clock in all processes of a host."""
        return time.monotonic()

    def wait_until(self, moment: float) -> None:
        """See `CudaRuntime.wait_until`."""
        time.sleep(max(0.0, moment - self.host_time()))
