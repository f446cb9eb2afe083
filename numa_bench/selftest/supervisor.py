"""Run checks in bound processes; one that hangs or dies costs its own verdict and no other.

A check that takes too long cannot be stopped from inside, because a call into a driver may never
return. So its process is killed, and the checks after it get a new one.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from numa_bench.isolation.marked_processes import kill_marked
from numa_bench.isolation.scratch import hold_scratch
from numa_bench.jsonio import write_json
from numa_bench.records import RUN_TOKEN, JsonDict
from numa_bench.runner.command import gpu_environment
from numa_bench.runner.numactl import numactl_argv
from numa_bench.runner.worker_run import read_last_lines
from numa_bench.selftest.checks import Check, Outcome, Verdict
from numa_bench.selftest.report import outcome_from_dict
from numa_bench.selftest.session import Session

#: Starting Python, torch and CUDA takes some seconds; on a server with many GPUs, up to a minute.
START_TIMEOUT_S = 120.0
MODULE = "numa_bench.selftest.bound_process"


def supervise_checks(
    checks: Sequence[Check],
    session: Session,
    environ: Mapping[str, str],
    show: Callable[[str], None],
    *,
    start_timeout_s: float = START_TIMEOUT_S,
    module: str = MODULE,
) -> list[Outcome]:
    """The outcomes of all checks, in their order. `show` gets a line for each check that begins.

    `module` is what the bound process runs.
    """
    outcomes: list[Outcome] = []
    for group in group_checks(checks):
        left = list(group)
        while left:
            with _start(left, session, environ, module) as process:
                done = _follow(process, left, show, len(outcomes), len(checks), start_timeout_s)
            outcomes += done
            left = left[len(done) :]
    return outcomes


def group_checks(checks: Sequence[Check]) -> list[list[Check]]:
    """Checks that share a process, in order; those with `own_process` are by themselves."""
    groups: list[list[Check]] = []
    for check in checks:
        if groups and not check.own_process and not groups[-1][-1].own_process:
            groups[-1].append(check)
        else:
            groups.append([check])
    return groups


class _Process:
    """A bound process, the events that it sends, and its output."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], log: Path, events: int) -> None:
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                pass_fds=[events],
                start_new_session=True,
            )
        self._log = log
        self._token = env[RUN_TOKEN]

    def explain_end(self) -> str:
        """Why it ended, in one line; it has closed its events already."""
        code = self._popen.wait()
        last = read_last_lines(self._log, 1) or "no output"
        if code < 0:
            return f"its process got {signal.Signals(-code).name}: {last}"
        return f"its process ended with {code}: {last}"

    def end(self) -> None:
        """Kill it and everything that it started."""
        self._popen.kill()
        kill_marked(self._token, but=self._popen.pid)
        self._popen.wait()


class _Events:
    """Lines from the bound process."""

    def __init__(self, descriptor: int, process: _Process) -> None:
        self.process = process
        self._descriptor = descriptor
        self._pending = b""

    def next_event(self, timeout_s: float) -> JsonDict | None:
        """The next event, None when there will be no more. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._descriptor], [], [], left)[0]:
                raise TimeoutError
            block = os.read(self._descriptor, 65536)
            if not block:
                return None
            self._pending += block
        line, _, self._pending = self._pending.partition(b"\n")
        event: JsonDict = json.loads(line)
        return event


@contextlib.contextmanager
def _start(
    checks: Sequence[Check], session: Session, environ: Mapping[str, str], module: str
) -> Iterator[_Events]:
    token = f"{os.getpid()}-selftest{os.urandom(4).hex()}"
    env = {**gpu_environment(session.device, environ), RUN_TOKEN: token}
    # Every compile that is checked is a cold one, as in a study.
    env["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
    with hold_scratch() as tmp:
        path = tmp / "session.json"
        write_json(path, session.to_dict())
        read_end, write_end = os.pipe()
        try:
            words = [sys.executable, "-m", module, "--session", str(path)]
            words += ["--events", str(write_end), *(check.name for check in checks)]
            argv = [*numactl_argv(session.placement), *words]
            try:
                process = _Process(argv, env, tmp / "output", write_end)
            finally:
                os.close(write_end)
            try:
                yield _Events(read_end, process)
            finally:
                process.end()
        finally:
            os.close(read_end)


def _follow(
    events: _Events,
    checks: Sequence[Check],
    show: Callable[[str], None],
    done: int,
    total: int,
    start_timeout_s: float,
) -> list[Outcome]:
    """Outcomes of the first checks: all, or up to and including the one that ended the process."""
    outcomes: list[Outcome] = []
    if (problem := _wait_until_ready(events, start_timeout_s)) is not None:
        return [_fail(check, problem, 0.0) for check in checks]
    for check in checks:
        show(f"{done + len(outcomes) + 1}/{total} {check.name}")
        begin = time.monotonic()
        try:
            event: JsonDict | None = {}
            while event is not None and "end" not in event:
                event = events.next_event(check.timeout_s + begin - time.monotonic())
        except TimeoutError:
            problem = f"took longer than {check.timeout_s:g} s"
            return [*outcomes, _fail(check, problem, check.timeout_s)]
        if event is None:
            problem = events.process.explain_end()
            return [*outcomes, _fail(check, problem, time.monotonic() - begin)]
        outcomes.append(outcome_from_dict(check, event))
    return outcomes


def _wait_until_ready(events: _Events, timeout_s: float) -> str | None:
    """None, or why the process does not start."""
    try:
        if events.next_event(timeout_s) is not None:
            return None
    except TimeoutError:
        return f"the bound process did not start within {timeout_s:g} s"
    return f"the bound process did not start: {events.process.explain_end()}"


def _fail(check: Check, problem: str, seconds: float) -> Outcome:
    return Outcome(check, Verdict.FAILED, None, problem, seconds)
