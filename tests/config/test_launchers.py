"""Launchers of a sweep: their files, missing plugins, settings that would lose data."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from numa_bench.config.hydra import launchers
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


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ("prefer=threads", "hydra.launcher.prefer=threads: has no effect, only n_jobs has"),
        ("pre_dispatch=4", "hydra.launcher.pre_dispatch=4: has no effect, only n_jobs has"),
        ("max_nbytes=1K", "hydra.launcher.max_nbytes=1K: has no effect, only n_jobs has"),
        ("timeout=5", "hydra.launcher.timeout=5.0: has no effect, only n_jobs has"),
        ("n_jobs=0", "hydra.launcher.n_jobs=0: must be at least 1, or -1 for all CPUs"),
    ],
)
def test_settings_of_loky_that_nothing_reads_are_refused(
    runner: Callable[..., Outcome], setting: str, error: str
) -> None:
    out = runner(
        *("-m", "hydra/launcher=joblib", f"hydra.launcher.{setting}", "experiment=quick_test"),
        "experiment.test.batch_size=1,2",
    )

    assert (out.code, out.studies) == (2, [])
    assert out.error.startswith(error)
    assert not Path("outputs").exists()


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


LOCAL = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher"
RAY = "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher"
SLURM = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"


@pytest.mark.parametrize(
    ("launcher", "shell", "wanted"),
    [
        ({"_target_": LOCAL}, "2,3", "2,3"),
        ({"_target_": LOCAL}, None, None),
        ({"_target_": RAY, "ray": {"remote": {"max_retries": 0}}}, "1", "1"),
        # Where GPUs were asked for, the launcher's choice counts.
        ({"_target_": LOCAL, "gpus_per_node": 1}, "2,3", "0"),
        ({"_target_": RAY, "ray": {"remote": {"num_gpus": 1}}}, "2,3", "0"),
        # SLURM grants GPUs; those of the login node's shell mean nothing on the compute node.
        ({"_target_": SLURM}, "2,3", "0"),
    ],
)
def test_jobs_see_the_gpus_of_the_shell(
    launcher: dict[str, Any], shell: str | None, wanted: str | None
) -> None:
    environ = {} if shell is None else {"CUDA_VISIBLE_DEVICES": shell}
    launchers.remember_visible_devices(environ)
    environ["CUDA_VISIBLE_DEVICES"] = "0"  # what the launcher does

    launchers.restore_visible_devices(environ, launcher)

    assert environ.get("CUDA_VISIBLE_DEVICES") == wanted


class JobError(Exception):
    """As those of submitit, which is optional."""


JobError.__module__ = "submitit.core.utils"
TRACE = """Job (task=0) failed during processing with trace:
----------------------
Traceback (most recent call last):
  File "run.py", line 1, in run
numa_bench.errors.{}: {}

----------------------
You can check full logs with 'job.stderr(0)'"""


@pytest.mark.parametrize(
    ("text", "line", "code"),
    [
        (TRACE.format("StudyFailed", "not every run passed: 1 failed"), "1 failed", 1),
        (TRACE.format("MachineError", "numactl is not installed"), "numactl is not installed", 2),
        ("Job 8 (task: 0) with path x has not produced any output (state: CANCELLED)", "Job 8", 1),
    ],
)
def test_a_lost_job_is_one_line(text: str, line: str, code: int) -> None:
    explained = launchers.explain_lost_job(JobError(text))

    assert explained is not None
    assert line in explained[0]
    assert "Traceback" not in explained[0]
    assert explained[1] == code


def test_other_errors_are_not_those_of_a_job() -> None:
    assert launchers.explain_lost_job(ValueError("x")) is None
