"""The process that measures: one spec in, one result out. Knows nothing of who started it.

    python -m numa_bench.worker --spec spec.json --result result.json

Exit code 0: measured (status passed, invalid or waived); 1: failed, with the reason in the result
and the traceback on stderr. The result is written by atomic rename.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import resource
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numa_bench.jsonio import read_json, write_json
from numa_bench.machine import page_placement as placement
from numa_bench.records import TIMED_WINDOW, WARMUP, RunResult, RunSpec, Status
from numa_bench.versions import package_versions
from numa_bench.worker.lifeline import die_with_starter, wait_for_lock, write_started
from numa_bench.worker.output_checks import check_output, note_graphs, prove_compiled
from numa_bench.worker.recorder import Recorder, make_recorder
from numa_bench.workload import copy_bytes, input_shape, output_shape

if TYPE_CHECKING:
    from numa_bench.worker.pipeline import Pipeline, Window

PACKAGES = ("torch", "vit-pytorch", "einops", "numpy")


class Waived(Exception):  # noqa: N818 - a verdict, not an error
    """The machine cannot do what the spec asks for; the message says why."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker's command line; return its exit code."""
    parser = argparse.ArgumentParser(description="Measure one run.")
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--spare-result", type=Path, help="used when --result cannot be written")
    parser.add_argument(
        "--started", type=Path, help="where nsys stands in between: told the process's number"
    )
    parser.add_argument("--wait-for", type=Path, help="measure only when nobody locks this file")
    parser.add_argument("--trace", type=Path, help="where torch.profiler's trace goes")
    args = parser.parse_args(argv)
    die_with_starter(under_profiler=args.started is not None)
    try:
        spec = RunSpec.from_dict(read_json(args.spec))
    except (OSError, ValueError, TypeError, KeyError) as error:
        print(f"error: {args.spec} is not a run spec: {error!r}", file=sys.stderr)
        return 2
    files = Files(args.result, args.spare_result, args.wait_for, args.trace)
    if args.started is not None:
        with contextlib.suppress(OSError):  # a full disk; the result has a spare place
            write_started(args.started)
    result = _guarded(spec, files)
    files.write_result(result)
    return 1 if result.status == Status.FAILED.value else 0


@dataclass(frozen=True)
class Files:
    """Where a worker writes, and the lock it waits for."""

    result: Path
    spare_result: Path | None = None
    wait_for: Path | None = None
    trace: Path | None = None

    def write_result(self, result: RunResult) -> None:
        """Write the result by atomic rename; to the spare place where the first takes nothing."""
        try:
            write_json(self.result, result.to_dict(), indent=None)
        except OSError:
            if self.spare_result is None:
                raise
            write_json(self.spare_result, result.to_dict(), indent=None)


def _guarded(spec: RunSpec, files: Files) -> RunResult:
    """Measure, and turn whatever happens into a result."""
    result = RunResult(spec.run_id, spec.cell_hash(), Status.PASSED.value)
    try:
        _measure(spec, files, result)
    except Waived as reason:
        result.status, result.error = Status.WAIVED.value, str(reason)
    except Exception as error:  # noqa: BLE001 - every failure becomes a record
        traceback.print_exc()
        first = str(error).strip().splitlines()[:1]
        result.status = Status.FAILED.value
        result.error = ": ".join([type(error).__name__, *first])
    result.versions = _versions()
    return result


def _measure(spec: RunSpec, files: Files, result: RunResult) -> None:
    """Place, warm up, time, and only then profile; fills `result` in as it goes."""
    import torch

    from numa_bench.worker.models import build_model
    from numa_bench.worker.warmup import warm_up

    test = spec.test
    device = _device(spec, result)
    torch.set_float32_matmul_precision("high" if test.precision == "tf32" else "highest")
    with torch.inference_mode():
        model = build_model(spec, device)
        pipeline = _pipeline(spec, _compiled(spec, model, result), device)
        recorder = _recorder(spec, device, files, result)
        if files.wait_for is not None:
            result.observed["waited_s"] = wait_for_lock(files.wait_for)
        _first_pass(spec, model, pipeline, device, result)
        buffers = [(b.address, b.nbytes) for b in pipeline.host_buffers]
        with recorder.mark_range(WARMUP):
            warm, result.warmup = warm_up(
                pipeline, test.batch_size, test.warmup_samples, test.warmup_budget_s
            )
        batches = -(-test.num_samples // test.batch_size)
        begin = time.monotonic()
        with recorder.mark_range(TIMED_WINDOW):
            window = pipeline.run(batches, test.time_budget_s, recorder.marks)
        result.observed["window_monotonic_s"] = [begin, time.monotonic()]
        _note_memory(device, result)
        check_output(spec, model, pipeline, device, result)
        _note_window(spec, window, warm, result)
        note_graphs(spec, result)
        _note_placement(spec, buffers, result)
        if spec.profile.kind != "none":
            _profile(spec, pipeline, recorder, files, result)


def _note_window(spec: RunSpec, window: Window, warm: Window, result: RunResult) -> None:
    from numa_bench.worker.metrics import window_metrics

    test = spec.test
    in_bytes, out_bytes = copy_bytes(spec)
    result.samples, result.warmup_samples = window.to_samples(), warm.to_samples()
    result.metrics.update(window_metrics(window, test.batch_size, in_bytes, out_bytes))
    result.metrics["warmup_s"] = warm.wall_s


def _recorder(spec: RunSpec, device: Any, files: Files, result: RunResult) -> Recorder:
    try:
        return make_recorder(spec.profile, device, files.trace)
    except ImportError as error:
        result.warnings.append(f"profiler: no ranges, so no profiled window: {error}")
        return Recorder()


def _profile(
    spec: RunSpec, pipeline: Pipeline, recorder: Recorder, files: Files, result: RunResult
) -> None:
    """A shorter window for the profiler. What goes wrong here costs no measurement."""
    result.versions = _versions()
    files.write_result(
        result
    )  # a profiler that kills the process must not take the timed window along
    try:
        with recorder.record_window() as marks:
            window = pipeline.run(spec.profile.batches, spec.profile.budget_s, marks)
    except Exception as error:  # noqa: BLE001 - the run was measured; the record says what is missing
        traceback.print_exc()
        result.warnings.append(f"profiler: the profiled window failed: {error!r}")
        return
    profiled = window.batches * spec.test.batch_size / window.wall_s
    timed = result.metrics["throughput_samples_per_s"]
    result.metrics["profiled_throughput_samples_per_s"] = profiled
    result.metrics["profiler_overhead"] = timed / profiled - 1 if timed else None
    if spec.profile.capture == "run":
        result.warnings.append("profiler: the timed window was traced too (profiler.capture=run)")


def _device(spec: RunSpec, result: RunResult) -> Any:
    """The torch device of the spec, with threads set. Raises Waived when it cannot do the job."""
    import torch

    allowed = len(os.sched_getaffinity(0))
    threads = spec.test.cpu_threads or allowed
    torch.set_num_threads(threads)
    if threads > allowed:
        result.warnings.append(f"threads: {threads} on {allowed} CPUs, they take turns")
    if spec.device.kind == "cpu":
        if spec.test.precision == "tf32":
            raise Waived("tf32 is a GPU format; use precision=fp32 on the CPU")
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RuntimeError(f"torch {torch.__version__} cannot use CUDA here")
    device = torch.device("cuda", 0)
    torch.cuda.set_device(device)
    found = torch.cuda.get_device_properties(device)
    uuid = f"GPU-{getattr(found, 'uuid', '')}"
    if spec.device.gpu_uuid not in (None, uuid):
        raise RuntimeError(f"asked for GPU {spec.device.gpu_uuid}, torch sees {uuid}")
    result.observed["gpu_name"] = found.name
    if spec.test.precision in ("tf32", "bf16") and found.major < 8:
        raise Waived(f"{spec.test.precision} needs compute capability 8.0, this is {found.major}.x")
    return device


def _pipeline(spec: RunSpec, model: Any, device: Any) -> Any:
    from numa_bench.worker.buffers import SamplePool
    from numa_bench.worker.cuda_pipeline import CudaPipeline
    from numa_bench.worker.models import DTYPES
    from numa_bench.worker.pipeline import CpuPipeline

    test = spec.test
    pool = SamplePool(
        input_shape(spec),
        DTYPES[test.precision],
        nbytes=test.memory_size_mb * 1_000_000,
        seed=test.seed,
        register=device.type == "cuda",
    )
    if device.type == "cpu":
        return CpuPipeline(model, pool, output_shape(spec), test.pipeline_depth)
    graphs = test.compile_model and test.compile_mode in ("reduce-overhead", "max-autotune")
    return CudaPipeline(
        model,
        pool,
        output_shape(spec),
        test.pipeline_depth,
        device,
        static_output=graphs and spec.vit.depth > 0,
    )


def _compiled(spec: RunSpec, model: Any, result: RunResult) -> Callable[[Any], Any]:
    """The model to time. A no-op has nothing to compile, and says so."""
    import torch

    if not spec.test.compile_model:
        return model  # type: ignore[no-any-return]
    if spec.vit.depth == 0:
        result.warnings.append("compile: a no-op has nothing to compile; it ran as it is")
        return model  # type: ignore[no-any-return]
    if spec.device.kind == "cpu" and spec.test.compile_mode == "reduce-overhead":
        result.warnings.append(
            "compile: reduce-overhead is CUDA graphs; on the CPU it equals default"
        )
    # Errors of the compiler must fail the run, and so must anything that runs eagerly after all.
    import torch._dynamo

    torch._dynamo.config.suppress_errors = False
    compiled: Callable[[Any], Any] = torch.compile(
        model, mode=spec.test.compile_mode, fullgraph=True
    )
    return compiled


def _first_pass(spec: RunSpec, model: Any, pipeline: Any, device: Any, result: RunResult) -> None:
    """One batch through the pipeline, which compiles a compiled model, checked."""
    begin = time.perf_counter()
    pipeline.run(1, float("inf"))
    if spec.test.compile_model and spec.vit.depth:
        result.metrics["compile_s"] = time.perf_counter() - begin
        prove_compiled()
    check_output(spec, model, pipeline, device, result)


def _note_memory(device: Any, result: RunResult) -> None:
    import torch

    if device.type == "cuda":
        result.metrics["peak_device_memory_mb"] = torch.cuda.max_memory_allocated(device) / 1e6
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result.metrics["peak_host_memory_mb"] = peak_kib * 1024 / 1e6


def _note_placement(spec: RunSpec, buffers: list[tuple[int, int]], result: RunResult) -> None:
    """Where it all really was; a run that was not where it was bound is invalid."""
    import torch

    result.observed.update(
        placement.observe_placement(buffers), cpu_threads=torch.get_num_threads()
    )
    fraction, problem = placement.judge_placement(spec.placement, result.observed)
    result.metrics["placement_fraction"] = fraction
    if spec.placement.policy == "preferred" and fraction is not None and fraction < 1:
        result.warnings.append(
            f"preferred: memory spilled, only {fraction:.1%} of buffer pages are on the node"
        )
    if problem:
        result.status, result.error = Status.INVALID.value, problem


def _versions() -> dict[str, str]:
    torch = sys.modules.get("torch")
    cuda = {"cuda": torch.version.cuda} if torch is not None and torch.version.cuda else {}
    return {"python": platform.python_version(), **package_versions(PACKAGES), **cuda}


if __name__ == "__main__":
    sys.exit(main())
