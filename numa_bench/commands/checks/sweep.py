"""Check all jobs of a sweep before its first job starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from numa_bench.config.error_text import format_error
from numa_bench.config.hydra.composition import is_listable, split_master
from numa_bench.config.hydra.guard import SweepRefused, is_for_the_user
from numa_bench.config.jobs import KEY, StudyJob
from numa_bench.config.schema import RunnerConfig
from numa_bench.errors import ConfigError
from numa_bench.plan.estimates import estimate_run_s
from numa_bench.records import RunSpec
from numa_bench.sweep.interleaving import InterleavedStart, InterleavedSweep
from numa_bench.sweep.preparation import JobPreview, note_current, prepare_sweep

#: Its jobs run on other machines, for which the values of a job can be checked, but not its plan.
_SLURM = ".SlurmLauncher"


class SweepCheck(Callback):
    """Refuses a sweep if a job would be refused, before anything is measured or written."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Called before a sweep. Raises SweepRefused, or InterleavedStart for one joint study.

        Hydra lets no Exception through.
        """
        try:
            errors, previews, joint = find_sweep_mistakes(config)
            if joint is None and previews and not config.dry_run:
                note_current(prepare_sweep(Path(str(config.hydra.sweep.dir)), previews))
        except Exception as error:
            errors = [format_error(error, RunnerConfig)] if is_for_the_user(error) else []
            raise SweepRefused(errors) from error
        if errors:
            raise SweepRefused(errors)
        if joint is not None:
            raise InterleavedStart(joint)


def find_sweep_mistakes(
    master: DictConfig,
) -> tuple[list[str], list[JobPreview], InterleavedSweep | None]:
    """What is wrong with the jobs of a sweep, in lines, the jobs, and their study if interleaved.

    `master` is the composed configuration of the sweep.

    The jobs of a sweeper that chooses them while it runs are checked in turn, when they start.
    """
    if not is_listable(master.hydra.sweeper):
        if master.interleave:
            name = master.hydra.sweeper._target_
            raise ConfigError(KEY, True, f"the jobs of {name} are not known before they run")
        return [], [], None
    # Imported late: a single study does not need it.
    from numa_bench.commands.checks.jobs import (
        Planner,
        check_jobs,
        load_job,
        name_jobs,
        plan_interleaved,
    )

    jobs, name = split_master(master), str(master.hydra.job.config_name)
    launcher = str(OmegaConf.select(master, "hydra.launcher._target_"))
    joint = None
    if launcher.endswith(_SLURM):
        errors, loaded = check_jobs(jobs, lambda job: load_job(job, name))
        known: list[tuple[RunnerConfig, list[RunSpec] | None]] = [
            (own[0].config, None) for _, own in loaded
        ]
    else:
        # Light, as others may be measuring: nsys and GPUs are tried when a job starts.
        planner = Planner(None, name, probe=False, alone=len(jobs) == 1)
        errors, studies = check_jobs(jobs, planner.check_start)
        known = [(study.config, study.left) for study in studies]
        if not errors and (study := plan_interleaved(jobs, studies, planner)) is not None:
            joint = _join_jobs(master, jobs, study.jobs)
    if errors:
        return errors, [], None
    previews = [
        _preview_job(words, differs, config, left)
        for words, differs, (config, left) in zip(jobs, name_jobs(jobs), known, strict=True)
    ]
    return [], previews, joint


def _join_jobs(
    master: DictConfig, words: Sequence[Sequence[str]], jobs: Sequence[StudyJob]
) -> InterleavedSweep:
    typed = OmegaConf.to_container(master.hydra.overrides.task, resolve=False)
    assert isinstance(typed, list)
    # Jobs are checked as for a run.
    dry_run = bool(master.dry_run)
    started = [replace(job, config=replace(job.config, dry_run=dry_run)) for job in jobs]
    return InterleavedSweep(tuple(started), tuple(map(str, typed)), tuple(words[0]))


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
