"""A resumed study: its own configuration, with the command line on top."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import DictConfig

from numa_bench.config.schema import RunnerConfig
from numa_bench.errors import ConfigError, StoreError
from numa_bench.plan.plan import Plan
from numa_bench.study_files import RESOLVED_CONFIG, RESULTS
from tests.config.observer import study_with
from tests.machines import laptop

Plans = Callable[..., Plan]
Loads = Callable[..., RunnerConfig]
Composes = Callable[..., DictConfig]


def test_a_resumed_study_keeps_its_own_configuration(load: Loads, tmp_path: Path) -> None:
    first = load("experiment=scaling_study", "experiment.repeats=2", "output.error_lines=3")
    study_with(first, tmp_path)

    resumed = load(f"resume_from={tmp_path}")

    assert resumed == replace(first, resume_from=str(tmp_path))


@pytest.mark.slow
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
    (tmp_path / RESULTS).write_text("[]")

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


def test_a_resumed_study_keeps_its_first_snapshot(
    compose_node: Composes, load: Loads, tmp_path: Path
) -> None:
    study = study_with(load("experiment=quick_test"), tmp_path)

    assert compose_node().hydra.output_subdir == ".hydra"
    again = compose_node(f"resume_from={study}").hydra.output_subdir
    assert re.fullmatch(r"\.hydra/resumed_[\d_-]+", again)
