"""One run, step by step: place, warm up, time, check, and only then profile.

Each step yields a `Part` of the result as soon as it is known, so that a run that fails later keeps
what it measured before.
"""

from __future__ import annotations

import resource
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch

from numa_bench.records import NO_HOST_WORK, TIMED_WINDOW, WARMUP, RunSpec
from numa_bench.worker.devices import Device, prepare_device
from numa_bench.worker.lifeline import wait_for_lock
from numa_bench.worker.models import (
    build_model,
    compile_model,
    find_output,
    find_skipped_graphs,
    is_compiled,
    prove_compiled,
)
from numa_bench.worker.output_checks import check_output
from numa_bench.worker.part import Part
from numa_bench.worker.pipelines.factory import count_host_threads, make_pipeline
from numa_bench.worker.pipelines.metrics import is_host_bound, window_metrics
from numa_bench.worker.pipelines.pipeline import Limits, Model, Pipeline, quiet_collector
from numa_bench.worker.pipelines.warmup import warm_up
from numa_bench.worker.placement_checks import check_placement, require_page_locations
from numa_bench.worker.recorder import Recorder, make_recorder
from numa_bench.worker.sets.rehearsal import rehearse
from numa_bench.worker.sets.rendezvous import Rendezvous, host_clock

#: Batches before a profiled window: first use under a profiler costs extra.
FIRST_USE_BATCHES = 4
#: A profiled window lasts at least so long: its figures must not be those of a few batches.
PROFILED_S = 0.2


def measure_run(
    spec: RunSpec,
    *,
    wait_for: Path | None = None,
    trace: Path | None = None,
    rendezvous: Rendezvous | None = None,
) -> Iterator[Part]:
    """Measure one run; yields parts of its result in the order in which they are known.

    `wait_for` is a file that must not be locked while the run is measured, `trace` where
    torch.profiler's trace goes, `rendezvous` where it waits for the other workers of its set.
    Raises Waived, and whatever goes wrong.
    """
    device = prepare_device(spec)
    yield Part(
        warnings=device.warnings,
        observed={"gpu_name": device.gpu_name} if device.gpu_name else {},
    )
    with torch.inference_mode():
        recorder, warnings = _make_recorder(spec, device, trace)
        model, output = find_output(spec, build_model(spec, device.device), device.device)
        yield Part(
            metrics={"flop_per_sample": output.flop_per_sample},
            observed=output.observed,
        )
        compiled, compile_warnings = compile_model(spec, model)
        yield Part(warnings=(*warnings, *compile_warnings))
        pipeline = make_pipeline(spec, compiled, device, output)
        # Before a measurement that could not count.
        require_page_locations(spec.placement, pipeline.host_buffers)
        if wait_for is not None:
            yield Part(observed={"waited_s": wait_for_lock(wait_for)})
        yield from _run_first(spec, pipeline)
        yield _check(spec, model, device, pipeline)
        throughput = None
        for part in _measure_windows(spec, pipeline, recorder, device, rendezvous):
            throughput = part.metrics.get("throughput_samples_per_s", throughput)
            yield part
        yield _check(spec, model, device, pipeline)
        yield Part(warnings=find_skipped_graphs(spec))
        # Last: the kernel may have moved pages while batches ran.
        yield check_placement(spec.placement, pipeline.host_buffers, _count_threads(spec))
        if spec.profile.kind != "none":
            yield Part(checkpoint=True)
            yield _profile(spec, pipeline, recorder, throughput)


def record_run(
    spec: RunSpec, *, wait_for: Path | None = None, trace: Path | None = None
) -> Iterator[Part]:
    """Warm up and run the profiled window of a run that another process measures.

    Arguments and errors are those of `measure_run`.
    """
    device = prepare_device(spec)
    with torch.inference_mode():
        recorder, warnings = _make_recorder(spec, device, trace)
        model, output = find_output(spec, build_model(spec, device.device), device.device)
        compiled, _ = compile_model(spec, model)
        yield Part(warnings=warnings)
        pipeline = make_pipeline(spec, compiled, device, output)
        if wait_for is not None:
            wait_for_lock(wait_for)
        for _ in _run_first(spec, pipeline):
            pass
        yield _warm_up(spec, pipeline, recorder)
        yield _profile(spec, pipeline, recorder, None)


def _make_recorder(
    spec: RunSpec, device: Device, trace: Path | None
) -> tuple[Recorder, tuple[str, ...]]:
    try:
        # On the CPU the calling thread marks host work, too.
        ahead = device.runtime is not None and spec.test.host_work != NO_HOST_WORK
        return make_recorder(spec.profile, device.runtime, trace, all_threads=ahead), ()
    except ImportError as error:
        return Recorder(), (f"profiler: no ranges, so no profiled window: {error}",)


def _count_threads(spec: RunSpec) -> dict[str, int]:
    threads = {"cpu_threads": torch.get_num_threads()}
    if spec.test.host_work != NO_HOST_WORK:
        threads["host_threads"] = count_host_threads(spec)
    return threads


def _run_first(spec: RunSpec, pipeline: Pipeline) -> Iterator[Part]:
    """One batch through the pipeline, which compiles a compiled model."""
    begin = time.perf_counter()
    pipeline.run(Limits(1))
    if is_compiled(spec):
        yield Part(metrics={"compile_s": time.perf_counter() - begin})
        prove_compiled()


def _check(spec: RunSpec, model: Model, device: Device, pipeline: Pipeline) -> Part:
    outcome = check_output(spec, device.make_forward(model), pipeline)
    observed = {} if outcome.error is None else {"output_error": outcome.error}
    return Part(observed=observed, problem=outcome.problem or None)


def _measure_windows(
    spec: RunSpec,
    pipeline: Pipeline,
    recorder: Recorder,
    device: Device,
    rendezvous: Rendezvous | None,
) -> Iterator[Part]:
    """Warm-up, the timed window, and the stages by themselves.

    In a set there is no such window for the stages: other workers would still disturb it.
    """
    test = spec.test
    if device.runtime is not None:
        device.runtime.reset_peak_memory()  # the check's plain forward is not the pipeline's
    yield _warm_up(spec, pipeline, recorder)
    limits = Limits(-(-test.num_samples // test.batch_size), test.time_budget_s, test.min_timed_s)
    # No collection between the common start and the first batch.
    with quiet_collector():
        if rendezvous is not None:
            rehearse(pipeline, device.runtime or host_clock(), rendezvous)
        begin = time.monotonic()  # the monitor's clock, by which its readings are selected
        with recorder.mark_range(TIMED_WINDOW):
            window = pipeline.run(limits, recorder.marks)
        end = time.monotonic()
    if rendezvous is not None:
        rendezvous.report_done()
    memory = _memory_metrics(device)
    alone = None if rendezvous is not None else pipeline.time_stages()
    in_bytes, out_bytes = pipeline.pool.first_batch().nbytes, pipeline.last_output().nbytes
    metrics = window_metrics(window, test.batch_size, in_bytes, out_bytes, alone)
    yield Part(
        samples=window.to_samples(),
        metrics={**metrics, **memory},
        observed={
            "window_monotonic_s": [begin, end],
            "window_host_s": [window.begin_s, window.begin_s + window.wall_s],
            "timed_stride": window.stride,
            "host_bound": is_host_bound(metrics),
        },
        warnings=(
            *_window_warnings(metrics, alone.gaps if alone else ()),
            *_memory_warnings(spec, device),
        ),
    )


def _warm_up(spec: RunSpec, pipeline: Pipeline, recorder: Recorder) -> Part:
    test = spec.test
    with recorder.mark_range(WARMUP):
        warm, warmup = warm_up(
            pipeline,
            test.batch_size,
            test.warmup_samples,
            test.warmup_budget_s,
            test.min_warmup_s,
            test.pipeline_depth,
        )
    samples = warm.to_samples()
    return Part(warmup=warmup, warmup_samples=samples, metrics={"warmup_s": warm.wall_s})


def _window_warnings(metrics: dict[str, float | None], gaps: tuple[str, ...]) -> tuple[str, ...]:
    warnings = []
    if is_host_bound(metrics):
        submitting, busy = metrics["host_submit_fraction"], metrics["busiest_stage_fraction"]
        warnings.append(
            f"host_bound: the host was submitting for {submitting:.0%} of the window, and the "
            f"busiest stage of the GPU ran for {busy:.0%} of it"
        )
    if gaps:
        warnings.append(f"stage_gaps: times of {', '.join(gaps)} alone include host gaps")
    return tuple(warnings)


def _memory_warnings(spec: RunSpec, device: Device) -> tuple[str, ...]:
    if device.runtime is None or spec.test.host_memory != "pageable":
        return ()
    return ("pageable: the driver stages copies and holds up the host, so stages overlap little",)


def _memory_metrics(device: Device) -> dict[str, float | None]:
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    metrics: dict[str, float | None] = {"peak_host_memory_mb": peak_kib * 1024 / 1e6}
    if device.runtime is not None:
        metrics["peak_device_memory_mb"] = device.runtime.peak_memory_bytes() / 1e6
    return metrics


def _profile(
    spec: RunSpec, pipeline: Pipeline, recorder: Recorder, throughput: float | None
) -> Part:
    """A shorter window for the profiler. What goes wrong here costs no measurement."""
    profile = spec.profile
    try:
        with recorder.record_window() as marks:
            pipeline.run(Limits(FIRST_USE_BATCHES, profile.budget_s / 4))
            window = pipeline.run(Limits(profile.batches, profile.budget_s, PROFILED_S), marks)
    except Exception as error:  # noqa: BLE001 - the run was measured; the record says what is missing
        traceback.print_exc()
        return Part(warnings=(f"profiler: the profiled window failed: {error!r}",))
    profiled = window.batches * spec.test.batch_size / window.wall_s
    traced = profile.capture == "run"
    return Part(
        metrics={
            "profiled_throughput_samples_per_s": profiled,
            "profiler_overhead": throughput / profiled - 1 if throughput else None,
        },
        warnings=("profiler: the timed window was traced too (profiler.capture=run)",)
        if traced
        else (),
    )
