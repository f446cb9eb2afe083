"""torch.compile in each mode, through the product's whole measurement."""

from __future__ import annotations

import functools

from numa_bench.config.schemas.workload import COMPILE_MODES
from numa_bench.selftest.checks import Check, Figure, Limit
from numa_bench.selftest.context import Context
from numa_bench.selftest.workbench import WrongOutputError
from numa_bench.worker.measurement import measure_run

#: Longest cold compile of a light model: max-autotune tries dozens of kernels, and takes minutes on
#: few cores (benchmarks/results); a study would wait for it in each run.
COMPILE_MOST_S = 240.0


def compile_in_mode(context: Context, mode: str) -> Figure:
    """Seconds of a cold compile of a light model, whose output is compared before and after timing.

    Raises WrongOutputError.
    """
    settings = {"compile_model": True, "compile_mode": mode, "time_budget_s": context.window_s}
    spec = context.make_spec(context.models[1], **settings)
    metrics: dict[str, float | None] = {}
    warnings: list[str] = []
    for part in measure_run(spec):
        metrics.update(part.metrics)
        warnings += part.warnings
        if part.problem is not None:
            raise WrongOutputError(part.problem)
    seconds, rate = metrics["compile_s"], metrics["throughput_samples_per_s"]
    assert seconds is not None
    note = f"then {rate:,.0f} samples/s"
    return Figure(seconds, "; ".join([note, *warnings]), {"metrics": metrics})


CHECKS = tuple(
    Check(
        f"compile {mode}",
        f"does torch.compile work in mode {mode}, with the right output?",
        "s",
        Limit(most=COMPILE_MOST_S),
        functools.partial(compile_in_mode, mode=mode),
        full_only=True,
        own_process=True,
        timeout_s=COMPILE_MOST_S + 60,
    )
    for mode in COMPILE_MODES
)
