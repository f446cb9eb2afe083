"""One attempt at one run: files, command, monitor, profiler, and the resulting record."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from numa_bench.jsonio import read_json, write_json
from numa_bench.machine.model import Topology
from numa_bench.profiling.nsys import explain_missing_report
from numa_bench.profiling.profilers import Profiler
from numa_bench.records import Execution, Record, RunResult, RunSpec, make_record
from numa_bench.runner.command import worker_command
from numa_bench.runner.disturbance import find_monitor_warnings, find_sample_warnings
from numa_bench.runner.interrupts import Interrupts
from numa_bench.runner.monitor import Monitor
from numa_bench.runner.outcome import classify_outcome, worker_outcome
from numa_bench.runner.process import Ended, run_process
from numa_bench.store import StudyStore
from numa_bench.study_files import RunPaths

logger = logging.getLogger("numa_bench")
#: Read from the end of a log for its last lines; far more than `output.error_lines` of text.
_TAIL_BYTES = 16_384
_STAGES = ("h2d_ms", "compute_ms", "d2h_ms")


@dataclass(frozen=True)
class Host:
    """Where all runs of a study take place: host name and the id of its environment."""

    name: str
    environment: str


@dataclass(frozen=True)
class AttemptSettings:
    """Settings that are the same for all runs of a study.

    `grace_s`: between SIGTERM and SIGKILL; `error_lines`: last lines of stderr in an error;
    `monitor_interval_s`: between two readings of the sensors, 0 for none.
    """

    grace_s: float
    error_lines: int
    monitor_interval_s: float
    profiler: Profiler


@dataclass(frozen=True)
class _Outcome:
    """How one start of a worker ended. `problem`: why there is no usable result."""

    ended: Ended
    result: RunResult | None = None
    problem: str = ""
    monitor: Monitor | None = None
    warnings: tuple[str, ...] = ()


def attempt_run(
    spec: RunSpec,
    settings: AttemptSettings,
    store: StudyStore,
    topology: Topology,
    host: Host,
    interrupts: Interrupts,
) -> Record:
    """Run a spec and return its record. Every failure of the run becomes a record too."""
    attempt = store.count_attempts(spec.run_id) + 1
    start_time = utc_timestamp()
    paths = store.run_paths(spec.run_id)
    tail = ""
    try:
        store.prepare_run(spec)
    except OSError as error:
        # Files that are there belong to an earlier attempt; they must not be read as this one's.
        problem = f"its files cannot be written: {error}"
        outcome = _Outcome(Ended(None, "exited", 0.0, start_error=problem))
    else:
        outcome = _start_worker(spec, settings, paths, interrupts)
        tail = read_last_lines(paths.stderr, settings.error_lines)
    ended, result = outcome.ended, outcome.result
    status, error_text = classify_outcome(spec, ended, result, outcome.problem, tail, topology)
    warnings = [*_warnings(ended, result, outcome.monitor), *outcome.warnings]
    report = paths.report if ended.start_error is None and paths.report.is_file() else None
    trace = paths.trace if ended.start_error is None and paths.trace.is_file() else None
    monitor = outcome.monitor
    execution = Execution(
        status=status,
        exit_code=ended.returncode,
        error=error_text,
        start_time=start_time,
        duration_s=ended.duration_s,
        attempt=attempt,
        stdout_log=store.relative_path(paths.stdout),
        stderr_log=store.relative_path(paths.stderr),
        nsys_report=store.relative_path(report) if report else None,
        torch_trace=store.relative_path(trace) if trace else None,
        warnings=tuple(warnings),
        environment=host.environment,
        monitor=monitor.summarise_window(timed_window(result)) if monitor else {},
    )
    return make_record(spec, result, execution, host.name)


def _start_worker(
    spec: RunSpec, settings: AttemptSettings, paths: RunPaths, interrupts: Interrupts
) -> _Outcome:
    """Run the worker; a second time if nsys ended before the worker ran.

    nsys sometimes loses its session at the start, which says nothing about the run.
    """
    outcome = _run_once(spec, settings, paths, interrupts)
    if not _ended_before_worker(spec, paths, outcome):
        return outcome
    first = outcome.ended.returncode
    logger.warning(
        "%s: nsys ended with %s before the worker ran; starting it once more", spec.run_id, first
    )
    outcome = _run_once(spec, settings, paths, interrupts)
    note = f"profiler: nsys lost its session at the start (exit code {first}); started once more"
    outcome = replace(outcome, warnings=(*outcome.warnings, note))
    if _ended_before_worker(spec, paths, outcome):
        outcome = replace(
            outcome,
            problem="nsys or its child ended before the worker ran, twice; profiler=none measures "
            "without it",
        )
    return outcome


def _ended_before_worker(spec: RunSpec, paths: RunPaths, outcome: _Outcome) -> bool:
    ended = outcome.ended
    never_ran = ended.reason == "exited" and ended.returncode != 0 and not paths.started.is_file()
    return spec.profile.kind == "nsys" and ended.start_error is None and never_ran


def _run_once(
    spec: RunSpec, settings: AttemptSettings, paths: RunPaths, interrupts: Interrupts
) -> _Outcome:
    token = f"{os.getpid()}-{uuid.uuid4().hex}"
    nsys = spec.profile.kind == "nsys"
    with contextlib.ExitStack() as stack:
        tmp = Path(tempfile.gettempdir())
        if nsys:  # its state goes there, including the files of a session that was killed
            try:
                made = tempfile.TemporaryDirectory(prefix="numa_bench-", ignore_cleanup_errors=True)
            except OSError as error:
                return _Outcome(Ended(None, "exited", 0.0, start_error=f"no TMPDIR: {error}"))
            tmp = Path(stack.enter_context(made))
        command = worker_command(spec, paths, os.environ, token, settings.profiler, tmp)
        found_by = paths.started if nsys else None
        monitor = Monitor(spec, paths.monitor, settings.monitor_interval_s, pid_file=found_by)
        with monitor:
            ended = run_process(
                command,
                paths.stdout,
                paths.stderr,
                timeout_s=spec.test.timeout_s,
                grace_s=settings.grace_s,
                interrupts=interrupts,
                started=monitor.start_sampling,
            )
        monitor.save_readings()
        result, problem = read_result(paths)
        warnings: tuple[str, ...] = ()
        if nsys and ended.start_error is None:
            ended, warnings = worker_outcome(ended, result)
            warnings += _report_problem(paths, tmp)
            if settings.profiler.exposed and paths.report.is_file():
                names = ", ".join(settings.profiler.exposed)
                warnings += (f"profiler: the report may hold {names} of other processes",)
        elif spec.profile.kind == "torch" and result is not None and not paths.trace.is_file():
            warnings = ("profiler: torch.profiler wrote no trace",)
    return _Outcome(ended, result, problem, monitor, warnings)


def _report_problem(paths: RunPaths, tmp: Path) -> tuple[str, ...]:
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


def read_result(paths: RunPaths) -> tuple[RunResult | None, str]:
    """The worker's result, or None and the reason why it cannot be used.

    A result at `spare_result` is moved to `result`.
    """
    path = paths.result if paths.result.is_file() else paths.spare_result
    if not path.is_file():
        return None, "and it left no result"
    try:
        result = RunResult.from_dict(read_json(path))
        if result.samples and len({len(result.samples[name]) for name in _STAGES}) > 1:
            raise ValueError("its stages have different numbers of batches")
    except (OSError, ValueError, TypeError, KeyError) as error:
        return None, f"and its result cannot be read: {error}"
    if path == paths.spare_result:
        try:
            write_json(paths.result, result.to_dict(), indent=None)
            path.unlink()
        except OSError:
            warning = f"raw_data: no space left in the study; it is in {path}"
            result = replace(result, warnings=[*result.warnings, warning])
    return result, ""


def read_last_lines(path: Path, count: int) -> str:
    """The last `count` lines of a log; empty if it cannot be read. It need not be UTF-8."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-count:]) if count else ""


def timed_window(result: RunResult | None) -> tuple[float, float] | None:
    """Begin and end of the timed window in CLOCK_MONOTONIC, if there was one."""
    window = result.observed.get("window_monotonic_s") if result is not None else None
    return (window[0], window[1]) if window else None


def utc_timestamp() -> str:
    """The time in UTC, ISO 8601 with milliseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _warnings(ended: Ended, result: RunResult | None, monitor: Monitor | None) -> list[str]:
    """Warnings about disturbances of a run; most need samples of a timed window."""
    found = []
    if ended.reason == "exited" and ended.leftovers:
        found.append(f"leftovers: processes left behind, now killed: {', '.join(ended.leftovers)}")
    if result is not None and result.samples:
        found += find_sample_warnings(result.samples, result.warmup)
        window = timed_window(result)
        if monitor is not None:
            found += find_monitor_warnings(
                monitor.summarise_window(window), monitor.count_readings(window)
            )
    return found
