"""One start of a worker: its process, its monitor, what it left. nsys is started twice at most."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from numa_bench.isolation.scratch import hold_scratch
from numa_bench.jsonio import read_json, write_json
from numa_bench.profiling.launch import Profiler
from numa_bench.profiling.recording import find_report_problem
from numa_bench.records import RunResult, RunSpec
from numa_bench.records.checks import is_number
from numa_bench.runner.command import Only, worker_command
from numa_bench.runner.interrupts import Interrupts
from numa_bench.runner.monitor import Monitor
from numa_bench.runner.outcome import worker_outcome
from numa_bench.runner.process import Command, Ended, run_process
from numa_bench.study_files import RunPaths

logger = logging.getLogger("numa_bench")
#: Read from the end of a log for its last lines; far more than `output.error_lines` of text.
_TAIL_BYTES = 16_384
_STAGES = ("h2d_ms", "compute_ms", "d2h_ms")
#: The samples of a memory stream.
_PASSES = ("start_ms", "pass_ms")


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
class RunContext:
    """What every start of a worker for one run has in common.

    All its processes carry `token` and inherit the descriptors of the run's `locks`.
    """

    spec: RunSpec
    settings: AttemptSettings
    interrupts: Interrupts
    token: str
    locks: tuple[int, ...] = ()


@dataclass(frozen=True)
class WorkerOutcome:
    """How one start of a worker ended. `problem`: why there is no usable result."""

    ended: Ended
    result: RunResult | None = None
    problem: str = ""
    monitor: Monitor | None = None
    warnings: tuple[str, ...] = ()

    def with_warning(self, warning: str) -> WorkerOutcome:
        """The same outcome with one more warning."""
        return replace(self, warnings=(*self.warnings, warning))


def start_worker(context: RunContext, paths: RunPaths, only: Only | None = None) -> WorkerOutcome:
    """Run the worker; a second time if nsys ended before the worker ran.

    nsys sometimes loses its session at the start, which says nothing about the run.
    """
    outcome = run_worker(context, paths, only)
    if not _ended_before_worker(context.spec, paths, outcome):
        return outcome
    first = outcome.ended.returncode
    logger.warning(
        "%s: nsys ended with %s before the worker ran; starting it once more",
        context.spec.run_id,
        first,
    )
    outcome = run_worker(context, paths, only)
    note = f"profiler: nsys lost its session at the start (exit code {first}); started once more"
    outcome = outcome.with_warning(note)
    if _ended_before_worker(context.spec, paths, outcome):
        outcome = replace(outcome, problem="nsys or its child ended before the worker ran, twice")
    return outcome


def _ended_before_worker(spec: RunSpec, paths: RunPaths, outcome: WorkerOutcome) -> bool:
    ended = outcome.ended
    # The worker writes `started` before it measures: without it the failure is of nsys.
    never_ran = ended.reason == "exited" and ended.returncode != 0 and not paths.started.is_file()
    return spec.profile.kind == "nsys" and ended.start_error is None and never_ran


def run_worker(context: RunContext, paths: RunPaths, only: Only | None = None) -> WorkerOutcome:
    """Run the worker once, with its monitor, and read what it left."""
    spec = context.spec
    with contextlib.ExitStack() as stack:
        tmp = Path(tempfile.gettempdir())
        if spec.profile.kind == "nsys":  # its state goes there, also that of a killed session
            try:
                tmp = stack.enter_context(hold_scratch())
            except OSError as error:
                return WorkerOutcome(Ended(None, "exited", 0.0, start_error=f"no TMPDIR: {error}"))
        command = worker_command(
            spec,
            paths,
            os.environ,
            context.token,
            context.settings.profiler,
            tmp,
            *([only] if only else []),
        )
        ended, monitor = _run_command(context, paths, command)
        result, problem = read_result(paths)
        ended, warnings = _check_profile(context, paths, command, tmp, ended, result)
    return WorkerOutcome(ended, result, problem, monitor, warnings)


def _run_command(context: RunContext, paths: RunPaths, command: Command) -> tuple[Ended, Monitor]:
    settings = context.settings
    # Under nsys the process that is started is nsys; the worker writes its own number.
    found_by = paths.started if command.nsys else None
    monitor = Monitor(context.spec, paths.monitor, settings.monitor_interval_s, pid_file=found_by)
    with monitor:
        ended = run_process(
            command,
            paths.stdout,
            paths.stderr,
            timeout_s=context.spec.test.timeout_s,
            grace_s=settings.grace_s,
            interrupts=context.interrupts,
            started=monitor.start_sampling,
            pass_fds=context.locks,
        )
    # Written when the process has ended: no disk access beside a measurement.
    monitor.save_readings()
    return ended, monitor


def _check_profile(
    context: RunContext,
    paths: RunPaths,
    command: Command,
    tmp: Path,
    ended: Ended,
    result: RunResult | None,
) -> tuple[Ended, tuple[str, ...]]:
    """How the worker itself ended, and warnings about its profile."""
    if command.nsys and ended.start_error is None:
        ended, warnings = worker_outcome(ended, result)
        warnings += find_report_problem(paths, tmp)
        exposed = context.settings.profiler.exposed
        if exposed and paths.report.is_file():
            warnings += (f"profiler: the report may hold {', '.join(exposed)} of other processes",)
        return ended, warnings
    if context.spec.profile.kind == "torch" and result is not None and not paths.trace.is_file():
        return ended, ("profiler: torch.profiler wrote no trace",)
    return ended, ()


def read_result(paths: RunPaths) -> tuple[RunResult | None, str]:
    """The worker's result, or None and the reason why it cannot be used.

    A result at `spare_result` is moved to `result`.
    """
    path = paths.result if paths.result.is_file() else paths.spare_result
    if not path.is_file():
        return None, "and it left no result"
    try:
        result = RunResult.from_dict(read_json(path))
        stages = (*_STAGES, *(name for name in ("host_ms",) if name in result.samples))
        names = _PASSES if "pass_ms" in result.samples else stages
        if result.samples and len({len(result.samples[name]) for name in names}) > 1:
            raise ValueError("its stages have different numbers of batches")
    except (OSError, ValueError, TypeError, KeyError) as error:
        return None, f"and its result cannot be read: {error}"
    if path == paths.spare_result:
        try:
            # The study was not writable when the worker ended; it may be again.
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
            # The cut may be in the middle of a character.
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-count:]) if count else ""


def timed_window(result: RunResult | None) -> tuple[float, float] | None:
    """Begin and end of the timed window in CLOCK_MONOTONIC, if there was one."""
    window = result.observed.get("window_monotonic_s") if result is not None else None
    if not isinstance(window, list) or len(window) != 2 or not all(map(is_number, window)):
        return None
    return window[0], window[1]


def read_tail(stdout: Path, stderr: Path, count: int) -> str:
    """The last lines of stderr, or of stdout where stderr is empty."""
    return read_last_lines(stderr, count) or read_last_lines(stdout, count)
