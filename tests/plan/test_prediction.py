"""What is predicted to bound a run, and what a planned study cannot show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from numa_bench.config.schema import ExperimentConfig, RunnerConfig
from numa_bench.config.schemas.workload import TestConfig, ViTConfig
from numa_bench.machine.model import Topology
from numa_bench.plan.plan import Plan, build_plan
from numa_bench.plan.predictions.device_limits import find_cpu_limits, find_gpu_limits
from numa_bench.plan.predictions.prediction import count_operations, predict_run
from numa_bench.records import Expectation, RunSpec, VitSpec
from numa_bench.records.run_record import Execution, Status, make_record
from numa_bench.records.workload import input_shape
from numa_bench.worker.models import build_model
from tests.machines import laptop, make_gpu, server
from tests.simulation.model_cost import measure_cost
from tests.specs import NO_OP, make_spec, overridden

H100 = make_gpu(0, 0)
#: Models of numa_study: (patch, depth, dim).
SIZES = ((32, 0, 64), (32, 2, 128), (32, 4, 256), (32, 6, 512), (16, 8, 768), (16, 12, 1024))
MODELS = [ViTConfig(patch_size=p, depth=d, dim=w) for p, d, w in SIZES]


def planned(machine: Topology, vits: list[ViTConfig], **test: Any) -> Plan:
    study = ExperimentConfig(name="study", vit_configs=vits, test=TestConfig(**test))
    return build_plan(RunnerConfig(experiment=study), machine, machine.gpus)


def bounds(plan: Plan) -> list[str]:
    return [model.prediction.bound for model in plan.predictions]


def vit(depth: int) -> VitSpec:
    return VitSpec("vit", 32, depth, 512, 8, 64, 2048)


def test_the_defaults_straddle_the_crossover_of_link_and_compute() -> None:
    plan = planned(server(), MODELS)

    assert bounds(plan) == ["link", "link", "link", "link", "compute", "compute"]
    assert plan.blind_spots == ()


def test_small_batches_in_fp32_are_host_bound_which_is_said() -> None:
    plan = planned(server(), MODELS, batch_size=8, precision="fp32")

    assert bounds(plan) == ["link", "host", "host", "host", "compute", "compute"]
    (line,) = plan.blind_spots
    assert line.startswith("batch 8 in fp32: vit32x2x128, vit32x4x256, vit32x6x512 predicted")
    assert "experiment.test.batch_size=auto" in line


def test_a_study_of_heavy_models_only_cannot_show_the_link() -> None:
    heavy = MODELS[4:]

    (line,) = planned(server(), heavy).blind_spots
    assert "every model is predicted to be compute bound" in line
    assert "experiment=bandwidth_study" in line
    # With one batch in flight copies are waited for, so slower ones show.
    assert planned(server(), heavy, pipeline_depth=1).blind_spots == ()
    # On the CPU compute itself reads the memory that is placed.
    cpu_only = replace(server(), gpus=())
    assert planned(cpu_only, heavy).blind_spots == ()


def test_one_node_cannot_show_anything_about_placement() -> None:
    (line,) = planned(laptop(), MODELS).blind_spots

    assert line.startswith("one NUMA node: ")


@pytest.mark.parametrize(
    ("changes", "rate", "word"),
    [
        ({}, 0.87 * 63.0, "PCIe 5.0 x16"),
        ({"link": (4, 8)}, 0.87 * 15.75, "PCIe 4.0 x8"),
        ({"link": None}, 0.87 * 31.5, "PCIe 4.0 x16 (assumed, the driver does not say)"),
        ({"link": (99, 16)}, 0.87 * 31.5, "PCIe 4.0 x16 (assumed, the driver does not say)"),
    ],
)
def test_the_links_rate_is_that_of_its_generation_and_width(
    changes: dict[str, Any], rate: float, word: str
) -> None:
    limits = find_gpu_limits(replace(H100, **changes), "bf16")

    assert limits.copy_bytes_per_s == pytest.approx(rate * 1e9, rel=0.001)
    assert limits.copy_bytes_per_s < limits.both_bytes_per_s < 2 * limits.copy_bytes_per_s
    assert limits.sources[0].startswith(word)


@pytest.mark.parametrize(
    ("name", "capability", "precision", "tflop"),
    [
        ("NVIDIA H100 80GB HBM3", (9, 0), "bf16", 989.4),
        ("NVIDIA H100 PCIe", (9, 0), "bf16", 756.0),
        ("NVIDIA H200", (9, 0), "fp32", 66.9),
        ("NVIDIA A100-SXM4-80GB", (8, 0), "tf32", 156.0),
        ("NVIDIA A10", (8, 6), "fp16", 125.0),
        ("NVIDIA L4", (8, 9), "bf16", 121.0),
        ("NVIDIA L40S", (8, 9), "bf16", 362.0),
        ("Tesla T4", (7, 5), "tf32", 8.1),
        ("Something new", (7, 0), "fp16", 125.0),
        (None, None, "bf16", 312.0),
    ],
)
def test_peaks_are_found_by_name_then_by_capability(
    name: str | None, capability: tuple[int, int] | None, precision: str, tflop: float
) -> None:
    gpu = replace(H100, name=name, compute_capability=capability)

    assert find_gpu_limits(gpu, precision).flop_per_s == pytest.approx(0.4e12 * tflop)


def test_a_gpu_that_is_not_known_is_said_to_be_assumed() -> None:
    gpu = replace(H100, name="Other", compute_capability=None)

    assert "this GPU is not known" in find_gpu_limits(gpu, "bf16").sources[1]


def test_more_cpus_compute_faster_and_copy_as_fast() -> None:
    few, many = find_cpu_limits(2, "fp32"), find_cpu_limits(8, "fp32")

    assert many.flop_per_s == 4 * few.flop_per_s
    assert many.copy_bytes_per_s == few.copy_bytes_per_s
    assert all("assumed" in source for source in few.sources)


def test_copies_of_both_directions_share_the_link_but_take_turns_without_overlap() -> None:
    limits = find_gpu_limits(H100, "fp32")
    deep = make_spec(vit=NO_OP, kind="cuda", batch_size=100)
    both = predict_run(deep, limits)
    alone = predict_run(make_spec(vit=NO_OP, kind="cuda", batch_size=100, pipeline_depth=1), limits)

    assert both.h2d_bytes == both.d2h_bytes
    assert both.copies_s == pytest.approx(2 * both.h2d_bytes / limits.both_bytes_per_s)
    assert alone.copies_s == pytest.approx(2 * both.h2d_bytes / limits.copy_bytes_per_s)
    assert (both.bound, both.batch_s) == ("link", both.copies_s)


def test_without_overlap_parts_add_up() -> None:
    spec = make_spec(vit=vit(6), batch_size=8)
    found = predict_run(spec, find_cpu_limits(1, "fp32"))

    assert found.bound == "compute"
    assert found.batch_s == pytest.approx(found.copies_s + found.compute_s)


@pytest.mark.parametrize(
    ("depth", "operations"), [(0, 0), (2, 41), (4, 75), (6, 109), (8, 143), (12, 211)]
)
def test_operations_of_an_eager_model(depth: int, operations: int) -> None:
    assert count_operations(make_spec(vit=vit(depth), kind="cuda")) == operations


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_compilation_and_graphs_leave_fewer_operations(kind: str) -> None:
    def operations(**test: Any) -> int:
        return count_operations(make_spec(vit=vit(6), kind=kind, **test))

    compiled = operations(compile_model=True)
    assert compiled < operations(attention="sdpa") < operations()
    graphs = operations(compile_model=True, compile_mode="reduce-overhead")
    assert graphs == (1 if kind == "cuda" else compiled)
    if kind == "cuda":
        assert operations(cuda_graph=True) == 1


@pytest.mark.parametrize("attention", ["explicit", "sdpa"])
def test_operations_grow_with_depth_like_those_that_torch_runs(attention: str) -> None:
    """Three of a block's operations are views, which cost the host, but are no kernels."""

    def kernels(depth: int) -> int:
        spec = make_spec(vit=replace(vit(depth), dim=32, mlp_dim=32), attention=attention)
        model = build_model(spec, torch.device("cpu"))
        return measure_cost(model, input_shape(spec), torch.float32).kernels

    def counted(depth: int) -> int:
        return count_operations(make_spec(vit=vit(depth), attention=attention))

    assert counted(3) - counted(1) == kernels(3) - kernels(1) + 2 * 3


def test_every_run_carries_its_prediction_into_its_record() -> None:
    plan = planned(server(), MODELS)
    run = next(run for run in plan.runs if run.vit.depth == 12)
    ended = Execution(Status.PASSED, 0, None, "", 1.0, 1, "", "")

    assert make_record(run, None, ended, "host")["predicted_bound"] == "compute"
    assert RunSpec.from_dict(run.to_dict()) == run
    # What is predicted is no part of what is measured.
    assert replace(run, expected=Expectation("link", 1.0)).cell_hash() == run.cell_hash()
    assert make_record(replace(run, expected=None), None, ended, "h")["predicted_bound"] is None


def test_gpus_of_different_links_are_predicted_apart() -> None:
    gpus = (H100, replace(make_gpu(1, 2), link=(3, 16)))
    plan = planned(replace(server(), gpus=gpus), [ViTConfig(**overridden(depth=0))])

    assert len({model.limits for model in plan.predictions}) == len(plan.predictions) == 2
