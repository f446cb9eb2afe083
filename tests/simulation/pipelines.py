"""The worker's pipeline on a simulated device, with a small pool of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from numa_bench.worker import cuda_pipeline
from tests.simulation.minimal_pipeline import MinimalPipeline

#: Whether the worker's pipeline goes through `CudaRuntime`.
USES_RUNTIME = "runtime" in inspect.signature(cuda_pipeline.CudaPipeline).parameters


class Pool:
    """As `SamplePool`: batches in registered host memory, read round-robin."""

    def __init__(
        self,
        runtime: Any,
        shape: tuple[int, ...],
        batches: int = 5,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        self.tensor = torch.randn((batches, *shape), generator=generator).to(dtype)
        self.batches = batches
        self.nbytes = self.tensor.numel() * self.tensor.element_size()
        self.address = self.tensor.data_ptr()
        runtime.register_host(self.address, self.nbytes)
        self.buffer = self
        self.taken = 0

    def batch(self, index: int) -> torch.Tensor:
        """The batch that is given out after `index` others."""
        return self.tensor[index % self.batches]

    def next_batch(self) -> torch.Tensor:
        """The next batch."""
        self.taken += 1
        return self.last_batch()

    def last_batch(self) -> torch.Tensor:
        """The batch that `next_batch` gave last."""
        return self.batch(self.taken - 1)

    def first_batch(self) -> torch.Tensor:
        """Batch 0."""
        return self.tensor[0]


def make_pipeline(
    runtime: Any,
    model: Callable[[torch.Tensor], torch.Tensor],
    pool: Any,
    depth: int,
    *,
    static_output: bool = False,
) -> Any:
    """The product's pipeline over a runtime, or the same written here where it uses none yet."""
    out_shape = tuple(model(pool.first_batch().clone()).shape)
    made: Any = cuda_pipeline.CudaPipeline if USES_RUNTIME else MinimalPipeline
    return made(model, pool, out_shape, depth, runtime, static_output=static_output)
