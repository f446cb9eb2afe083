"""The CUDA calls of the worker on a real device, with torch; see `cuda_runtime.CudaRuntime`."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import torch

from numa_bench.errors import MachineError
from numa_bench.worker.cuda_runtime import DeviceProperties, Event, Stream
from numa_bench.worker.host_stage.lanes import HostLane

#: Not called yet: that initialises CUDA.
_cudart: Any = torch.cuda.cudart
#: Clock cycles a second that no GPU exceeds, so that a spin lasts at least as long as asked.
_SPIN_HZ = 3e9


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
