"""What copies by themselves need of a CUDA device beside what the pipeline uses."""

from __future__ import annotations

from typing import Protocol

import torch

from numa_bench.worker.cuda_runtime import CudaRuntime, TorchCuda


class CopyRuntime(CudaRuntime, Protocol):
    """A `CudaRuntime` for other kinds of host memory, kernels without work, and free memory."""

    def new_pinned(self, nbytes: int) -> torch.Tensor:
        """Page-locked host memory of torch's own allocator (pin_memory()), shape (nbytes,), uint8.

        The driver allocates it, and the thread's memory policy need not apply."""
        ...

    def copy_pageable(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Copy to or from host memory that is not page-locked; returns when it is done.

        The driver stages such copies through buffers of its own, with the CPU at work (CUDA
        Runtime API, "API synchronization behavior")."""
        ...

    def launch_kernel(self) -> None:
        """Submit the smallest kernel there is to the current stream."""
        ...

    def free_memory_bytes(self) -> int:
        """Device memory that can still be allocated."""
        ...


#: The real device conforms; mypy checks it here, where it is not called by this type.
REAL_RUNTIME: type[CopyRuntime] = TorchCuda
