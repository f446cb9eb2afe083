"""Settings that cannot be used are refused by key, with the fix."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from numa_bench.config.id_lists import parse_gpu_groups, parse_id_list
from numa_bench.config.schema import ExperimentConfig, HardwareConfig, RunnerConfig
from numa_bench.config.schemas.output import OutputConfig
from numa_bench.config.schemas.workload import TestConfig, ViTConfig
from numa_bench.config.validation import check_experiment, validate_config
from numa_bench.errors import ConfigError
from tests.specs import overridden


def experiment(**changes: Any) -> ExperimentConfig:
    """A valid experiment with one model, with these fields replaced."""
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
REFUSED_TOGETHER = [
    ({"cuda_graph": True, "host_work": "decode"}, "host_work=decode: a CUDA graph replays"),
    ({"cuda_graph": True, "host_memory": "pageable"}, "host_memory=pageable: a CUDA graph cannot"),
    ({"host_work": "decode", "channels": 4}, "host_work=decode: JPEG images have 1 or 3 channels"),
]
BAD_TESTS = [
    ("num_samples", 0),
    ("num_samples", -5),
    ("time_budget_s", 0.0),
    ("time_budget_s", -1.0),
    ("time_budget_s", float("nan")),
    ("time_budget_s", float("inf")),
    ("batch_size", 0),
    ("batch_size", 1.5),
    ("batch_size", "many"),
    ("pipeline_depth", "deep"),
    ("num_samples", "all"),
    ("image_size", 0),
    ("channels", -1),
    ("pipeline_depth", 0),
    ("memory_size_mb", 0),
    ("warmup_samples", -1),
    ("warmup_budget_s", -0.5),
    ("warmup_budget_s", float("nan")),
    ("warmup_budget_s", float("inf")),
    ("host_work", "augment"),
    ("host_threads", 0),
    ("host_memory", "unified"),
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("numa_nodes", [0]),
        ("physcpu", "0-3"),
        ("cpu_affinity", ["node", "socket"]),
        ("cpu_affinity", "node,socket"),
        ("memory_policy", "interleave"),
    ],
)
def test_what_a_set_of_workers_decides_itself_is_refused(name: str, value: Any) -> None:
    hardware = HardwareConfig(**{name: value})

    with pytest.raises(ConfigError) as refused:
        check_experiment(experiment(workload="contention", hardware=hardware))

    assert refused.value.key == f"experiment.hardware.{name}"


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


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("0,4", ((0,), (4,))),
        ("0+4", ((0, 4),)),
        (["0+4", 1], ((0, 4), (1,))),
        ("GPU-a-0+1", (("GPU-a-0", 1),)),
        ("0-1", ((0,), (1,))),
        (None, None),
        ("", ()),
    ],
)
def test_gpus_of_one_run_are_joined_by_a_plus(value: Any, wanted: Any) -> None:
    assert parse_gpu_groups("key", value) == wanted


@pytest.mark.parametrize("value", ["0+", "+", "0+0", "0-1+3", "0+x", [True]])
def test_what_is_no_group_of_gpus_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError):
        parse_gpu_groups("key", value)


@pytest.mark.parametrize(("settings", "message"), REFUSED_TOGETHER)
def test_settings_of_the_host_that_contradict_others(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"experiment.test.{message}")):
        check_experiment(experiment(test=TestConfig(**settings)))
    own = ViTConfig(**overridden(**settings))
    with pytest.raises(ConfigError, match=re.escape(f"experiment.vit_configs[0].{message}")):
        check_experiment(experiment(vit_configs=[own]))
