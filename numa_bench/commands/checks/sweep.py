"""Check all jobs of a sweep before its first job starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from numa_bench.config.error_text import format_error
from numa_bench.config.hydra.composition import is_listable, split_master
from numa_bench.config.hydra.guard import SweepRefused, is_for_the_user
from numa_bench.config.schema import RunnerConfig
from numa_bench.plan.estimates import estimate_run_s
from numa_bench.records import RunSpec
from numa_bench.sweep.preparation import JobPreview, note_current, prepare_sweep

#: Its jobs run on other machines, for which the values of a job can be checked, but not its plan.
_SLURM = ".SlurmLauncher"


class SweepCheck(Callback):
    """Refuses a sweep if a job would be refused, before anything is measured or written."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Called before a sweep. Raises SweepRefused, the only error that Hydra lets through."""
        try:
            errors, previews = find_sweep_mistakes(config)
            if previews and not config.dry_run:
                note_current(prepare_sweep(Path(str(config.hydra.sweep.dir)), previews))
        except Exception as error:
            errors = [format_error(error, RunnerConfig)] if is_for_the_user(error) else []
            raise SweepRefused(errors) from error
        if errors:
            raise SweepRefused(errors)


def find_sweep_mistakes(master: DictConfig) -> tuple[list[str], list[JobPreview]]:
    """What is wrong with the jobs of a sweep, in lines, and the jobs.

    `master` is the composed configuration of the sweep.

    The jobs of a sweeper that chooses them while it runs are checked in turn, when they start.
    """
    if not is_listable(master.hydra.sweeper):
        return [], []
    # Imported late: a single study does not need it.
    from numa_bench.commands.checks.jobs import Planner, check_jobs, load_job, name_jobs

    jobs, name = split_master(master), str(master.hydra.job.config_name)
    launcher = str(OmegaConf.select(master, "hydra.launcher._target_"))
    if launcher.endswith(_SLURM):
        errors, loaded = check_jobs(jobs, lambda job: load_job(job, name))
        known: list[tuple[RunnerConfig, list[RunSpec] | None]] = [
            (config, None) for _, config in loaded
        ]
    else:
        # Light, as others may be measuring: what must be tried is tried when a job starts.
        errors, studies = check_jobs(jobs, Planner(None, name, probe=False).check_study)
        known = [(study.config, study.left) for study in studies]
    if errors:
        return errors, []
    return [], [
        _preview_job(words, differs, config, left)
        for words, differs, (config, left) in zip(jobs, name_jobs(jobs), known, strict=True)
    ]


def _preview_job(
    words: Sequence[str], differs: str, config: RunnerConfig, left: Sequence[RunSpec] | None
) -> JobPreview:
    return JobPreview(
        tuple(words),
        differs,
        config.experiment.name,
        config.resume_from,
        None if left is None else len(left),
        sum(map(estimate_run_s, left or ())),
    )
