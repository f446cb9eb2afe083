"""Every setting has an effect: a key that nothing reads fails here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from numa_bench.config.schema import RunnerConfig
from numa_bench.config.schemas.workload import OVERRIDABLE, TestConfig
from numa_bench.config.settings import list_keys
from numa_bench.plan.plan import Plan
from numa_bench.records import TestSpec
from tests.config.observer import Observer
from tests.machines import laptop

Plans = Callable[..., Plan]
Composes = Callable[..., DictConfig]


@dataclass(frozen=True)
class Change:
    """Another valid value of a setting, and what must differ with it.

    `base` are settings without which this one cannot be set.
    """

    overrides: tuple[str, ...]
    effect: str = "runs"
    #: What both sides have, where a setting means something in some studies only.
    base: tuple[str, ...] = ()


def change(*overrides: str, effect: str = "runs", base: tuple[str, ...] = ()) -> Change:
    return Change(overrides, effect, base)


BANDWIDTH = ("experiment.workload=bandwidth", "experiment.vit_configs=[]")


def in_sets(setting: str, *more: str) -> Change:
    """A change of a contention study; `more` are settings of both studies."""
    return change(f"experiment.contention.{setting}", base=(*SETS, *more))


SETS = ("experiment.workload=contention", "experiment.test.min_timed_s=null")
CPU = "experiment.hardware.device=cpu"
COMMAND = (
    "experiment=command_study",
    "experiment.vit_configs=[]",
    "experiment.command.argv='sleep 0.1'",
)
LOADED = "experiment.contention.background=[memory]"


#: Two values of every test setting, neither being the default: the experiment's and a model's own.
TEST_VALUES: dict[str, tuple[Any, Any]] = {
    "num_samples": (100, 200),
    "min_timed_s": (0.5, 0.6),
    "min_warmup_s": (0.5, 0.6),
    "attention": ("sdpa", "explicit"),
    "cuda_graph": (True, False),
    "time_budget_s": (1.5, 2.5),
    "batch_size": (4, 2),
    "image_size": (256, 320),
    "channels": (1, 4),
    "pipeline_depth": (1, 4),
    "memory_size_mb": (300, 400),
    "host_work": ("normalize", "decode"),
    "host_threads": (1, 2),
    "host_memory": ("pinned", "pageable"),
    "warmup_samples": (10, 20),
    "warmup_budget_s": (1.0, 2.0),
    "precision": ("fp32", "fp16"),
    "compile_model": (True, False),
    "compile_mode": ("max-autotune", "reduce-overhead"),
    "cpu_threads": (1, 2),
    "seed": (1, 2),
    "timeout_s": (60.0, 70.0),
}


FIRST = "experiment.vit_configs[0]"
CUSTOM = ("experiment.vit_configs=[{_target_: pkg.make_net, args: {width: 8}}]",)
CHANGES: dict[str, Change] = {
    "experiment.name": change("experiment.name=other", effect="directory"),
    "experiment.workload": change(*BANDWIDTH),
    **{
        f"experiment.bandwidth.{name}": change(
            f"experiment.bandwidth.{name}={value}", base=BANDWIDTH
        )
        for name, value in {
            "sizes": "[4096]",
            "directions": "[h2d]",
            "memory": "[registered]",
            "huge_pages": "never",
            "rounds": "3",
            "budget_s": "7",
        }.items()
    },
    "experiment.vit_configs[].name": change(f"{FIRST}.name=other"),
    "experiment.vit_configs[]._target_": change(f"{FIRST}._target_=pkg.other", base=CUSTOM),
    "experiment.vit_configs[].timm": change(
        "experiment.vit_configs=[{timm: resnet18, args: {width: 8}}]", base=CUSTOM
    ),
    "experiment.vit_configs[].args": change(f"{FIRST}.args.width=16", base=CUSTOM),
    "experiment.vit_configs[].input_shape": change(f"{FIRST}.input_shape=[3,32,32]", base=CUSTOM),
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
    "experiment.hardware.cpu_affinity": change("experiment.hardware.cpu_affinity=exclusive"),
    "experiment.hardware.physcpu": change("experiment.hardware.physcpu=[0-3,8]"),
    "experiment.hardware.smt": change("experiment.hardware.smt=false"),
    "experiment.contention.scenarios": in_sets("scenarios=[alone]"),
    "experiment.contention.background": in_sets("background=[memory]"),
    "experiment.contention.background_threads": in_sets("background_threads=3", LOADED),
    "experiment.contention.background_operation": in_sets("background_operation=read", LOADED),
    "experiment.contention.workers_per_node": in_sets("workers_per_node=3", CPU),
    "experiment.contention.operation": in_sets("operation=write", CPU),
    "experiment.contention.buffer_mb": in_sets("buffer_mb=64", CPU),
    "experiment.contention.window_s": in_sets("window_s=1.5"),
    **{
        f"experiment.command.{name}": change(f"experiment.command.{name}={value}", base=COMMAND)
        for name, value in {
            "name": "other",
            "shell": "true",
            "metrics": "['rate:higher:GB/s=rate ([0-9.]+)']",
            "variants": "{a: [], b: '0.2'}",
            "warmup": "2",
            "require": "'test -e x'",
            "prepare": "sync",
            "cleanup": "[rm, -f, x]",
            "check": "'test -s out'",
            "directory": "/tmp",
            "placement_check": "warning",
            "least_fraction": "0.5",
            "sample_s": "2",
            "max_output_mb": "1",
        }.items()
    },
    "experiment.command.argv": change("experiment.command.argv=[sleep,1]", base=COMMAND),
    "command": change("command='sleep 2'", base=COMMAND),
    "experiment.repeats": change("experiment.repeats=3"),
    "experiment.order": change("experiment.order=sequential"),
    "experiment.order_seed": change("experiment.order_seed=1"),
    "experiment.monitor_interval_s": change("experiment.monitor_interval_s=0.5", effect="monitor"),
    "experiment.time_limit": change("experiment.time_limit=1m"),
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
    "isolation.exclusive": change("isolation.exclusive=gpu", effect="isolation"),
    "isolation.directory": change("isolation.directory={tree}", effect="isolation"),
    "isolation.wait_limit_s": change("isolation.wait_limit_s=5", effect="isolation"),
    "time_limit": change("time_limit=1m"),
    "dry_run": change("dry_run=true", effect="started"),
    "interleave": change(
        "interleave=true",
        effect="printed",
        base=("-m", "dry_run=true", "experiment.test.batch_size=1,2"),
    ),
    "debug": change("debug=true", effect="directory"),
    "resume_from": change("resume_from={study}", effect="directory"),
    "topology_root": change("topology_root={tree}", "dry_run=true"),
}


def test_every_setting_has_another_value_to_try() -> None:
    """A new setting must be entered above, with what it changes."""
    assert set(CHANGES) == set(list_keys(RunnerConfig))
    assert set(TEST_VALUES) == {f.name for f in fields(TestConfig)} == set(OVERRIDABLE)
    assert set(TEST_VALUES) == {f.name for f in fields(TestSpec)}


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

    changed = observe((*wanted.base, *wanted.overrides), wanted.effect)
    assert changed != observe(wanted.base, wanted.effect)


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
