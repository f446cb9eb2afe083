"""Where the workers of a set wait for each other, over a socket to the runner.

A worker sends "ready TIME" and waits; when all have, the runner answers "go TIME" with the moment
to start at. After its window a worker sends "done". A background worker runs from its only "go"
until "stop". Times are seconds of the host's clock. The kernel closes the socket with its process,
so neither side can wait for one that has died.
"""

from __future__ import annotations

import select
import socket
import time
from typing import Protocol

from numa_bench.machine.backend import current_backend


class Clock(Protocol):
    """The host's clock; a `CudaRuntime` is one."""

    def host_time(self) -> float:
        """Seconds, on the same clock in all processes of this host."""
        ...

    def wait_until(self, moment: float) -> None:
        """Sleep until the clock is at `moment`."""
        ...


class MonotonicClock:
    """CLOCK_MONOTONIC, which all processes of a host share."""

    def host_time(self) -> float:
        """See `Clock.host_time`."""
        return time.monotonic()

    def wait_until(self, moment: float) -> None:
        """See `Clock.wait_until`."""
        time.sleep(max(0.0, moment - time.monotonic()))


def host_clock() -> Clock:
    """The clock of this host, or of the simulated machine in its place."""
    simulated = current_backend().host_clock
    clock: Clock = MonotonicClock() if simulated is None else simulated()
    return clock


class Rendezvous:
    """One worker's end of the socket, by its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._received = b""

    def start_together(self, clock: Clock) -> float:
        """Wait for the other workers, then for the common moment, which is returned.

        Raises ConnectionError when the runner has ended.
        """
        self._socket.sendall(f"ready {clock.host_time()!r}\n".encode())
        word, _, moment = self._read_line().partition(" ")
        if word != "go":
            raise ConnectionError(f"the runner sent {word!r} instead of the start of the window")
        clock.wait_until(float(moment))
        return float(moment)

    def report_done(self) -> None:
        """Say that the timed window is over."""
        self._socket.sendall(b"done\n")

    def is_over(self) -> bool:
        """Whether the runner has sent "stop", or has ended."""
        readable, _, _ = select.select([self._socket], [], [], 0)
        return bool(readable)

    def _read_line(self) -> str:
        while b"\n" not in self._received:
            some = self._socket.recv(4096)
            if not some:
                raise ConnectionError("the runner ended before all workers of the set were ready")
            self._received += some
        line, _, self._received = self._received.partition(b"\n")
        return line.decode()
