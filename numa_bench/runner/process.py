"""Runs one command until it ends or must be ended, and reports how it ended.

The process gets a session of its own; when it must end, its group gets SIGTERM, a grace period,
then SIGKILL. nsys alone gets the SIGTERM instead: it ends the worker, which lives in a session of
its own, and a second signal would cost its report. Processes that left the group are
found by the token in their environment, and those that dropped it become children
of this process (`isolation.orphans`).
The process is reaped last: until then its number and that of its group cannot be reused.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from numa_bench.isolation.marked_processes import kill_marked, wait_for_marked
from numa_bench.isolation.orphans import add_started, adopt_orphans, forget_started, kill_orphans
from numa_bench.runner.interrupts import Interrupts, block_time_out_signals

#: Longest wait for a process that got SIGKILL: one that hangs in a driver never ends, and freeing
#: much pinned memory takes long.
KILL_WAIT_S = 60.0
#: Return codes of a process that was ended from outside by a signal that asks for it.
_TERMINATED = (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)
#: Polling interval if the kernel or this Python has no pidfd_open.
POLL_S = 0.2


@dataclass(frozen=True)
class Command:
    """What to start: argument vector, environment, and the token that marks its processes.

    `nsys`: it starts nsys, which must get one signal and then time to write its report.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    token: str
    nsys: bool = False


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    `returncode` is negative for a signal, None when it could not be started or survived SIGKILL.
    `reason` is "exited", "timeout", "interrupted" or "stopped" (by a `StopRequest`); `leftovers`
    names descendants that had to be killed. `window`: its start and its end in CLOCK_MONOTONIC,
    without the time in which its descendants were looked for; None if it had to be ended.
    """

    returncode: int | None
    reason: str
    duration_s: float
    leftovers: tuple[str, ...] = ()
    start_error: str | None = None
    oom_kills: int = 0
    window: tuple[float, float] | None = None

    @property
    def succeeded(self) -> bool:
        """Whether it ended by itself with exit code 0."""
        return self.reason == "exited" and self.returncode == 0


@dataclass(frozen=True)
class StartedProcess:
    """A process that runs. `end` ends what is left of it; return code and the leftovers' names."""

    pid: int
    end: Callable[[], tuple[int | None, list[str]]]


class StopRequest:
    """Asks for the end of a running process from another thread. Use as a context manager."""

    def __init__(self) -> None:
        self.reason = ""
        self.fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def ask(self, reason: str) -> None:
        """Ask; only the first reason counts."""
        if not self.reason:
            self.reason = reason
            os.write(self._write_fd, b"x")

    def __enter__(self) -> StopRequest:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
        os.close(self._write_fd)


def run_process(
    command: Command,
    stdout: Path,
    stderr: Path,
    *,
    timeout_s: float,
    grace_s: float,
    interrupts: Interrupts,
    started: Callable[[int], None] | None = None,
    pass_fds: Sequence[int] = (),
    stop: StopRequest | None = None,
    directory: str | None = None,
    start: Start | None = None,
) -> Ended:
    """Run `command` with its output in two files; no descendant survives the call.

    `started` is called with the process's number as soon as there is one; `pass_fds` and
    `directory` are those of `start_process`. `stop` may end the process early. `start` starts it;
    None: `start_here`.
    """
    # A counter of the whole machine: it makes a cause of a SIGKILL likely, and proves none.
    oom_before = count_oom_kills()
    begin = time.monotonic()
    try:
        process = (start or start_here)(command, stdout, stderr, pass_fds, directory)
    except OSError as error:
        return Ended(None, "exited", time.monotonic() - begin, start_error=str(error))
    reason = "exited"
    window = None
    try:
        if started is not None:
            started(process.pid)
        if _wait(process.pid, timeout_s, interrupts, seen=0, stop=stop):
            window = (begin, time.monotonic())
        else:
            reason = "interrupted" if interrupts.count else "timeout"
            if stop is not None and stop.reason and not interrupts.count:
                reason = "stopped"
            ask_to_end(process.pid, command)
            _wait(process.pid, grace_s, interrupts, seen=1)  # a second interruption ends it
        if command.nsys and has_ended(process.pid):
            wait_for_marked(command.token)  # its daemon ends a little later
    finally:
        # Also after an exception: nothing may go on beside the next measurement.
        returncode, leftovers = process.end()
    if reason == "exited" and interrupts.count and returncode in _TERMINATED:
        reason = "interrupted"  # SLURM signals every process of a job, the runner's own and ours
    return Ended(
        returncode=returncode,
        reason=reason,
        duration_s=time.monotonic() - begin,
        leftovers=tuple(leftovers),
        oom_kills=max(0, count_oom_kills() - oom_before),
        window=window,
    )


def start_here(
    command: Command,
    stdout: Path,
    stderr: Path,
    pass_fds: Sequence[int] = (),
    directory: str | None = None,
) -> StartedProcess:
    """Start `command` as a child of this process, as `start_process` does. Raises OSError."""
    process = start_process(command, stdout, stderr, pass_fds, directory)
    return StartedProcess(process.pid, lambda: end_process(process, command.token))


#: How a process is started: arguments and errors are those of `start_here`.
Start = Callable[[Command, Path, Path, Sequence[int], "str | None"], StartedProcess]


def start_process(
    command: Command,
    stdout: Path,
    stderr: Path,
    pass_fds: Sequence[int] = (),
    directory: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` with its output in two files. Raises OSError.

    `pass_fds` are kept open, also through the exec of numactl, which becomes the worker.
    `directory` is where it starts; None: here.
    """
    with stdout.open("wb") as out, stderr.open("wb") as err, block_time_out_signals():
        adopt_orphans()
        process = subprocess.Popen(
            command.argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=command.env,
            pass_fds=pass_fds,
            cwd=directory,
            # In a session of its own: Ctrl-C on the terminal reaches the runner alone.
            start_new_session=True,
        )
    add_started(process.pid)
    return process


def ask_to_end(pid: int, command: Command) -> None:
    """SIGTERM to the group, but to nsys alone. `pid` is not reaped, so it still is the process."""
    if command.nsys:
        os.kill(pid, signal.SIGTERM)
    else:
        _signal_group(pid, signal.SIGTERM)


def _wait(
    pid: int,
    timeout_s: float,
    interrupts: Interrupts,
    seen: int,
    stop: StopRequest | None = None,
) -> bool:
    """Whether the process ended by itself in time, with no interruption beyond `seen`, and no stop.

    Sleeps in the kernel until one of the three happens: a study must not take CPU time from what
    it measures. Does not reap the process.
    """
    deadline = time.monotonic() + timeout_s
    with open_pidfd(pid) as pidfd:
        # select() refuses to sleep for more than a few weeks.
        # Without a pidfd the process must be polled.
        watched, longest = ([], POLL_S) if pidfd is None else ([pidfd], 86400.0)
        while not has_ended(pid):
            left = deadline - time.monotonic()
            if left <= 0 or interrupts.count > seen or (stop is not None and stop.reason):
                return False
            stops = [stop.fd] if stop is not None else []
            select.select([*watched, interrupts.fd, *stops], [], [], min(left, longest))
            interrupts.drain()
        return True


@contextlib.contextmanager
def open_pidfd(pid: int) -> Iterator[int | None]:
    """A descriptor that is readable when the process has ended.

    None before Linux 5.3, in sandboxes that forbid it, and in a Python built for older kernels.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except (OSError, AttributeError):
        yield None
        return
    try:
        yield pidfd
    finally:
        os.close(pidfd)


def has_ended(pid: int) -> bool:
    """Whether a process has ended that is not reaped yet."""
    try:
        # WNOWAIT leaves the zombie there, so that its number stays taken (waitid(2)).
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # a child of another process, which reaps it
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return True
        # The name may hold spaces and brackets; the state comes after it (proc(5)).
        return stat.rpartition(b")")[2].split()[0] in (b"Z", b"X")


def end_process(process: subprocess.Popen[bytes], token: str) -> tuple[int | None, list[str]]:
    """End what is left of a run and reap it; returns its return code and the leftovers' names."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process.pid, signal.SIGKILL)  # no effect if the process has ended
    leftovers = kill_marked(token, but=process.pid)
    _signal_group(process.pid, signal.SIGKILL)  # processes that dropped the token
    try:
        # Reaped only here: nothing is signalled by number any more.
        returncode: int | None = process.wait(KILL_WAIT_S)
    except subprocess.TimeoutExpired:
        returncode = None
    leftovers += kill_orphans()  # those that dropped token and session: they are children now
    forget_started(process.pid)
    return returncode, leftovers


def _signal_group(pgid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)


def count_oom_kills() -> int:
    """Processes killed for lack of memory since boot (/proc/vmstat); 0 if not counted."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
