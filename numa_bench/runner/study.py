"""The loop: pending = plan - done; run one, store it, show it, until the end or an interruption."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path

from numa_bench.errors import StudyFailed
from numa_bench.invocation import command_text
from numa_bench.jsonio import read_object
from numa_bench.machine.environment import describe_environment
from numa_bench.machine.model import Topology
from numa_bench.marks import format_legend
from numa_bench.plan.plan import Plan
from numa_bench.profiling.exports import Exporter
from numa_bench.records import JsonDict, Status
from numa_bench.runner.attempt import Host, attempt_run, utc_timestamp
from numa_bench.runner.conditions import check_conditions
from numa_bench.runner.console import Reporter, make_reporter, print_results
from numa_bench.runner.interrupts import Interrupts
from numa_bench.runner.resume import resume_command
from numa_bench.runner.summary import build_rows
from numa_bench.store import BUSY_LOCK, REPORTS, SUMMARY, StudyStore
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
) -> None:
    """Run what is pending, and leave a complete study directory behind.

    `opened` is called when the directory is this process's own, before anything is written there.
    Raises StudyFailed when some run failed, timed out or was invalid; KeyboardInterrupt when the
    user interrupted; StoreError when the directory cannot be used.
    """
    with StudyStore(directory) as store, Interrupts() as interrupts:
        with make_reporter(plan) as reporter:
            opened()
            if plan.debug:
                store.remove_files()
            store.save_records()
            store.write_file("topology.json", topology.to_dict())
            study = _Study(plan, topology, store, interrupts, reporter)
            study.run_pending()
            saved = store.save_somewhere()
        interrupted = interrupts.count > 0
        # Printed when the bar has left the screen.
        print_results(
            build_rows(plan.cells, plan.runs, store.records), plan, study.closing_lines(saved)
        )
    if interrupted:
        raise KeyboardInterrupt
    counts = ", ".join(f"{n} {status}" for status, n in store.count_statuses().items() if n)
    if saved.parent != directory:
        raise StudyFailed(f"{directory} could not take the results ({counts}); they are in {saved}")
    if store.has_failures():
        raise StudyFailed(f"not every run passed: {counts}; see {saved}")


class _Study:
    """One start of a study: what it needs at hand, and when it began."""

    def __init__(
        self,
        plan: Plan,
        topology: Topology,
        store: StudyStore,
        interrupts: Interrupts,
        reporter: Reporter,
    ) -> None:
        self.plan = plan
        self.topology = topology
        self.store = store
        self.interrupts = interrupts
        self.reporter = reporter
        self.started = utc_timestamp()
        self.environment = describe_environment(PROJECT, topology)
        self.host = Host(socket.gethostname(), self.environment["id"])
        profiler = plan.profiler
        self.exporter = Exporter(
            profiler.executable, store.root / BUSY_LOCK, self._exported, self._in_a_hurry
        )
        tracking = plan.tracking
        self.feeder = Feeder(
            Syncer(
                store.root,
                make_trackers(tracking, Path(plan.output.root)),
                tracking.series_points,
                tracking.max_file_mb,
            ),
            store.root / BUSY_LOCK,
            tracking.timeout_s,
            self._in_a_hurry,
        )
        self.tracked: list[str] = []
        self.conditions: list[str] = []
        self.environments = _earlier_environments(store.root / SUMMARY)

    def run_pending(self) -> None:
        """Run everything that is pending; stop after the run that is interrupted."""
        done = self.store.finished_runs()
        pending = [run for run in self.plan.runs if run.run_id not in done]
        self.conditions = check_conditions(pending, self.topology) if pending else []
        for warning in (*self.plan.warnings, *self.conditions, *self._other_environments()):
            logger.warning(warning)
        if self.plan.profiler.note:
            logger.info(self.plan.profiler.note)
        self._write_summary()
        if self.plan.tracking.required:
            self.feeder.require_trackers()
        self.reporter.show_start(self.plan, pending, shown_path(self.store.root))
        if pending:
            self.feeder.feed_stored()  # connects while the first worker starts
        for spec in pending:
            if self.interrupts.count:
                break
            self.reporter.show_run_start(spec)
            record = attempt_run(
                spec, self.plan, self.store, self.topology, self.host, self.interrupts
            )
            self.store.add_record(record)
            self.exporter.collect_export()
            self.reporter.show_run_end(record)
            self.feeder.feed_stored()
            if record["nsys_report"] and self.plan.profiler.config.export:
                paths = self.store.run_paths(spec.run_id)
                self.exporter.start_export(spec.run_id, paths.report, paths.sqlite)
        self.exporter.collect_export()
        self._write_summary()
        self.tracked = self.feeder.finish_feeding()
        (self.store.root / BUSY_LOCK).unlink(missing_ok=True)

    def _other_environments(self) -> list[str]:
        """A resumed study may hold runs of a machine or of software that has changed since."""
        mine = self.environment["id"]
        others = {str(r["environment"]) for r in self.store.records if r.get("environment")}
        if not others - {mine}:
            return []
        told = ", ".join(sorted(others - {mine}))
        return [
            f"earlier runs of this study are from another environment ({told}, now {mine}); "
            "do not pool them: experiment_summary.json says what differs"
        ]

    def closing_lines(self, saved: Path) -> list[str]:
        """What is printed under the table: counts, and where everything lies."""
        counts = self.store.count_statuses()
        told = ", ".join(f"{n} {status}" for status, n in counts.items() if n) or "no run"
        missing = len({run.run_id for run in self.plan.runs} - self.store.finished_runs())
        warnings = [w for record in self.store.records for w in record.get("warnings", ())]
        lines = [
            *format_legend(warnings),
            f"{told} of {len(self.plan.runs)} planned",
            f"results   {shown_path(saved)}",
            f"raw data  {shown_path(self.store.root / 'runs')}",
            f"logs      {shown_path(self.store.root / 'logs')}",
        ]
        kept = [k for k in ("nsys_report", "torch_trace") for r in self.store.records if r.get(k)]
        if kept:
            pattern = REPORTS[kept[0]]
            inspect = f"{command_text('inspect')} {shown_path(self.store.root)}/{pattern}"
            lines.append(f"profiles  {len(kept)}; to look at them: {inspect}")
        lines += self.tracked
        if missing:
            command = resume_command(shown_path(self.store.root))
            lines.append(f"{missing} not done; to run them: {command}")
        return lines

    def _in_a_hurry(self) -> bool:
        """Whether the user pressed Ctrl-C twice: nothing is waited for any more."""
        return self.interrupts.count > 1

    def _exported(self, run_id: str, problem: str | None) -> None:
        """Note in a stored record how the export of its report ended."""
        record = next(r for r in self.store.records if r["run_id"] == run_id)
        if problem is None:
            record["nsys_sqlite"] = self.store.relative_path(self.store.run_paths(run_id).sqlite)
        else:
            record["warnings"].append(f"profiler: {problem}")
        self.store.save_records()

    def _write_summary(self) -> None:
        records = self.store.records
        counts = self.store.count_statuses()
        passed = counts[Status.PASSED.value]
        self.store.write_file(
            SUMMARY,
            {
                "study": self.plan.study,
                "planned": len(self.plan.runs),
                "counts": counts,
                "success_rate": passed / len(records) if records else None,
                "started": self.started,
                "updated": utc_timestamp(),
                "runs_duration_s": sum(record["duration_s"] for record in records),
                "interrupted": self.interrupts.count > 0,
                "order": self.plan.order,
                "order_seed": self.plan.order_seed,
                "run_order": [run.run_id for run in self.plan.runs],
                "conditions": self.conditions,
                "profiler": {
                    "kind": self.plan.profiler.kind,
                    "version": self.plan.profiler.version,
                    "note": self.plan.profiler.note,
                },
                "machine": self.environment,
                "environments": {**self.environments, self.environment["id"]: self.environment},
            },
        )


def shown_path(path: Path) -> Path:
    """A path as the user would type it: relative where it lies below the working directory."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


def _earlier_environments(summary: Path) -> JsonDict:
    """The environments of a study that is resumed, from its summary; empty when there is none."""
    found = read_object(summary).get("environments", {})
    return found if isinstance(found, dict) else {}
