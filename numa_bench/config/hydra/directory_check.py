"""Refuse directories that a start must not write to, before Hydra saves its snapshot there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from numa_bench.config.hydra.guard import SweepRefused
from numa_bench.errors import ConfigError, NumaBenchError
from numa_bench.study_search import check_debug_directory


class DirectoryCheck(Callback):
    """Raises SweepRefused, the only error that Hydra lets through."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Called before a single job."""
        directory = check_given(config, "hydra.run.dir")
        if directory and config.get("debug") and not config.get("resume_from"):
            try:
                check_debug_directory(Path(directory))
            except NumaBenchError as error:
                raise SweepRefused([str(error)]) from None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Called before a sweep."""
        check_given(config, "hydra.sweep.dir")


def check_given(config: DictConfig, key: str) -> str | None:
    """The directory that a setting of Hydra names; None if Hydra will fail to resolve it.

    Raises SweepRefused for an empty one, such as `hydra.run.dir=$UNSET` in a shell, with which
    Hydra would write into the working directory.
    """
    try:
        directory = OmegaConf.select(config, key)
    except (NumaBenchError, OmegaConfBaseException, TypeError):
        return None  # Hydra fails in the same way, and says so
    if not str(directory).strip():
        fix = "is empty; give a directory, or leave the setting out"
        raise SweepRefused([str(ConfigError(key, "''", fix))])
    return str(directory)
