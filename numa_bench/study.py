"""The loop: pending = plan - done; run one, store it, show it, until the end or an interruption."""

from __future__ import annotations

import logging
import os
import re
import shlex
import socket
import sys
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from numa_bench.command import PROJECT, worker_command
from numa_bench.conditions import check_conditions
from numa_bench.console import Reporter, make_reporter, print_results
from numa_bench.disturbance import legend, of_monitor, of_samples
from numa_bench.environment import describe_environment
from numa_bench.errors import StudyFailed
from numa_bench.executor import Ended, execute
from numa_bench.interrupts import Interrupts
from numa_bench.jsonio import read_json, write_json
from numa_bench.machine import Topology
from numa_bench.monitor import Monitor
from numa_bench.planning import Plan
from numa_bench.records import Execution, JsonDict, RunResult, RunSpec, Status, make_record
from numa_bench.store import SUMMARY, RunPaths, StudyStore
from numa_bench.summary import rows
from numa_bench.verdict import classify

logger = logging.getLogger("numa_bench")
_TAIL_BYTES = 16_384
_STAGES = ("h2d_ms", "compute_ms", "d2h_ms")


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
                store.clear()
            store.save()
            store.write("topology.json", topology.to_dict())
            study = _Study(plan, topology, store, interrupts, reporter)
            study.loop()
            saved = store.finish()
        interrupted = interrupts.count > 0
        # Printed when the bar has left the screen.
        print_results(rows(plan.cells, plan.runs, store.records), plan, study.closing_lines(saved))
    if interrupted:
        raise KeyboardInterrupt
    counts = ", ".join(f"{n} {status}" for status, n in store.counts().items() if n)
    if saved.parent != directory:
        raise StudyFailed(f"{directory} could not take the results ({counts}); they are in {saved}")
    if store.any_bad():
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
        self.started = _now()
        self.environment = describe_environment(PROJECT, topology)
        self.host = socket.gethostname()
        self.conditions: list[str] = []
        self.environments = _earlier_environments(store.root / SUMMARY)

    def loop(self) -> None:
        """Run everything that is pending; stop after the run that is interrupted."""
        done = self.store.done()
        pending = [run for run in self.plan.runs if run.run_id not in done]
        self.conditions = check_conditions(pending, self.topology) if pending else []
        for warning in (*self.plan.warnings, *self.conditions, *self._other_environments()):
            logger.warning(warning)
        self.reporter.begin(self.plan, pending, shown_path(self.store.root))
        self._write_summary()
        for spec in pending:
            if self.interrupts.count:
                break
            self.reporter.started(spec)
            record = self._run(spec)
            self.store.add(record)
            self.reporter.finished(record)
        self._write_summary()

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
        counts = self.store.counts()
        told = ", ".join(f"{n} {status}" for status, n in counts.items() if n) or "no run"
        missing = len({run.run_id for run in self.plan.runs} - self.store.done())
        warnings = [w for record in self.store.records for w in record.get("warnings", ())]
        lines = [
            *legend(warnings),
            f"{told} of {len(self.plan.runs)} planned",
            f"results   {shown_path(saved)}",
            f"raw data  {shown_path(self.store.root / 'runs')}",
            f"logs      {shown_path(self.store.root / 'logs')}",
        ]
        if missing:
            command = resume_command(shown_path(self.store.root))
            lines.append(f"{missing} not done; to run them: {command}")
        return lines

    def _run(self, spec: RunSpec) -> JsonDict:
        attempt = self.store.attempts(spec.run_id) + 1
        start_time = _now()
        paths = self.store.paths(spec.run_id)
        result: RunResult | None = None
        problem = tail = ""
        monitor = Monitor(spec, paths.monitor, self.plan.monitor_interval_s)
        try:
            self.store.prepare(spec)
        except OSError as error:
            # What lies there is of an earlier attempt, and stays unread.
            ended = Ended(None, "exited", 0.0, start_error=f"its files cannot be written: {error}")
        else:
            command = worker_command(spec, paths, os.environ, f"{os.getpid()}-{uuid.uuid4().hex}")
            with monitor:
                ended = execute(
                    command,
                    paths.stdout,
                    paths.stderr,
                    timeout_s=spec.test.timeout_s,
                    grace_s=self.plan.output.grace_s,
                    interrupts=self.interrupts,
                    started=monitor.watch,
                )
            monitor.save()
            result, problem = read_result(paths)
            tail = last_lines(paths.stderr, self.plan.output.error_lines)
        status, error_text = classify(spec, ended, result, problem, tail, self.topology)
        execution = Execution(
            status=status,
            exit_code=ended.returncode,
            error=error_text,
            start_time=start_time,
            duration_s=ended.duration_s,
            attempt=attempt,
            stdout_log=self.store.relative(paths.stdout),
            stderr_log=self.store.relative(paths.stderr),
            warnings=_warnings(ended, result, monitor),
            environment=self.environment["id"],
            monitor=monitor.summary(window_of(result)),
        )
        return make_record(spec, result, execution, self.host)

    def _write_summary(self) -> None:
        records = self.store.records
        counts = self.store.counts()
        passed = counts[Status.PASSED.value]
        self.store.write(
            SUMMARY,
            {
                "study": self.plan.study,
                "planned": len(self.plan.runs),
                "counts": counts,
                "success_rate": passed / len(records) if records else None,
                "started": self.started,
                "updated": _now(),
                "runs_duration_s": sum(record["duration_s"] for record in records),
                "interrupted": self.interrupts.count > 0,
                "order": self.plan.order,
                "order_seed": self.plan.order_seed,
                "run_order": [run.run_id for run in self.plan.runs],
                "conditions": self.conditions,
                "machine": self.environment,
                "environments": {**self.environments, self.environment["id"]: self.environment},
            },
        )


def read_result(paths: RunPaths) -> tuple[RunResult | None, str]:
    """What the worker wrote, or None and why it cannot be used.

    A result that the worker had to leave in the temporary directory is moved to its place.
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
            result.warnings.append(f"raw_data: no space in the study, it is in {path}")
    return result, ""


def last_lines(path: Path, count: int) -> str:
    """The last `count` lines of a log that may not be UTF-8, or may not be there."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-count:]) if count else ""


def resume_command(directory: Path) -> str:
    """The command that does the rest, quoted for Hydra's grammar and for the shell."""
    value = str(directory)
    if re.search(r"[^\w./:-]", value):
        value = "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return shlex.join(["python", Path(sys.argv[0]).name, f"resume_from={value}"])


def shown_path(path: Path) -> Path:
    """A path as the user would type it: relative where it lies below the working directory."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


def window_of(result: RunResult | None) -> tuple[float, float] | None:
    """Begin and end of the timed window in CLOCK_MONOTONIC, if there was one."""
    window = result.observed.get("window_monotonic_s") if result is not None else None
    return (window[0], window[1]) if window else None


def _warnings(ended: Ended, result: RunResult | None, monitor: Monitor) -> tuple[str, ...]:
    """What disturbed a run, as far as it was measured at all."""
    found = []
    if ended.reason == "exited" and ended.leftovers:
        found.append(f"leftovers: processes left behind, now killed: {', '.join(ended.leftovers)}")
    if result is not None and result.samples:
        found += of_samples(result.samples, result.warmup)
        window = window_of(result)
        found += of_monitor(monitor.summary(window), monitor.readings_in(window))
    return tuple(found)


def _earlier_environments(summary: Path) -> JsonDict:
    """The environments of a study that is resumed, from its summary; empty when there is none."""
    try:
        found = read_json(summary).get("environments", {})
    except (OSError, ValueError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


__all__: Sequence[str] = ["last_lines", "read_result", "run_study"]
