"""The documentation of the settings: generated, complete, and in step with docs/."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from string import Template

import pytest

from numa_bench.config.docs import render_markdown
from numa_bench.config.schema import RunnerConfig
from numa_bench.config.schemas.workload import TestConfig, ViTConfig
from numa_bench.config.settings import format_help, list_keys, list_settings
from tests.conftest import PROJECT

LEAVES = list(list_settings(RunnerConfig))


def test_the_page_is_what_the_program_writes() -> None:
    """Out of step? python -m numa_bench.config.docs > docs/configuration.md"""
    printed = subprocess.run(
        [sys.executable, "-m", "numa_bench.config.docs"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert (PROJECT / "docs" / "configuration.md").read_text() == printed == render_markdown()


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.key)
def test_every_setting_is_documented(leaf: object) -> None:
    key, kind, default, text = (getattr(leaf, name) for name in ("key", "type", "default", "help"))

    assert text.strip().endswith("."), f"{key} needs a sentence"
    cells = f"| `{key}` | {kind} | `{default}` | {text.replace('|', chr(92) + '|')} |"
    assert cells in render_markdown().splitlines()


def test_a_models_own_test_settings_are_keys_but_not_told_twice() -> None:
    keys = list_keys(RunnerConfig)
    documented = {leaf.key for leaf in LEAVES}

    own = {f"experiment.vit_configs[].{f.name}" for f in fields(TestConfig)}
    assert len(set(keys)) == len(keys)
    assert set(keys) == documented | own
    assert not documented & own
    assert "experiment.vit_configs[].depth" in documented


def test_a_model_has_every_test_setting_and_leaves_it_open() -> None:
    model = ViTConfig()

    for f in fields(TestConfig):
        assert getattr(model, f.name) is None


def test_types_and_defaults_are_those_of_the_classes() -> None:
    found = {leaf.key: (leaf.type, leaf.default) for leaf in LEAVES}

    assert found["experiment.test.num_samples"] == ("int or auto", "auto")
    assert found["experiment.test.memory_size_mb"] == ("int or null", "null")
    assert found["experiment.test.compile_model"] == ("bool", "false")
    assert found["experiment.hardware.gpu_ids"] == ("number, word or list", "null")
    assert found["experiment.name"] == ("str", "(set by the experiment)")
    assert found["resume_from"] == ("str or null", "null")


def test_the_help_text_fits_a_terminal_and_survives_hydras_template() -> None:
    shown = Template(format_help(RunnerConfig)).substitute()

    assert max(map(len, shown.splitlines())) <= 100
    words = " ".join(shown.split())
    for leaf in LEAVES:
        assert f"{leaf.key}={leaf.default} {leaf.help}" in re.sub(r"\s+", " ", words)
