"""One attempt at one run: files, command, monitor, profiler, and the resulting record."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from numa_bench.jsonio import read_json, write_json
from numa_bench.machine.model import Topology
from numa_bench.profiling.profilers import Profiler
from numa_bench.profiling.recording import (
    add_recording,
    find_report_problem,
    is_recorded,
    mark_pending,
    put_back,
    recording_paths,
    records_separately,
    set_aside,
)
from numa_bench.records import Execution, Record, RunResult, RunSpec, Status, make_record
from numa_bench.runner.command import Only, worker_command
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
    # Every process of the run carries it.
    token = f"{os.getpid()}-{uuid.uuid4().hex}"
    tail = ""
    try:
        store.prepare_run(spec)
    except OSError as error:
        # Files that are there belong to an earlier attempt; they must not be read as this one's.
        problem = f"its files cannot be written: {error}"
        outcome = _Outcome(Ended(None, "exited", 0.0, start_error=problem))
    else:
        outcome = _measure(spec, settings, paths, interrupts, token, topology)
        tail = read_last_lines(paths.stderr, settings.error_lines)
    ended, result = outcome.ended, outcome.result
    status, error_text = _classify(spec, outcome, tail, topology)
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
    record = make_record(spec, result, execution, host.name)
    if records_separately(spec) and status in (Status.PASSED, Status.INVALID):
        return _record_profile(record, spec, settings, store, interrupts, token, topology)
    return record


def _measure(
    spec: RunSpec,
    settings: AttemptSettings,
    paths: RunPaths,
    interrupts: Interrupts,
    token: str,
    topology: Topology,
) -> _Outcome:
    """Run the worker that measures. If it fails under nsys, try once without nsys."""
    if records_separately(spec):
        return _run_once(spec, settings, paths, interrupts, token, "measurement")
    outcome = _start_worker(spec, settings, paths, interrupts, token)
    if spec.profile.kind != "nsys" or interrupts.count:
        return outcome
    status, error = _classify(spec, outcome, "", topology)
    if status is not Status.FAILED:
        return outcome
    logger.warning("%s: failed under nsys (%s); trying once without it", spec.run_id, error)
    try:
        set_aside(paths)
    except OSError as problem:
        note = f"profiler: not tried without nsys, as its files cannot be moved: {problem}"
        return replace(outcome, warnings=(*outcome.warnings, note))
    without = _run_once(spec, settings, paths, interrupts, token, "measurement")
    if _classify(spec, without, "", topology)[0] in (Status.FAILED, Status.TIMEOUT):
        put_back(paths)
        note = "profiler: the run failed under nsys, and without it too"
        return replace(outcome, warnings=(*outcome.warnings, note))
    paths.report.unlink(missing_ok=True)
    note = f"profiler: the run failed under nsys ({error}); it was measured without it"
    return replace(without, warnings=(*without.warnings, note))


def _record_profile(
    record: Record,
    spec: RunSpec,
    settings: AttemptSettings,
    store: StudyStore,
    interrupts: Interrupts,
    token: str,
    topology: Topology,
) -> Record:
    """Record a measured run under nsys in a second process; return its completed record.

    The measured record is stored first. A failure is a warning, and changes nothing measured.
    """
    if interrupts.count:
        return _add_warnings(record, "profiler: interrupted before the run was recorded")
    store.add_record(mark_pending(record))
    paths = recording_paths(store.run_paths(spec.run_id))
    unwatched = replace(settings, monitor_interval_s=0.0)
    outcome = _start_worker(spec, unwatched, paths, interrupts, token, "recording")
    result = outcome.result
    if result is not None and outcome.ended.reason == "exited" and is_recorded(result, paths):
        completed = add_recording(record, result, store.relative_path(paths.report))
        return _add_warnings(completed, *outcome.warnings)
    _, error = _classify(spec, outcome, "", topology)
    why = [error] if error else (result.warnings if result is not None else [])
    paths.report.unlink(missing_ok=True)
    return _add_warnings(
        record,
        f"profiler: the run was measured, but not recorded: {'; '.join(why) or 'no report'}",
        *outcome.warnings,
    )


def _add_warnings(record: Record, *warnings: str) -> Record:
    return {**record, "warnings": [*record["warnings"], *warnings]}


def _classify(
    spec: RunSpec, outcome: _Outcome, tail: str, topology: Topology
) -> tuple[Status, str | None]:
    return classify_outcome(spec, outcome.ended, outcome.result, outcome.problem, tail, topology)


def _start_worker(
    spec: RunSpec,
    settings: AttemptSettings,
    paths: RunPaths,
    interrupts: Interrupts,
    token: str,
    only: Only | None = None,
) -> _Outcome:
    """Run the worker; a second time if nsys ended before the worker ran.

    nsys sometimes loses its session at the start, which says nothing about the run.
    """
    outcome = _run_once(spec, settings, paths, interrupts, token, only)
    if not _ended_before_worker(spec, paths, outcome):
        return outcome
    first = outcome.ended.returncode
    logger.warning(
        "%s: nsys ended with %s before the worker ran; starting it once more", spec.run_id, first
    )
    outcome = _run_once(spec, settings, paths, interrupts, token, only)
    note = f"profiler: nsys lost its session at the start (exit code {first}); started once more"
    outcome = replace(outcome, warnings=(*outcome.warnings, note))
    if _ended_before_worker(spec, paths, outcome):
        outcome = replace(outcome, problem="nsys or its child ended before the worker ran, twice")
    return outcome


def _ended_before_worker(spec: RunSpec, paths: RunPaths, outcome: _Outcome) -> bool:
    ended = outcome.ended
    never_ran = ended.reason == "exited" and ended.returncode != 0 and not paths.started.is_file()
    return spec.profile.kind == "nsys" and ended.start_error is None and never_ran


def _run_once(
    spec: RunSpec,
    settings: AttemptSettings,
    paths: RunPaths,
    interrupts: Interrupts,
    token: str,
    only: Only | None,
) -> _Outcome:
    with contextlib.ExitStack() as stack:
        tmp = Path(tempfile.gettempdir())
        if spec.profile.kind == "nsys":  # its state goes there, also that of a killed session
            try:
                made = tempfile.TemporaryDirectory(prefix="numa_bench-", ignore_cleanup_errors=True)
            except OSError as error:
                return _Outcome(Ended(None, "exited", 0.0, start_error=f"no TMPDIR: {error}"))
            tmp = Path(stack.enter_context(made))
        command = worker_command(
            spec, paths, os.environ, token, settings.profiler, tmp, *([only] if only else [])
        )
        found_by = paths.started if command.nsys else None
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
        if command.nsys and ended.start_error is None:
            ended, warnings = worker_outcome(ended, result)
            warnings += find_report_problem(paths, tmp)
            if settings.profiler.exposed and paths.report.is_file():
                names = ", ".join(settings.profiler.exposed)
                warnings += (f"profiler: the report may hold {names} of other processes",)
        elif spec.profile.kind == "torch" and result is not None and not paths.trace.is_file():
            warnings = ("profiler: torch.profiler wrote no trace",)
    return _Outcome(ended, result, problem, monitor, warnings)


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
