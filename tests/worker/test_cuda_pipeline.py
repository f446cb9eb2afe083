"""The CUDA path, on a GPU; skipped with the reason where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from numa_bench.records import VitSpec
from numa_bench.worker import __main__ as worker
from numa_bench.worker.buffers import HostBuffer, SamplePool
from numa_bench.worker.cuda_pipeline import CudaPipeline
from tests.specs import NO_OP, make_spec

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA GPU"),
]
VIT = VitSpec("medium", 32, 4, 256, 4, 64, 1024)
SHAPE = (4, 3, 64, 64)
FILES = worker.Files(Path("unused"))


def make_pool() -> SamplePool:
    return SamplePool(SHAPE, torch.float32, nbytes=1_000_000, seed=0, register=True)


def test_registered_memory_is_pinned_for_torch() -> None:
    assert HostBuffer((1 << 20,), torch.uint8, register=True).tensor.is_pinned()


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_every_batch_comes_back_as_the_model_made_it(depth: int) -> None:
    device, pool = torch.device("cuda", 0), make_pool()
    outputs: list[torch.Tensor] = []

    def model(batch: torch.Tensor) -> torch.Tensor:
        output = batch.flatten(1)[:, :100] * 2 + 1
        outputs.append(output.clone())
        return output

    pipeline = CudaPipeline(model, pool, (4, 100), depth, device, static_output=False)
    for batches in (1, 2, 7):
        pipeline.run(batches, 60.0)
        torch.cuda.synchronize()
        assert torch.equal(pipeline.last_output(), outputs[-1].cpu())


def test_a_no_op_brings_back_the_input_under_full_overlap() -> None:
    pool = make_pool()
    pipeline = CudaPipeline(
        lambda x: x, pool, SHAPE, 2, torch.device("cuda", 0), static_output=False
    )
    batches = 3 * pool.batches + 1
    pipeline.run(batches, 60.0)
    assert torch.equal(pipeline.last_output(), pool.first_batch())


def test_stage_times_are_positive_and_ordered() -> None:
    device = torch.device("cuda", 0)
    pipeline = CudaPipeline(lambda x: x * 2, make_pool(), SHAPE, 2, device, static_output=False)
    window = pipeline.run(20, 60.0)
    assert window.batches == 20
    assert all(t > 0 for t in [*window.h2d, *window.compute, *window.d2h])
    assert window.start == sorted(window.start)
    assert max(window.latency) <= window.wall_s * 1e3


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_a_run_passes_in_every_precision(precision: str) -> None:
    result = worker._guarded(
        make_spec(vit=VIT, kind="cuda", precision=precision, batch_size=8), FILES
    )
    assert (result.status, result.error) == ("passed", None)
    assert result.metrics["peak_device_memory_mb"]


def test_a_no_op_run_passes() -> None:
    result = worker._guarded(make_spec(vit=NO_OP, kind="cuda"), FILES)
    assert (result.status, result.error) == ("passed", None)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["default", "reduce-overhead", "max-autotune"])
def test_compiled_runs_pass(mode: str) -> None:
    spec = make_spec(vit=VIT, kind="cuda", compile_model=True, compile_mode=mode, num_samples=64)
    result = worker._guarded(spec, FILES)
    assert (result.status, result.error) == ("passed", None)
    assert result.metrics["compile_s"]


def test_registered_pages_can_be_located() -> None:
    from numa_bench.machine import page_placement as placement

    buffer = HostBuffer((1 << 22,), torch.uint8, register=True)
    seen = placement.observe_placement([(buffer.address, buffer.nbytes)])
    assert sum(seen["pages"].values()) == buffer.nbytes // seen["page_bytes"]
