"""The runner's Hydra setup: resolvers, output directories, help text.

`register_hydra` does not inspect the machine. The GPU resolvers do, when a configuration that
uses them is resolved.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from numa_bench.config import hydra_guard
from numa_bench.config.checks import check_name
from numa_bench.config.launchers import check_launcher, resolve_launcher_class
from numa_bench.config.output_validation import check_root, check_uri
from numa_bench.config.schema import RunnerConfig, register_configs
from numa_bench.config.settings import format_help
from numa_bench.errors import ConfigError
from numa_bench.study_files import RESULTS
from numa_bench.versions import PROJECT

#: `if_gpu_count_gt_N` is defined for N below this; no common server has more (DGX-2: 16).
MAX_GPUS = 16
#: The YAML files: beside the package in a checkout, inside it when installed from a wheel.
CONFIG_DIR = next(
    (path for path in (PROJECT / "numa_bench" / "conf", PROJECT / "conf") if path.is_dir()),
    PROJECT / "conf",
)


def register_hydra() -> None:
    """Register schemas and resolvers. Calling it again has no further effect."""
    register_configs()
    resolvers: dict[str, Callable[..., object]] = {
        "study_dir": resolve_study_dir,
        "sweep_dir": resolve_sweep_dir,
        # A resumed study keeps Hydra's snapshot of its first start.
        "hydra_subdir": lambda resume, now: f".hydra/resumed_{now}" if resume else ".hydra",
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
    if resume_from:
        if not (Path(resume_from) / RESULTS).is_file():
            raise ConfigError("resume_from", resume_from, _not_a_study(Path(resume_from)))
        return resume_from
    return _directory(root, "", name, now, dry_run, debug)


def resolve_sweep_dir(
    root: str, name: str, now: str, dry_run: bool, debug: bool, resume_from: str | None
) -> str:
    """The directory of a sweep; each job gets a subdirectory."""
    if resume_from:
        raise ConfigError("resume_from", resume_from, "resumes one study, not a sweep; remove -m")
    return _directory(root, "multirun/", name, now, dry_run, debug)


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
    check_name("experiment.name", name)
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
    hydra_guard.guard_job(job, RunnerConfig)


def run_app(app: Callable[[], object]) -> int:
    """`hydra_guard.run_app` with the runner's schema."""
    return hydra_guard.run_app(app, RunnerConfig, "output.root")
