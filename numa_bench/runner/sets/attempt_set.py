"""One attempt at a set of workers: run them together, and make one record of all."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

from numa_bench.isolation.host_locks import Turn
from numa_bench.machine.model import Topology
from numa_bench.records import (
    MEASURED,
    Execution,
    Member,
    Record,
    RunResult,
    RunSpec,
    Status,
    make_record,
)
from numa_bench.runner.attempt import Host, make_token, prepare_attempt, utc_timestamp
from numa_bench.runner.command import worker_command
from numa_bench.runner.disturbance import find_sample_warnings
from numa_bench.runner.interrupts import Interrupts
from numa_bench.runner.process import Command
from numa_bench.runner.sets.processes import SetProcess, run_together
from numa_bench.runner.sets.set_monitor import SetMonitor, find_set_warnings, name_worker
from numa_bench.runner.sets.set_outcome import SetOutcome
from numa_bench.runner.worker_run import AttemptSettings, timed_window
from numa_bench.store import StudyStore

#: Names the spec of its set to each worker.
SET_VARIABLE = "NUMA_BENCH_SET"


def attempt_set(
    spec: RunSpec,
    settings: AttemptSettings,
    store: StudyStore,
    topology: Topology,
    host: Host,
    interrupts: Interrupts,
) -> Record:
    """Run the workers of a set together, and return the record of the set.

    All locks are held before the first of them starts. Every failure becomes a record too; one
    worker that fails, fails the set.
    """
    with host.locks.hold(spec) as turn:
        return _attempt_in_turn(spec, turn, settings, store, topology, host, interrupts)


def _attempt_in_turn(
    spec: RunSpec,
    turn: Turn,
    settings: AttemptSettings,
    store: StudyStore,
    topology: Topology,
    host: Host,
    interrupts: Interrupts,
) -> Record:
    attempt = store.count_attempts(spec.run_id) + 1
    start_time = utc_timestamp()
    paths = store.run_paths(spec.run_id)
    monitor = SetMonitor(spec, paths.monitor, settings.monitor_interval_s)
    outcome = _run_workers(spec, turn, settings, store, topology, interrupts, monitor)
    status, error_text = outcome.judge()
    result = outcome.combine() if status in (Status.PASSED, Status.INVALID) else None
    culprit = outcome.culprit or spec.members[0].name
    logs = store.run_paths(spec.run_id, culprit)
    execution = Execution(
        status=status,
        exit_code=outcome.ended[culprit].returncode,
        error=error_text,
        start_time=start_time,
        duration_s=max(one.duration_s for one in outcome.ended.values()),
        attempt=attempt,
        stdout_log=store.relative_path(logs.stdout),
        stderr_log=store.relative_path(logs.stderr),
        warnings=tuple(_warnings(outcome, result, monitor)),
        environment=host.environment,
        monitor=monitor.summarise_window(timed_window(result)),
        workers=tuple(outcome.describe_workers()),
        lock_wait_s=turn.wait_s,
        shared_host=host.locks.shares_host,
    )
    return make_record(spec, result, execution, host.name)


def _run_workers(
    spec: RunSpec,
    turn: Turn,
    settings: AttemptSettings,
    store: StudyStore,
    topology: Topology,
    interrupts: Interrupts,
    monitor: SetMonitor,
) -> SetOutcome:
    """Run all workers beside their monitor, and read what they left."""
    if prevented := prepare_attempt(spec, turn, store):
        return SetOutcome(spec, {member.name: prevented for member in spec.members})
    with monitor:
        ended = run_together(
            [_process(spec, member, settings, store) for member in spec.members],
            timeout_s=spec.test.timeout_s,
            grace_s=settings.grace_s,
            interrupts=interrupts,
            started=monitor.start_all,
            pass_fds=turn.descriptors,
        )
    # Written when the processes have ended: no disk access beside a measurement.
    monitor.save_readings()
    outcome = SetOutcome(spec, ended)
    outcome.read(store, topology, settings.error_lines)
    return outcome


def _process(
    spec: RunSpec, member: Member, settings: AttemptSettings, store: StudyStore
) -> SetProcess:
    paths = store.run_paths(spec.run_id, member.name)
    set_file = store.run_paths(spec.run_id).spec.resolve()

    def make_command(descriptor: int) -> Command:
        tmp = Path(tempfile.gettempdir())
        command = worker_command(
            member.spec, paths, os.environ, make_token(), settings.profiler, tmp
        )
        return replace(
            command,
            argv=(*command.argv, "--rendezvous", str(descriptor)),
            env={**command.env, SET_VARIABLE: str(set_file)},
        )

    return SetProcess(
        member.name, member.role == MEASURED, make_command, paths.stdout, paths.stderr
    )


def _warnings(outcome: SetOutcome, result: RunResult | None, monitor: SetMonitor) -> list[str]:
    """What disturbed the set; most of it needs a timed window."""
    found = []
    left = [name for one in outcome.ended.values() for name in one.leftovers]
    if left and outcome.culprit is None:
        found.append(f"leftovers: processes left behind, now killed: {', '.join(left)}")
    if result is None:
        return found
    for member in outcome.spec.measured:
        own = outcome.results.get(member.name)
        if own is not None and "latency_ms" in own.samples:
            lines = find_sample_warnings(own.samples, own.warmup)
            found += [name_worker(line, member.name) for line in lines]
    window = timed_window(result)
    summary, count = monitor.summarise_window(window), monitor.count_readings(window)
    return found + find_set_warnings(summary, count, [m.name for m in outcome.spec.members])
