"""One attempt at a run of the user's own command: execute it, read it, make its record.

There is no worker: what a worker would write, the runner writes here.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from numa_bench.isolation.host_locks import Turn
from numa_bench.jsonio import write_json
from numa_bench.machine.model import Topology
from numa_bench.records import Execution, Record, RunResult, RunSpec, Status, make_record
from numa_bench.records.spare_files import RAW_DATA
from numa_bench.runner.attempt import Host, make_token, prepare_attempt, utc_timestamp
from numa_bench.runner.interrupts import Interrupts
from numa_bench.runner.monitor import Monitor
from numa_bench.runner.outcome import find_early_end
from numa_bench.runner.process import StopRequest
from numa_bench.runner.programs.command_line import substitute
from numa_bench.runner.programs.executions import Executed, Executions
from numa_bench.runner.programs.lost_output import describe_lost_output, warn_incomplete_output
from numa_bench.runner.programs.readings import Readings, read_metrics
from numa_bench.runner.programs.watch import Watch
from numa_bench.runner.sets.set_monitor import find_set_warnings
from numa_bench.runner.worker_run import AttemptSettings, RunContext, read_tail
from numa_bench.store import StudyStore
from numa_bench.study_files import RunPaths

#: Exit codes by which a shell, and numactl, say that a program could not be started (POSIX).
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
#: Words by which programs say that they need a terminal.
_TERMINAL_WORDS = (
    *("not a terminal", "not to a terminal", "not from a terminal"),
    *("not a tty", "failed tty get", "no tty", "isatty", "ioctl"),
)
#: How Python says that its standard input has ended.
_INPUT_WORDS = "eof when reading a line"


@dataclass(frozen=True)
class _Outcome:
    """Everything that is known of an attempt."""

    executed: Executed
    readings: Readings
    monitor: Monitor | None = None
    watch: Watch | None = None


def attempt_command(
    spec: RunSpec,
    settings: AttemptSettings,
    store: StudyStore,
    topology: Topology,
    host: Host,
    interrupts: Interrupts,
) -> Record:
    """Run a command when it is its turn on the host, and return its record.

    Every failure becomes a record too.
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
    outcome = _run(context, turn, store, paths, host)
    ended = outcome.executed.ended
    status, error = judge_command(context, outcome.executed, outcome.readings, paths, topology)
    if status is Status.PASSED and outcome.watch is not None:
        status, error = outcome.watch.judge()
    result = _make_result(spec, outcome, status, error)
    _save_result(result, paths, started=ended.start_error is None)
    monitor = outcome.monitor
    execution = Execution(
        status=status,
        exit_code=ended.returncode,
        error=error,
        start_time=start_time,
        duration_s=ended.duration_s,
        attempt=attempt,
        stdout_log=store.relative_path(paths.stdout),
        stderr_log=store.relative_path(paths.stderr),
        warnings=tuple(_list_warnings(outcome, spec, paths)),
        environment=host.environment,
        monitor=monitor.summarise_window(ended.window) if monitor else {},
        lock_wait_s=turn.wait_s,
        shared_host=host.locks.shares_host,
    )
    return make_record(spec, result, execution, host.name)


def _run(
    context: RunContext, turn: Turn, store: StudyStore, paths: RunPaths, host: Host
) -> _Outcome:
    spec, command = context.spec, context.spec.command
    assert command is not None
    if prevented := prepare_attempt(spec, turn, store):
        return _Outcome(Executed(prevented), Readings())
    watch = Watch(spec, (paths.stdout, paths.stderr))
    interval_s = context.settings.monitor_interval_s
    monitor = Monitor(spec, paths.monitor, interval_s, own_cpu_s=watch.read_cpu_s)

    def started(pid: int, stop: StopRequest) -> None:
        monitor.start_sampling(pid)
        watch.start(pid, stop)

    executions = Executions(context, paths, started, host.unmet, host.start)
    with monitor, watch:
        executed = executions.run_all()
    # Written when the process has ended: no disk access beside a measurement.
    monitor.save_readings()
    readings = Readings()
    if _ended_well(executed):
        readings = _read(spec, paths, executions.out)
    return _Outcome(executed, readings, monitor, watch)


def _read(spec: RunSpec, paths: RunPaths, out: Path) -> Readings:
    command = spec.command
    assert command is not None
    base = Path(command.directory or ".")
    named = {metric.json for metric in command.metrics if metric.json is not None}
    files = {name: base / substitute([name], spec, out)[0] for name in named}
    return read_metrics(command.metrics, paths.stdout, paths.stderr, files)


def _ended_well(executed: Executed) -> bool:
    """Whether the measured execution ended by itself with exit code 0."""
    return not executed.failed_step and executed.ended.succeeded


def judge_command(
    context: RunContext,
    executed: Executed,
    readings: Readings,
    paths: RunPaths,
    topology: Topology,
) -> tuple[Status, str | None]:
    """The status of a command run and its error (None when it passed).

    The first line of an error is complete by itself; the last lines of the output follow.
    """
    ended, step = executed.ended, executed.failed_step
    if step == "require" and ended.reason == "exited":
        argv = " ".join(context.spec.command.require if context.spec.command else ())
        return Status.WAIVED, f"`{argv}` fails here: {_last_line(executed.problem)}"
    if step in ("require", "prepare", "cleanup") and ended.reason in ("exited", "timeout"):
        argv = " ".join(getattr(context.spec.command, step))
        return Status.FAILED, f"{step} command `{argv}` failed: {executed.problem}"
    where = f"{step}: " if step else ""
    if ended.reason == "stopped":
        return Status.FAILED, f"{where}{executed.problem}"
    early = find_early_end(context.spec, ended, topology)
    if early is not None:
        return early[0], _add_tail(f"{where}{early[1]}", context, paths)
    if ended.returncode != 0:
        tail = _read_tail(context, paths)
        lost = "" if tail else describe_lost_output(paths.stdout)
        text = f"exit code {ended.returncode}: {lost}" if lost else ""
        text = text or explain_exit(ended.returncode, tail)
        return Status.FAILED, f"{where}{text}\n{tail}".rstrip()
    if readings.problems:
        lost = describe_lost_output(paths.stdout)
        text = "; ".join([*filter(None, [lost]), *readings.problems])
        return Status.FAILED, _add_tail(text, context, paths)
    if executed.check_problem:
        return Status.INVALID, f"the check command failed: {executed.check_problem}"
    return Status.PASSED, None


def _last_line(text: str) -> str:
    """The last line with words; programs end with what was wrong."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def explain_exit(code: int | None, tail: str) -> str:
    """An exit code in one line, with what it means where that is known."""
    if code is None:
        return "its exit code is not known, as the guardian process of the study was killed"
    text = f"exit code {code}"
    if code == _NOT_FOUND:
        return f"{text}: a command was not found; check its name and PATH"
    if code == _NOT_EXECUTABLE:
        return f"{text}: a command is not executable; use chmod +x, or name its interpreter"
    if any(word in tail.lower() for word in _TERMINAL_WORDS):
        return f"{text}: it needs a terminal, and runs have none; use its batch mode"
    if _INPUT_WORDS in tail.lower():
        return (
            f"{text}: it reads its standard input, which is empty; pass what it needs as arguments"
        )
    last = _last_line(tail)
    return f"{text}: {last}" if last else f"{text}, without a word; run it by hand"


def _add_tail(headline: str, context: RunContext, paths: RunPaths) -> str:
    return f"{headline}\n{_read_tail(context, paths)}".rstrip()


def _read_tail(context: RunContext, paths: RunPaths) -> str:
    """The last lines of stderr, or of stdout where stderr is empty."""
    return read_tail(paths.stdout, paths.stderr, context.settings.error_lines).strip()


def _make_result(spec: RunSpec, outcome: _Outcome, status: Status, error: str | None) -> RunResult:
    ended, watch = outcome.executed.ended, outcome.watch
    metrics: dict[str, float | None] = {**outcome.readings.values}
    observed = dict(watch.describe(ended.window)) if watch is not None else {}
    if ended.window is not None and _ended_well(outcome.executed):
        metrics["wall_s"] = ended.window[1] - ended.window[0]
        observed["window_monotonic_s"] = list(ended.window)
    if watch is not None:
        metrics["placement_fraction"] = watch.fraction
    walls = outcome.executed.wall_s
    return RunResult(
        run_id=spec.run_id,
        spec_hash=spec.cell_hash(),
        status=status.value,
        error=error,
        metrics=metrics,
        samples=outcome.readings.series,
        warmup={"wall_s": walls} if walls else {},
        observed=observed,
    )


def _save_result(result: RunResult, paths: RunPaths, started: bool) -> None:
    """Write result.json, of a command that started to the temporary directory if need be.

    What fails is a warning of the result.
    """
    try:
        write_json(paths.result, result.to_dict(), indent=None)
    except OSError as error:
        where = f"result.json could not be written: {error}"
        if started:
            with contextlib.suppress(OSError):
                write_json(paths.spare_result, result.to_dict(), indent=None)
                where = f"no space left in the study; it is in {paths.spare_result}"
        # By the word before the colon the next start finds it (records/spare_files.py).
        result.warnings.append(f"{RAW_DATA}: {where}")


def _list_warnings(outcome: _Outcome, spec: RunSpec, paths: RunPaths) -> list[str]:
    """What disturbed the run on its GPUs, or makes its figures less than they seem."""
    ended, gpu_ids = outcome.executed.ended, spec.device.gpu_ids
    found = []
    if spec.command is not None and _ended_well(outcome.executed):
        found += warn_incomplete_output(spec.command, paths.stdout)
    if ended.reason == "exited" and ended.leftovers:
        found.append(
            "leftovers: still running when the command had ended, and killed: "
            f"{', '.join(ended.leftovers)}; if the command starts servers or daemons, its wall "
            "time is not that of their work"
        )
    if outcome.watch is not None and not outcome.executed.failed_step:  # else nobody watched
        found += outcome.watch.list_warnings()
    monitor = outcome.monitor
    if ended.window is not None and monitor is not None and monitor.times:
        summary, count = (
            monitor.summarise_window(ended.window),
            monitor.count_readings(ended.window),
        )
        names = [f"gpu{number}" for number in gpu_ids] if len(gpu_ids) > 1 else []
        found += find_set_warnings(summary, count, names)
    return found
