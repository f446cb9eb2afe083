"""What the two apps need from Hydra: resolvers, help text, and errors as one line.

Importing this module registers schemas and resolvers and looks at nothing; a resolver looks at
the machine only when a configuration that uses it is read.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from numa_bench.config import register_configs
from numa_bench.config_docs import help_text
from numa_bench.error_text import one_line, our_error
from numa_bench.errors import ConfigError, NumaBenchError
from numa_bench.store import STUDY_MARKER
from numa_bench.validation import check_name, check_root

MOST_GPUS = 16
#: Set beside HYDRA_FULL_ERROR by `run_app`: a launcher's process then knows that the user did not.
_OWN_ERRORS = "NUMA_BENCH_OWN_ERRORS"
_asked_for_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1" and _OWN_ERRORS not in os.environ


def setup() -> None:
    """Register schemas and resolvers. Safe to call twice."""
    register_configs()
    resolvers: dict[str, Callable[..., object]] = {
        "study_dir": study_dir,
        "sweep_dir": sweep_dir,
        "hydra_subdir": lambda resume, now: f".hydra/resumed_{now}" if resume else ".hydra",
        "config_help": help_text,
        "gpu_count": _gpu_count,
    }
    for least in range(MOST_GPUS):
        resolvers[f"if_gpu_count_gt_{least}"] = _more_gpus_than(least)
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def study_dir(
    root: str, name: str, now: str, dry_run: bool, debug: bool, resume_from: str | None
) -> str:
    """The directory of this study; dry and debug runs have one of their own, used again."""
    if resume_from:
        if not (Path(resume_from) / STUDY_MARKER).is_file():
            raise ConfigError("resume_from", resume_from, _not_a_study(Path(resume_from)))
        return resume_from
    return _directory(root, "", name, now, dry_run, debug)


def sweep_dir(
    root: str, name: str, now: str, dry_run: bool, debug: bool, resume_from: str | None
) -> str:
    """The directory of a sweep, in which every job gets its own."""
    if resume_from:
        raise ConfigError("resume_from", resume_from, "resumes one study, not a sweep; drop -m")
    return _directory(root, "multirun/", name, now, dry_run, debug)


def _directory(root: str, below: str, name: str, now: str, dry_run: bool, debug: bool) -> str:
    # Hydra makes the directory before the job can validate its configuration.
    check_root(root)
    check_name("experiment.name", name)
    if dry_run:
        return f"{root}/dry_run"
    return f"{root}/debug" if debug else f"{root}/{below}{name}/{now}"


def _not_a_study(path: Path) -> str:
    if not path.is_dir():
        return "no such directory; give the directory of a study, with results.json in it"
    jobs = sorted(job.parent.name for job in path.glob(f"*/{STUDY_MARKER}"))
    if jobs:
        return f"holds several studies; resume one of them: {', '.join(jobs)}"
    return f"is not a study: it has no {STUDY_MARKER}"


def _gpu_count() -> int:
    from numa_bench.topology import live_topology, visible_gpus

    return len(visible_gpus(live_topology(), os.environ.get("CUDA_VISIBLE_DEVICES")))


def _more_gpus_than(least: int) -> Callable[[object, object], object]:
    return lambda then, otherwise: then if _gpu_count() > least else otherwise


_failures: list[Exception] = []
_app_process: int | None = None


def guard(job: Callable[[], object]) -> None:
    """Run one job of an app. Its error is told here, in one line.

    It is kept for `run_app`, not raised: a sweep goes on, and Hydra adds no lines of its own. In
    a process that a launcher started it is raised too, which is how the launcher learns of it.
    """
    settings = HydraConfig.get()
    try:
        job()
    except KeyboardInterrupt:
        if settings.mode is RunMode.MULTIRUN:
            print(
                f"interrupted in job {settings.job.num} of a sweep: later jobs were not started; "
                "run the sweep's command again for them",
                file=sys.stderr,
            )
        raise
    except (NumaBenchError, OmegaConfBaseException) as error:
        if _asked_for_traceback:
            raise
        where = ""
        if settings.mode is RunMode.MULTIRUN:
            where = f"job {settings.job.num} ({settings.job.override_dirname or 'no override'}): "
        print(f"error: {where}{one_line(error)}", file=sys.stderr)
        if os.getpid() != _app_process:
            raise
        _failures.append(error)


def run_app(app: Callable[[], object]) -> int:
    """Run a function decorated by hydra.main; return the process's exit code.

    Errors of configuration and machine are told in one line on stderr, without a traceback;
    HYDRA_FULL_ERROR=1 asks for the traceback.
    """
    global _app_process
    _failures.clear()
    _app_process = os.getpid()
    if not _asked_for_traceback:
        # Hydra would print a multi-line report and exit with 1; with this set it raises instead.
        os.environ.update({"HYDRA_FULL_ERROR": "1", _OWN_ERRORS: "1"})
    try:
        app()
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        # Hydra makes the study's directory before the job starts.
        no_directory = isinstance(error, OSError) and not _in_a_job(error)
        if _asked_for_traceback or not (_for_the_user(error) or no_directory):
            raise
        told = one_line(error) if _for_the_user(error) else f"{error}; choose another output.root"
        print(f"error: {told}", file=sys.stderr)
        _failures.append(error)
    return max(map(_exit_code, _failures), default=0)


def _in_a_job(error: Exception) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.name == guard.__name__ for frame in frames)


def _for_the_user(error: Exception) -> bool:
    """Whether it tells of what the user wrote. Anything else is a bug and keeps its traceback."""
    if isinstance(error, (NumaBenchError, HydraException, OmegaConfBaseException)):
        return True
    # Hydra composes experiment=null or ~a.0 into a TypeError or ValueError, before any job.
    frames = {frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)}
    return isinstance(error, (TypeError, ValueError)) and not frames & {"run_job", "return_value"}


def _exit_code(error: Exception) -> int:
    ours = our_error(error)
    return ours.exit_code if ours is not None else 2
