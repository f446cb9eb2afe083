"""torch.compile of a model, and the proof that it happened."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

from numa_bench.records import RunSpec


def compile_model(
    spec: RunSpec, model: torch.nn.Module
) -> tuple[Callable[[torch.Tensor], torch.Tensor], tuple[str, ...]]:
    """The model to time, and warnings about compile settings that have no effect.

    A no-op has nothing to compile.
    """
    if not spec.test.compile_model:
        return model, ()
    if spec.vit.is_no_op:
        return model, ("compile: a no-op has nothing to compile; it ran as it is",)
    warnings: tuple[str, ...] = ()
    if spec.device.kind == "cpu" and spec.test.compile_mode == "reduce-overhead":
        warnings = ("compile: reduce-overhead is CUDA graphs; on the CPU it equals default",)
    # Errors of the compiler must fail the run, and so must anything that would run eagerly.
    import torch._dynamo

    torch._dynamo.config.suppress_errors = False
    compiled: Callable[[torch.Tensor], torch.Tensor] = torch.compile(
        model, mode=spec.test.compile_mode, fullgraph=True
    )
    return compiled, warnings


def is_compiled(spec: RunSpec) -> bool:
    """Whether the run's model is really compiled."""
    return spec.test.compile_model and not spec.vit.is_no_op


def has_static_output(spec: RunSpec) -> bool:
    """Whether the compiled model replays CUDA graphs, and returns the same memory each time."""
    return is_compiled(spec) and spec.test.compile_mode in ("reduce-overhead", "max-autotune")


def prove_compiled() -> None:
    """Raise RuntimeError when torch.compile was called but nothing was compiled."""
    from torch._dynamo.utils import counters

    # torch.compile returns a callable in any case; only a captured graph proves that it worked.
    if not counters["stats"]["unique_graphs"]:
        blame = [n for n in ("TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE") if os.environ.get(n)]
        why = f"{blame[0]} is set" if blame else "no graph was captured"
        raise RuntimeError(f"torch.compile compiled nothing: {why}")


def find_skipped_graphs(spec: RunSpec) -> tuple[str, ...]:
    """A warning where CUDA graphs were asked for and inductor went on without them."""
    if spec.device.kind != "cuda" or not is_compiled(spec):
        return ()
    from torch._dynamo.utils import counters

    skips = counters["inductor"]["cudagraph_skips"]
    return (f"compile: inductor skipped CUDA graphs {skips} times",) if skips else ()
