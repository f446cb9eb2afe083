"""Runs one command to its end, whatever that end is, and says what happened.

The process gets a session of its own; when it must end, its group gets SIGTERM, a grace period,
then SIGKILL. Processes that moved away from the group are found by the token in their environment.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from numa_bench.command import RUN_TOKEN, Command
from numa_bench.interrupts import Interrupts


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    `returncode` is negative for a signal, None when it could not be started. `reason` is
    "exited", "timeout" or "interrupted"; `leftovers` names descendants that had to be killed.
    """

    returncode: int | None
    reason: str
    duration_s: float
    leftovers: tuple[str, ...] = ()
    start_error: str | None = None
    oom_kills: int = 0


def execute(
    command: Command,
    stdout: Path,
    stderr: Path,
    *,
    timeout_s: float,
    grace_s: float,
    interrupts: Interrupts,
) -> Ended:
    """Run `command` with its output in two files; no descendant survives the call."""
    oom_before = _oom_kills()
    begin = time.monotonic()
    try:
        with stdout.open("wb") as out, stderr.open("wb") as err:
            process = subprocess.Popen(
                command.argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=command.env,
                start_new_session=True,
            )
    except OSError as error:
        return Ended(None, "exited", time.monotonic() - begin, start_error=str(error))
    reason = "exited"
    try:
        if not _wait(process, timeout_s, interrupts, interrupts.count):
            reason = "interrupted" if interrupts.count else "timeout"
            _stop(process, grace_s, interrupts)
    finally:
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()
        leftovers = kill_marked(command.token)
    return Ended(
        returncode=process.returncode,
        reason=reason,
        duration_s=time.monotonic() - begin,
        leftovers=tuple(leftovers),
        oom_kills=max(0, _oom_kills() - oom_before),
    )


def _wait(
    process: subprocess.Popen[bytes], timeout_s: float, interrupts: Interrupts, seen: int
) -> bool:
    """Whether the process ended by itself in time, with no interruption beyond `seen`.

    Sleeps in the kernel until one of the three happens: a study must not take CPU time from what
    it measures.
    """
    if interrupts.count > seen:
        return False
    deadline = time.monotonic() + timeout_s
    pidfd = os.pidfd_open(process.pid)
    try:
        while process.poll() is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            # select() refuses to sleep for more than a few weeks.
            select.select([pidfd, interrupts.fd], [], [], min(left, 86400.0))
            interrupts.drain()
            if interrupts.count > seen and process.poll() is None:
                return False
        return True
    finally:
        os.close(pidfd)


def _stop(process: subprocess.Popen[bytes], grace_s: float, interrupts: Interrupts) -> None:
    """Ask the group to end; wait for the grace period, or until a second interruption."""
    _signal_group(process.pid, signal.SIGTERM)
    if interrupts.count < 2:
        _wait(process, grace_s, interrupts, max(1, interrupts.count))


def _signal_group(pgid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)


def kill_marked(token: str) -> list[str]:
    """SIGKILL every process that carries the run's token; return their names, for the record."""
    killed: list[psutil.Process] = []
    names: list[str] = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.environ().get(RUN_TOKEN) != token:
                continue
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            name = process.name()
            process.kill()
        except psutil.Error:
            continue
        killed.append(process)
        names.append(f"{name} ({process.pid})")
    psutil.wait_procs(killed, timeout=5)
    return names


def _oom_kills() -> int:
    """Processes killed for memory since boot (/proc/vmstat); 0 if the kernel does not say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
