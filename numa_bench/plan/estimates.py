"""How long runs take: what is expected, and at most; for the user, and for time limits. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from numa_bench.labels import duration_text
from numa_bench.plan.bandwidth import estimate_bandwidth_s
from numa_bench.profiling.recording import records_separately
from numa_bench.records import REHEARSAL_S, RunSpec
from numa_bench.records.measuring import ALONE_REPEATS, LEAST_BLOCK

#: Rough costs: process start with torch and, on a GPU, its context; a cold torch.compile of a small
#: ViT on two cores (measured: benchmarks/results).
STARTUP_S = 3.0
COMPILE_S = 30.0
#: Starting and ending nsys, or writing a torch trace; rough, as above.
PROFILE_S = 2.0
#: Warm-up goes on after its minimum until two blocks agree (worker/pipelines/warmup.py); on a GPU
#: that takes about half as long again. Assumed.
WARMUP_FACTOR = 1.5
#: Synchronising, where each stage is timed by itself on a GPU.
ALONE_S = 0.3
#: Stands for the duration of a command. Chosen: what is left of a study is scaled by what its first
#: runs took, so that only the proportion of runs to one another matters.
UNKNOWN_S = 1.0


def estimate_run_s(run: RunSpec) -> float:
    """Expected seconds of one run. Batches take as long as predicted (`run.expected`).

    Of a command nothing is known before it has run: each execution counts as `UNKNOWN_S`.
    """
    if run.waived is not None:
        return 0.0
    if run.command is not None:
        return UNKNOWN_S * (1 + run.command.warmup)
    if run.members:
        # They run at the same time; the rehearsal is of the same length for all.
        return REHEARSAL_S + max(estimate_run_s(member.spec) for member in run.members)
    if run.bandwidth is not None:
        return min(run.test.timeout_s, STARTUP_S + estimate_bandwidth_s(run))
    expected_s = STARTUP_S + _compile_s(run) + _expect_warmup_s(run)
    if records_separately(run):
        # A second process starts, warms up and is recorded.
        recording_s = expected_s + _profile_s(run)
        measured_s = expected_s + _expect_timed_s(run) + _expect_alone_s(run)
        return min(run.test.timeout_s, measured_s) + min(run.test.timeout_s, recording_s)
    expected_s += _expect_timed_s(run) + _expect_alone_s(run) + _profile_s(run)
    return min(run.test.timeout_s, expected_s)


def expected_text(runs: Iterable[RunSpec]) -> str:
    """How long these runs are expected to take: "about 12 min", or "an unknown time"."""
    every = list(runs)
    if any(run.command is not None for run in every):
        return "an unknown time"
    return f"about {duration_text(sum(map(estimate_run_s, every)))}"


def bound_run_s(run: RunSpec) -> float:
    """Upper estimate of one run in seconds: warm-up and windows use up their budgets."""
    if run.waived is not None:
        return 0.0
    if run.command is not None:
        return run.test.timeout_s * (1 + run.command.warmup)
    if run.members:
        return REHEARSAL_S + max(bound_run_s(member.spec) for member in run.members)
    if run.bandwidth is not None:
        return min(run.test.timeout_s, STARTUP_S + estimate_bandwidth_s(run))
    timed_s = run.test.time_budget_s
    if run.test.num_samples == 0:  # by time
        # The window then ends when its minimum is reached.
        timed_s = min(timed_s, run.test.min_timed_s)
    start_s = STARTUP_S + _compile_s(run)
    window_s = run.test.warmup_budget_s + timed_s + _expect_alone_s(run)
    if records_separately(run):
        # Two processes, each with a timeout of its own: one measures, one records.
        apart_s = start_s + run.test.warmup_budget_s + _profile_s(run)
        return min(run.test.timeout_s, start_s + window_s) + min(run.test.timeout_s, apart_s)
    return min(run.test.timeout_s, start_s + window_s + _profile_s(run))


def _compile_s(run: RunSpec) -> float:
    return COMPILE_S if run.test.compile_model and not run.vit.is_no_op else 0.0


def _profile_s(run: RunSpec) -> float:
    return PROFILE_S + run.profile.budget_s if run.profile.kind != "none" else 0.0


def _expect_warmup_s(run: RunSpec) -> float:
    test = run.test
    if run.expected is None:
        return test.warmup_budget_s
    blocks = 2 * max(LEAST_BLOCK, math.ceil(test.warmup_samples / test.batch_size / 2))
    needed_s = max(WARMUP_FACTOR * test.min_warmup_s, blocks * run.expected.batch_s)
    # One batch may overrun the budget.
    return min(needed_s, max(test.warmup_budget_s, run.expected.batch_s))


def _expect_timed_s(run: RunSpec) -> float:
    test = run.test
    if run.expected is None:
        return test.time_budget_s if test.num_samples else test.min_timed_s
    batches = math.ceil(test.num_samples / test.batch_size)
    needed_s = max(test.min_timed_s, batches * run.expected.batch_s)
    return min(needed_s, max(test.time_budget_s, run.expected.batch_s))


def _expect_alone_s(run: RunSpec) -> float:
    if run.device.kind != "cuda":
        return 0.0
    batch_s = run.expected.batch_s if run.expected is not None else 0.0
    return ALONE_S + ALONE_REPEATS * batch_s
