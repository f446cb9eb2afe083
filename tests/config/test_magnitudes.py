"""Numbers that no run could use are refused by key before anything runs."""

from __future__ import annotations

import copy
import re
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from numa_bench.config.schema import ExperimentConfig, RunnerConfig
from numa_bench.config.schemas.workload import ViTConfig
from numa_bench.config.settings import list_settings
from numa_bench.config.validation import validate_config
from numa_bench.errors import ConfigError

#: Twenty digits: more than 64 bits hold.
HUGE = 10**20
#: A size for tracker files, compared and nothing else.
HARMLESS = {"tracking.max_file_mb"}
#: Settings that are read by one workload only, by the section they are in.
WORKLOADS = {"contention": "contention", "command": "command"}
NUMERIC = re.compile(r"(int|float)\b")


def base() -> RunnerConfig:
    """A valid configuration with one model."""
    return RunnerConfig(experiment=ExperimentConfig(name="study", vit_configs=[ViTConfig()]))


def set_value(config: Any, key: str, value: Any) -> None:
    """Set a setting by its key; `[]` is the first entry of a list."""
    *above, name = key.split(".")
    for part in above:
        config = getattr(config, part.removesuffix("[]"))
        config = config[0] if part.endswith("[]") else config
    assert is_dataclass(config)
    assert name in {f.name for f in fields(config)}
    setattr(config, name, value)


NUMBERS = [
    (leaf.key, HUGE if leaf.type.startswith("int") else 1e10)
    for leaf in list_settings(RunnerConfig, twins=True)
    if NUMERIC.match(leaf.type) and leaf.key not in HARMLESS
]


@pytest.mark.parametrize(("key", "value"), NUMBERS, ids=[key for key, _ in NUMBERS])
def test_a_number_that_no_run_could_use_is_refused(key: str, value: float) -> None:
    config = copy.deepcopy(base())
    config.experiment.workload = WORKLOADS.get(key.split(".")[1], "pipeline")
    if config.experiment.workload == "command":
        config.experiment.command.argv = ["true"]
        config.experiment.vit_configs = []
    set_value(config, key, value)

    with pytest.raises(ConfigError) as refused:
        validate_config(config)

    assert refused.value.key == key.replace("[]", "[0]")
    assert refused.value.value == value


def test_settings_with_numbers_are_found() -> None:
    assert {"experiment.test.seed", "tracking.timeout_s", "output.error_lines"} <= dict(
        NUMBERS
    ).keys()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("experiment.test.seed", 2**63 - 1),
        ("experiment.test.timeout_s", 1e6),
        ("experiment.test.batch_size", 2**31 - 1),
        ("experiment.bandwidth.sizes", [2**40]),
        ("experiment.vit_configs[].args", {"number": HUGE}),
    ],
)
def test_large_numbers_that_can_be_used_pass(key: str, value: Any) -> None:
    config = base()
    if key.endswith("args"):
        config.experiment.vit_configs[0]._target_ = "torch.nn.Identity"
    set_value(config, key, value)

    validate_config(config)


def test_an_entry_of_a_list_is_named() -> None:
    config = base()
    config.experiment.bandwidth.sizes = [64, 64 * HUGE]

    with pytest.raises(ConfigError) as refused:
        validate_config(config)

    assert refused.value.key == "experiment.bandwidth.sizes[1]"
