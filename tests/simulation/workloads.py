"""A small batch, models whose costs are round figures, and pipelines that run them."""

from __future__ import annotations

import torch

from numa_bench.worker.pipelines.cuda_pipeline import CudaPipeline
from numa_bench.worker.pipelines.pipeline import Model
from tests.simulation.links import Links
from tests.simulation.pipelines import RecordingPool, make_pipeline
from tests.simulation.timing import TimingRuntime

#: A batch of 1e6 bytes: 20 us at 50 GB/s.
SHAPE = (10, 25_000)
IN_BYTES = 1_000_000
WEIGHT = torch.ones(25_000, 250)
US, MS = 1e-6, 1e-3
#: matmul below takes 30 us and its output 0.2 us.
BALANCED = {"flop_per_s": 0.125e9 / (30 * US)}


def matmul(batch: torch.Tensor) -> torch.Tensor:
    """One kernel of 2 x 10 x 25000 x 250 = 0.125 GFLOP, with an output of 10 kB."""
    return batch @ WEIGHT


def no_op(batch: torch.Tensor) -> torch.Tensor:
    return batch


def build(
    links: Links, model: Model, depth: int = 3, *, graph: bool = False
) -> tuple[CudaPipeline, TimingRuntime]:
    runtime = TimingRuntime(links)
    pool = RecordingPool(runtime, SHAPE)
    return make_pipeline(runtime, model, pool, depth, graph=graph), runtime
