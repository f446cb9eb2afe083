"""The runner's side of the sockets to a set of workers (the workers': worker/sets/rendezvous.py).

             worker a        worker b        background       runner
ready        ----------------------------------------------->  all are there:
             <-----------------------------------------------  go, at a moment just ahead
rehearsal    ============    ============    ============
ready        ---------------------------------------------->   all measured ones are there:
             <-----------------------------------------------  go
window       ============    =============   ============
done         ---------------------------------------------->   all measured ones are done:
                                             <---------------  stop
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping

#: The common start is so many seconds ahead of the message: every worker has woken up by then.
LEAD_S = 0.05


class Barrier:
    """One socket for each worker, by its name; `measured` are those that are waited for.

    A context manager, which closes the sockets.
    """

    def __init__(self, measured: Mapping[str, bool]) -> None:
        self._measured = {name for name, counts in measured.items() if counts}
        self._waiting_for = set(measured)
        self._sockets: dict[str, socket.socket] = {}
        self._given: dict[str, socket.socket] = {}
        self._received: dict[str, bytes] = dict.fromkeys(measured, b"")
        self._ready: dict[str, float] = {}
        self._done: set[str] = set()
        self._stopped = False

    def __enter__(self) -> Barrier:
        return self

    def __exit__(self, *_: object) -> None:
        for end in (*self._sockets.values(), *self._given.values()):
            end.close()

    def open_socket(self, name: str) -> int:
        """The descriptor that the worker `name` inherits. Raises OSError."""
        self._sockets[name], self._given[name] = socket.socketpair()
        return self._given[name].fileno()

    def hand_over(self, name: str) -> None:
        """Close this process's copy of a worker's end: now it is closed when the worker ends."""
        self._given.pop(name).close()

    @property
    def sockets(self) -> dict[socket.socket, str]:
        """The sockets to watch, with the names of their workers."""
        return {end: name for name, end in self._sockets.items()}

    def receive(self, name: str) -> None:
        """Read what a worker sent, and answer where it was the last one that was waited for."""
        try:
            some = self._sockets[name].recv(4096)
        except OSError:
            some = b""
        if not some:  # it has ended, and a closed socket is always readable
            self._sockets.pop(name).close()
            return
        *lines, self._received[name] = (self._received[name] + some).split(b"\n")
        for line in lines:
            word, _, moment = line.decode().partition(" ")
            if word == "ready":
                self._ready[name] = float(moment)
            else:
                self._done.add(name)
        self._answer()

    def may_end(self, name: str) -> bool:
        """Whether the set needs this worker no more."""
        return name in self._done or (self._stopped and name not in self._measured)

    def _answer(self) -> None:
        if self._waiting_for and self._waiting_for <= set(self._ready):
            # A simulated clock may be ahead of this one; a real one is not.
            moment = max(time.monotonic(), *self._ready.values()) + LEAD_S
            self._send(self._waiting_for, f"go {moment!r}\n")
            self._ready = {}
            self._waiting_for = set(self._measured)
        if self._measured <= self._done and not self._stopped:
            self._stopped = True
            self._send(set(self._sockets) - self._measured, "stop\n")

    def _send(self, names: set[str], text: str) -> None:
        for name in names & set(self._sockets):
            with contextlib.suppress(OSError):  # it has ended, which the supervision sees
                self._sockets[name].sendall(text.encode())
