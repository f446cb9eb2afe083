"""Is there a profiler, do its figures agree with ours, and what does it cost a measured run?"""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from numa_bench.config.schemas.output import ProfilerConfig
from numa_bench.isolation.scratch import hold_scratch
from numa_bench.jsonio import write_json
from numa_bench.profiling.launch import Profiler, find_profiler
from numa_bench.records import ProfileSpec, RunSpec
from numa_bench.runner.command import worker_command
from numa_bench.runner.interrupts import Interrupts
from numa_bench.runner.process import run_process
from numa_bench.runner.worker_run import read_result
from numa_bench.selftest.checks import Check, Figure, Limit, Waived
from numa_bench.selftest.context import NO_OP, Context
from numa_bench.selftest.paired import Comparison, compare_pairs, take_pairs
from numa_bench.selftest.workbench import make_bench
from numa_bench.study_files import run_paths
from numa_bench.worker.pipelines.pipeline import Limits

#: Requirements on the product.
AGREEMENT = 0.02
NSYS_COST_MOST = 0.005
#: Longest that one worker may take here, in seconds, and the grace period when it is stopped.
_WORKER_TIMEOUT_S = 120.0
_GRACE_S = 10.0


def look_for_profiler(context: Context) -> Figure | Waived:  # noqa: ARG001 - a check gets its context
    """The profiler that profiler=auto selects, after it recorded a trial session."""
    profiler = find_profiler(ProfilerConfig(), probe=True)
    if profiler.kind == "none":
        return Waived(profiler.note or "no profiler")
    return Figure(1.0, f"nsys {profiler.version}, {profiler.executable}")


def compare_with_profiler(context: Context) -> Figure | Waived:
    """Copy times by CUDA events against torch.profiler's of the same copies.

    The copies are those of `time_stages`, which run alone; both sides have all of them.
    """
    cuda = context.require_cuda()
    if cuda.tools is None:
        return Waived("torch.profiler does not record a simulated device")
    bench = make_bench(context, NO_OP, batch_size=_batch_size(context))
    with_events: dict[str, Sequence[float]] = {}

    def run_some() -> None:
        bench.pipeline.run(Limits(8))

    def submit() -> None:
        alone = bench.pipeline.time_stages()
        assert alone is not None
        with_events.update({"H2D": alone.h2d, "D2H": alone.d2h})
        cuda.runtime.synchronize()

    cuda.tools.profile_copies(run_some)  # the profiler's first use costs extra
    return judge_agreement(with_events, cuda.tools.profile_copies(submit))


def judge_agreement(
    events: Mapping[str, Sequence[float]], profiler: Mapping[str, Sequence[float]]
) -> Figure:
    """The largest relative difference of median copy times, in percent; both map stages to
    milliseconds. Raises RuntimeError where the profiler saw no copies."""
    differences, parts = {}, []
    for stage, times in events.items():
        if not profiler.get(stage):
            raise RuntimeError(f"the profiler recorded no {stage} copies")
        ours, theirs = statistics.median(times), statistics.median(profiler[stage])
        differences[stage] = abs(ours / theirs - 1) * 100
        parts.append(f"{stage} {ours * 1e3:.1f} us by events, {theirs * 1e3:.1f} by the profiler")
    return Figure(max(differences.values()), ", ".join(parts), {"differences": differences})


def measure_nsys(context: Context) -> Figure | Waived:
    """Throughput of timed windows in workers with and without nsys around them, in alternated
    pairs."""
    profiler = find_profiler(ProfilerConfig(), probe=True)
    if profiler.kind != "nsys":
        return Waived(profiler.note or "no nsys")
    model = NO_OP if context.cuda else context.models[1]
    plain = context.make_spec(model, time_budget_s=2 * context.window_s)
    recorded = replace(plain, profile=profiler.to_spec())
    without = Profiler("none", ProfilerConfig())
    pairs = take_pairs(
        lambda: _run_worker(recorded, profiler),
        lambda: _run_worker(replace(plain, profile=ProfileSpec()), without),
        context.slow_pairs,
    )
    return judge_nsys(compare_pairs(pairs))


def judge_nsys(slowdown: Comparison) -> Figure | Waived:
    """The least cost that the pairs allow, in percent. `slowdown` is the time per sample with nsys
    over the time without."""
    text = f"{slowdown.median - 1:.2%} ({slowdown.low - 1:.2%} to {slowdown.high - 1:.2%})"
    if not slowdown.decides:
        return Waived(f"pairs scatter too widely, stop other programs: {text}")
    note = f"at least; median and interval {text}"
    return Figure(max(0.0, slowdown.low - 1) * 100, note, slowdown.to_dict())


def _batch_size(context: Context) -> int:
    """Samples of a batch of about `copy_bytes`."""
    test = context.make_spec(NO_OP).test
    return max(1, context.copy_bytes // (4 * test.channels * test.image_size**2))


def _run_worker(spec: RunSpec, profiler: Profiler) -> float:
    """Seconds per sample in the timed window of a fresh worker. Raises RuntimeError."""
    with hold_scratch() as folder:
        paths = run_paths(folder, spec.run_id)
        for path in (paths.spec, paths.stdout, paths.report):
            path.parent.mkdir(parents=True, exist_ok=True)
        paths.busy_lock.touch()
        write_json(paths.spec, spec.to_dict())
        token = f"{os.getpid()}-selftest{os.urandom(4).hex()}"
        command = worker_command(spec, paths, os.environ, token, profiler, folder)
        with Interrupts() as interrupts:
            run_process(
                command,
                paths.stdout,
                paths.stderr,
                timeout_s=_WORKER_TIMEOUT_S,
                grace_s=_GRACE_S,
                interrupts=interrupts,
            )
        result, problem = read_result(paths)
        if result is None or result.error:
            reason = result.error if result is not None else problem
            raise RuntimeError(f"the worker failed: {reason}")
        rate = result.metrics["throughput_samples_per_s"]
    if not rate:
        raise RuntimeError("the worker measured no throughput")
    return 1 / rate


CHECKS = (
    Check(
        "profiler",
        "does the profiler that profiler=auto selects record anything?",
        "",
        Limit(1, 1),
        look_for_profiler,
    ),
    Check(
        "profiler against events",
        "do CUDA events and torch.profiler agree on the time of a copy?",
        "% difference",
        Limit(most=AGREEMENT * 100),
        compare_with_profiler,
        full_only=True,
        needs_gpu=True,
        own_process=True,
    ),
    Check(
        "cost of nsys",
        "is a window that nsys does not record as fast under nsys as without it?",
        "% of time",
        Limit(most=NSYS_COST_MOST * 100),
        measure_nsys,
        full_only=True,
        own_process=True,
        timeout_s=600,
    ),
)
