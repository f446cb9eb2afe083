"""Remove the directories that Hydra made for a job which was refused before it did anything.

Hydra makes them, with its snapshot and an empty log, before the job can check its settings.
"""

from __future__ import annotations

import contextlib
import glob
import shutil
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from numa_bench.errors import NumaBenchError
from numa_bench.study_files import JOB_LOGS, LOG, MULTIRUN, SWEEP_SUMMARY

#: Hydra's snapshot of a job (hydra.core.utils.run_job).
SNAPSHOT = ("config.yaml", "hydra.yaml", "overrides.yaml")
#: What a sweep whose jobs were all refused leaves in its directory.
_OF_SWEEP = {MULTIRUN, SWEEP_SUMMARY, JOB_LOGS}

#: Directories that this process found missing before Hydra made them.
_missing: set[Path] = set()
#: Directory and snapshot of each job that this process started.
_jobs: list[tuple[Path, Path]] = []
#: The directory of this process's sweep, if it runs one.
_sweeps: list[Path] = []


class DirectoryNotes(Callback):
    """Notes, before Hydra makes any directory, which ones are missing."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Called before a single job."""
        for directory in _note(config, "hydra.run.dir"):
            _jobs.append((directory, Path(config.hydra.output_subdir or "")))
            # In a directory of the user, too, the snapshot and the log of this start are removed.
            own = (directory / str(config.hydra.output_subdir), directory / LOG)
            _missing.update(path for path in own if not _exists(path))

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Called before a sweep."""
        _sweeps.extend(_note(config, "hydra.sweep.dir"))


def forget_directories() -> None:
    """Start anew: what an earlier application in this process found no longer counts."""
    _missing.clear()
    _jobs.clear()
    _sweeps.clear()


def remove_refused_job(directory: Path, snapshot: str | None) -> None:
    """Remove the traces of a job that did nothing; `snapshot` is hydra.output_subdir.

    A directory that holds anything else keeps everything but what was written at this start.
    """
    taken = Path(snapshot) if snapshot else None
    later = taken is not None and len(taken.parts) > 1
    known = taken is not None and (directory / taken).absolute() in _missing
    if not (later or known) and not _holds_only(directory, taken):
        return
    with contextlib.suppress(OSError):
        if taken is not None:
            for name in SNAPSHOT:
                (directory / taken / name).unlink(missing_ok=True)
            for part in (taken, *taken.parents[:-1]):
                _remove_empty(directory / part)
        if (directory / LOG).absolute() in _missing or _holds_only(directory, None):
            (directory / LOG).unlink(missing_ok=True)
            _remove_with_parents(directory)


def remove_interrupted_jobs() -> None:
    """Remove the traces of jobs that were interrupted before they did anything."""
    for directory, snapshot in _jobs:
        if directory in _missing and _holds_only(directory, snapshot if snapshot.parts else None):
            remove_refused_job(directory, str(snapshot) if snapshot.parts else None)


def remove_refused_sweeps() -> None:
    """Remove the directories of sweeps of which no job left anything behind."""
    for directory in _sweeps:
        # In a sweep over experiments the jobs of each are in a folder of its name.
        jobs = directory.parent.parent.glob(f"*/{glob.escape(directory.name)}/[0-9]*")
        with contextlib.suppress(OSError):
            if {path.name for path in directory.iterdir()} <= _OF_SWEEP and not any(jobs):
                shutil.rmtree(directory / JOB_LOGS, ignore_errors=True)
                for name in (MULTIRUN, SWEEP_SUMMARY):
                    (directory / name).unlink(missing_ok=True)
                _remove_with_parents(directory)


def _note(config: DictConfig, key: str) -> list[Path]:
    try:
        directory = Path(OmegaConf.select(config, key)).absolute()
    except (NumaBenchError, OmegaConfBaseException, TypeError):
        return []  # Hydra will fail in the same way, and say so
    _missing.update(path for path in (directory, *directory.parents) if not _exists(path))
    return [directory]


def _exists(path: Path) -> bool:
    """Whether a path exists, or its directory is another user's and does not say."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def _holds_only(directory: Path, snapshot: Path | None) -> bool:
    """Whether a directory holds nothing but what Hydra writes there before a job starts."""
    own = {LOG} if snapshot is None else {LOG, snapshot.parts[0]}
    try:
        if not {path.name for path in directory.iterdir()} <= own:
            return False
        taken = directory / snapshot if snapshot is not None else None
        return taken is None or {path.name for path in taken.iterdir()} <= set(SNAPSHOT)
    except OSError:
        return False


def _remove_with_parents(directory: Path) -> None:
    """Remove a directory that is empty, and those above that Hydra made for it."""
    directory = directory.absolute()
    if not _remove_empty(directory):
        return
    for path in directory.parents:
        if path not in _missing or not _remove_empty(path):
            return


def _remove_empty(path: Path) -> bool:
    try:
        path.rmdir()
    except OSError:
        return False
    return True
