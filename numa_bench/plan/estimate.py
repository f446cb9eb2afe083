"""Pure: about how long a run takes, to tell the user when to come back."""

from __future__ import annotations

from numa_bench.records import RunSpec

#: Rough costs, for the estimate shown to the user only: process start with torch, and a cold
#: torch.compile of a small ViT on two cores (measured: benchmarks/results).
STARTUP_S = 3.0
COMPILE_S = 30.0
#: Start and end of nsys, or writing a torch trace.
PROFILE_S = 2.0


def estimate_s(run: RunSpec) -> float:
    """Upper estimate of one run in seconds, to tell the user when to come back."""
    compile_s = COMPILE_S if run.test.compile_model and run.vit.depth else 0.0
    window = run.test.warmup_budget_s + run.test.time_budget_s
    profile_s = PROFILE_S + run.profile.budget_s if run.profile.kind != "none" else 0.0
    return min(run.test.timeout_s, STARTUP_S + compile_s + window + profile_s)
