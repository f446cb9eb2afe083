"""One attempt at one run: measure it, record it if asked for, and make its record."""

from __future__ import annotations

import logging
import os
import uuid
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from numa_bench.isolation.host_locks import HostLocks, Turn
from numa_bench.machine.model import Topology
from numa_bench.profiling.recording import (
    add_recording,
    is_recorded,
    mark_pending,
    put_back,
    recording_paths,
    records_separately,
    set_aside,
)
from numa_bench.records import (
    Execution,
    Record,
    RunResult,
    RunSpec,
    Status,
    add_warnings,
    make_record,
)
from numa_bench.runner.disturbance import find_monitor_warnings, find_sample_warnings
from numa_bench.runner.interrupts import Interrupts
from numa_bench.runner.monitor import Monitor
from numa_bench.runner.outcome import classify_outcome
from numa_bench.runner.process import Ended, Start, start_here
from numa_bench.runner.worker_run import (
    AttemptSettings,
    RunContext,
    WorkerOutcome,
    read_last_lines,
    run_worker,
    start_worker,
    timed_window,
)
from numa_bench.store import StudyStore
from numa_bench.study_files import RunPaths

logger = logging.getLogger("numa_bench")


@dataclass(frozen=True)
class Host:
    """Where all runs of a study take place: host name, id of its environment, and its locks.

    `unmet` are the reasons why commands that runs require fail here (None: they succeed), by their
    arguments and GPUs; each is tried once. `start` starts commands.
    """

    name: str
    environment: str
    locks: HostLocks
    unmet: dict[tuple[str, ...], str | None] = field(default_factory=dict)
    start: Start = start_here


def attempt_run(
    spec: RunSpec,
    settings: AttemptSettings,
    store: StudyStore,
    topology: Topology,
    host: Host,
    interrupts: Interrupts,
) -> Record:
    """Run a spec when it is its turn on the host, and return its record.

    Every failure of the run becomes a record too.
    """
    with host.locks.hold(spec) as turn:
        context = RunContext(spec, settings, interrupts, make_token(), turn.descriptors)
        return _attempt_in_turn(context, turn, store, topology, host)


def _attempt_in_turn(
    context: RunContext, turn: Turn, store: StudyStore, topology: Topology, host: Host
) -> Record:
    spec = context.spec
    attempt = store.count_attempts(spec.run_id) + 1
    start_time = utc_timestamp()
    paths = store.run_paths(spec.run_id)
    if prevented := prepare_attempt(spec, turn, store):
        outcome, tail = WorkerOutcome(prevented), ""
    else:
        outcome = _measure(context, paths, topology)
        tail = read_last_lines(paths.stderr, context.settings.error_lines)
    ended, result = outcome.ended, outcome.result
    status, error_text = _classify(spec, outcome, tail, topology)
    warnings = [*_warnings(ended, result, outcome.monitor), *outcome.warnings]
    # A run that did not start has no profile; one that is there is of an earlier attempt.
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
        lock_wait_s=turn.wait_s,
        shared_host=host.locks.shares_host,
    )
    record = make_record(spec, result, execution, host.name)
    if records_separately(spec) and status in (Status.PASSED, Status.INVALID):
        return _record_profile(record, context, store, topology)
    return record


def waive_run(spec: RunSpec, store: StudyStore, host: Host) -> Record:
    """The record of a run that is not tried because of `spec.waived`."""
    paths = store.run_paths(spec.run_id)
    attempt = store.count_attempts(spec.run_id) + 1
    execution = Execution(
        status=Status.WAIVED,
        exit_code=None,
        error=spec.waived,
        start_time=utc_timestamp(),
        duration_s=0.0,
        attempt=attempt,
        stdout_log=store.relative_path(paths.stdout),
        stderr_log=store.relative_path(paths.stderr),
        environment=host.environment,
    )
    return make_record(spec, None, execution, host.name)


def make_token() -> str:
    """A new token of a run; its worker watches the process whose number it begins with
    (worker/lifeline.py)."""
    return f"{os.getpid()}-{uuid.uuid4().hex}"


def prepare_attempt(spec: RunSpec, turn: Turn, store: StudyStore) -> Ended | None:
    """Make the files of an attempt; how the run ended if it cannot begin, else None."""
    try:
        store.prepare_run(spec)
    except OSError as error:
        # Files that are there belong to an earlier attempt; they must not be read as this one's.
        return Ended(None, "exited", 0.0, start_error=f"its files cannot be written: {error}")
    if turn.problem is None:
        return None
    reason = "interrupted" if turn.interrupted else "exited"
    return Ended(None, reason, 0.0, start_error=turn.problem)


def _measure(context: RunContext, paths: RunPaths, topology: Topology) -> WorkerOutcome:
    """Run the worker that measures. If it fails under nsys, try once without nsys."""
    spec = context.spec
    if records_separately(spec):
        return run_worker(context, paths, "measurement")
    outcome = start_worker(context, paths)
    if spec.profile.kind != "nsys" or context.interrupts.count:
        return outcome
    status, error = _classify(spec, outcome, "", topology)
    if status is not Status.FAILED:
        return outcome
    logger.warning("%s: failed under nsys (%s); trying once without it", spec.run_id, error)
    try:
        set_aside(paths)
    except OSError as problem:
        note = f"profiler: not tried without nsys, as its files cannot be moved: {problem}"
        return outcome.with_warning(note)
    without = run_worker(context, paths, "measurement")
    if _classify(spec, without, "", topology)[0] in (Status.FAILED, Status.TIMEOUT):
        # The first failure is the one to report, so its files are the ones to keep.
        put_back(paths)
        note = "profiler: the run failed under nsys, and without it too"
        return outcome.with_warning(note)
    # It is of the process that failed, not of the one that measured.
    paths.report.unlink(missing_ok=True)
    note = f"profiler: the run failed under nsys ({error}); it was measured without it"
    return without.with_warning(note)


def _record_profile(
    record: Record, context: RunContext, store: StudyStore, topology: Topology
) -> Record:
    """Record a measured run under nsys in a second process; return its completed record.

    The measured record is stored first. A failure is a warning, and changes nothing measured.
    """
    spec = context.spec
    if context.interrupts.count:
        return add_warnings(record, "profiler: interrupted before the run was recorded")
    # If the study is killed while nsys records, the measurement is kept, and says so.
    store.add_record(mark_pending(record))
    paths = recording_paths(store.run_paths(spec.run_id))
    # No monitor: its readings would replace those of the measurement.
    unwatched = replace(context, settings=replace(context.settings, monitor_interval_s=0.0))
    outcome = start_worker(unwatched, paths, "recording")
    result = outcome.result
    if result is not None and outcome.ended.reason == "exited" and is_recorded(result, paths):
        completed = add_recording(record, result, store.relative_path(paths.report))
        return add_warnings(completed, *outcome.warnings)
    _, error = _classify(spec, outcome, "", topology)
    why = [error] if error else (result.warnings if result is not None else [])
    paths.report.unlink(missing_ok=True)
    return add_warnings(
        record,
        f"profiler: the run was measured, but not recorded: {'; '.join(why) or 'no report'}",
        *outcome.warnings,
    )


def _classify(
    spec: RunSpec, outcome: WorkerOutcome, tail: str, topology: Topology
) -> tuple[Status, str | None]:
    return classify_outcome(spec, outcome.ended, outcome.result, outcome.problem, tail, topology)


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
    if result is not None and monitor is not None and (result.samples or result.series):
        window = timed_window(result)
        found += find_monitor_warnings(
            monitor.summarise_window(window), monitor.count_readings(window)
        )
    return found
