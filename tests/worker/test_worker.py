"""The worker as a process: one spec in, one result out, and an exit code that agrees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from numa_bench.metric_registry import METRICS
from numa_bench.records import Placement, RunResult, RunSpec
from numa_bench.worker import __main__ as worker
from tests.conftest import PROJECT
from tests.specs import NO_OP, make_spec


def run_worker(
    tmp_path: Path, spec: RunSpec, **env: str
) -> tuple[subprocess.CompletedProcess[str], RunResult | None]:
    spec_file, result_file = tmp_path / "spec.json", tmp_path / "out" / "result.json"
    spec_file.write_text(json.dumps(spec.to_dict()))
    done = subprocess.run(
        [sys.executable, "-m", "numa_bench.worker", "--spec", spec_file, "--result", result_file],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={**os.environ, **env},
        check=False,
    )
    result = None
    if result_file.exists():
        result = RunResult.from_dict(json.loads(result_file.read_text()))
    return done, result


def measured(spec: RunSpec) -> RunResult:
    """The same in this process."""
    return worker.run_spec(spec, worker.Files(Path("unused")))


@pytest.mark.slow
def test_a_run_measures_every_cpu_metric(tmp_path: Path) -> None:
    done, result = run_worker(tmp_path, make_spec())
    assert done.returncode == 0, done.stderr
    assert result is not None
    assert result.status == "passed"
    not_here = {"peak_device_memory_mb", "compile_s", "placement_fraction"}
    not_here |= {"profiled_throughput_samples_per_s", "profiler_overhead"}
    not_here |= {"h2d_pipelined_ms", "compute_pipelined_ms", "d2h_pipelined_ms"}  # CUDA only
    not_here |= {"host_submit_fraction", "busiest_stage_fraction"}
    not_here |= {"read_gb_per_s", "write_gb_per_s", "copy_gb_per_s", "load_latency_ns"}
    not_here |= {"duplex_gb_per_s", "copy_latency_us", "launch_latency_us"}
    not_here |= {"host_ms", "host_pipelined_ms", "host_wait_fraction"}  # no host work
    not_here |= {"stream_gb_per_s", "fairness", "slowest_worker_share"}
    not_here |= {"wall_s"}  # of commands
    assert {name for name, value in result.metrics.items() if value is not None} == (
        set(METRICS) - not_here
    )
    assert result.metrics["measured_samples"] == 8
    assert len(result.samples["h2d_ms"]) == 4
    assert result.warmup_samples["h2d_ms"]
    assert result.observed["output_error"] == 0.0
    assert result.versions["torch"]


@pytest.mark.slow
def test_no_op_is_pure_transfer() -> None:
    result = measured(make_spec(vit=NO_OP))
    assert result.status == "passed"
    assert result.metrics["h2d_gb_per_s"] is not None
    assert result.metrics["d2h_gb_per_s"] is not None


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_stays_within_tolerance(precision: str) -> None:
    result = measured(make_spec(precision=precision))
    assert (result.status, result.error) == ("passed", None)


def test_tf32_on_the_cpu_is_waived() -> None:
    result = measured(make_spec(precision="tf32"))
    assert result.status == "waived"
    assert result.error is not None
    assert "tf32" in result.error


@pytest.mark.slow
def test_the_time_budget_bounds_the_window() -> None:
    result = measured(make_spec(num_samples=10_000_000, time_budget_s=0.05))
    assert result.status == "passed"
    assert result.metrics["measured_samples"] < 10_000_000  # type: ignore[operator]


@pytest.mark.slow
def test_an_exception_is_a_failed_result_and_exit_code_1(tmp_path: Path) -> None:
    broken = make_spec(image_size=65)  # not divisible by the patch: vit-pytorch refuses
    done, result = run_worker(tmp_path, broken)
    assert done.returncode == 1
    assert result is not None
    assert result.status == "failed"
    assert result.error is not None
    assert result.error.startswith("AssertionError")
    assert "Traceback" in done.stderr


def test_a_spec_that_is_none_is_told_in_one_line(tmp_path: Path) -> None:
    bad = tmp_path / "spec.json"
    bad.write_text("{}")
    done = subprocess.run(
        [sys.executable, "-m", "numa_bench.worker", "--spec", bad, "--result", tmp_path / "r"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_a_wrong_output_is_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    from numa_bench.worker.pipelines.pipeline import CpuPipeline

    honest = CpuPipeline.last_output
    monkeypatch.setattr(CpuPipeline, "last_output", lambda self: honest(self) * 1.01)
    result = measured(make_spec())
    assert result.status == "invalid"
    assert result.error is not None
    assert "off by" in result.error


@pytest.mark.slow
def test_an_output_that_is_not_finite_is_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    from numa_bench.worker.pipelines.pipeline import CpuPipeline

    honest = CpuPipeline.last_output
    monkeypatch.setattr(CpuPipeline, "last_output", lambda self: honest(self) * float("nan"))
    result = measured(make_spec())
    assert (result.status, result.error) == ("invalid", "output is not finite")


@pytest.mark.slow
def test_a_run_outside_its_placement_is_invalid() -> None:
    elsewhere = Placement(9, (), "none", "remote", cpus=(4095,))
    result = measured(make_spec(placement=elsewhere))
    assert result.status == "invalid"
    assert result.error is not None
    assert "outside node 9" in result.error


@pytest.mark.slow
def test_threads_follow_the_bound_cpus_unless_configured() -> None:
    free = measured(make_spec(cpu_threads=None))
    assert free.observed["cpu_threads"] == len(os.sched_getaffinity(0))
    one = measured(make_spec(cpu_threads=1))
    assert one.observed["cpu_threads"] == 1
    many = measured(make_spec(cpu_threads=4 * len(os.sched_getaffinity(0))))
    assert any("take turns" in warning for warning in many.warnings)


@pytest.mark.slow
def test_the_result_goes_to_the_spare_place_when_its_own_is_full(tmp_path: Path) -> None:
    spec_file, spare = tmp_path / "spec.json", tmp_path / "spare.json"
    spec_file.write_text(json.dumps(make_spec().to_dict()))
    result = Path("/proc/result.json")  # nobody can write there
    code = worker.main(
        ["--spec", str(spec_file), "--result", str(result), "--spare-result", str(spare)]
    )
    assert code == 0
    assert json.loads(spare.read_text())["status"] == "passed"


@pytest.mark.slow
def test_compile_time_is_recorded_apart(tmp_path: Path) -> None:
    spec = make_spec(compile_model=True, compile_mode="reduce-overhead")
    done, result = run_worker(tmp_path, spec)
    assert done.returncode == 0, done.stderr
    assert result is not None
    assert result.status == "passed"
    compile_s, warmup_s = result.metrics["compile_s"], result.metrics["warmup_s"]
    assert compile_s is not None
    assert warmup_s is not None
    assert compile_s > warmup_s
    assert any("CUDA graphs" in warning for warning in result.warnings)


@pytest.mark.slow
def test_a_compiler_that_is_switched_off_fails_the_run(tmp_path: Path) -> None:
    done, result = run_worker(tmp_path, make_spec(compile_model=True), TORCHDYNAMO_DISABLE="1")
    assert done.returncode == 1
    assert result is not None
    assert result.error is not None
    assert "TORCHDYNAMO_DISABLE" in result.error


@pytest.mark.slow
def test_a_failing_compiler_fails_the_run(tmp_path: Path) -> None:
    broken = make_spec(compile_model=True)
    done, result = run_worker(
        tmp_path, broken, CXX="/nonexistent/g++", TORCHINDUCTOR_FORCE_DISABLE_CACHES="1"
    )
    assert done.returncode == 1
    assert result is not None
    assert result.status == "failed"


@pytest.mark.slow
def test_a_no_op_says_that_there_was_nothing_to_compile() -> None:
    result = measured(make_spec(vit=NO_OP, compile_model=True))
    assert result.status == "passed"
    assert result.metrics.get("compile_s") is None
    assert any("nothing to compile" in warning for warning in result.warnings)


def test_cuda_without_a_gpu_is_a_failure_that_says_so() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    result = measured(make_spec(kind="cuda"))
    assert result.status == "failed"
    assert result.error is not None
    assert "cannot use CUDA" in result.error


def test_numbers_that_json_cannot_hold_become_null(tmp_path: Path) -> None:
    result = RunResult("r", "h", "passed", metrics={"h2d_ms": float("nan")})
    worker.Files(tmp_path / "r.json").write_result(result)
    data: dict[str, Any] = json.loads((tmp_path / "r.json").read_text())
    assert data["metrics"]["h2d_ms"] is None


@pytest.mark.slow
def test_repeats_see_the_same_inputs() -> None:
    first, second = measured(make_spec()), measured(replace(make_spec(), repeat=1))
    assert first.observed["output_error"] == second.observed["output_error"] == 0.0
    assert first.spec_hash == second.spec_hash
