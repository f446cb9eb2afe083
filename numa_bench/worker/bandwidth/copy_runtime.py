"""What copies by themselves need of a CUDA device beside what the pipeline uses."""

from __future__ import annotations

from typing import Protocol

from numa_bench.worker.cuda_runtime import CudaRuntime
from numa_bench.worker.torch_cuda import TorchCuda


class CopyRuntime(CudaRuntime, Protocol):
    """A `CudaRuntime` with kernels that do no work, and free memory."""

    def launch_kernel(self) -> None:
        """Submit the smallest kernel there is to the current stream."""
        ...

    def free_memory_bytes(self) -> int:
        """Device memory that can still be allocated."""
        ...


#: The real device conforms; mypy checks it here, where it is not called by this type.
REAL_RUNTIME: type[CopyRuntime] = TorchCuda
