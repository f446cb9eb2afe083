"""How long runs take, roughly, for the user to see before they start. Pure."""

from __future__ import annotations

from numa_bench.profiling.recording import records_separately
from numa_bench.records import REHEARSAL_S, RunSpec

#: Rough costs, used only in the estimate shown to the user: process start with torch, and a cold
#: torch.compile of a small ViT on two cores (measured: benchmarks/results).
STARTUP_S = 3.0
COMPILE_S = 30.0
#: Starting and ending nsys, or writing a torch trace; rough, as above.
PROFILE_S = 2.0


def estimate_run_s(run: RunSpec) -> float:
    """Upper estimate of one run in seconds, shown to the user."""
    if run.members:
        # They run at the same time; the rehearsal is of the same length for all.
        return REHEARSAL_S + max(estimate_run_s(member.spec) for member in run.members)
    compile_s = COMPILE_S if run.test.compile_model and run.vit.depth else 0.0
    timed_s = run.test.time_budget_s
    if run.test.num_samples == 0:  # by time
        # The window then ends when its minimum is reached.
        timed_s = min(timed_s, run.test.min_timed_s)
    window = run.test.warmup_budget_s + timed_s
    profile_s = PROFILE_S + run.profile.budget_s if run.profile.kind != "none" else 0.0
    if records_separately(run):
        # Two processes, each with a timeout of its own: one measures, one records.
        apart = STARTUP_S + compile_s + run.test.warmup_budget_s + profile_s
        measured = STARTUP_S + compile_s + window
        return min(run.test.timeout_s, measured) + min(run.test.timeout_s, apart)
    return min(run.test.timeout_s, STARTUP_S + compile_s + window + profile_s)
