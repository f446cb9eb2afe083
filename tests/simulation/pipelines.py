"""The worker's pipelines on a simulated device, with small buffers of their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from numa_bench.worker.buffers import BatchRing, HostBuffer, MemoryKind, SamplePool
from numa_bench.worker.host_stage.feeds import AheadFeed
from numa_bench.worker.pipelines.cuda_pipeline import CudaPipeline
from numa_bench.worker.pipelines.graph_pipeline import GraphPipeline
from numa_bench.worker.pipelines.pipeline import Model


class Classes(NamedTuple):
    """A `CudaPipeline`, the `GraphPipeline` that is derived from it, and an `AheadFeed`."""

    cuda: type[CudaPipeline]
    graph: type[GraphPipeline]
    feed: type[AheadFeed]


PRODUCT = Classes(CudaPipeline, GraphPipeline, AheadFeed)
#: Batches of a pool, and of a ring where the depth does not ask for more.
BATCHES = 5


class RecordingPool(SamplePool):
    """Registered host samples that note which of them were given out."""

    def __init__(
        self, runtime: Any, shape: tuple[int, ...], dtype: torch.dtype = torch.float32
    ) -> None:
        nbytes = BATCHES * math.prod(shape) * dtype.itemsize
        super().__init__(shape, dtype, nbytes=nbytes, seed=0, registrar=runtime)
        self.given: list[torch.Tensor] = []

    def next_batch(self) -> torch.Tensor:
        """See `BatchRing.next_batch`."""
        self.given.append(super().next_batch())
        return self.given[-1]


class CountingWork:
    """Host work that fills batch i with i + 1; `write` puts values into a batch."""

    def __init__(self, write: Callable[[torch.Tensor, torch.Tensor], None]) -> None:
        self.buffers: list[HostBuffer] = []
        self._write = write

    def write_batch(self, index: int, target: torch.Tensor) -> None:
        """See `HostWork.write_batch`."""
        self._write(target, torch.full(target.shape, index + 1.0))

    def compute_reference(self, index: int) -> torch.Tensor:
        """See `HostWork.compute_reference`."""
        return torch.tensor(index + 1.0)


def make_feed(
    runtime: Any,
    shape: tuple[int, ...],
    depth: int,
    write: Callable[[torch.Tensor, torch.Tensor], None],
    classes: Classes = PRODUCT,
) -> AheadFeed:
    """Registered batches that a lane of the runtime makes."""
    memory = MemoryKind(registrar=runtime)
    return classes.feed(
        shape, torch.float32, CountingWork(write), depth=depth, memory=memory, runtime=runtime
    )


def make_ring(runtime: Any, model: Model, pool: BatchRing, depth: int) -> BatchRing:
    """Registered host memory for a model's outputs."""
    output = model(pool.first_batch().clone())
    nbytes = BATCHES * output.numel() * output.element_size()
    return BatchRing(
        tuple(output.shape), output.dtype, nbytes=nbytes, least=max(2, depth), registrar=runtime
    )


def make_pipeline(
    runtime: Any,
    model: Model,
    pool: BatchRing,
    depth: int,
    *,
    static_output: bool = False,
    graph: bool = False,
    classes: Classes = PRODUCT,
) -> CudaPipeline:
    """A pipeline over a runtime: the product's, or a mutant of it."""
    outputs = make_ring(runtime, model, pool, depth)
    if graph:
        return classes.graph(model, pool, outputs, depth, runtime)
    return classes.cuda(model, pool, outputs, depth, runtime, static_output=static_output)
