"""Ctrl-C as a state instead of an exception, so that no write is interrupted half-way.

The first SIGINT, SIGTERM or SIGHUP asks the study to finish cleanly, the second to end at once.
A waiting loop selects on `fd`, which becomes readable when a signal arrives, even just before
select() starts to sleep. A signal that was ignored (nohup) stays ignored.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Counts interrupting signals while entered; outside the main thread it receives none."""

    def __init__(self) -> None:
        self.count = 0
        # set_wakeup_fd needs a non-blocking descriptor; workers must not inherit either end.
        self.fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: dict[int, Any] = {}
        self._wakeup_before: int | None = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            # The C handler writes to it at once; `_note` runs later, between two bytecodes.
            self._wakeup_before = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
            # nohup(1) starts programs with SIGHUP ignored.
            handled = [n for n in _SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in handled}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._wakeup_before is not None:
            signal.set_wakeup_fd(self._wakeup_before)
        os.close(self.fd)
        os.close(self._write_fd)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1

    def drain(self) -> None:
        """Empty `fd` until the next signal; the count stays."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 4096)
