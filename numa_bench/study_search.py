"""Find studies and sweeps in directories, and read the settings with which they were started."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import Any

from numa_bench.errors import StoreError
from numa_bench.jsonio import read_regular_file
from numa_bench.records import JsonDict
from numa_bench.study_files import (
    JOURNAL,
    MULTIRUN,
    OVERRIDES,
    REMOVABLE,
    RESOLVED_CONFIG,
    RESOLVED_JOBS,
    RESULTS,
    RUNS,
    SUMMARY,
    SWEEPS,
)


def find_studies(path: Path, *, with_runs: bool = False) -> list[Path]:
    """The studies at or below a path, sorted: itself, jobs of a sweep, all of an output root.

    Studies are not searched for inside a study, nor in hidden directories, where
    `numa-bench collect` keeps incomplete copies. `with_runs` leaves out directories that hold the
    files of a study but no runs: MLflow's artifact store has such copies.
    """
    if (path / RESULTS).is_file():
        return [path]
    found = []
    for folder, below, files in os.walk(path):
        if RESULTS in files and (not with_runs or (SUMMARY in files and RUNS in below)):
            found.append(Path(folder))
            below.clear()
        below[:] = [name for name in below if not name.startswith(".")]
    return sorted(found)


def is_sweep(directory: Path) -> bool:
    """Whether a directory is that of a Hydra sweep, whose jobs are studies below it."""
    return (directory / MULTIRUN).is_file()


def sweep_root(study: Path) -> Path:
    """The directory of the sweep that a study is a job of, or the study's own directory."""
    return find_sweep(study) or study


def find_job_studies(sweep: Path) -> list[Path]:
    """The studies of a sweep's jobs that have started, by number, wherever their folders are.

    In a sweep over experiments they are in the folder of each experiment.
    """
    beside = sweep.absolute().parent.parent.glob(f"*/{glob.escape(sweep.name)}/*/{RESULTS}")
    jobs = {path.parent for path in beside if path.parent.name.isdigit()}
    own = os.path.realpath(sweep)
    mine = [job for job in jobs if os.path.realpath(find_sweep(job) or job) == own]
    return sorted(mine, key=lambda job: int(job.name))


def find_sweep(job: Path) -> Path | None:
    """The directory with the multirun.yaml of the sweep of a job's directory, or None.

    The job need not have started.
    """
    job = job.absolute()
    return find_sweep_of_folder(job.parent) if job.name.isdigit() else None


def find_sweep_of_folder(folder: Path) -> Path | None:
    """The directory with the multirun.yaml of the sweep whose jobs are in this folder, or None.

    Where a sweep is over experiments, the jobs of each are in a folder of its name, and
    multirun.yaml is in one of these or in another one beside them.
    """
    if is_sweep(folder):
        return folder
    folder = folder.absolute()
    # With hydra.sweep.dir by hand all jobs are in one folder; others beside it are not related.
    if folder.parent.parent.name != SWEEPS:
        return None
    beside = folder.parent.parent.glob(f"*/{glob.escape(folder.name)}")
    return next((path for path in sorted(beside) if is_sweep(path)), None)


def read_resolved_config(study: Path) -> JsonDict:
    """The settings with which a study was started; empty if the study has none.

    Raises StoreError when the file is not YAML.
    """
    found = read_yaml(study / RESOLVED_CONFIG)
    return found if isinstance(found, dict) else {}


def check_debug_directory(study: Path) -> None:
    """Raise StoreError unless a debug study may remove the files of a study in this directory.

    It may where there are none, and where they are of a debug study, as its settings say.
    """
    present = next((name for name in REMOVABLE if os.path.lexists(study / name)), None)
    if present is None:
        return
    if not (study / RESULTS).is_file() and not (study / JOURNAL).is_file():
        what = f"holds {present}, but no study"
    elif read_resolved_config(study).get("debug") is not True:
        what = "holds a study that was not made with debug=true"
    else:
        return
    raise StoreError(
        f"{study} {what}; debug=true would remove it: choose another directory, or leave out "
        "debug=true"
    )


def read_resolved_jobs(study: Path) -> list[dict[str, Any]]:
    """The saved jobs of an interleaved sweep, each with `overrides` and `experiment`.

    Empty for any other study. Raises StoreError when the file cannot be used.
    """
    found: Any = read_yaml(study / RESOLVED_JOBS) or []
    usable = isinstance(found, list) and all(
        isinstance(job, dict)
        and isinstance(job.get("overrides"), list)
        and isinstance(job.get("experiment"), dict)
        for job in found
    )
    if not usable:
        raise StoreError(f"{study / RESOLVED_JOBS} cannot be read: it holds no jobs; restore it")
    return list(found)


def read_overrides(study: Path) -> list[str]:
    """The overrides of the study's command line, or of its sweep; empty if they are not known.

    Raises StoreError when the file is not YAML.
    """
    root = sweep_root(study)
    if root == study:
        found = read_yaml(study / OVERRIDES)
    else:
        found = read_yaml(root / MULTIRUN)
        for key in ("hydra", "overrides", "task"):
            found = found.get(key) if isinstance(found, dict) else None
    return [str(item) for item in found] if isinstance(found, list) else []


def read_yaml(path: Path) -> Any:
    """A YAML file's data, None if there is no such file. Raises StoreError when it is not YAML."""
    import yaml  # late: most commands never read YAML through this module

    try:
        return yaml.safe_load(read_regular_file(path).decode("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise StoreError(f"{path} cannot be read: {reason}; restore or remove it") from error
