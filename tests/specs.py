"""A small valid RunSpec to vary in tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numa_bench.records import (
    DeviceSpec,
    Execution,
    Placement,
    Record,
    RunResult,
    RunSpec,
    Status,
    TestSpec,
    VitSpec,
    make_record,
)

TEST = TestSpec(
    num_samples=8,
    min_timed_s=0.0,
    time_budget_s=20.0,
    batch_size=2,
    image_size=64,
    channels=3,
    pipeline_depth=2,
    memory_size_mb=1,
    warmup_samples=2,
    min_warmup_s=0.0,
    warmup_budget_s=1.0,
    precision="fp32",
    attention="explicit",
    cuda_graph=False,
    compile_model=False,
    compile_mode="default",
    cpu_threads=1,
    seed=0,
    timeout_s=300.0,
)
VIT = VitSpec("tiny", 32, 1, 32, 1, 32, 64)
NO_OP = VitSpec("no-op", 32, 0, 0, 0, 0, 0)
UNBOUND = Placement(None, (), "none", "unbound")


def overridden(**test: Any) -> dict[str, Any]:
    """`test` settings of a ViTConfig, which gets these fields at run time: mypy sees none."""
    return test


def make_spec(
    *, vit: VitSpec = VIT, placement: Placement = UNBOUND, kind: str = "cpu", **test: Any
) -> RunSpec:
    """A tiny unbound CPU run; `test` overrides single test settings."""
    device = DeviceSpec("cpu") if kind == "cpu" else DeviceSpec("cuda", gpu_id=0)
    return RunSpec(
        study="tests",
        run_id="run_r0-000000",
        repeat=0,
        vit=vit,
        test=replace(TEST, **test),
        device=device,
        placement=placement,
    )


_NODES = {n: Placement(n, (n,), "bind", "local", cpus=(n,)) for n in (0, 1)}


def spec_of(run_id: str, node: int = 0) -> RunSpec:
    return replace(make_spec(placement=_NODES[node]), run_id=run_id)


def record_of(
    run_id: str, status: Status = Status.PASSED, attempt: int = 1, node: int = 0, **metrics: Any
) -> Record:
    spec = spec_of(run_id, node)
    result = RunResult(run_id, spec.cell_hash(), status.value, metrics=metrics)
    execution = Execution(
        status, 0, None, "2026-01-31T14:30:15.000+00:00", 1.5, attempt, "logs/out", "logs/err"
    )
    return make_record(spec, result, execution, "host")
