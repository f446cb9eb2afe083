"""The process that nsys records where it is not the one that is measured, and its files.

Until alternated pairs of runs with and without nsys show that it costs less than 0.5 %, a CUDA run
is measured without nsys and recorded by a second process afterwards.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from numa_bench.profiling.nsys import explain_missing_report
from numa_bench.records import Record, RunResult, RunSpec, Status, add_warnings
from numa_bench.study_files import RunPaths

_PENDING = "profiler: the study ended before this run was recorded"
_PROFILED = "profiled_throughput_samples_per_s"


def records_separately(spec: RunSpec) -> bool:
    """Whether nsys records this run in a process of its own, after the measured one.

    Not with capture=run, which asks for a trace of the timed window itself.
    """
    profile = spec.profile
    return profile.kind == "nsys" and profile.capture == "window" and spec.device.kind == "cuda"


def recording_paths(paths: RunPaths) -> RunPaths:
    """The paths of a recording process: nothing of the measured one is overwritten."""
    spare = paths.spare_result
    return replace(
        paths,
        result=paths.nsys_result,
        stdout=paths.nsys_stdout,
        stderr=paths.nsys_stderr,
        spare_result=spare.with_name(f"nsys-{spare.name}"),
    )


def set_aside(paths: RunPaths) -> None:
    """Keep the files of a worker that failed under nsys from one that is tried without it."""
    for path, aside in _pairs(paths):
        if path.is_file():
            path.replace(aside)


def put_back(paths: RunPaths) -> None:
    """The inverse of `set_aside`; files of the second try are replaced."""
    for path, aside in _pairs(paths):
        path.unlink(missing_ok=True)
        if aside.is_file():
            aside.replace(path)


def mark_pending(record: Record) -> Record:
    """The record of a measured run as it is stored while its recording goes on."""
    return add_warnings(record, _PENDING)


def add_recording(record: Record, result: RunResult, report: str) -> Record:
    """The record of a measured run with what its recording process found.

    `profiler_overhead` compares two processes, so it includes the variation between runs.
    """
    timed, profiled = record["throughput_samples_per_s"], result.metrics[_PROFILED]
    return {
        **record,
        "nsys_report": report,
        "profiled_throughput_samples_per_s": profiled,
        "profiler_overhead": timed / profiled - 1 if timed and profiled else None,
    }


def is_recorded(result: RunResult | None, paths: RunPaths) -> bool:
    """Whether a recording process ran its profiled window and left a report."""
    if result is None or result.status != Status.PASSED.value:
        return False
    return result.metrics.get(_PROFILED) is not None and paths.report.is_file()


def find_report_problem(paths: RunPaths, tmp: Path) -> tuple[str, ...]:
    """Make sure that nsys' report is at `paths.report`; returns a warning when there is none."""
    if paths.report.is_file():
        return ()
    # nsys falls back to its TMPDIR if the target is not writable.
    strays = sorted(tmp.glob("**/*.nsys-rep"))
    try:
        if strays:
            shutil.move(strays[0], paths.report)
            return ()
    except OSError as error:
        return (f"profiler: the report could not be kept: {error}",)
    reason = explain_missing_report(tmp) or "; the run may have ended before its profiled window"
    return (f"profiler: nsys left no report{reason}",)


def _pairs(paths: RunPaths) -> tuple[tuple[Path, Path], ...]:
    # The names of a recording process are free: a run that has one is never set aside.
    return (
        (paths.result, paths.nsys_result),
        (paths.stdout, paths.nsys_stdout),
        (paths.stderr, paths.nsys_stderr),
    )
