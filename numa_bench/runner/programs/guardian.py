"""The parent of the commands of a study, which ends them when the runner dies.

The runner's own children would become init's at its death (SIGKILL, the OOM killer), and go on
beside every later measurement, with its locks. PR_SET_PDEATHSIG (prctl(2)) covers one process
only, and a tree can drop the token in its environment and its session. So a process between the
two starts the commands: it stays their ancestor whatever they do, and the reaper of their orphans.
It is started before the first command and sleeps in the kernel while one runs.

python -m numa_bench.runner.programs.guardian CHANNEL RUNNER
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from numa_bench.isolation.marked_processes import kill_marked
from numa_bench.isolation.orphans import RUNNER_MARK
from numa_bench.records import JsonDict
from numa_bench.runner.interrupts import block_time_out_signals
from numa_bench.runner.process import (
    KILL_WAIT_S,
    Command,
    StartedProcess,
    end_process,
    open_pidfd,
    start_here,
    start_process,
)
from numa_bench.versions import import_variables

MODULE = "numa_bench.runner.programs.guardian"
#: Signals to a whole session or job, which are for the runner.
_FOR_RUNNER = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Of the length before each message.
_HEADER = struct.Struct("!Q")
#: Most descriptors with a message: SCM_MAX_FD of unix(7).
_MOST_FDS = 253
#: Longest wait for a guardian that was asked to end, which ends its command first.
_END_S = KILL_WAIT_S + 10.0


class Guardian:
    """The runner's side. Use as a context manager; its process starts at `prepare`.

    That takes a tenth of a second, so it comes before the first command, whose time is measured.
    One command at a time. Elsewhere than on Linux commands are children of this process.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def __enter__(self) -> Guardian:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def prepare(self) -> None:
        """Start the guardian's process, unless there is one; the next `start` says what failed."""
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                self._open_channel()

    def start(
        self,
        command: Command,
        stdout: Path,
        stderr: Path,
        pass_fds: Sequence[int] = (),
        directory: str | None = None,
    ) -> StartedProcess:
        """Start a command as `start_here` does. Raises OSError."""
        if sys.platform != "linux":
            return start_here(command, stdout, stderr, pass_fds, directory)
        channel = self._open_channel()
        request = {
            "argv": command.argv,
            "env": command.env,
            "token": command.token,
            "outputs": [str(stdout.absolute()), str(stderr.absolute())],
            "directory": None if directory is None else str(Path(directory).absolute()),
        }
        reply = self._ask(channel, request, pass_fds)
        if reply is None:
            self._replace()
            raise OSError("its guardian process was killed")
        if "error" in reply:
            raise OSError(reply["error"])
        pid = int(reply["pid"])
        return StartedProcess(pid, lambda: self._end(command.token))

    def _open_channel(self) -> socket.socket:
        """The channel to the guardian's process, which listens. Raises OSError."""
        if self._channel is None:
            channel = self._begin()
            if self._ask(channel, {"ready": None}) is None:
                self._close()
                raise OSError("the guardian process of commands did not start")
        assert self._channel is not None
        return self._channel

    def _begin(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        environ = {**os.environ, **import_variables(os.environ), RUNNER_MARK: str(os.getpid())}
        try:
            with theirs, block_time_out_signals():
                self._process = subprocess.Popen(
                    [sys.executable, "-m", MODULE, str(theirs.fileno()), str(os.getpid())],
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        self._channel = ours
        return ours

    def _end(self, token: str) -> tuple[int | None, list[str]]:
        """End what is left of the command; its return code and the leftovers' names."""
        reply = None
        if self._channel is not None:
            reply = self._ask(self._channel, {"end": None})
        if reply is None:
            # The guardian was killed. Its children are init's, so that their numbers may be reused.
            self._replace()
            return None, kill_marked(token, but=os.getpid())
        return reply["returncode"], list(reply["leftovers"])

    @staticmethod
    def _ask(
        channel: socket.socket, request: JsonDict, descriptors: Sequence[int] = ()
    ) -> JsonDict | None:
        """The guardian's reply; None if it has ended."""
        try:
            send_message(channel, request, descriptors)
            return receive_message(channel)[0]
        except ConnectionError:
            return None

    def _replace(self) -> None:
        """Start another one now, and not within the time of the next command."""
        self._close()
        self.prepare()

    def _close(self) -> None:
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._channel = self._process = None


def send_message(
    channel: socket.socket, message: JsonDict, descriptors: Sequence[int] = ()
) -> None:
    """Send a message with open descriptors. Raises ConnectionError when nobody reads it."""
    # JSON keeps what is not UTF-8 in names of files and variables as escapes (PEP 383).
    text = json.dumps(message).encode()
    socket.send_fds(channel, [_HEADER.pack(len(text))], list(descriptors))
    channel.sendall(text)


def receive_message(channel: socket.socket) -> tuple[JsonDict | None, list[int]]:
    """A message and its descriptors; no message when the other side has ended."""
    header, descriptors, _, _ = socket.recv_fds(channel, _HEADER.size, _MOST_FDS)
    header += _receive_bytes(channel, _HEADER.size - len(header)) if header else b""
    if len(header) < _HEADER.size:
        return None, descriptors
    size = _HEADER.unpack(header)[0]
    text = _receive_bytes(channel, size)
    return (json.loads(text) if len(text) == size else None), descriptors


def _receive_bytes(channel: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer when the other side has ended."""
    parts = b""
    while len(parts) < size and (part := channel.recv(size - len(parts))):
        parts += part
    return parts


class _Ward:
    """The guardian's side: the command that runs, if any."""

    def __init__(self) -> None:
        self._end: Callable[[], tuple[int | None, list[str]]] | None = None

    def answer(self, request: JsonDict, descriptors: Sequence[int]) -> JsonDict:
        """Do what the runner asks for: start a command, or end what is left of it."""
        if "ready" in request:
            return {}
        if "end" in request:
            returncode, leftovers = self.end()
            return {"returncode": returncode, "leftovers": leftovers}
        try:
            return {"pid": self._start(request, descriptors)}
        except OSError as error:
            return {"error": str(error)}
        finally:
            # Locks, which are free when the runner and its runs have closed them.
            for descriptor in descriptors:
                os.close(descriptor)

    def _start(self, request: JsonDict, descriptors: Sequence[int]) -> int:
        token = str(request["token"])
        command = Command(tuple(request["argv"]), request["env"], token)
        stdout, stderr = map(Path, request["outputs"])
        process = start_process(command, stdout, stderr, descriptors, request["directory"])
        self._end = lambda: end_process(process, token)
        return process.pid

    def end(self) -> tuple[int | None, list[str]]:
        """End the command and its descendants, and reap them."""
        end, self._end = self._end, None
        return end() if end is not None else (None, [])


def _wait_for_request(channel: socket.socket, runner: int | None) -> bool:
    """Whether there is something to read before the runner ends (`runner`: its pidfd)."""
    watched = [channel.fileno(), *([] if runner is None else [runner])]
    readable = select.select(watched, [], [])[0]
    return runner not in readable


def _ignore(*_: Any) -> None:
    pass


def main(arguments: list[str]) -> int:
    """Start commands for the process RUNNER until it ends, and leave none of them behind."""
    channel, starter = socket.socket(fileno=int(arguments[0])), int(arguments[1])
    for number in _FOR_RUNNER:
        # Not SIG_IGN, which commands would inherit.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _ignore)
    ward = _Ward()
    with channel, open_pidfd(starter) as pidfd:
        # Without its runner this process is another one's child, and the number may be reused.
        alive = os.getppid() == starter
        try:
            while alive and _wait_for_request(channel, pidfd):
                request, descriptors = receive_message(channel)
                if request is None:
                    break
                send_message(channel, ward.answer(request, descriptors))
        except ConnectionError:
            pass
        finally:
            ward.end()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
