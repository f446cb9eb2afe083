"""What must hold for a measurement to count: the right output, and a compile that happened."""

from __future__ import annotations

import os
from typing import Any

from numa_bench.records import RunResult, RunSpec, Status
from numa_bench.workload import output_shape

#: Largest ||output - reference|| / ||reference|| against a plain eager forward of the same batch
#: in the same precision: what reordered sums may cost, far below what a wrong result would.
TOLERANCES = {"fp32": 1e-4, "tf32": 5e-3, "bf16": 3e-2, "fp16": 5e-3}


def check_output(spec: RunSpec, model: Any, pipeline: Any, device: Any, result: RunResult) -> None:
    """The last batch against a plain forward of it: shape, finite, equal within tolerance.

    Called before timing and after it: only then have all slots, overlap and CUDA graph replay had
    their chance to go wrong.
    """
    import torch

    reference = model(pipeline.pool.last_batch().to(device)).float().cpu()
    output = pipeline.last_output().float()
    if tuple(reference.shape) != output_shape(spec):
        problem = f"output has shape {tuple(reference.shape)}, expected {output_shape(spec)}"
    elif not torch.isfinite(output).all():
        problem = "output is not finite"
    else:
        norm = torch.linalg.vector_norm
        error = float(norm(output - reference) / norm(reference))
        result.observed["output_error"] = max(error, result.observed.get("output_error", 0.0))
        limit = TOLERANCES[spec.test.precision]
        # Written so that an error that is not a number is none that passes.
        problem = "" if error <= limit else f"output is off by {error:.2g}, tolerance {limit:g}"
    if problem:
        result.status, result.error = Status.INVALID.value, problem


def note_graphs(spec: RunSpec, result: RunResult) -> None:
    """Say so where CUDA graphs were asked for and inductor went on without them."""
    if spec.device.kind != "cuda" or not spec.test.compile_model or not spec.vit.depth:
        return
    from torch._dynamo.utils import counters

    skips = counters["inductor"]["cudagraph_skips"]
    if skips:
        result.warnings.append(f"compile: inductor skipped CUDA graphs {skips} times")


def prove_compiled() -> None:
    """Raise RuntimeError when torch.compile was called but nothing was compiled."""
    from torch._dynamo.utils import counters

    if not counters["stats"]["unique_graphs"]:
        blame = [n for n in ("TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE") if os.environ.get(n)]
        why = f"{blame[0]} is set" if blame else "no graph was captured"
        raise RuntimeError(f"torch.compile compiled nothing: {why}")
