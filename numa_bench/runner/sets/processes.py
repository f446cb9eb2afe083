"""Runs several commands at once, with a barrier between them; ends them all when one must end.

Each process gets a session of its own and is ended as in `runner.process`, whose parts are used.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from numa_bench.runner.interrupts import Interrupts
from numa_bench.runner.process import (
    POLL_S,
    Command,
    Ended,
    ask_to_end,
    count_oom_kills,
    end_process,
    has_ended,
    open_pidfd,
    start_process,
)
from numa_bench.runner.sets.barrier import Barrier

#: Why a process of a set was ended: another one ended before its time.
STOPPED = "stopped"


@dataclass(frozen=True)
class SetProcess:
    """One worker to start. `make_command` gets the descriptor of its socket."""

    name: str
    measured: bool
    make_command: Callable[[int], Command]
    stdout: Path
    stderr: Path


@dataclass
class _Live:
    """A process that was started."""

    name: str
    command: Command
    process: subprocess.Popen[bytes]

    @property
    def ended(self) -> bool:
        return has_ended(self.process.pid)

    @property
    def failed(self) -> bool:
        # WNOWAIT leaves the zombie there, so that its number stays taken (waitid(2)).
        state = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return state is not None and (state.si_code != os.CLD_EXITED or state.si_status != 0)


def run_together(
    workers: Sequence[SetProcess],
    *,
    timeout_s: float,
    grace_s: float,
    interrupts: Interrupts,
    started: Callable[[dict[str, int]], None],
    pass_fds: Sequence[int] = (),
) -> dict[str, Ended]:
    """Run all workers at once; no descendant of any of them survives the call.

    As soon as one of them fails, or ends before it was done, the others are ended: their `reason`
    is STOPPED. `started` is called with the numbers of all processes; all inherit `pass_fds`.
    """
    oom_before = count_oom_kills()
    begin = time.monotonic()
    live: list[_Live] = []
    ended: dict[str, Ended] = {}
    reason = STOPPED
    by_itself: set[str] = set()
    with Barrier({worker.name: worker.measured for worker in workers}) as barrier:
        try:
            for worker in workers:
                live.append(_start(worker, barrier, pass_fds))
            started({one.name: one.process.pid for one in live})
            reason = _supervise(live, barrier, begin + timeout_s, interrupts)
        except OSError as error:
            name = workers[len(live)].name if len(live) < len(workers) else workers[0].name
            ended[name] = Ended(None, "exited", time.monotonic() - begin, start_error=str(error))
        finally:
            by_itself = {one.name for one in live if one.ended}
            _end_all(live, grace_s, interrupts)
            codes = {one.name: end_process(one.process, one.command.token) for one in live}
    for one in live:
        returncode, leftovers = codes[one.name]
        ended.setdefault(
            one.name,
            Ended(
                returncode=returncode,
                reason="exited" if one.name in by_itself else reason,
                duration_s=time.monotonic() - begin,
                leftovers=tuple(leftovers),
                oom_kills=max(0, count_oom_kills() - oom_before),
            ),
        )
    missing = Ended(None, STOPPED, 0.0)
    return {worker.name: ended.get(worker.name, missing) for worker in workers}


def _start(worker: SetProcess, barrier: Barrier, pass_fds: Sequence[int]) -> _Live:
    descriptor = barrier.open_socket(worker.name)
    command = worker.make_command(descriptor)
    process = start_process(command, worker.stdout, worker.stderr, (descriptor, *pass_fds))
    barrier.hand_over(worker.name)
    return _Live(worker.name, command, process)


def _supervise(
    live: Sequence[_Live], barrier: Barrier, deadline: float, interrupts: Interrupts
) -> str:
    """Wait for all, and pass messages between them; why it is over.

    Sleeps in the kernel: a study must not take CPU time from what it measures.
    """
    with contextlib.ExitStack() as stack:
        pidfds = {one.name: stack.enter_context(open_pidfd(one.process.pid)) for one in live}
        while True:
            ended = [one for one in live if one.ended]
            # What a worker sent before it ended comes first.
            _receive(barrier, 0, [], interrupts)
            if any(one.failed or not barrier.may_end(one.name) for one in ended):
                return STOPPED
            if len(ended) == len(live):
                return "exited"
            left = deadline - time.monotonic()
            if interrupts.count:
                return "interrupted"
            if left <= 0:
                return "timeout"
            running = [pidfds[one.name] for one in live if one not in ended]
            watched = [fd for fd in running if fd is not None]
            longest = 86400.0 if len(watched) == len(running) else POLL_S
            _receive(barrier, min(left, longest), watched, interrupts)


def _receive(
    barrier: Barrier, wait_s: float, watched: Sequence[int], interrupts: Interrupts
) -> None:
    """Wait for a message, the end of a process or an interruption, and read all messages."""
    sockets = barrier.sockets
    descriptors = {end.fileno(): name for end, name in sockets.items()}
    readable, _, _ = select.select([*descriptors, *watched, interrupts.fd], [], [], wait_s)
    interrupts.drain()
    for descriptor, name in descriptors.items():
        if descriptor in readable:
            barrier.receive(name)


def _end_all(live: Sequence[_Live], grace_s: float, interrupts: Interrupts) -> None:
    """SIGTERM for those that run, and one grace period for all."""
    running = [one for one in live if not one.ended]
    for one in running:
        ask_to_end(one.process.pid, one.command)
    seen = interrupts.count
    deadline = time.monotonic() + grace_s
    # A further interruption ends them at once.
    while interrupts.count <= max(seen, 1) and any(not one.ended for one in running):
        left = deadline - time.monotonic()
        if left <= 0:
            return
        select.select([interrupts.fd], [], [], min(left, 0.02))
        interrupts.drain()
