"""What a GPU does beside the plain pipeline: copies, host work, kinds of memory, models, sets.

As test_cuda_pipeline.py on the simulated device everywhere, and on a GPU where there is one.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from numa_bench.config.schema import ExperimentConfig
from numa_bench.config.schemas.workload import TestConfig, ViTConfig
from numa_bench.machine.backend import current_backend
from numa_bench.machine.topology import discover_topology
from numa_bench.plan.device_memory import estimate_device_bytes
from numa_bench.plan.devices import make_device_spec
from numa_bench.plan.resolve import resolve_model
from numa_bench.records import BandwidthSpec, RunResult, RunSpec, VitSpec
from numa_bench.runner.command import gpu_environment
from numa_bench.runner.interrupts import Interrupts
from numa_bench.runner.process import Command
from numa_bench.runner.sets.processes import SetProcess, run_together
from numa_bench.worker import __main__ as worker
from tests.specs import NO_OP, make_spec

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cuda_device")]

VIT = VitSpec("medium", 32, 4, 256, 4, 64, 1024)
MIB = 1 << 20
KINDS = ("registered", "registered_huge", "pinned", "pageable", "pageable_huge")
CONVOLUTION = VitSpec(
    "convolution",
    target="torch.nn.Conv2d",
    args={"in_channels": 3, "out_channels": 8, "kernel_size": 3},
)


def run(spec: RunSpec) -> RunResult:
    return worker.run_spec(spec, worker.Files(Path("unused")))


def test_copies_of_every_kind_size_and_direction_have_a_rate() -> None:
    wanted = BandwidthSpec(
        sizes_bytes=(4096, MIB, 64 * MIB),
        directions=("h2d", "d2h", "both", "latency"),
        memory=KINDS,
        rounds=3,
        budget_s=60.0,
    )
    spec = replace(make_spec(vit=NO_OP, kind="cuda"), workload="bandwidth", bandwidth=wanted)

    result = run(spec)

    assert (result.status, result.error) == ("passed", None)
    assert result.observed["copies_checked"] is True
    assert {len(point["samples"]) for point in result.series} == {3}
    assert all((point.get("gb_per_s") or point["latency_us"]) > 0 for point in result.series)
    assert not [line for line in result.warnings if line.startswith("stage_gaps")]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("work", ["normalize", "decode"])
def test_batches_that_host_threads_write_arrive_as_they_were_made(
    work: str, precision: str
) -> None:
    if work == "decode":
        pytest.importorskip("PIL", reason="decode needs Pillow")
    spec = make_spec(
        vit=VIT,
        kind="cuda",
        host_work=work,
        host_threads=2,
        precision=precision,
        batch_size=8,
        num_samples=800,
    )

    result = run(spec)

    assert (result.status, result.error) == ("passed", None)
    assert result.metrics["host_ms"]
    assert len(result.samples["host_ms"]) == 100


@pytest.mark.parametrize("memory", ["registered", "pinned", "pageable"])
@pytest.mark.parametrize("work", ["none", "normalize"])
def test_a_run_passes_with_every_kind_of_host_memory(memory: str, work: str) -> None:
    result = run(make_spec(vit=VIT, kind="cuda", host_memory=memory, host_work=work))

    assert (result.status, result.error) == ("passed", None)
    staged = [line for line in result.warnings if line.startswith("pageable")]
    assert bool(staged) == (memory == "pageable")


@pytest.mark.parametrize("compiled", [False, True])
def test_a_model_of_the_users_runs(compiled: bool) -> None:
    result = run(make_spec(vit=CONVOLUTION, kind="cuda", precision="bf16", compile_model=compiled))

    assert (result.status, result.error) == ("passed", None)
    assert result.observed["output_shape"] == [2, 8, 62, 62]


@pytest.mark.parametrize("config", [ViTConfig(depth=0), ViTConfig(depth=2, dim=128)])
def test_the_defaults_of_a_gpu_fit_it(config: ViTConfig, cuda_device: str) -> None:
    """Batch, precision and depth as the device decides; only the times are shorter here."""
    test = TestConfig(
        min_timed_s=0.05,
        min_warmup_s=0.02,
        warmup_samples=1,
        memory_size_mb=1,
        # Batches of 77 MB take the simulation's host seconds.
        image_size=224 if cuda_device == "real" else 32,
    )
    backend = current_backend()
    topology = discover_topology(backend.root, backend.nvml)
    gpu = topology.gpus[0]
    vit, resolved = resolve_model(ExperimentConfig(test=test), config, topology, gpu)
    spec = make_spec(vit=vit, kind="cuda")

    result = run(replace(spec, test=resolved, device=replace(make_device_spec(gpu), gpu_uuid=None)))

    assert (result.status, result.error) == ("passed", None)
    peak_mb = result.metrics["peak_device_memory_mb"]
    assert peak_mb is not None
    assert (resolved.batch_size, resolved.num_samples) == (256, 0)
    assert 1e6 * peak_mb < estimate_device_bytes(resolved, vit)


def test_two_workers_share_a_gpu_for_a_common_window(tmp_path: Path) -> None:
    """As members of a set, each a process, with the runner's barrier between them."""
    spec = make_spec(vit=VIT, kind="cuda", num_samples=0, min_timed_s=0.5)
    environment = gpu_environment(spec.device, os.environ)

    def process(name: str) -> SetProcess:
        spec_file, result = tmp_path / f"{name}.spec.json", tmp_path / f"{name}.json"
        spec_file.write_text(json.dumps(replace(spec, run_id=name).to_dict()))
        argv = [sys.executable, "-m", "numa_bench.worker", "--spec", str(spec_file)]

        def make_command(descriptor: int) -> Command:
            rest = ["--result", str(result), "--rendezvous", str(descriptor)]
            return Command((*argv, *rest), environment, f"token-{name}")

        return SetProcess(name, True, make_command, tmp_path / f"{name}.out", tmp_path / name)

    ended = run_together(
        [process("a"), process("b")],
        timeout_s=240.0,
        grace_s=5.0,
        interrupts=Interrupts(),
        started=lambda _: None,
    )

    assert [one.returncode for one in ended.values()] == [0, 0]
    results = [RunResult.from_dict(json.loads((tmp_path / f"{n}.json").read_text())) for n in "ab"]
    assert [result.status for result in results] == ["passed", "passed"]
    windows = [result.observed["window_host_s"] for result in results]
    common = min(end for _, end in windows) - max(begin for begin, _ in windows)
    assert common > 0.25


def test_a_full_device_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def allocate(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 5.00 GiB. GPU 0 has a total capacity of 15 GiB."
        )

    monkeypatch.setattr("numa_bench.worker.measurement.make_pipeline", allocate)

    result = run(make_spec(vit=NO_OP, kind="cuda"))

    assert result.status == "failed"
    assert result.error == (
        "device memory is full (CUDA out of memory. Tried to allocate 5.00 GiB); "
        "lower experiment.test.batch_size"
    )
