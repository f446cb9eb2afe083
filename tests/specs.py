"""A small valid RunSpec to vary in tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numa_bench.records import DeviceSpec, Placement, RunSpec, TestSpec, VitSpec

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
