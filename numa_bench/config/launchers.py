"""Launchers of a sweep's jobs: their Hydra plugins, and a check of their settings."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numa_bench.errors import ConfigError

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
    """Raise ConfigError for settings of SLURM jobs under which their time-out would lose data."""
    delay, timeout = launcher.get("signal_delay_s"), launcher.get("timeout_min")
    if isinstance(delay, int) and isinstance(timeout, int) and delay >= 60 * timeout:
        raise ConfigError(
            "hydra.launcher.signal_delay_s",
            delay,
            f"must be less than the time limit, timeout_min={timeout} ({60 * timeout} s); a job "
            "is asked to store its results so long before it",
        )


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(f"hydra_plugins.{package}") is not None
    except ModuleNotFoundError:  # no plugin at all is installed
        return False
