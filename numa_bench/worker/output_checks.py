"""What must hold for a measurement to count: the pipeline's output is the model's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from numa_bench.records import RunSpec
from numa_bench.worker.pipelines.pipeline import Pipeline

#: Largest ||output - reference|| / ||reference|| against a plain eager forward of the same batch
#: in the same precision: what reordered sums may cost, far below what a wrong result would.
TOLERANCES = {"fp32": 1e-4, "tf32": 5e-3, "bf16": 3e-2, "fp16": 5e-3}


@dataclass(frozen=True)
class OutputCheck:
    """`error` is the relative error (None: there is none to compute), `problem` is empty if the
    output is right."""

    error: float | None
    problem: str


def check_output(
    spec: RunSpec, forward: Callable[[torch.Tensor], torch.Tensor], pipeline: Pipeline
) -> OutputCheck:
    """Compare the last batch with a plain forward of it: shape, finite, equal within tolerance.

    `forward` maps a host batch to the model's output on the host. Called before timing and after
    it: only then have all slots, overlap and CUDA graph replay had their chance to go wrong.
    """
    # In fp32: sums of squares in fp16 overflow, in bf16 they lose their digits.
    reference = forward(pipeline.pool.reference_batch()).float()
    output = pipeline.last_output().float()
    shape, expected = tuple(reference.shape), tuple(output.shape)
    if shape != expected:
        return OutputCheck(None, f"output has shape {shape}, expected {expected}")
    if not torch.isfinite(output).all():
        return OutputCheck(None, "output is not finite")
    norm = torch.linalg.vector_norm
    # An output of zeros has no relative error; what differs from it counts as it is.
    error = float(norm(output - reference) / (norm(reference) or 1))
    limit = TOLERANCES[spec.test.precision]
    # NaN must fail this check, so it is not written as `error > limit`.
    problem = "" if error <= limit else f"output is off by {error:.2g}, tolerance {limit:g}"
    return OutputCheck(error, problem)
