"""The shipped configuration, what is refused, and that every setting changes something."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from numa_bench.config import schema as cfg
from numa_bench.config.loading import discover_machine, load_config, save_resolved
from numa_bench.config.overrides import to_dotted_key
from numa_bench.config.schema import (
    ExperimentConfig,
    HardwareConfig,
    OutputConfig,
    RunnerConfig,
    TestConfig,
    ViTConfig,
)
from numa_bench.config.settings import list_keys
from numa_bench.config.validation import check_experiment, parse_id_list, validate_config
from numa_bench.errors import ConfigError, StoreError, StudyFailed, UnknownKeyError
from numa_bench.machine.model import Topology
from numa_bench.plan.plan import Plan, build_plan
from numa_bench.profiling.profilers import find_profiler
from numa_bench.records import RunSpec, TestSpec
from numa_bench.runner.command import worker_command
from numa_bench.runner.monitor import Monitor
from numa_bench.runner.process import Command, Ended
from numa_bench.runner.study import run_study
from numa_bench.store import RESOLVED_CONFIG, STUDY_MARKER, StudyStore
from numa_bench.tracking.factory import make_trackers
from tests.conftest import PROJECT, without_hydra
from tests.fake_sysfs import FakeNode, build_tree
from tests.machines import laptop, server
from tests.specs import overridden

EXPERIMENTS = sorted(path.stem for path in (PROJECT / "conf" / "experiment").glob("*.yaml"))
MACHINES = {"laptop": laptop, "server": server}

Plans = Callable[..., Plan]
Loads = Callable[..., RunnerConfig]
Composes = Callable[..., DictConfig]


def sizes(runs: tuple[RunSpec, ...]) -> list[tuple[int, int, int]]:
    """(patch, depth, dim) of all models, each once, in order."""
    return list(dict.fromkeys((r.vit.patch_size, r.vit.depth, r.vit.dim) for r in runs))


# --- shipped experiments


def test_the_experiments_of_the_specification_are_shipped() -> None:
    assert {
        "compile_study",
        "grid_search",
        "numa_study",
        "pipeline_study",
        "quick_test",
        "resolution_study",
        "scaling_study",
    } <= set(EXPERIMENTS)


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_validates_and_plans(
    plan: Plans, name: str, machine: str
) -> None:
    planned = plan(MACHINES[machine](), f"experiment={name}")

    assert planned.study == name
    assert len({run.run_id for run in planned.runs}) == len(planned.runs) > 0
    assert planned.warnings == ()


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


def test_numa_study_crosses_six_models_with_every_gpu_and_every_node(plan: Plans) -> None:
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
    wanted = {(gpu, node, *model) for gpu in range(8) for node in (0, 2) for model in models}
    found = {
        (c.device.gpu_id, c.placement.numa_node, c.vit.patch_size, c.vit.depth, c.vit.dim)
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
    assert len(found) == 8  # 6x512 stands in both


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
    assert plan(laptop(), "experiment=quick_test").estimated_s < 60


def test_compile_study_sets_eager_against_three_modes_of_one_model(plan: Plans) -> None:
    cells = plan(laptop(), "experiment=compile_study").cells

    assert len({cell.vit for cell in cells}) == 1
    assert [(c.test.compile_model, c.test.compile_mode) for c in cells] == [
        (False, "default"),
        (True, "default"),
        (True, "reduce-overhead"),
        (True, "max-autotune"),
    ]


def test_resolution_study_reaches_from_256_to_2048_pixels(plan: Plans) -> None:
    cells = plan(laptop(), "experiment=resolution_study").cells

    found = [cell.test.image_size for cell in cells]
    assert found == sorted(set(found))
    assert (found[0], found[-1]) == (256, 2048)
    assert len(sizes(cells)) == 1


def test_pipeline_study_goes_deeper_than_double_buffering(plan: Plans) -> None:
    cells = plan(laptop(), "experiment=pipeline_study").cells

    depths = [cell.test.pipeline_depth for cell in cells]
    assert depths[:2] == [1, 2]
    assert len(depths) > 2
    assert min(depths[2:]) > 2
    assert len(sizes(cells)) == 1


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


# --- what is refused


def experiment(**changes: Any) -> ExperimentConfig:
    """A valid experiment; keys with a dot or of a test setting go where they belong."""
    base = ExperimentConfig(name="study", vit_configs=[ViTConfig()])
    return replace(base, **changes)


BAD_EXPERIMENTS = [
    ({"name": "../../x"}, "experiment.name=../../x"),
    ({"name": "a/b"}, "experiment.name=a/b"),
    ({"name": ".."}, "experiment.name=.."),
    ({"name": ".hidden"}, "experiment.name=.hidden"),
    ({"name": "x\n"}, "experiment.name=x"),
    ({"name": ""}, "experiment.name="),
    ({"name": "x" * 81}, "experiment.name=xxx"),
    ({"repeats": 0}, "experiment.repeats=0"),
    ({"repeats": -3}, "experiment.repeats=-3"),
    ({"order": "random"}, "experiment.order=random"),
    ({"max_gpus": 0}, "experiment.max_gpus=0"),
    ({"monitor_interval_s": 0.001}, "experiment.monitor_interval_s=0.001"),
    ({"monitor_interval_s": -1.0}, "experiment.monitor_interval_s=-1.0"),
    ({"monitor_interval_s": float("nan")}, "experiment.monitor_interval_s=nan"),
    ({"monitor_interval_s": float("inf")}, "experiment.monitor_interval_s=inf"),
    ({"vit_configs": []}, "experiment.vit_configs=[]"),
]
BAD_TESTS = [
    ("num_samples", 0),
    ("num_samples", -5),
    ("time_budget_s", 0.0),
    ("time_budget_s", -1.0),
    ("time_budget_s", float("nan")),
    ("time_budget_s", float("inf")),
    ("batch_size", 0),
    ("image_size", 0),
    ("channels", -1),
    ("pipeline_depth", 0),
    ("memory_size_mb", 0),
    ("warmup_samples", -1),
    ("warmup_budget_s", -0.5),
    ("warmup_budget_s", float("nan")),
    ("warmup_budget_s", float("inf")),
    ("precision", "int8"),
    ("compile_mode", "fastest"),
    ("cpu_threads", 0),
    ("seed", -1),
    ("timeout_s", 0.0),
    ("timeout_s", float("inf")),
]
BAD_MODELS = [
    ({"heads": 7, "dim": 512}, "heads=7", "divide dim=512"),
    ({"heads": 0}, "heads=0", "at least 1"),
    ({"dim": 0}, "dim=0", "at least 1"),
    ({"dim": -64}, "dim=-64", "at least 1"),
    ({"depth": -1}, "depth=-1", "at least 0"),
    ({"dim_head": 0}, "dim_head=0", "at least 1"),
    ({"mlp_dim": 0}, "mlp_dim=0", "at least 1"),
    ({"patch_size": 0}, "patch_size=0", "at least 1"),
    ({"patch_size": 225}, "patch_size=225", "larger than the image (224 px)"),
    ({"patch_size": 30}, "patch_size=30", "image_size=210"),
    ({"patch_size": 32, "image_size": 16}, "patch_size=32", "larger than the image (16 px)"),
    ({"name": "../../x"}, "name=../../x", "letters, digits"),
    ({"name": ""}, "name=", "letters, digits"),
]
BAD_HARDWARE = [
    ({"device": "tpu"}, "device=tpu", "auto, cuda, cpu"),
    ({"memory_policy": "firsttouch"}, "memory_policy=firsttouch", "bind, preferred, interleave"),
    ({"gpu_ids": "first"}, "gpu_ids=first", "numbers or GPU UUIDs"),
    ({"gpu_ids": -1}, "gpu_ids=-1", "numbers or GPU UUIDs"),
    ({"gpu_ids": [0, -1]}, "gpu_ids=[0,-1]", "numbers or GPU UUIDs"),
    ({"gpu_ids": 1.5}, "gpu_ids=1.5", "a number, a list"),
    ({"gpu_ids": [1.0]}, "gpu_ids=[1.0]", "whole number"),
    ({"gpu_ids": True}, "gpu_ids=true", "whole number"),
    ({"gpu_ids": {"a": 1}}, "gpu_ids=", "a number, a list"),
    ({"gpu_ids": "3-1"}, "gpu_ids=3-1", "ascend"),
    ({"gpu_ids": "0-99999999999"}, "gpu_ids=0-99999999999", "up to 65535"),
    ({"gpu_ids": "[0, x]"}, "gpu_ids=[0, x]", "numbers or GPU UUIDs"),
    ({"numa_nodes": "near"}, "numa_nodes=near", "all, local, remote, unbound"),
    ({"numa_nodes": [None]}, "numa_nodes=[null]", "all, local, remote, unbound"),
    ({"numa_nodes": [[0, 1]]}, "numa_nodes=[[0,1]]", "all, local, remote, unbound"),
    ({"numa_nodes": "same"}, "numa_nodes=same", "all, local, remote, unbound"),
    ({"memory_nodes": "unbound"}, "memory_nodes=unbound", "all, local, remote, same"),
]


@pytest.mark.parametrize(("changes", "shown"), BAD_EXPERIMENTS)
def test_impossible_experiments_are_refused(changes: dict[str, Any], shown: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(shown)):
        check_experiment(experiment(**changes))


@pytest.mark.parametrize(("name", "value"), BAD_TESTS)
@pytest.mark.parametrize("own", [False, True], ids=["test", "vit_configs"])
def test_impossible_test_settings_are_refused(name: str, value: Any, own: bool) -> None:
    """In the experiment and in a model's own entry; the message names the place."""
    if own:
        bad = experiment(vit_configs=[ViTConfig(), ViTConfig(**{name: value})])
        key = f"experiment.vit_configs[1].{name}"
    else:
        bad = experiment(test=TestConfig(**{name: value}))
        key = f"experiment.test.{name}"

    with pytest.raises(ConfigError) as refused:
        check_experiment(bad)

    assert refused.value.key == key
    assert str(refused.value).startswith(f"{key}={value}: ")


@pytest.mark.parametrize(("changes", "shown", "fix"), BAD_MODELS)
def test_impossible_models_are_refused(changes: dict[str, Any], shown: str, fix: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_experiment(experiment(vit_configs=[ViTConfig(), ViTConfig(**changes)]))

    assert str(refused.value).startswith(f"experiment.vit_configs[1].{shown}: ")
    assert fix in refused.value.fix


@pytest.mark.parametrize(("changes", "shown", "fix"), BAD_HARDWARE)
def test_impossible_hardware_is_refused(changes: dict[str, Any], shown: str, fix: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_experiment(experiment(hardware=HardwareConfig(**changes)))

    assert str(refused.value).startswith(f"experiment.hardware.{shown}")
    assert fix in refused.value.fix


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("root", ""),
        ("root", "  "),
        ("progress", "loud"),
        ("log_level", "info"),
        ("error_lines", -1),
        ("grace_s", -1.0),
        ("grace_s", float("inf")),
    ],
)
def test_impossible_output_is_refused(name: str, value: Any) -> None:
    bad = RunnerConfig(experiment=experiment(), output=OutputConfig(**{name: value}))

    with pytest.raises(ConfigError) as refused:
        validate_config(bad)

    assert refused.value.key == f"output.{name}"


def test_a_made_up_machine_is_for_dry_runs_only() -> None:
    with pytest.raises(ConfigError, match="dry_run=true"):
        validate_config(RunnerConfig(experiment=experiment(), topology_root="/x"))

    validate_config(RunnerConfig(experiment=experiment(), topology_root="/x", dry_run=True))


@pytest.mark.parametrize(
    "vit",
    [
        ViTConfig(heads=7, dim=512, dim_head=64),
        ViTConfig(dim=100),
        ViTConfig(depth=0),
        ViTConfig(patch_size=224),
        ViTConfig(patch_size=7),
        ViTConfig(patch_size=64, **overridden(image_size=256)),
        ViTConfig(**overridden(warmup_samples=0, warmup_budget_s=0.0)),
        ViTConfig(name="vit_tiny-16.v2"),
    ],
)
def test_unusual_but_possible_models_pass(vit: ViTConfig) -> None:
    check_experiment(experiment(vit_configs=[vit]))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, None),
        (0, (0,)),
        (3, (3,)),
        ("1", (1,)),
        ([0, 2], (0, 2)),
        ([2, 0], (2, 0)),
        ((1,), (1,)),
        ([], ()),
        ("", ()),
        (" ", ()),
        ("[]", ()),
        ("0,2", (0, 2)),
        (" 0 , 2 ", (0, 2)),
        ("0-3", (0, 1, 2, 3)),
        ("0-1,4", (0, 1, 4)),
        (["0-1", 4], (0, 1, 4)),
        ("[0, 2]", (0, 2)),
        ("[0,2]", (0, 2)),
        ('["0-1"]', (0, 1)),
    ],
)
def test_numbers_are_read_in_every_way_people_write_them(value: Any, wanted: Any) -> None:
    assert parse_id_list("key", value, words=None) == wanted


def test_uuids_and_words_are_read() -> None:
    uuid = "GPU-0a000000-0000-4000-8000-000000000000"

    assert parse_id_list("key", f"{uuid},1", words=None) == (uuid, 1)
    assert parse_id_list("key", f"[{uuid}]", words=None) == (uuid,)
    assert parse_id_list("key", ["local", 2], ("local",)) == ("local", 2)
    assert parse_id_list("key", "local,remote", ("local", "remote")) == ("local", "remote")


# --- from Hydra's node to the configuration


@pytest.mark.slow
@pytest.mark.parametrize(
    "override", ["+typo=1", "+experiment.typo=1", "++experiment.test.typo=1", "+output.typo=1"]
)
def test_an_added_key_is_unknown(load: Loads, override: str) -> None:
    """`slots=True` is what refuses it: Hydra itself lets `+` through."""
    with pytest.raises(UnknownKeyError) as refused:
        load(override)

    assert str(refused.value) == override.lstrip("+").removesuffix("=1")


@pytest.mark.parametrize("value", ["0,1", "[0, 1]"])
def test_cuda_visible_devices_as_gpu_ids(
    plan: Plans, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    ids = "experiment.hardware.gpu_ids=${oc.env:CUDA_VISIBLE_DEVICES,[0,1,2,3]}"

    def gpus() -> set[int | None]:
        return {cell.device.gpu_id for cell in plan(server(), ids).cells}

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert gpus() == {0, 1}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == {None}
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert gpus() == {0, 1, 2, 3}


@pytest.mark.parametrize(("count", "wanted"), [(0, {0}), (2, {0}), (3, {0, 2}), (8, {0, 2})])
def test_gpu_ids_by_the_number_of_gpus(
    plan: Plans, monkeypatch: pytest.MonkeyPatch, count: int, wanted: set[int]
) -> None:
    monkeypatch.setattr("numa_bench.config.hydra_app._gpu_count", lambda: count)

    planned = plan(server(), "experiment.hardware.gpu_ids=${if_gpu_count_gt_2:[0,2],[0]}")

    assert {cell.device.gpu_id for cell in planned.cells} == wanted


def test_the_gpu_count_is_that_of_this_process(
    compose_node: Composes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numa_bench.machine.topology.live_topology", server)
    node = compose_node("experiment.max_gpus=${gpu_count:}")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert node.experiment.max_gpus == 8
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert node.experiment.max_gpus == 2


def test_a_captured_server_counts_only_gpus_that_torch_can_use(tmp_path: Path) -> None:
    """Its VGA comes first in PCI order, and nvidia-smi would not count it."""
    from tests.fake_sysfs import FakeGpu

    vga = FakeGpu("0000:03:00.0", numa_node=0, vendor="0x1a03", pci_class="0x030000")
    gpu = FakeGpu("0000:1b:00.0", numa_node=0)
    build_tree(tmp_path, [FakeNode(0, "0-3")], [vga, gpu])

    topology, visible = discover_machine(str(tmp_path))

    assert [(g.index, g.pci_address) for g in visible] == [(0, "0000:1b:00.0")]
    assert topology.gpus == visible


def test_a_tree_that_is_none_is_refused_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        discover_machine(str(tmp_path / "nothing"))

    assert refused.value.key == "topology_root"


# --- resuming


def study_with(config: RunnerConfig, directory: Path) -> Path:
    """A study directory that can be resumed."""
    save_resolved(config, directory)
    (directory / STUDY_MARKER).write_text("[]")
    return directory


def test_a_resumed_study_keeps_its_own_configuration(load: Loads, tmp_path: Path) -> None:
    first = load("experiment=scaling_study", "experiment.repeats=2", "output.error_lines=3")
    study_with(first, tmp_path)

    resumed = load(f"resume_from={tmp_path}")

    assert resumed == replace(first, resume_from=str(tmp_path))


def test_a_resumed_study_takes_single_settings(load: Loads, tmp_path: Path) -> None:
    study_with(load("experiment=scaling_study"), tmp_path)

    resumed = load(
        f"resume_from={tmp_path}",
        "experiment.test.timeout_s=7",
        "experiment.vit_configs[1].depth=3",
        "output.progress=plain",
    )

    assert resumed.experiment.name == "scaling_study"
    assert resumed.experiment.test.timeout_s == 7
    assert resumed.experiment.vit_configs[1].depth == 3
    assert resumed.output.progress == "plain"


def test_a_resumed_study_cannot_become_another(load: Loads, tmp_path: Path) -> None:
    study_with(load("experiment=scaling_study"), tmp_path)

    with pytest.raises(ConfigError, match="experiment=quick_test"):
        load(f"resume_from={tmp_path}", "experiment=quick_test")


def test_a_directory_without_its_configuration_cannot_be_resumed(
    load: Loads, tmp_path: Path
) -> None:
    (tmp_path / STUDY_MARKER).write_text("[]")

    with pytest.raises(StoreError, match=re.escape(str(RESOLVED_CONFIG))):
        load(f"resume_from={tmp_path}")


def test_a_sweep_job_whose_models_were_merged_can_be_resumed(
    load: Loads, plan: Plans, tmp_path: Path
) -> None:
    """The command line that made two models equal is not typed again."""
    sweep = ("experiment.vit_configs[0].depth=6", "experiment.vit_configs[0].dim=512")
    first = plan(laptop(), *sweep)
    study_with(load(*sweep), tmp_path)

    resumed = plan(laptop(), f"resume_from={tmp_path}")

    assert [run.run_id for run in resumed.runs] == [run.run_id for run in first.runs]


# --- every setting changes something


@dataclass(frozen=True)
class Change:
    """Another valid value of a setting, and what must differ with it."""

    overrides: tuple[str, ...]
    effect: str = "runs"


def change(*overrides: str, effect: str = "runs") -> Change:
    return Change(overrides, effect)


#: Two values of every test setting, neither being the default: the experiment's and a model's own.
TEST_VALUES: dict[str, tuple[Any, Any]] = {
    "num_samples": (100, 200),
    "time_budget_s": (1.5, 2.5),
    "batch_size": (4, 2),
    "image_size": (256, 320),
    "channels": (1, 4),
    "pipeline_depth": (1, 4),
    "memory_size_mb": (300, 400),
    "warmup_samples": (10, 20),
    "warmup_budget_s": (1.0, 2.0),
    "precision": ("bf16", "fp16"),
    "compile_model": (True, False),
    "compile_mode": ("max-autotune", "reduce-overhead"),
    "cpu_threads": (1, 2),
    "seed": (1, 2),
    "timeout_s": (60.0, 70.0),
}
BASE = (
    "experiment.vit_configs=[{depth: 2, dim: 512}, {depth: 4, dim: 512}]",
    "experiment.repeats=2",
)
FIRST = "experiment.vit_configs[0]"
CHANGES: dict[str, Change] = {
    "experiment.name": change("experiment.name=other", effect="directory"),
    "experiment.vit_configs[].name": change(f"{FIRST}.name=other"),
    "experiment.vit_configs[].patch_size": change(f"{FIRST}.patch_size=16"),
    "experiment.vit_configs[].depth": change(f"{FIRST}.depth=3"),
    "experiment.vit_configs[].dim": change(f"{FIRST}.dim=384"),
    "experiment.vit_configs[].heads": change(f"{FIRST}.heads=4"),
    "experiment.vit_configs[].dim_head": change(f"{FIRST}.dim_head=32"),
    "experiment.vit_configs[].mlp_dim": change(f"{FIRST}.mlp_dim=1000"),
    **{
        f"experiment.vit_configs[].{name}": change(f"{FIRST}.{name}={str(first).lower()}")
        for name, (first, _) in TEST_VALUES.items()
    },
    **{
        f"experiment.test.{name}": change(f"experiment.test.{name}={str(first).lower()}")
        for name, (first, _) in TEST_VALUES.items()
    },
    "experiment.hardware.device": change("experiment.hardware.device=cpu"),
    "experiment.hardware.gpu_ids": change("experiment.hardware.gpu_ids=[1]"),
    "experiment.hardware.numa_nodes": change("experiment.hardware.numa_nodes=local"),
    "experiment.hardware.memory_nodes": change("experiment.hardware.memory_nodes=remote"),
    "experiment.hardware.memory_policy": change("experiment.hardware.memory_policy=preferred"),
    "experiment.repeats": change("experiment.repeats=3"),
    "experiment.order": change("experiment.order=sequential"),
    "experiment.order_seed": change("experiment.order_seed=1"),
    "experiment.monitor_interval_s": change("experiment.monitor_interval_s=0.5", effect="monitor"),
    "experiment.max_gpus": change("experiment.max_gpus=2"),
    "output.root": change("output.root=elsewhere", effect="directory"),
    "output.progress": change("output.progress=bar", effect="shown"),
    "output.log_level": change("output.log_level=ERROR", effect="shown"),
    "output.error_lines": change("output.error_lines=1", effect="error"),
    "output.grace_s": change("output.grace_s=77", effect="grace"),
    "profiler.kind": change("profiler.kind=none", effect="profile"),
    "profiler.executable": change("profiler.executable=other", effect="profile"),
    "profiler.capture": change("profiler.capture=run", effect="profile"),
    "profiler.batches": change("profiler.batches=5", effect="profile"),
    "profiler.budget_s": change("profiler.budget_s=0.5", effect="profile"),
    "profiler.trace": change("profiler.trace=[nvtx]", effect="profile"),
    "profiler.sample": change("profiler.sample=process-tree", effect="profile"),
    "profiler.cpuctxsw": change("profiler.cpuctxsw=process-tree", effect="profile"),
    "profiler.extra_args": change("profiler.extra_args=['--nic-metrics=true']", effect="profile"),
    "profiler.env": change("profiler.env=[MINE]", effect="profile"),
    "profiler.export": change("profiler.export=false", effect="exports"),
    **{
        f"tracking.{key}": change(f"tracking.{key}={value}", effect="trackers")
        for key, value in {
            "mlflow.enabled": "false",
            "mlflow.uri": "http://127.0.0.1:1",
            "mlflow.experiment": "other",
            "wandb.enabled": "true",
            "wandb.project": "other",
            "wandb.entity": "team",
            "wandb.mode": "disabled",
            "tensorboard.enabled": "true",
            "required": "true",
            "timeout_s": "3",
            "series_points": "7",
            "max_file_mb": "7",
        }.items()
    },
    "dry_run": change("dry_run=true", effect="started"),
    "debug": change("debug=true", effect="directory"),
    "resume_from": change("resume_from={study}", effect="directory"),
    "topology_root": change("topology_root={tree}", "dry_run=true"),
}


def test_every_setting_has_another_value_to_try() -> None:
    """A new setting must be entered above, with what it changes."""
    assert set(CHANGES) == set(list_keys(RunnerConfig))
    assert set(TEST_VALUES) == {f.name for f in fields(TestConfig)} == set(cfg.OVERRIDABLE)
    assert set(TEST_VALUES) == {f.name for f in fields(TestSpec)}


class Fed:
    """In place of a feeder: notes what is asked of it."""

    def __init__(self, made: list[Any], limit_s: float) -> None:
        self.made = made
        made.append(limit_s)

    def require_trackers(self) -> None:
        self.made.append("required")

    def feed_stored(self) -> None:
        pass

    def finish_feeding(self) -> list[str]:
        return []


class Observer:
    """What a command line does, seen from one side at a time."""

    def __init__(
        self,
        compose_node: Composes,
        runner: Callable[..., Any],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        directory: Path,
    ) -> None:
        self.compose_node = compose_node
        self.runner = runner
        self.capsys = capsys
        self.monkeypatch = monkeypatch
        self.directory = directory
        self.graces: list[float] = []
        self.intervals: list[float] = []
        self.studies = 0
        self.exports: list[str] = []
        monkeypatch.setattr("numa_bench.profiling.nsys.find_nsys", lambda name: f"/fake/{name}")
        monkeypatch.setattr("numa_bench.profiling.nsys.read_version", lambda _: "2099.1")
        monkeypatch.setattr("numa_bench.runner.study.Exporter", lambda *_: self)
        monkeypatch.setattr("numa_bench.runner.attempt.run_process", self.fail)
        monkeypatch.setattr(
            "numa_bench.runner.study.Feeder", lambda _, __, limit, ___: Fed([], limit)
        )
        monkeypatch.setattr("numa_bench.runner.attempt.Monitor", self.monitor)

    def __call__(self, overrides: tuple[str, ...], effect: str) -> Any:
        """The effect of these overrides on top of BASE."""
        typed = self.filled((*BASE, *overrides))
        if effect == "directory":
            directory = str(self.compose_node(*typed).hydra.run.dir)
            return re.sub(r"\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d", "NOW", directory)
        if effect == "started":
            return len(self.runner(*typed, machine=server()).studies)
        if effect == "runs":
            return [run.to_dict() for run in self.planned(typed)[0].runs]
        if effect == "profile":
            return self.profiled(typed)
        if effect == "trackers":
            return self.tracked(typed)
        return self.studied(typed)[effect]

    def profiled(self, overrides: list[str]) -> list[Any]:
        """What would be started, and what the worker would be told of the profiler."""
        plan, _ = self.planned(overrides)
        paths = StudyStore(Path("/study")).run_paths("a")
        environ = {"PATH": "/bin", "MINE": "1"}
        commands = [
            worker_command(run, paths, environ, "token-1", plan.profiler, Path("/private"))
            for run in plan.runs
        ]
        return [(c.argv, c.env, run.profile) for c, run in zip(commands, plan.runs, strict=True)]

    def tracked(self, overrides: list[str]) -> Any:
        """What trackers a study would feed, with what."""
        plan, machine = self.planned(overrides)
        made: list[Any] = []
        everything = copy.deepcopy(plan.tracking)
        for kind in ("mlflow", "wandb", "tensorboard"):
            getattr(everything, kind).enabled = True
        settings = [vars(tracker) for tracker in make_trackers(everything, Path("outputs"))]
        self.monkeypatch.setattr(
            "numa_bench.runner.study.Syncer", lambda *given: made.append(given[1:])
        )
        self.monkeypatch.setattr(
            "numa_bench.runner.study.Feeder", lambda _, __, limit, ___: Fed(made, limit)
        )
        self.studies += 1
        with pytest.raises(StudyFailed):
            run_study(plan, machine, self.directory / f"tracked{self.studies}")
        (trackers, *limits), *rest = made
        return [tracker.name for tracker in trackers], settings, limits, rest

    def start_export(self, run_id: str, _: Path, __: Path) -> None:
        """In place of an export."""
        self.exports.append(run_id)

    def collect_export(self) -> None:
        """In place of waiting for an export."""

    def filled(self, overrides: tuple[str, ...]) -> list[str]:
        """Overrides with the paths of a machine and of a study, made when they are asked for."""
        tree, study = self.directory / "tree", self.directory / "study"
        if "topology_root={tree}" in overrides:
            build_tree(tree, [FakeNode(5, "0-3")])
        if "resume_from={study}" in overrides:
            node = without_hydra(self.compose_node("experiment=quick_test"))
            study_with(load_config(node, []), study)
        return [o.replace("{tree}", str(tree)).replace("{study}", str(study)) for o in overrides]

    def planned(self, overrides: list[str]) -> tuple[Plan, Topology]:
        """The plan for the server, or for the machine that the overrides name."""
        node = without_hydra(self.compose_node(*overrides))
        config = load_config(node, [to_dotted_key(override) for override in overrides])
        machine, visible = server(), server().gpus
        if config.topology_root is not None:
            machine, visible = discover_machine(config.topology_root)
        profiler = find_profiler(config.profiler, probe=False)
        return build_plan(config, machine, visible, profiler=profiler), machine

    def studied(self, overrides: list[str]) -> dict[str, Any]:
        """What a study does whose runs all fail."""
        plan, machine = self.planned([*overrides, "experiment.hardware.gpu_ids=0"])
        self.studies += 1
        directory = self.directory / f"done{self.studies}"
        self.graces.clear()
        self.intervals.clear()
        self.exports.clear()
        self.capsys.readouterr()
        with pytest.raises(StudyFailed):
            run_study(plan, machine, directory)
        records = json.loads((directory / STUDY_MARKER).read_text())
        shown = self.capsys.readouterr().err.replace(directory.name, "")
        return {
            "grace": set(self.graces),
            "monitor": set(self.intervals),
            "exports": list(self.exports),
            "error": {record["error"] for record in records},
            "shown": re.sub(r"[\d:.,-]+", "", shown),
        }

    def monitor(
        self, spec: RunSpec, path: Path, interval_s: float, pid_file: Path | None = None
    ) -> Monitor:
        """A monitor that is never started, whose interval is noted."""
        self.intervals.append(interval_s)
        return Monitor(spec, path, interval_s, pid_file=pid_file)

    def fail(self, command: Command, _: Path, stderr: Path, **settings: Any) -> Ended:
        """In place of a run; nsys leaves a report."""
        for word in command.argv:
            if word.startswith("--output="):
                Path(word.removeprefix("--output=")).touch()
        self.graces.append(settings["grace_s"])
        stderr.write_text("first\nsecond\nthird\n")
        return Ended(1, "exited", 0.5)


@pytest.fixture
def observe(
    compose_node: Composes,
    runner: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Observer:
    """An observer in an empty directory."""
    return Observer(compose_node, runner, monkeypatch, capsys, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("effect", sorted({wanted.effect for wanted in CHANGES.values()}))
def test_what_is_observed_does_not_change_by_itself(observe: Observer, effect: str) -> None:
    assert observe((), effect) == observe((), effect)


@pytest.mark.slow
@pytest.mark.parametrize("key", sorted(CHANGES))
def test_every_setting_changes_what_it_is_there_for(observe: Observer, key: str) -> None:
    """A key that nothing reads would leave everything as it was."""
    wanted = CHANGES[key]

    assert observe(wanted.overrides, wanted.effect) != observe((), wanted.effect)


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        ((), "outputs/numa_study/NOW"),
        (("output.root=/data/x", "experiment.name=mine"), "/data/x/mine/NOW"),
        (("debug=true",), "outputs/debug"),
        (("dry_run=true",), "outputs/dry_run"),
        (("dry_run=true", "debug=true"), "outputs/dry_run"),
        (("resume_from={study}",), "{tmp}/study"),
    ],
)
def test_where_a_study_goes(
    observe: Observer, tmp_path: Path, overrides: tuple[str, ...], wanted: str
) -> None:
    assert observe(overrides, "directory") == wanted.format(tmp=tmp_path)


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        ((), r"outputs/multirun/quick_test/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"),
        (("debug=true",), "outputs/debug"),
        (("dry_run=true", "output.root=x"), "x/dry_run"),
    ],
)
def test_where_a_sweep_goes(
    compose_node: Composes, overrides: tuple[str, ...], wanted: str
) -> None:
    node = compose_node("experiment=quick_test", *overrides)

    assert re.fullmatch(wanted, node.hydra.sweep.dir)


def test_a_resumed_study_keeps_its_first_snapshot(
    compose_node: Composes, load: Loads, tmp_path: Path
) -> None:
    study = study_with(load("experiment=quick_test"), tmp_path)

    assert compose_node().hydra.output_subdir == ".hydra"
    again = compose_node(f"resume_from={study}").hydra.output_subdir
    assert re.fullmatch(r"\.hydra/resumed_[\d_-]+", again)


@pytest.mark.parametrize("name", sorted(TEST_VALUES))
def test_a_models_own_setting_wins_over_the_experiments(plan: Plans, name: str) -> None:
    everyones, own = TEST_VALUES[name]

    cells = plan(
        laptop(),
        "experiment=scaling_study",
        f"experiment.test.{name}={str(everyones).lower()}",
        f"experiment.vit_configs[1].{name}={str(own).lower()}",
    ).cells

    values = [getattr(cell.test, name) for cell in cells]
    assert values == [own if index == 1 else everyones for index in range(8)]


def test_debug_makes_a_study_small(plan: Plans) -> None:
    """Few samples and one repeat, whatever the models say for themselves."""
    planned = plan(
        laptop(),
        "debug=true",
        "experiment=scaling_study",
        "experiment.repeats=5",
        f"{FIRST}.num_samples=9000",
        f"{FIRST}.time_budget_s=600",
    )

    assert len(planned.runs) == len(planned.cells) == 8
    assert max(run.test.num_samples for run in planned.runs) <= 8
    assert max(run.test.time_budget_s for run in planned.runs) <= 1


def test_schemas_can_be_saved_and_read_again(load: Loads, tmp_path: Path) -> None:
    config = load("experiment=compile_study", "experiment.hardware.gpu_ids=[0,1]")
    save_resolved(config, tmp_path)

    saved = OmegaConf.load(tmp_path / RESOLVED_CONFIG)
    again = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RunnerConfig), saved))

    assert again == config
