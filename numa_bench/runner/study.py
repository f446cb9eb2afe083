"""The loop: pending = plan - done; run one, store it, show it, until the end or an interruption."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from numa_bench.errors import StoreError, StudyFailed
from numa_bench.isolation.host_locks import HostLocks
from numa_bench.isolation.scratch import remove_stale_scratch
from numa_bench.machine.environment import describe_environment
from numa_bench.machine.model import Topology
from numa_bench.plan.plan import Plan
from numa_bench.plan.time_limit import StudyClock, split_blocks
from numa_bench.profiling.exports import Exporter
from numa_bench.records import Record, RunSpec, add_warnings
from numa_bench.runner.attempt import Host, attempt_run, utc_timestamp, waive_run
from numa_bench.runner.conditions import check_conditions
from numa_bench.runner.display.cell_rows import build_rows
from numa_bench.runner.display.console import Reporter, print_results
from numa_bench.runner.display.events import make_reporter
from numa_bench.runner.display.time_limits import describe_limit
from numa_bench.runner.interrupts import Interrupts
from numa_bench.runner.programs.attempt_command import attempt_command
from numa_bench.runner.programs.guardian import Guardian
from numa_bench.runner.repeats_history import list_completed_repeats
from numa_bench.runner.resume import find_done, find_other_runs
from numa_bench.runner.sets.attempt_set import attempt_set
from numa_bench.runner.study_summary import (
    StudyStart,
    build_summary,
    closing_lines,
    format_counts,
    shown_path,
    warn_other_environments,
    warn_other_isolation,
)
from numa_bench.runner.worker_run import AttemptSettings
from numa_bench.store import StudyStore
from numa_bench.study_files import BUSY_LOCK, RESULTS, SUMMARY, TOPOLOGY, read_summary
from numa_bench.study_search import check_debug_directory
from numa_bench.tracking.factory import make_trackers
from numa_bench.tracking.feeder import Feeder
from numa_bench.tracking.sync import Syncer
from numa_bench.versions import PROJECT

logger = logging.getLogger("numa_bench")


def run_study(
    plan: Plan,
    topology: Topology,
    directory: Path,
    opened: Callable[[], None] = lambda: None,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Run what is pending, and leave a complete study directory behind.

    `opened` is called when this process holds the directory, before anything is written there;
    `started` when the study has started up: from then on it takes the locks that it needs.
    Raises StudyFailed when some run failed, timed out or was invalid; KeyboardInterrupt when the
    user interrupted; StoreError when the directory cannot be used.
    """
    with StudyStore(directory) as store, Interrupts() as interrupts, Guardian() as guardian:
        with make_reporter(plan) as reporter:
            if plan.overwrites:
                # Again: another study may have begun here since the first check.
                check_debug_directory(directory)
            opened()
            remove_stale_scratch()
            if plan.overwrites:
                store.remove_files()
            # results.json is there before the first run: a study killed in it can be resumed.
            if not (directory / RESULTS).is_file():
                store.create_results()
            store.write_file(TOPOLOGY, topology.to_dict())
            locks = HostLocks(plan.isolation, topology, interrupts, reporter.show_wait)
            plan, clock, tracked = _run_plan(
                plan, topology, store, interrupts, reporter, locks, guardian, started
            )
            saved = _save_records(store)
        interrupted = interrupts.count > 0
        # Printed when the bar has left the screen.
        rows = build_rows(plan.cells, (*plan.runs, *plan.cut), store.records)
        lines = closing_lines(plan, store, saved, tracked, clock.elapsed_s)
        print_results(rows, plan, lines)
    # Everything is stored and shown by now.
    if interrupted:
        interrupts.pass_on_time_out()
        raise KeyboardInterrupt
    counts = format_counts(store)
    if saved is None or saved.parent != directory:
        where = f"they are in {saved}" if saved else "the lines above show them"
        raise StudyFailed(f"the results ({counts}) could not be written to {directory}; {where}")
    if store.has_failures():
        raise StudyFailed(f"not every run passed: {counts}; see {saved}")


def _save_records(store: StudyStore) -> Path | None:
    """The file that has all records; None, and a line in the log, where no disk takes them."""
    try:
        return store.save_somewhere()
    except StoreError as error:
        logger.error("%s", error)
        return None


def _run_plan(
    plan: Plan,
    topology: Topology,
    store: StudyStore,
    interrupts: Interrupts,
    reporter: Reporter,
    locks: HostLocks,
    guardian: Guardian,
    started: Callable[[], None],
) -> tuple[Plan, StudyClock, list[str]]:
    """Run everything that is pending, and feed trackers.

    Returns the plan without the blocks for which there was no time, the study's clock, and a line
    for each tracker.
    """
    # Resuming is nothing else: the order of the plan, without the runs that need not run again.
    done = find_done(store.records, plan.runs)
    pending = [run for run in plan.runs if run.run_id not in done]
    limit_s = plan.time_limit.limit_s if plan.time_limit is not None else None
    clock = StudyClock(limit_s, len(plan.cells), store.records, time.monotonic)
    start = _describe_start(topology, store, pending)
    _log_warnings(plan, start, store, locks)
    # Before the first run too: a study that is killed still says where it ran.
    _write_summary(plan, start, store, interrupts)
    feeder = _make_feeder(plan, store, interrupts, locks)
    if plan.tracking.required:
        feeder.require_trackers()
    reporter.show_start(plan, pending, shown_path(store.root))
    if any(run.command is not None for run in pending):
        guardian.prepare()
    # Before any other lock: whoever holds the gate may be waiting for the one of the start-up.
    started()
    if pending:
        feeder.feed_stored()  # connects while the first worker starts
    exporter = _make_exporter(plan, store, interrupts, locks)
    measure = partial(
        _attempt,
        settings=AttemptSettings(
            plan.output.grace_s, plan.output.error_lines, plan.monitor_interval_s, plan.profiler
        ),
        store=store,
        topology=topology,
        host=Host(socket.gethostname(), start.environment["id"], locks, start=guardian.start),
        interrupts=interrupts,
    )
    cut_from = _run_pending(
        pending, plan, clock, measure, store, interrupts, reporter, feeder, exporter
    )
    if cut_from is not None:
        plan = plan.cut_after(cut_from)
    if not store.is_current:
        store.save_records()  # trackers keep a copy of the file
    _write_summary(plan, start, store, interrupts)
    tracked = feeder.finish_feeding()
    (store.root / BUSY_LOCK).unlink(missing_ok=True)
    return plan, clock, tracked


def _attempt(spec: RunSpec, **context: Any) -> Record:
    """One attempt at a run, or at a set of workers."""
    if spec.waived is not None:
        return waive_run(spec, context["store"], context["host"])
    if spec.command is not None:
        return attempt_command(spec, **context)
    return (attempt_set if spec.members else attempt_run)(spec, **context)


def _run_pending(
    pending: Sequence[RunSpec],
    plan: Plan,
    clock: StudyClock,
    measure: Callable[[RunSpec], Record],
    store: StudyStore,
    interrupts: Interrupts,
    reporter: Reporter,
    feeder: Feeder,
    exporter: Exporter,
) -> int | None:
    """Measure one spec after the other; stop after the run that is interrupted.

    Returns the number of the block before which the time limit ended the study, else None.
    Exports and trackers work while the next worker starts; it waits for them before it measures.
    """
    cut_from = None
    for repeat, block in split_blocks(pending):
        if not interrupts.count and not clock.allows(sum(spec.waived is None for spec in block)):
            cut_from = repeat
            break
        for spec in block:
            if interrupts.count:
                break
            reporter.show_run_start(spec)
            record = measure(spec)
            store.add_record(record)
            if spec.waived is None:
                clock.count_run()
            # Rarely waits: the worker did not measure before the previous export had ended.
            exporter.collect_export()
            reporter.show_run_end(record)
            feeder.feed_stored()
            if record["nsys_report"] and plan.profiler.config.export:
                paths = store.run_paths(spec.run_id)
                exporter.start_export(spec.run_id, paths.report, paths.sqlite)
    exporter.collect_export()
    return cut_from


def _describe_start(
    topology: Topology, store: StudyStore, pending: Sequence[RunSpec]
) -> StudyStart:
    runs = [run for run in pending if run.waived is None]
    earlier = read_summary(store.root)
    return StudyStart(
        started=utc_timestamp(),
        environment=describe_environment(PROJECT, topology),
        earlier=earlier["environments"],
        conditions=tuple(check_conditions(runs, topology)) if runs else (),
        completed_repeats=list_completed_repeats(earlier, store.records),
    )


def _log_warnings(plan: Plan, start: StudyStart, store: StudyStore, locks: HostLocks) -> None:
    others = warn_other_environments(store.records, start.environment["id"])
    others += find_other_runs(store.records, plan)
    others += warn_other_isolation(store.records, locks.shares_host)
    limited = [f"time limit: {line}" for line in describe_limit(plan)]
    for warning in (*plan.warnings, *plan.blind_spots, *limited, *start.conditions, *others):
        logger.warning(warning)
    if plan.profiler.note:
        logger.info(plan.profiler.note)


def _write_summary(
    plan: Plan, start: StudyStart, store: StudyStore, interrupts: Interrupts
) -> None:
    interrupted = interrupts.count > 0
    summary = build_summary(plan, start, store, updated=utc_timestamp(), interrupted=interrupted)
    store.write_file(SUMMARY, summary)


def _make_feeder(plan: Plan, store: StudyStore, interrupts: Interrupts, locks: HostLocks) -> Feeder:
    tracking = plan.tracking
    trackers = make_trackers(tracking, Path(plan.output.root))
    syncer = Syncer(store.root, trackers, tracking.series_points, tracking.max_file_mb)
    return Feeder(
        syncer,
        store.root / BUSY_LOCK,
        tracking.timeout_s,
        lambda: _is_in_a_hurry(interrupts),
        locks.begin_heavy_work,
    )


def _make_exporter(
    plan: Plan, store: StudyStore, interrupts: Interrupts, locks: HostLocks
) -> Exporter:
    """An exporter that stores a new record of the run when its export has ended."""

    def store_outcome(run_id: str, problem: str | None) -> None:
        record = store.find_record(run_id)
        if record is None:
            raise StoreError(f"{store.root}: {run_id} was exported but has no record")
        sqlite = store.relative_path(store.run_paths(run_id).sqlite)
        store.replace_record(add_export(record, sqlite, problem))

    return Exporter(
        plan.profiler.executable,
        store.root / BUSY_LOCK,
        store_outcome,
        lambda: _is_in_a_hurry(interrupts),
        locks.begin_heavy_work,
    )


def add_export(record: Record, sqlite: str, problem: str | None) -> Record:
    """The record of a run whose report was exported to `sqlite`, or was not because of `problem`.

    `record` is not changed.
    """
    if problem is None:
        return {**record, "nsys_sqlite": sqlite}
    return add_warnings(record, f"profiler: {problem}")


def _is_in_a_hurry(interrupts: Interrupts) -> bool:
    """Whether the user pressed Ctrl-C twice: nothing is waited for any more."""
    return interrupts.count > 1
