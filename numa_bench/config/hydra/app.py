"""The runner's Hydra setup: resolvers, output directories, help text.

`register_hydra` does not inspect the machine. The GPU resolvers do, when a configuration that
uses them is resolved.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import ListConfig, OmegaConf

from numa_bench.config.checks import check_study_name
from numa_bench.config.hydra import guard as hydra_guard
from numa_bench.config.hydra.launchers import check_launcher, resolve_launcher_class
from numa_bench.config.output_validation import check_root, check_uri
from numa_bench.config.schema import RunnerConfig, register_configs
from numa_bench.config.settings import format_help
from numa_bench.errors import ConfigError
from numa_bench.study_files import MIXED, RESULTS
from numa_bench.study_search import find_sweep

#: `if_gpu_count_gt_N` is defined for N below this; no common server has more (DGX-2: 16).
MAX_GPUS = 16


def register_hydra() -> None:
    """Register schemas and resolvers. Calling it again has no further effect."""
    register_configs()
    resolvers: dict[str, Callable[..., object]] = {
        "study_dir": resolve_study_dir,
        "sweep_dir": resolve_sweep_dir,
        "sweep_name": resolve_sweep_name,
        "sweep_subdir": resolve_sweep_subdir,
        "hydra_subdir": resolve_hydra_subdir,
        "checked_uri": _checked_uri,
        "checked_launcher": _checked_launcher,
        "launcher_class": resolve_launcher_class,
        "config_help": lambda: format_help(RunnerConfig),
        "gpu_count": _gpu_count,
    }
    for count in range(MAX_GPUS):
        # A function binds `count`: a lambda here would see its last value.
        resolvers[f"if_gpu_count_gt_{count}"] = _more_gpus_than(count)
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def resolve_study_dir(
    root: str, name: str, now: str, dry_run: bool, debug: bool, resume_from: str | None
) -> str:
    """The directory of this study. Dry runs and debug runs each reuse one fixed directory."""
    check_resume_value(resume_from)
    if resume_from and not dry_run:
        return _hydra_path(resume_from)
    return _directory(root, "", name, now, dry_run, debug)


def resolve_sweep_dir(
    root: str, name: str, now: str, dry_run: bool, debug: bool, resume_from: str | None
) -> str:
    """The directory of a sweep; each job gets a subdirectory.

    With resume_from it is that of Hydra's snapshot of this start: the job has its own directory.
    """
    check_resume_value(resume_from)
    if resume_from and not dry_run:
        return f"{_hydra_path(resume_from)}/{resolve_hydra_subdir(resume_from, now, dry_run)}"
    return _directory(root, "multirun/", name, now, dry_run, debug)


def resolve_sweep_name(name: str, overrides: ListConfig) -> str:
    """The folder of a sweep: that of its experiment, MIXED where it is over several.

    `name` is that of the experiment, `overrides` those of the command line or of a job, which has
    one experiment, whose folder it is then.
    """
    words = [str(word) for word in OmegaConf.to_container(overrides, resolve=False) or ()]
    named = [word for word in words if word.startswith(("experiment=", "experiment.name="))]
    parsed = OverridesParser.create().parse_overrides(named)
    return MIXED if any(override.is_sweep_override() for override in parsed) else name


def resolve_sweep_subdir(resume_from: str | None, number: int, dry_run: bool) -> str:
    """The directory of a job, below that of its sweep unless it is absolute."""
    if resume_from and not dry_run:
        return _hydra_path(str(Path(resume_from).absolute()))
    return str(number)


def resolve_hydra_subdir(resume_from: str | None, now: str, dry_run: bool) -> str:
    """Hydra's snapshot in a study. A resumed study keeps that of its first start."""
    return f".hydra/resumed_{now}" if resume_from and not dry_run else ".hydra"


def check_resumable(path: Path) -> None:
    """Raise ConfigError unless a study, or the job of a sweep, can go on in this directory."""
    if not (path / RESULTS).is_file() and find_sweep(path) is None:
        raise ConfigError("resume_from", str(path), _not_a_study(path))


def check_resume_value(resume_from: str | None) -> None:
    """Raise ConfigError unless resume_from is null or a directory that can be resumed."""
    if resume_from == "":  # such as resume_from=$UNSET in a shell: not a wish for a new study
        raise ConfigError(
            "resume_from", "''", "is empty; give the directory of a study, or null for a new one"
        )
    if resume_from is not None:
        check_resumable(Path(resume_from))


#: Open directories by path: see `_hydra_path`.
_opened: dict[str, int] = {}


def _hydra_path(path: str) -> str:
    """A path under which Hydra can work in a directory; the same one if possible.

    Hydra stores its output directory in the configuration, where `${` starts an interpolation and
    cannot be escaped. Such a directory is opened and named by its descriptor (proc(5)).
    """
    if "${" not in str(Path(path).absolute()):
        return path
    if path not in _opened:
        Path(path).mkdir(parents=True, exist_ok=True)
        _opened[path] = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    return f"/proc/self/fd/{_opened[path]}"


def _checked_uri(path: str, uri: str | None) -> str:
    """`path`. Raises ConfigError if the URI has credentials, which Hydra would save first."""
    check_uri(uri)
    return path


def _checked_launcher(path: str, launcher: Mapping[str, Any]) -> str:
    """`path`. Raises ConfigError if the settings of the launcher are wrong, before a job starts."""
    check_launcher(launcher)
    return path


def _directory(root: str, below: str, name: str, now: str, dry_run: bool, debug: bool) -> str:
    # Hydra creates the directory before the job can validate its configuration.
    check_root(root)
    if "${" in str(Path(root).absolute()):
        raise ConfigError(
            "output.root", root, "a new study's path cannot contain ${; choose another directory"
        )
    if name != MIXED:  # no study of that name gets past its own check
        check_study_name(name)
    if dry_run:
        return f"{root}/dry_run"
    return f"{root}/debug" if debug else f"{root}/{below}{name}/{now}"


def _not_a_study(path: Path) -> str:
    if not path.is_dir():
        return "no such directory; give the directory of a study, which contains results.json"
    jobs = sorted(job.parent.name for job in path.glob(f"*/{RESULTS}"))
    if jobs:
        return f"contains several studies; resume one of them: {', '.join(jobs)}"
    return f"is not a study: it has no {RESULTS}"


def _gpu_count() -> int:
    from numa_bench.machine.allocation import select_granted_gpus
    from numa_bench.machine.topology import discover_topology

    return len(select_granted_gpus(discover_topology(), os.environ)[0])


def _more_gpus_than(count: int) -> Callable[[object, object], object]:
    return lambda then, otherwise: then if _gpu_count() > count else otherwise


def guard_job(job: Callable[[], object]) -> None:
    """`hydra_guard.guard_job` with the runner's schema."""
    hydra_guard.guard_job(job, RunnerConfig, resumable=True)


def run_app(app: Callable[[], object]) -> int:
    """`guard.run_app` with the runner's schema."""
    return hydra_guard.run_app(app, RunnerConfig, "output.root")
