"""The sweep of this process: made when all its jobs are checked, closed when Hydra has ended."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from numa_bench.errors import NumaBenchError
from numa_bench.study_files import MIXED
from numa_bench.study_search import find_sweep
from numa_bench.sweep.display import print_sweep
from numa_bench.sweep.state import Job, JobState, Sweep, load_sweep


@dataclass(frozen=True)
class JobPreview:
    """A job as it was checked before the sweep. `runs` is None where they cannot be planned here.

    `resume_from` is the directory in which the job goes on; `expected_s` is that of its runs.
    """

    overrides: tuple[str, ...]
    differs: str
    study: str
    resume_from: str | None
    runs: int | None = None
    expected_s: float = 0.0


_current: Sweep | None = None


def find_current() -> Sweep | None:
    """The sweep that this process runs, if its jobs are known."""
    return _current


def note_current(sweep: Sweep | None) -> None:
    """Make this the sweep of this process."""
    global _current
    _current = sweep


def prepare_sweep(directory: Path, previews: Sequence[JobPreview]) -> Sweep:
    """The sweep of checked jobs in `directory` (hydra.sweep.dir), or the one that they resume."""
    resumed = _find_resumed(previews)
    if resumed is not None:
        return resumed
    jobs = []
    for number, preview in enumerate(previews):
        if preview.resume_from is not None:
            folder = Path(preview.resume_from).absolute()
        else:
            folder = find_job_directory(directory.absolute(), preview.study, number)
        jobs.append(_make_job(number, folder, preview))
    return Sweep(directory.absolute(), jobs, list(range(len(jobs))))


def find_job_directory(sweep: Path, study: str, number: int) -> Path:
    """The directory of a job. In a sweep over experiments it is in the folder of its study."""
    if sweep.parent.name != MIXED:
        return sweep / str(number)
    return sweep.parent.parent / study / sweep.name / str(number)


def _make_job(number: int, folder: Path, preview: JobPreview) -> Job:
    return Job(number, folder, preview.overrides, preview.differs, preview.runs, preview.expected_s)


def _find_resumed(previews: Sequence[JobPreview]) -> Sweep | None:
    """The sweep whose jobs go on, if all are of the same one that has a summary."""
    folders = [Path(preview.resume_from) for preview in previews if preview.resume_from]
    roots = {find_sweep(folder) for folder in folders}
    root = roots.pop() if len(roots) == 1 else None
    sweep = load_sweep(root.absolute()) if root is not None else None
    if sweep is None or len(folders) < len(previews):
        return None
    places = {os.path.realpath(job.directory): i for i, job in enumerate(sweep.jobs)}
    for folder, preview in zip(folders, previews, strict=True):
        index = places.get(os.path.realpath(folder))
        if index is None:
            return None
        sweep.launched.append(index)
        job = sweep.jobs[index]
        # Those of a mixed sweep need not be read back from the command line.
        job.state, job.runs, job.left_s = JobState.WAITING, preview.runs, preview.expected_s
    return sweep


def close_sweep(code: int) -> int:
    """Show the sweep of this process, if there is one, as a whole; return the exit code.

    `code` is that of the application. Jobs that ran elsewhere are read from their directories.
    """
    sweep = find_current()
    note_current(None)
    if sweep is None or not sweep.directory.is_dir():  # nothing of it was left
        return max(code, sweep.exit_code) if sweep is not None else code
    # Before studies are read: `code` has the failures of launchers that run jobs elsewhere.
    worst = code if code == 130 else max(code, sweep.exit_code)
    sweep.interrupted = code == 130
    for job in sweep.running:
        if job.state is JobState.WAITING:
            job.read_study()
    sweep.save()
    print_sweep(sweep)
    return worst


def refresh_summary(study: Path) -> None:
    """Bring sweep_summary.json up to date after a job of the sweep was resumed by itself."""
    try:
        root = find_sweep(study)
        sweep = load_sweep(root) if root is not None else None
    except NumaBenchError:
        return
    if sweep is None:
        return
    for job in sweep.jobs:
        if os.path.realpath(job.directory) == os.path.realpath(study):
            job.read_study()
            sweep.save()
