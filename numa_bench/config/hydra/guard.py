"""Turn the errors of a Hydra application into one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from numa_bench.config.error_text import find_own_error, format_error
from numa_bench.config.hydra.directories import (
    forget_directories,
    remove_interrupted_jobs,
    remove_refused_job,
    remove_refused_sweeps,
)
from numa_bench.config.hydra.launchers import explain_lost_job
from numa_bench.errors import NumaBenchError
from numa_bench.terminal.lines import print_error

#: Set by `run_app` together with HYDRA_FULL_ERROR, so that a process started by a launcher can know
#: that the user did not ask for tracebacks.
_OWN_ERRORS = "NUMA_BENCH_OWN_ERRORS"
_asked_for_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1" and _OWN_ERRORS not in os.environ

_failures: list[Exception] = []
_app_process: int | None = None


class SweepRefused(BaseException):
    """A sweep must not start, for the reasons in `errors`, each a line.

    Raised by callbacks of Hydra, which turns each Exception of theirs into a warning and goes on.
    Without reasons its cause is a bug.
    """

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__(*errors)
        self.errors = tuple(errors)


def guard_job(job: Callable[[], object], schema: type, *, resumable: bool = False) -> None:
    """Run one job of an application whose config class is `schema`; print its error in one line.

    The error is kept for `run_app` instead of being raised, so that a sweep continues and Hydra
    prints nothing more. In a process started by a launcher it is also raised: the launcher
    notices a failed job only by its exception. `resumable`: the sweep itself says how to finish it.
    """
    settings = HydraConfig.get()
    try:
        job()
    except KeyboardInterrupt:
        if settings.mode is RunMode.MULTIRUN and not resumable:
            print(
                f"interrupted in job {settings.job.num} of a sweep: later jobs were not "
                "started; run the sweep's command again for them",
                file=sys.stderr,
            )
        raise
    except (NumaBenchError, OmegaConfBaseException) as error:
        if exit_code_of(error) == 2:  # refused; a study that failed is complete
            remove_refused_job(Path(settings.runtime.output_dir), settings.output_subdir)
        if _asked_for_traceback:
            raise
        where = ""
        if settings.mode is RunMode.MULTIRUN:
            where = f"job {settings.job.num} ({settings.job.override_dirname or 'no override'}): "
        print_error(f"{where}{format_error(error, schema)}")
        # joblib and submitit run jobs in processes in which run_app was not called.
        if os.getpid() != _app_process:
            raise
        _failures.append(error)


def run_app(app: Callable[[], object], schema: type, root_key: str) -> int:
    """Run a function decorated by hydra.main; return the process's exit code.

    Errors in the configuration or the machine are printed as one line on stderr;
    HYDRA_FULL_ERROR=1 adds the traceback. `schema` is the application's config class, `root_key`
    the setting of the directory that its output goes to.
    """
    global _app_process
    _failures.clear()
    forget_directories()
    _app_process = os.getpid()
    if not _asked_for_traceback:
        # By default Hydra prints several lines and exits with 1; with this variable it raises.
        os.environ.update({"HYDRA_FULL_ERROR": "1", _OWN_ERRORS: "1"})
    try:
        app()
    except KeyboardInterrupt:
        remove_interrupted_jobs()
        return 130
    except SweepRefused as refused:
        cause = refused.__cause__
        if isinstance(cause, Exception) and (_asked_for_traceback or not refused.errors):
            raise cause from None
        for text in refused.errors:
            print_error(text)
        return 2
    except Exception as error:
        lost = None if _asked_for_traceback else explain_lost_job(error)
        if lost is not None:
            print_error(lost[0])
            return lost[1]
        # Hydra creates the study's directory before the job starts.
        no_directory = isinstance(error, OSError) and not _in_a_job(error)
        if _asked_for_traceback or not (is_for_the_user(error) or no_directory):
            raise
        message = (
            format_error(error, schema)
            if is_for_the_user(error)
            else f"{error}; {_list_remedies(root_key)}"
        )
        print_error(message)
        _failures.append(error)
    finally:
        remove_refused_sweeps()
    return max(map(exit_code_of, _failures), default=0)


def _list_remedies(root_key: str) -> str:
    """What helps where a directory cannot be made; a study that is resumed stays where it is."""
    remedies = "free some space or get write permission"
    if any(word.startswith("resume_from=") for word in sys.argv[1:]):
        return remedies
    return f"{remedies}, or choose another {root_key}"


def _in_a_job(error: Exception) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.name == guard_job.__name__ for frame in frames)


def is_for_the_user(error: Exception) -> bool:
    """Whether the user's input caused it. Anything else is a bug and keeps its traceback."""
    if isinstance(error, (NumaBenchError, HydraException, OmegaConfBaseException)):
        return True
    # For experiment=null or ~a.0, Hydra itself raises TypeError or ValueError before any job.
    frames = {frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)}
    # Hydra runs a job in run_job, and raises its error in JobReturn.return_value.
    return isinstance(error, (TypeError, ValueError)) and not frames & {"run_job", "return_value"}


def exit_code_of(error: Exception) -> int:
    """The exit code of the process for an error that is for the user."""
    ours = find_own_error(error)
    return ours.exit_code if ours is not None else 2
