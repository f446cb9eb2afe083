"""Launchers of a sweep: their files, missing plugins, settings that would lose data."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from numa_bench.config import launchers
from numa_bench.errors import ConfigError
from tests.conftest import PROJECT, Outcome

Composes = Callable[..., DictConfig]
Runner = Callable[..., Outcome]
FOLDER = PROJECT / "conf" / "hydra" / "launcher"


def test_every_launcher_of_the_specification_has_a_file() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {"basic", "joblib", "slurm", "ray"}


def test_joblib_runs_one_job_at_a_time_unless_asked(compose_node: Composes) -> None:
    launcher = compose_node("hydra/launcher=joblib").hydra.launcher

    assert launcher.n_jobs == 1
    # A setting that only the plugin's own file has.
    assert launcher.prefer == "processes"
    assert (
        compose_node("hydra/launcher=joblib", "hydra.launcher.n_jobs=4").hydra.launcher.n_jobs == 4
    )


def test_ray_starts_no_crashed_job_again_and_is_on_loopback() -> None:
    ray = yaml.safe_load((FOLDER / "ray.yaml").read_text())["ray"]

    assert ray["remote"]["max_retries"] == 0
    assert ray["init"]["_node_ip_address"] == "127.0.0.1"


def test_the_experiment_chooses_slurm() -> None:
    text = (PROJECT / "conf" / "experiment" / "slurm_sweep.yaml").read_text()
    shipped = yaml.safe_load(text)

    assert {"override /hydra/launcher": "slurm"} in shipped["defaults"]
    assert shipped["hydra"]["mode"] == "MULTIRUN"


def test_a_launcher_without_its_plugin_is_refused_with_the_install_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launchers, "_is_installed", lambda _package: False)

    with pytest.raises(
        ConfigError, match=r"^hydra/launcher=ray: its plugin is not .*; pip install"
    ):
        launchers.resolve_launcher_class("ray")


def test_an_installed_plugin_gives_its_class() -> None:
    target = launchers.resolve_launcher_class("joblib")

    module, _, name = target.rpartition(".")
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher") is not None,
    reason="submitit's plugin is installed",
)
@pytest.mark.parametrize("line", ["experiment=slurm_sweep", "hydra/launcher=slurm"])
def test_slurm_without_its_plugin_is_one_line(runner: Runner, line: str) -> None:
    refused = runner("-m", line)

    assert refused.code == 2
    assert "pip install 'hydra-submitit-launcher" in refused.error


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"signal_delay_s": 120, "timeout_min": 240}, False),
        ({"signal_delay_s": 120, "timeout_min": 2}, True),
        ({"signal_delay_s": 59, "timeout_min": 1}, False),
        ({"n_jobs": 1}, False),
    ],
)
def test_a_signal_later_than_the_time_limit_is_refused(
    settings: dict[str, Any], refused: bool
) -> None:
    if not refused:
        launchers.check_launcher(OmegaConf.create(settings))
        return
    with pytest.raises(ConfigError, match=r"signal_delay_s=120: must be less .*timeout_min=2"):
        launchers.check_launcher(OmegaConf.create(settings))
