"""The executions of one command run: warm-ups and the measured one, with the commands around them.

Nothing is bound but the command itself. {out} is emptied before each execution, so that nothing
that is read of it is of an earlier one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from numa_bench.redaction import is_secret
from numa_bench.runner.process import Command, Ended, Start, StopRequest, run_process
from numa_bench.runner.programs.command_line import build_command, build_step
from numa_bench.runner.worker_run import RunContext, read_tail
from numa_bench.study_files import RunPaths

#: Shorter values of variables are too likely to be in an output by chance.
_LEAST_SECRET = 8
_MASK = b"***"

#: Called with the number of a process that has just started, and what may stop it.
Started = Callable[[int, StopRequest], None]


@dataclass
class Executed:
    """How a run's executions ended.

    `ended` is the measured one, or the first that failed: `failed_step` names it ("require",
    "prepare", "warm-up 1", "cleanup"); `problem` says what else went wrong. `check_problem`: the
    check command failed. `wall_s` are those of the warm-ups.
    """

    ended: Ended
    wall_s: list[float] = field(default_factory=list)
    failed_step: str = ""
    problem: str = ""
    check_problem: str = ""


class Executions:
    """Runs everything of one attempt, one process after the other."""

    def __init__(
        self,
        context: RunContext,
        paths: RunPaths,
        started: Started,
        unmet: dict[tuple[str, ...], str | None],
        start: Start,
    ) -> None:
        assert context.spec.command is not None
        self._context = context
        self._paths = paths
        self._started = started
        self._unmet = unmet  # `Host.unmet`
        self._start = start
        self._command = context.spec.command
        self.out = (paths.spec.parent / "out").absolute()

    def run_all(self) -> Executed:
        """What is required, warm-ups, the measured execution; up to the first that fails."""
        unmet = self._find_unmet()
        if unmet is not None:
            return unmet
        walls: list[float] = []
        for number in range(self._command.warmup):
            done = self._execute(f"warm-up {number + 1}", measured=False)
            if done.failed_step:
                return done
            window = done.ended.window
            walls.append(window[1] - window[0] if window else done.ended.duration_s)
        done = self._execute("", measured=True)
        done.wall_s = walls
        return done

    def _find_unmet(self) -> Executed | None:
        """The required command if it fails here; each is tried once for each GPU."""
        if not self._command.require:
            return None
        context = self._context
        command = build_step(
            self._command.require, context.spec, self.out, os.environ, context.token
        )
        key = (*command.argv, command.env.get("CUDA_VISIBLE_DEVICES", ""))
        if key not in self._unmet:
            tried = self._run_step("require")
            if tried is not None and tried.ended.reason != "exited":
                return tried  # by timeout or Ctrl-C: whether it would fail is not known
            self._unmet[key] = None if tried is None else tried.problem
        problem = self._unmet[key]
        if problem is None:
            return None
        return Executed(Ended(None, "exited", 0.0), failed_step="require", problem=problem)

    def _execute(self, name: str, *, measured: bool) -> Executed:
        """One execution with prepare, cleanup and, if it is measured, the check."""
        try:
            shutil.rmtree(self.out, ignore_errors=True)
            self.out.mkdir(parents=True)
        except OSError as error:
            failed = Ended(None, "exited", 0.0, start_error=f"{{out}} cannot be made: {error}")
            return Executed(failed, failed_step=name or "the command")
        before = self._run_step("prepare")
        if before is not None:
            return before
        ended, stopped = self._run_command(measured=measured)
        done = Executed(ended, problem=stopped)
        if not measured and not ended.succeeded:
            done.failed_step = name
        elif measured and ended.succeeded:
            check = self._run_step("check")
            if check is not None and check.ended.reason == "interrupted":
                return check
            done.check_problem = check.problem if check is not None else ""
        if ended.reason != "interrupted":
            after = self._run_step("cleanup")
            if after is not None and not done.failed_step and ended.returncode == 0:
                return after
        return done

    def _run_command(self, *, measured: bool) -> tuple[Ended, str]:
        context = self._context
        command = build_command(context.spec, self.out, os.environ, context.token)
        stdout, stderr = self._paths.stdout, self._paths.stderr
        with StopRequest() as stop:

            def started(pid: int) -> None:
                if measured:
                    self._started(pid, stop)

            ended = self._run(command, stdout, stderr, stop=stop, started=started)
            reason = stop.reason
        mask_secrets((stdout, stderr))
        return ended, reason if ended.reason == "stopped" else ""

    def _run_step(self, name: str) -> Executed | None:
        """A command around the measured one; None if there is none, or it succeeded."""
        argv: tuple[str, ...] = getattr(self._command, name)
        if not argv:
            return None
        context = self._context
        command = build_step(argv, context.spec, self.out, os.environ, context.token)
        stdout, stderr = (
            self._paths.spec.parent / f"{name}.{kind}" for kind in ("stdout", "stderr")
        )
        ended = self._run(command, stdout, stderr)
        mask_secrets((stdout, stderr))
        if ended.succeeded:
            return None
        how = ended.start_error or (
            f"exit code {ended.returncode}" if ended.reason == "exited" else ended.reason
        )
        tail = read_tail(stdout, stderr, context.settings.error_lines)
        return Executed(ended, failed_step=name, problem=f"{how}\n{tail}".rstrip())

    def _run(
        self,
        command: Command,
        stdout: Path,
        stderr: Path,
        stop: StopRequest | None = None,
        started: Callable[[int], None] | None = None,
    ) -> Ended:
        context = self._context
        return run_process(
            command,
            stdout,
            stderr,
            timeout_s=context.spec.test.timeout_s,
            grace_s=context.settings.grace_s,
            interrupts=context.interrupts,
            started=started,
            pass_fds=context.locks,
            stop=stop,
            directory=self._command.directory,
            start=self._start,
        )


def mask_secrets(logs: tuple[Path, ...]) -> None:
    """Replace the values of secret variables of the environment in files that are kept.

    A command may print its whole environment. Files that cannot be rewritten are left empty.
    """
    secrets = [
        os.fsencode(value)
        for name, value in os.environ.items()
        if is_secret(name) and len(value) >= _LEAST_SECRET
    ]
    for path in logs if secrets else ():
        with contextlib.suppress(FileNotFoundError):
            text = path.read_bytes()
            masked = text
            for secret in secrets:
                masked = masked.replace(secret, _MASK)
            if masked != text:
                path.write_bytes(masked)
