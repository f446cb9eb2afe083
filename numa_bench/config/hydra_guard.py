"""Errors of a Hydra app as one line, and its exit code. For both apps."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from numa_bench.config.error_text import find_own_error, format_error
from numa_bench.errors import NumaBenchError

#: Set beside HYDRA_FULL_ERROR by `run_app`: a launcher's process then knows that the user did not.
_OWN_ERRORS = "NUMA_BENCH_OWN_ERRORS"
_asked_for_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1" and _OWN_ERRORS not in os.environ

_failures: list[Exception] = []
_app_process: int | None = None


def guard_job(job: Callable[[], object], schema: type) -> None:
    """Run one job of an app whose settings are `schema`. Its error is told here, in one line.

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
        print(f"error: {where}{format_error(error, schema)}", file=sys.stderr)
        if os.getpid() != _app_process:
            raise
        _failures.append(error)


def run_app(app: Callable[[], object], schema: type, root_key: str) -> int:
    """Run a function decorated by hydra.main; return the process's exit code.

    Errors of configuration and machine are told in one line on stderr, without a traceback;
    HYDRA_FULL_ERROR=1 asks for the traceback. `schema` is the config class of the app, `root_key`
    the setting that says where its directories are made.
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
        told = (
            format_error(error, schema)
            if _for_the_user(error)
            else f"{error}; choose another {root_key}"
        )
        print(f"error: {told}", file=sys.stderr)
        _failures.append(error)
    return max(map(_exit_code, _failures), default=0)


def _in_a_job(error: Exception) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.name == guard_job.__name__ for frame in frames)


def _for_the_user(error: Exception) -> bool:
    """Whether it tells of what the user wrote. Anything else is a bug and keeps its traceback."""
    if isinstance(error, (NumaBenchError, HydraException, OmegaConfBaseException)):
        return True
    # Hydra composes experiment=null or ~a.0 into a TypeError or ValueError, before any job.
    frames = {frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)}
    return isinstance(error, (TypeError, ValueError)) and not frames & {"run_job", "return_value"}


def _exit_code(error: Exception) -> int:
    ours = find_own_error(error)
    return ours.exit_code if ours is not None else 2
