"""Finishing a sweep: resume_from=<sweep folder> becomes a sweep over its jobs that are not done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from numa_bench.config.hydra.composition import SweepJob, list_sweep_jobs
from numa_bench.config.hydra.overrides import MULTIRUN_OPTIONS
from numa_bench.invocation import quote_value
from numa_bench.runner.resume import count_stored, list_changes
from numa_bench.study_files import RESULTS
from numa_bench.study_search import find_sweep_of_folder, is_sweep

_KEY = "resume_from="


def find_resumed(arguments: Sequence[str]) -> Path | None:
    """The directory of the sweep that a command line resumes; None if it resumes no whole sweep."""
    given = [argument for argument in arguments if argument.startswith(_KEY)]
    if len(given) != 1:
        return None
    try:
        override = OverridesParser.create().parse_override(given[0])
    except HydraException:
        return None  # Hydra reports it
    value = None if override.is_sweep_override() else override.value()
    try:
        value = OmegaConf.create({"path": value})["path"]  # reads \${ as ${
    except OmegaConfBaseException:
        return None
    return find_whole_sweep(Path(value)) if isinstance(value, str) and value else None


def find_whole_sweep(folder: Path) -> Path | None:
    """The directory with the multirun.yaml of the sweep whose folder this is, or None."""
    if (folder / RESULTS).is_file():
        return None  # a study
    if is_sweep(folder):
        return folder
    has_jobs = folder.is_dir() and any(path.name.isdigit() for path in folder.iterdir())
    return find_sweep_of_folder(folder) if has_jobs else None


def list_unfinished_jobs(sweep: Path, arguments: Sequence[str]) -> list[SweepJob]:
    """The jobs of a sweep that have runs left, in order. Raises StoreError.

    These are all jobs where the command line has settings that may add runs (experiment.repeats,
    time_limit).
    """
    given = [word for word in arguments if not word.startswith(("-", "hydra/", "hydra."))]
    adds = bool(list_changes(given)) or any(word.startswith("time_limit=") for word in given)
    jobs = list_sweep_jobs(sweep)
    return [job for job in jobs if adds or not count_stored(job.directory).is_finished]


def expand_arguments(
    arguments: Sequence[str], sweep: Path, jobs: Sequence[SweepJob], now: datetime
) -> list[str]:
    """The arguments of a sweep over these jobs, each in its own directory.

    Hydra's snapshot of this start goes below the sweep's directory, whose multirun.yaml, from which
    its jobs are known, is not touched.
    """
    others = [a for a in arguments if not a.startswith(_KEY) and a not in MULTIRUN_OPTIONS]
    paths = ",".join(quote_value(str(job.directory)) for job in jobs)
    snapshot = sweep / ".hydra" / f"resumed_{now:%Y-%m-%d_%H-%M-%S}"
    where = [] if "dry_run=true" in others else [f"hydra.sweep.dir={quote_value(str(snapshot))}"]
    # What the user typed comes last, so that it wins.
    return ["-m", f"{_KEY}{paths}", *where, *others]
