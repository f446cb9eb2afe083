"""The shipped experiments: each composes, validates and plans what it is meant to."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig

from numa_bench.plan.plan import Plan
from numa_bench.records import Expectation, RunSpec
from numa_bench.records.workload import copy_bytes
from tests.conftest import PROJECT
from tests.machines import laptop, server

EXPERIMENTS = sorted(path.stem for path in (PROJECT / "conf" / "experiment").glob("*.yaml"))
#: What an experiment leaves to its user.
NEEDS = {"command_study": ("command='python train.py'",)}
MACHINES = {"laptop": laptop, "server": server}

Plans = Callable[..., Plan]
Composes = Callable[..., DictConfig]


def sizes(runs: tuple[RunSpec, ...]) -> list[tuple[int, int, int]]:
    """(patch, depth, dim) of all models, each once, in order."""
    found = [r.vit.sizes() for r in runs]
    return list(dict.fromkeys((s["patch_size"], s["depth"], s["dim"]) for s in found))


def test_the_experiments_of_the_specification_are_shipped() -> None:
    assert {
        "bandwidth_study",
        "compile_study",
        "grid_search",
        "numa_study",
        "pipeline_study",
        "quick_test",
        "resolution_study",
        "scaling_study",
        "slurm_sweep",
    } <= set(EXPERIMENTS)


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_validates_and_plans(
    plan: Plans, name: str, machine: str
) -> None:
    # The launcher that slurm_sweep chooses is an optional plugin.
    own = NEEDS.get(name, ())
    planned = plan(MACHINES[machine](), f"experiment={name}", "hydra/launcher=basic", *own)

    assert planned.study == name
    assert len({run.run_id for run in planned.runs}) == len(planned.runs) > 0
    # What a machine cannot form is said; everything else fits every machine.
    unexpected = [
        w for w in planned.warnings if "is left out: " not in w and "are not used" not in w
    ]
    assert unexpected == []


def _flat(node: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(node, dict):
        return [pair for key, value in node.items() for pair in _flat(value, f"{path}.{key}")]
    return [(path, node)]


@pytest.mark.parametrize(
    "path", sorted((PROJECT / "conf").rglob("*.yaml")), ids=lambda path: path.stem
)
def test_no_shipped_file_names_a_gpu_or_a_node(path: Path) -> None:
    for key, value in _flat(yaml.safe_load(path.read_text())):
        if key.rsplit(".", 1)[-1] in ("gpu_ids", "numa_nodes", "memory_nodes"):
            assert not re.search(r"\d", str(value)), f"{path}: {key}={value}"


def test_the_default_is_the_numa_study(plan: Plans) -> None:
    assert plan(server()).study == "numa_study"


def test_numa_study_crosses_six_models_with_every_gpu_near_and_far(plan: Plans) -> None:
    planned = plan(server(), "experiment=numa_study")

    models = [
        (32, 0, 0),
        (32, 2, 128),
        (32, 4, 256),
        (32, 6, 512),
        (16, 8, 768),
        (16, 12, 1024),
    ]
    assert sizes(planned.cells) == models
    pairs = [(cpu, (memory,)) for cpu in (0, 2) for memory in (0, 2)]
    wanted = {(gpu, *pair, *model) for gpu in range(8) for pair in pairs for model in models}
    found = {
        (
            *(c.device.gpu_id, c.placement.numa_node, c.placement.memory_nodes),
            *(c.vit.patch_size, c.vit.depth, c.vit.dim),
        )
        for c in planned.cells
    }
    assert found == wanted
    assert len(planned.cells) == len(wanted)


def test_numa_study_on_a_machine_without_gpus_measures_the_cpu(plan: Plans) -> None:
    planned = plan(laptop(), "experiment=numa_study")

    assert {(c.device.kind, c.placement.numa_node) for c in planned.cells} == {("cpu", 0)}
    assert len(planned.cells) == 6


def test_scaling_study_is_two_series(plan: Plans) -> None:
    found = sizes(plan(laptop(), "experiment=scaling_study").cells)

    assert {depth for _, depth, dim in found if dim == 512} == {2, 4, 6, 8, 12}
    assert {dim for _, depth, dim in found if depth == 6} == {256, 512, 768, 1024}
    assert len(found) == 8  # 6x512 is in both


@pytest.mark.parametrize(("machine", "kind"), [("laptop", "cpu"), ("server", "cuda")])
def test_quick_test_is_three_models_on_one_device_once(
    plan: Plans, machine: str, kind: str
) -> None:
    planned = plan(MACHINES[machine](), "experiment=quick_test")

    assert {c.device.kind for c in planned.cells} == {kind}
    assert len({c.device for c in planned.cells}) == 1
    assert {run.repeat for run in planned.runs} == {0}
    (_, no_op, _), (_, light, light_dim), (_, medium, medium_dim) = sizes(planned.cells)
    assert no_op == 0 < light * light_dim < medium * medium_dim


def test_quick_test_is_estimated_below_a_minute_on_the_cpu(plan: Plans) -> None:
    assert plan(laptop(), "experiment=quick_test").longest_s < 60


def test_compile_study_sets_eager_against_three_modes_of_two_models(plan: Plans) -> None:
    planned = plan(server(), "experiment=compile_study", "experiment.hardware.gpu_ids=[0]")

    modes = [
        (False, "default"),
        (True, "default"),
        (True, "reduce-overhead"),
        (True, "max-autotune"),
    ]
    cells = planned.cells
    assert len({cell.vit for cell in cells}) == 2
    for vit in {cell.vit for cell in cells}:
        found = [(c.test.compile_model, c.test.compile_mode) for c in cells if c.vit == vit]
        assert found[:4] == modes
    bounds = [cell.expected.bound for cell in cells[:8] if cell.expected]
    # The host bounds the first model until CUDA graphs free it; compute bounds the second one.
    assert bounds == ["host", "host", "link", "link", *["compute"] * 4]
    assert planned.blind_spots == ()


def test_resolution_study_reaches_from_256_to_2048_pixels(plan: Plans) -> None:
    cells = plan(laptop(), "experiment=resolution_study").cells

    found = [cell.test.image_size for cell in cells]
    assert found == sorted(set(found))
    assert (found[0], found[-1]) == (256, 2048)
    assert len(sizes(cells)) == 1


def test_resolution_study_copies_the_same_bytes_at_every_resolution(plan: Plans) -> None:
    cells = plan(server(), "experiment=resolution_study", "experiment.hardware.gpu_ids=[0]").cells

    assert [cell.test.batch_size for cell in cells[:4]] == [128, 32, 8, 2]
    assert len({copy_bytes(cell)[0] for cell in cells}) == 1


def expect(cell: RunSpec) -> Expectation:
    assert cell.expected is not None
    return cell.expected


def test_pipeline_study_goes_deeper_than_double_buffering(plan: Plans) -> None:
    cells = plan(server(), "experiment=pipeline_study", "experiment.hardware.gpu_ids=[0]").cells

    assert len(sizes(cells)) == 2
    for vit in {cell.vit for cell in cells}:
        batch_s = {c.test.pipeline_depth: expect(c).batch_s for c in cells if c.vit == vit}
        assert list(batch_s) == [1, 2, 4, 8]
        # What the study is for: overlap is predicted to gain a lot.
        assert batch_s[1] > 1.5 * batch_s[2]


def test_scaling_study_runs_across_the_crossover_of_link_and_compute(plan: Plans) -> None:
    cells = plan(server(), "experiment=scaling_study", "experiment.hardware.gpu_ids=[0]").cells

    bounds = {(c.vit.depth, c.vit.dim): expect(c).bound for c in cells}
    assert [bounds[depth, 512] for depth in (2, 4, 6)] == ["link"] * 3
    assert bounds[12, 512] == bounds[6, 768] == bounds[6, 1024] == "compute"


def test_grid_search_asks_for_the_sweep_itself(compose_node: Composes) -> None:
    node = compose_node("experiment=grid_search")

    assert node.hydra.mode.name == "MULTIRUN"
    assert dict(node.hydra.sweeper.params) == {
        "experiment.vit_configs.0.depth": "2,4,6",
        "experiment.vit_configs.0.dim": "128,256,512",
    }


def test_other_experiments_are_single_runs(compose_node: Composes) -> None:
    assert compose_node("experiment=quick_test").hydra.mode is None


def test_an_inherited_experiment_is_a_delta(compose_node: Composes, tmp_path: Path) -> None:
    """What a user's own file needs: a default to start from, and the change."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "defaults:\n  - quick_test\n  - _self_\nname: mine\nrepeats: 7\n"
    )
    node = compose_node(f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine")

    assert (node.experiment.name, node.experiment.repeats) == ("mine", 7)
    assert node.experiment.test.num_samples == 400
