"""Ends the processes of a run by the token in their environment, whatever session they moved to."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psutil

from numa_bench.records import RUN_TOKEN

#: Longest wait for processes that got SIGKILL; the run is over by then.
LEFTOVER_WAIT_S = 5.0
#: Of the token in an environment as the kernel shows it, where NUL is between variables.
_NAME = f"\0{RUN_TOKEN}=".encode()


def kill_marked(token: str, but: int) -> list[str]:
    """SIGKILL every process that carries the run's token, except the process `but`.

    Returns the names.
    """
    return _kill_all(lambda: (p for p in _marked(token) if p.pid != but))


def kill_runs_of(starter: int) -> list[str]:
    """SIGKILL every process of the runs that the process `starter` started; returns their names.

    `starter` has ended, and its number is not yet free for another process.
    """
    return _kill_all(lambda: _find_marked(lambda token: token.startswith(f"{starter}-")))


def _kill_all(find: Callable[[], Iterable[psutil.Process]]) -> list[str]:
    """SIGKILL every process that `find` yields; returns their names.

    Repeats until there is no new one, as a process may start another before it is killed, and
    once more, as a process in the middle of exec() shows no environment.
    """
    names: dict[int, str] = {}
    clean_looks = 0
    # The second clean look comes after the pause below, in which an exec() can finish.
    while clean_looks < (2 if names else 1):
        found = [process for process in find() if process.pid not in names]
        clean_looks = 0 if found else clean_looks + 1
        for process in found:
            names[process.pid] = str(process.pid)
            with contextlib.suppress(psutil.Error):
                names[process.pid] = f"{process.name()} ({process.pid})"
                process.kill()
        if names:
            time.sleep(0.01)
        _wait_gone(found)
    return list(names.values())


def _marked(token: str) -> Iterator[psutil.Process]:
    return _find_marked(lambda own: own == token)


def _find_marked(is_wanted: Callable[[str], bool]) -> Iterator[psutil.Process]:
    for pid in psutil.pids():  # process_iter() caches processes by number, which may be reused
        if pid == os.getpid() or not is_wanted(_read_token(pid)):
            continue
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            # Once more: the number may be another process's by now.
            wanted = is_wanted(process.environ().get(RUN_TOKEN, ""))
            if wanted and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _read_token(pid: int) -> str:
    """The run token in a process's environment; "" without one.

    Other users' environments cannot be read; their processes are not of a run. After each run all
    processes are looked at, and psutil takes ten times as long as reading the file.
    """
    if sys.platform != "linux":
        with contextlib.suppress(psutil.Error):
            return psutil.Process(pid).environ().get(RUN_TOKEN, "")
        return ""
    try:
        with Path(f"/proc/{pid}/environ").open("rb", buffering=0) as file:
            words = b"\0" + file.read()
    except OSError:
        return ""
    return os.fsdecode(words.partition(_NAME)[2].partition(b"\0")[0])


def wait_for_marked(token: str) -> None:
    """Wait until the processes with the token end by themselves, `LEFTOVER_WAIT_S` at most."""
    _wait_gone(list(_marked(token)))


def _wait_gone(processes: list[psutil.Process]) -> None:
    """Wait until all have ended or are zombies, which nothing may reap in a container."""
    deadline = time.monotonic() + LEFTOVER_WAIT_S
    for process in processes:
        with contextlib.suppress(psutil.Error):
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                if time.monotonic() > deadline:
                    return
                time.sleep(0.01)
