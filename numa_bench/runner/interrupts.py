"""Ctrl-C as a state instead of an exception, so that no write is interrupted half-way.

The first SIGINT, SIGTERM or SIGHUP asks the study to finish cleanly, the second to end at once.
A waiting loop selects on `fd`, which becomes readable when a signal arrives, even just before
select() starts to sleep. A signal that was ignored (nohup) stays ignored.

In a SLURM job, SIGUSR1 and SIGUSR2 count too: sbatch --signal and submitit announce the time limit
with them. SLURM sends them to every process of the step, so processes of runs start with both
blocked, and end as after Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from numa_bench.machine.allocation import JOB_ID

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Announce the end of a SLURM job's time.
_TIME_OUT = (signal.SIGUSR1, signal.SIGUSR2)


class Interrupts:
    """Counts interrupting signals while entered; outside the main thread it receives none."""

    def __init__(self) -> None:
        self.count = 0
        self.last: int | None = None
        # set_wakeup_fd needs a non-blocking descriptor; workers must not inherit either end.
        self.fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: dict[int, Any] = {}
        self._wakeup_before: int | None = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            # The C handler writes to it at once; `_note` runs later, between two bytecodes.
            self._wakeup_before = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
            # nohup(1) starts programs with SIGHUP ignored.
            wanted = (*_SIGNALS, *_TIME_OUT) if JOB_ID in os.environ else _SIGNALS
            handled = [n for n in wanted if signal.getsignal(n) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in handled}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._wakeup_before is not None:
            signal.set_wakeup_fd(self._wakeup_before)
        os.close(self.fd)
        os.close(self._write_fd)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.count += 1
        self.last = number

    def pass_on_time_out(self) -> None:
        """After leaving: give a time-out signal to the handler that was there before.

        That of submitit requeues the SLURM job and exits, or raises its own exception where the
        job was requeued too often.
        """
        if self.last in _TIME_OUT and callable(handler := self._before.get(self.last)):
            handler(self.last, None)

    def drain(self) -> None:
        """Empty `fd` until the next signal; the count stays."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 4096)


@contextlib.contextmanager
def block_time_out_signals() -> Iterator[None]:
    """Processes that are started inside do not receive SIGUSR1 and SIGUSR2 in a SLURM job.

    A new process inherits the mask (signal(7)).
    """
    if JOB_ID not in os.environ:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _TIME_OUT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
