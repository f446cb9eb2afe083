"""The CUDA path: on the simulated device everywhere, and on a GPU where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from numa_bench.machine import page_placement
from numa_bench.machine.backend import current_backend
from numa_bench.records import RunResult, RunSpec, VitSpec
from numa_bench.worker import __main__ as worker
from numa_bench.worker.buffers import BatchRing, HostBuffer, SamplePool
from numa_bench.worker.cuda_runtime import CudaRuntime
from numa_bench.worker.pipelines.cuda_pipeline import MOST_TIMED, CudaPipeline
from numa_bench.worker.pipelines.pipeline import Limits, Model
from numa_bench.worker.torch_cuda import TorchCuda
from tests.simulation.timing import TimingRuntime
from tests.specs import NO_OP, make_spec

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cuda_device")]

VIT = VitSpec("medium", 32, 4, 256, 4, 64, 1024)
SHAPE = (4, 3, 64, 64)


@pytest.fixture
def runtime(cuda_device: str) -> CudaRuntime:  # noqa: ARG001 - it is there first
    """The device's runtime, as the worker gets it."""
    made: CudaRuntime = (current_backend().cuda_runtime or TorchCuda)()
    return made


def is_pinned(runtime: CudaRuntime, tensor: torch.Tensor) -> bool:
    """Whether the device knows the memory as page-locked."""
    if isinstance(runtime, TimingRuntime):
        return runtime.is_pinned(tensor)
    return tensor.is_pinned()


def make_pipeline(
    runtime: CudaRuntime, model: Model, out_shape: tuple[int, ...] = SHAPE, depth: int = 2
) -> CudaPipeline:
    pool = SamplePool(SHAPE, torch.float32, nbytes=1_000_000, seed=0, registrar=runtime)
    outputs = BatchRing(out_shape, torch.float32, nbytes=1_000_000, least=depth, registrar=runtime)
    return CudaPipeline(model, pool, outputs, depth, runtime, static_output=False)


def run(spec: RunSpec) -> RunResult:
    return worker.run_spec(spec, worker.Files(Path("unused")))


def test_registered_memory_is_pinned(runtime: CudaRuntime) -> None:
    assert is_pinned(runtime, HostBuffer((1 << 20,), torch.uint8, runtime).tensor)
    assert not is_pinned(runtime, HostBuffer((1 << 20,), torch.uint8).tensor)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_every_batch_comes_back_as_the_model_made_it(depth: int, runtime: CudaRuntime) -> None:
    outputs: list[torch.Tensor] = []

    def model(batch: torch.Tensor) -> torch.Tensor:
        output = batch.flatten(1)[:, :100] * 2 + 1
        outputs.append(output.clone())
        return output

    pipeline = make_pipeline(runtime, model, (4, 100), depth)
    for batches in (1, 2, 7):
        pipeline.run(Limits(batches))
        runtime.synchronize()
        assert torch.equal(pipeline.last_output(), outputs[-1].cpu())


def test_a_no_op_brings_back_the_input_under_full_overlap(runtime: CudaRuntime) -> None:
    pipeline = make_pipeline(runtime, lambda x: x)
    pipeline.run(Limits(3 * pipeline.pool.batches + 1))
    assert torch.equal(pipeline.last_output(), pipeline.pool.first_batch())


def test_stage_times_are_positive_and_ordered(runtime: CudaRuntime) -> None:
    pipeline = make_pipeline(runtime, lambda x: x * 2)
    window = pipeline.run(Limits(20))
    assert window.batches == 20
    assert all(t > 0 for t in [*window.h2d, *window.compute, *window.d2h])
    assert window.start == sorted(window.start)
    assert max(window.latency) <= window.wall_s * 1e3


def test_long_windows_time_a_sample_of_their_batches(runtime: CudaRuntime) -> None:
    pipeline = make_pipeline(runtime, lambda x: x)
    window = pipeline.run(Limits(2 * MOST_TIMED + 2))
    assert window.batches == 2 * MOST_TIMED + 2
    assert window.stride == 3
    assert len(window.latency) == -(-window.batches // 3)


def test_stages_by_themselves_leave_the_pipeline_as_it_was(runtime: CudaRuntime) -> None:
    pipeline = make_pipeline(runtime, lambda x: x * 2)
    pipeline.run(Limits(5))
    alone = pipeline.time_stages()
    assert alone.gaps == ()
    assert all(t > 0 for t in [*alone.h2d, *alone.compute, *alone.d2h])
    assert torch.equal(pipeline.last_output(), pipeline.pool.last_batch() * 2)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_a_run_passes_in_every_precision(precision: str) -> None:
    result = run(make_spec(vit=VIT, kind="cuda", precision=precision, batch_size=8))
    assert (result.status, result.error) == ("passed", None)
    assert result.metrics["peak_device_memory_mb"]


def test_a_no_op_run_passes() -> None:
    result = run(make_spec(vit=NO_OP, kind="cuda"))
    assert (result.status, result.error) == ("passed", None)


@pytest.mark.parametrize("vit", [NO_OP, VIT])
def test_a_run_that_replays_graphs_passes(vit: VitSpec) -> None:
    result = run(make_spec(vit=vit, kind="cuda", cuda_graph=True, num_samples=64))
    assert (result.status, result.error) == ("passed", None)
    assert result.samples["replay_ms"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["default", "reduce-overhead", "max-autotune"])
def test_compiled_runs_pass(mode: str) -> None:
    spec = make_spec(vit=VIT, kind="cuda", compile_model=True, compile_mode=mode, num_samples=64)
    result = run(spec)
    assert (result.status, result.error) == ("passed", None)
    assert result.metrics["compile_s"]


def test_registered_pages_can_be_located(runtime: CudaRuntime) -> None:
    buffer = HostBuffer((1 << 22,), torch.uint8, runtime)
    seen = page_placement.observe_placement([(buffer.address, buffer.nbytes)])
    assert sum(seen["pages"].values()) == buffer.nbytes // seen["page_bytes"]
