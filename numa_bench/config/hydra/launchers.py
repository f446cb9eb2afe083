"""Launchers of a sweep's jobs: their Hydra plugins, and a check of their settings."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore

from numa_bench import errors
from numa_bench.errors import ConfigError, NumaBenchError, StudyFailed

KEY = "hydra/launcher"
# Our files of these names are checked against the plugins' own schemas, as intended; Hydra 1.3
# warns that a later version will not do that. At import: processes of a launcher do nothing else.
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/(basic|joblib|ray)' is validated against")


@dataclass(frozen=True)
class LauncherPlugin:
    """A plugin of Hydra: its package, its launcher class there, and how it is installed."""

    package: str
    class_path: str
    install: str

    @property
    def target(self) -> str:
        """The launcher's class as Hydra's `_target_`."""
        return f"hydra_plugins.{self.package}.{self.class_path}"


_SLURM = "hydra_submitit_launcher"
PLUGINS = {
    "joblib": LauncherPlugin(
        "hydra_joblib_launcher",
        "joblib_launcher.JoblibLauncher",
        "pip install hydra-joblib-launcher",
    ),
    "slurm": LauncherPlugin(
        _SLURM, "submitit_launcher.SlurmLauncher", "pip install 'hydra-submitit-launcher>=1.2,<1.3'"
    ),
    "ray": LauncherPlugin(
        "hydra_ray_launcher",
        "ray_launcher.RayLauncher",
        "pip install 'hydra-ray-launcher>=1.2,<1.3'",
    ),
}
VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
#: CUDA_VISIBLE_DEVICES of the shell in which the sweep was started, for its jobs' processes.
SHELL_DEVICES = "NUMA_BENCH_SHELL_CUDA_VISIBLE_DEVICES"
_UNSET = "unset"
#: Launchers on this host that set CUDA_VISIBLE_DEVICES for their jobs.
_OVERWRITING = ("submitit_launcher.LocalLauncher", "ray_launcher.RayLauncher")
#: Options of hydra/launcher that the plugins bring themselves.
_OWN_OPTIONS = {"submitit_slurm": "slurm", "submitit_local": "slurm", "ray_aws": "ray"}


def resolve_launcher_class(name: str) -> str:
    """The class of a launcher. Raises ConfigError when its plugin is not installed."""
    plugin = PLUGINS[name]
    if not _is_installed(plugin.package):
        raise ConfigError(KEY, name, explain_missing(name))
    return plugin.target


def explain_missing(option: str) -> str:
    """What to install for an option of hydra/launcher; empty for one that is of no plugin."""
    plugin = PLUGINS.get(_OWN_OPTIONS.get(option, option))
    if plugin is None:
        return ""
    return f"its plugin is not installed; {plugin.install}, or use {KEY}=basic"


def check_launcher(launcher: Mapping[str, Any]) -> None:
    """Raise ConfigError for settings of a launcher that have no effect or would lose data.

    The latter are those of SLURM jobs whose time-out could not be handled.
    """
    if launcher.get("_target_") == PLUGINS["joblib"].target:
        _check_joblib(launcher)
    delay, timeout = launcher.get("signal_delay_s"), launcher.get("timeout_min")
    if isinstance(delay, int) and isinstance(timeout, int) and delay >= 60 * timeout:
        raise ConfigError(
            "hydra.launcher.signal_delay_s",
            delay,
            f"must be less than the time limit, timeout_min={timeout} ({60 * timeout} s); a job "
            "is asked to store its results this many seconds before it",
        )


def check_single_process(launcher: Mapping[str, Any]) -> None:
    """Raise ConfigError for a launcher that starts jobs elsewhere, or several at a time.

    An interleaved sweep is one study, which runs in one process.
    """
    target = str(launcher["_target_"])
    if target.endswith(".BasicLauncher"):
        return
    name = next((name for name, p in PLUGINS.items() if p.target == target), target)
    raise ConfigError(
        KEY,
        name,
        f"starts a study for each job; interleave=true measures all in one, so use {KEY}=basic",
    )


def _check_joblib(launcher: Mapping[str, Any]) -> None:
    """Raise ConfigError for settings of joblib's pool, which is not used (sweep/launcher.py)."""
    node = ConfigStore.instance().load("hydra/launcher/joblib.yaml").node
    for key, value in launcher.items():
        if key not in ("_target_", "n_jobs") and value != node.get(key):
            raise ConfigError(
                f"hydra.launcher.{key}", value, "has no effect, only n_jobs has; remove it"
            )
    if launcher.get("n_jobs") == 0:
        raise ConfigError("hydra.launcher.n_jobs", 0, "must be at least 1, or -1 for all CPUs")


def remember_visible_devices(environ: MutableMapping[str, str]) -> None:
    """Keep the value of CUDA_VISIBLE_DEVICES where a launcher does not overwrite it."""
    environ[SHELL_DEVICES] = environ.get(VISIBLE_DEVICES, _UNSET)


def restore_visible_devices(environ: MutableMapping[str, str], launcher: Mapping[str, Any]) -> None:
    """In a job: undo what submitit_local and Ray do to CUDA_VISIBLE_DEVICES.

    Both set it to nothing where no GPU was asked of them, and every study would be of the CPU. It
    is left alone where the launcher was asked for GPUs, or is another one.
    """
    ray = launcher.get("ray") or {}
    asked = launcher.get("gpus_per_node") or (ray.get("remote") or {}).get("num_gpus")
    overwrites = str(launcher.get("_target_", "")).endswith(_OVERWRITING)
    if asked or not overwrites or SHELL_DEVICES not in environ:
        return
    if environ[SHELL_DEVICES] == _UNSET:
        environ.pop(VISIBLE_DEVICES, None)
    else:
        environ[VISIBLE_DEVICES] = environ[SHELL_DEVICES]


def explain_lost_job(error: BaseException) -> tuple[str, int] | None:
    """One line and an exit code for submitit's error about a job; None for any other error.

    submitit raises it in the launcher's process: with the job's traceback as text, or, for a job
    that left no result, with its state and its log.
    """
    if not type(error).__module__.startswith("submitit."):
        return None
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" -")]
    own = [m for line in lines if (m := re.match(r"numa_bench\.errors\.(\w+): (.*)", line))]
    if own:
        kind = getattr(errors, own[-1][1], StudyFailed)
        code = kind.exit_code if issubclass(kind, NumaBenchError) else 1
        return f"a job of the sweep: {own[-1][2]}", code
    what = lines[0] if lines else type(error).__name__
    return (
        f"a job of the sweep ended without a result: {what}; its log is below .submitit/ in the "
        "sweep's directory. To continue it: scontrol requeue JOB, or resume_from=<job directory>",
        1,
    )


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(f"hydra_plugins.{package}") is not None
    except ModuleNotFoundError:  # no plugin at all is installed
        return False
