"""Compose configurations outside a Hydra job: for checks, and for jobs of a sweep to be resumed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from numa_bench.config.settings import CONFIG_DIR
from numa_bench.errors import ConfigError, StoreError
from numa_bench.invocation import quote_value
from numa_bench.study_files import MIXED, MULTIRUN
from numa_bench.study_search import find_sweep, read_yaml

#: The primary file of the runner's configuration.
CONFIG_NAME = "config"
#: The most jobs of a sweep. Each is checked before the first, which takes about 0.1 s.
MOST_JOBS = 10_000
#: Overrides that a whole experiment and its name may come from.
_NAMES = ("experiment=", "experiment.name=")


@dataclass(frozen=True)
class SweepJob:
    """A job of a sweep: its number, its overrides, and its directory, which need not exist."""

    number: int
    overrides: tuple[str, ...]
    directory: Path


@contextlib.contextmanager
def open_hydra() -> Iterator[Hydra]:
    """Hydra on the configuration files: the one that is running, else one for this block."""
    running = GlobalHydra.instance().hydra
    if running is not None:
        yield running
        return
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        started = GlobalHydra.instance().hydra
        assert started is not None
        yield started


def compose_job(overrides: Sequence[str], config_name: str = CONFIG_NAME) -> DictConfig:
    """The node that a single job gets, with `hydra` in it. Raises errors of Hydra and OmegaConf."""
    with open_hydra() as hydra:
        return hydra.compose_config(config_name, list(overrides), RunMode.RUN, from_shell=False)


def list_jobs(overrides: Sequence[str], *, multirun: bool) -> list[tuple[str, ...]]:
    """The overrides of each job that a command line starts, of one for a single study.

    `multirun`: it has -m. Raises errors of Hydra and OmegaConf.
    """
    with open_hydra() as hydra:
        mode = hydra.get_mode(CONFIG_NAME, list(overrides))
        if not (multirun if mode is None else mode is RunMode.MULTIRUN):
            return [tuple(overrides)]
        words = list(overrides)
        master = hydra.compose_config(CONFIG_NAME, words, RunMode.MULTIRUN, from_shell=False)
        return split_master(master)


def split_master(master: DictConfig) -> list[tuple[str, ...]]:
    """The overrides of each job of a sweep, whose composed configuration `master` is.

    Raises StoreError for a sweeper that chooses its jobs while it runs, ConfigError without a job.
    """
    plain: Any = OmegaConf.to_container(master.hydra, resolve=False)
    task = plain["overrides"]["task"]
    with open_hydra() as hydra:
        jobs = _split_sweep(hydra, task, plain["sweeper"])
    if not jobs:
        raise _explain_empty(task)
    return [(*plain["overrides"]["hydra"], *job) for job in jobs]


def is_listable(sweeper: Mapping[str, Any]) -> bool:
    """Whether the jobs of a sweeper (hydra.sweeper) are known before they run."""
    return str(sweeper["_target_"]).endswith(".BasicSweeper")


def list_sweep_jobs(sweep: Path) -> list[SweepJob]:
    """All jobs of a sweep's directory, in order, whether they started or not.

    Raises StoreError when they cannot be known.
    """
    saved = read_yaml(sweep / MULTIRUN)
    try:
        settings = saved["hydra"]
        task, sweeper = settings["overrides"]["task"], settings["sweeper"]
        search = _search_path(settings)
        name = str(saved["experiment"]["name"])
        with open_hydra() as hydra:
            jobs = _split_sweep(hydra, task, sweeper)
    except (AttributeError, KeyError, TypeError) as error:
        raise StoreError(
            f"{sweep} cannot be resumed: {MULTIRUN} is not that of a sweep of the runner"
        ) from error
    return [
        SweepJob(number, (*job, *search), _find_directory(sweep, name, number, (*job, *search)))
        for number, job in enumerate(jobs)
    ]


def compose_sweep_job(directory: Path) -> DictConfig | None:
    """The node of a job of a sweep that has not started; None if no sweep has such a job."""
    sweep = find_sweep(directory)
    if sweep is None:
        return None
    number = int(directory.resolve().name)
    job = next((job for job in list_sweep_jobs(sweep) if job.number == number), None)
    if job is None:
        raise ConfigError("resume_from", str(directory), f"{sweep} has no such job")
    return remove_hydra(compose_job(job.overrides))


def remove_hydra(node: DictConfig) -> DictConfig:
    """The part of a composed node that the application gets."""
    node = node.copy()
    node._set_flag(["struct", "readonly"], [False, False])
    del node["hydra"]
    return node


def _split_sweep(hydra: Hydra, task: Sequence[str], sweeper: dict[str, Any]) -> list[list[str]]:
    """The overrides of each job, as Hydra's basic sweeper makes them."""
    if not is_listable(sweeper):
        raise StoreError(
            f"the jobs of {sweeper['_target_']} cannot be listed; only those of Hydra's basic "
            "sweeper are known before they run"
        )
    params = [f"{key}={value}" for key, value in (sweeper["params"] or {}).items()]
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    overrides = parser.parse_overrides([*params, *task])
    _check_number(overrides)
    jobs: list[list[str]] = BasicSweeper.split_arguments(overrides, None)[0]
    return jobs


def _check_number(overrides: Sequence[Override]) -> None:
    """Raise ConfigError for more jobs than a sweep may have. Does not make them."""
    swept = [override for override in overrides if override.is_discrete_sweep()]
    sizes = [
        sum(1 for _ in islice(override.sweep_string_iterator(), MOST_JOBS + 1))
        for override in swept
    ]
    if math.prod(sizes) > MOST_JOBS:
        largest = swept[sizes.index(max(sizes))]
        raise ConfigError(
            largest.get_key_element(),
            largest.get_value_string(),
            f"makes more than {MOST_JOBS:,} jobs, the most that a sweep has; use fewer values",
        )


def _explain_empty(overrides: Sequence[str]) -> ConfigError:
    """The error for the override that gives a sweep no values."""
    with open_hydra() as hydra:
        parser = OverridesParser.create(config_loader=hydra.config_loader)
        for override in parser.parse_overrides(list(overrides)):
            if override.is_sweep_override() and not list(override.sweep_string_iterator()):
                break
        key, value = override.get_key_element(), override.get_value_string()
        options = hydra.config_loader.get_group_options(key)
        names = [name for name in options if name != "schema"]
    fix = "has no values, so that the sweep has no jobs"
    if isinstance(override.value(), Glob):
        fix = "matches none of " + ", ".join(names)
        if not names:
            fix = f"glob selects names of a config group, which {key} is not; list the values"
    return ConfigError(key, value, fix)


def _find_directory(sweep: Path, name: str, number: int, overrides: tuple[str, ...]) -> Path:
    """A job's directory: below its sweep, or below the folder of its experiment's name.

    `name` is that of the study in multirun.yaml. Before there was a folder for sweeps over
    experiments, that file was in the folder of the default one.
    """
    own = sweep / str(number)
    mixed = any(override.startswith(_NAMES) for override in overrides)
    if own.exists() or not mixed or sweep.parent.name not in (name, MIXED):
        return own
    folder = sweep.parent.parent / str(compose_job(overrides).experiment.name)
    return folder / sweep.name / str(number)


def _search_path(settings: dict[str, Any]) -> list[str]:
    """An override with the folders of configuration files that the user added (--config-dir)."""
    own = str(CONFIG_DIR)
    paths = [
        source["path"]
        for source in settings["runtime"]["config_sources"]
        if source["schema"] == "file" and source["path"] != own
    ]
    quoted = ",".join(quote_value(f"file://{path}") for path in paths if Path(path).is_dir())
    return [f"hydra.searchpath=[{quoted}]"] if quoted else []
