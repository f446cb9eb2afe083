"""The product's pipeline of one model, made ready for a check, and a plain loop beside it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from numa_bench.config.schemas.workload import ViTConfig
from numa_bench.errors import NumaBenchError
from numa_bench.records import RunSpec
from numa_bench.selftest.context import Context
from numa_bench.selftest.torch_tools import TorchTools
from numa_bench.worker.devices import Device
from numa_bench.worker.models import build_model
from numa_bench.worker.output_checks import check_output
from numa_bench.worker.pipelines.factory import make_pipeline
from numa_bench.worker.pipelines.pipeline import Limits, Model, Pipeline, quiet_collector


class WrongOutputError(NumaBenchError):
    """What was measured did not compute what it should."""


@dataclass(frozen=True)
class Bench:
    """A pipeline of a spec on the device under test."""

    spec: RunSpec
    device: Device
    model: Any
    pipeline: Pipeline

    def check_output(self) -> None:
        """Compare the last output with a plain forward pass. Raises WrongOutputError."""
        outcome = check_output(self.spec, self.device.make_forward(self.model), self.pipeline)
        if outcome.problem:
            raise WrongOutputError(f"{self.spec.vit.name}: {outcome.problem}")

    def find_batch_count(self, seconds: float) -> int:
        """Batches that last about so long, after running that long to warm up."""
        self.pipeline.run(Limits(1))
        window = self.pipeline.run(Limits(1, least_s=seconds / 4))
        window = self.pipeline.run(Limits(1, least_s=seconds))
        return max(1, round(window.batches * seconds / window.wall_s))


def make_bench(context: Context, vit: ViTConfig, **settings: Any) -> Bench:
    """The pipeline of a model; `settings` are those of `experiment.test`."""
    spec, device = context.make_spec(vit, **settings), context.make_device()
    model = build_model(spec, device.device)
    return Bench(spec, device, model, make_pipeline(spec, model, device))


class PlainLoop:
    """What one writes without this program: copy in, forward pass, copy out, one after another.

    On CUDA the copies are `non_blocking` ones on the default stream between buffers of
    `pin_memory()`, and the host synchronises at the end. On a simulated device the buffers are
    registered ones of the pipeline.
    """

    def __init__(self, bench: Bench, tools: TorchTools | None) -> None:
        pipeline, runtime = bench.pipeline, bench.device.runtime
        self._model: Model = bench.model
        self._runtime = runtime
        sources, targets = pipeline.host_buffers[0].tensor, pipeline.host_buffers[-1].tensor
        if tools is not None:
            sources, targets = tools.pin_memory(sources), tools.pin_memory(targets)
        self._sources, self._targets = _rotate(sources), _rotate(targets)
        shape, dtype = tuple(sources.shape[1:]), sources.dtype
        if runtime is not None:
            self._input = runtime.empty(shape, dtype)
        # On the CPU the pipeline's slots are ordinary memory, and fewer would fit into caches.
        depth = bench.spec.test.pipeline_depth
        self._inputs = itertools.cycle([torch.empty(shape, dtype=dtype) for _ in range(depth)])

    def run(self, batches: int) -> float:
        """Seconds that so many batches take."""
        with quiet_collector():
            return self._run_cpu(batches) if self._runtime is None else self._run_cuda(batches)

    def _run_cpu(self, batches: int) -> float:
        begin = time.perf_counter()
        for _ in range(batches):
            batch = next(self._inputs)
            batch.copy_(next(self._sources))
            next(self._targets).copy_(self._model(batch))
        return time.perf_counter() - begin

    def _run_cuda(self, batches: int) -> float:
        runtime = self._runtime
        assert runtime is not None
        runtime.synchronize()
        begin = runtime.host_time()
        for _ in range(batches):
            runtime.copy(self._input, next(self._sources))
            runtime.copy(next(self._targets), runtime.call_model(self._model, self._input))
        runtime.synchronize()
        return runtime.host_time() - begin


def _rotate(batches: torch.Tensor) -> Iterator[torch.Tensor]:
    rows: Sequence[torch.Tensor] = batches.unbind(0)
    return itertools.cycle(rows)
