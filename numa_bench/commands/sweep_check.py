"""Check all jobs of a sweep before its first job starts."""

from __future__ import annotations

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from numa_bench.config.error_text import format_error
from numa_bench.config.hydra.composition import is_listable, split_master
from numa_bench.config.hydra.guard import SweepRefused, is_for_the_user
from numa_bench.config.schema import RunnerConfig

#: Its jobs run on other machines, for which the values of a job can be checked, but not its plan.
_SLURM = ".SlurmLauncher"


class SweepCheck(Callback):
    """Refuses a sweep if a job would be refused, before anything is measured or written."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Called before a sweep. Raises SweepRefused, the only error that Hydra lets through."""
        try:
            errors = find_sweep_mistakes(config)
        except Exception as error:
            errors = [format_error(error, RunnerConfig)] if is_for_the_user(error) else []
            raise SweepRefused(errors) from error
        if errors:
            raise SweepRefused(errors)


def find_sweep_mistakes(master: DictConfig) -> list[str]:
    """What is wrong with the jobs of a sweep, in lines; `master` is its composed configuration.

    The jobs of a sweeper that chooses them while it runs are checked in turn, when they start.
    """
    if not is_listable(master.hydra.sweeper):
        return []
    # Imported late: a single study does not need it.
    from numa_bench.commands.job_checks import Planner, check_jobs, load_job

    jobs, name = split_master(master), str(master.hydra.job.config_name)
    launcher = str(OmegaConf.select(master, "hydra.launcher._target_"))
    if launcher.endswith(_SLURM):
        return check_jobs(jobs, lambda job: load_job(job, name))[0]
    # Light, as others may be measuring: what must be tried is tried when a job starts.
    return check_jobs(jobs, Planner(None, name, probe=False).check_study)[0]
