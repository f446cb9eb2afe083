"""Descendants of a run that outlive their parent, whatever environment and session they have.

While a run goes on, this process is the reaper of all its descendants (PR_SET_CHILD_SUBREAPER,
prctl(2)): one that loses its parent becomes a child of this process. A process of a run is in a
session that the run made, since no process can join another one; a helper that this process starts
itself meanwhile (an export, a tracker) is in this session, or inherits `RUNNER_MARK`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
import time

import psutil

from numa_bench.records import RUN_TOKEN

#: In the environment of this process's own helpers while a run goes on; workers do not get it.
RUNNER_MARK = "NUMA_BENCH_RUNNER"
#: include/uapi/linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
#: Between two looks, in which an exec() can finish: before it, a child shows no environment.
_PAUSE_S = 0.01
#: An orphan that survives SIGKILL for so long hangs in a driver.
_WAIT_S = 5.0

#: Processes that were started for runs; `end_process` reaps them.
_started: set[int] = set()
#: Children that were there before the run.
_earlier: set[int] = set()
_lock = threading.Lock()


def adopt_orphans() -> None:
    """Become the reaper of descendants; call it before a process of a run is started."""
    with _lock:
        if not _started:
            _earlier.clear()
            _earlier.update(child.pid for child in _list_children())
            os.environ[RUNNER_MARK] = str(os.getpid())
            _set_subreaper(1)


def add_started(pid: int) -> None:
    """Note a process that was started for a run."""
    with _lock:
        _started.add(pid)


def forget_started(pid: int) -> None:
    """Note that a process was reaped; after the last one, orphans are left to init again."""
    with _lock:
        _started.discard(pid)
        if not _started:
            os.environ.pop(RUNNER_MARK, None)
            _set_subreaper(0)


def kill_orphans() -> list[str]:
    """SIGKILL and reap the orphans of runs until there are none; return names of those killed.

    The children of an orphan become orphans when it ends.
    """
    names: dict[int, str] = {}
    seen: set[int] = set()
    deadline = time.monotonic() + _WAIT_S
    while (orphans := _list_orphans()) and time.monotonic() < deadline:
        for orphan in orphans:
            if orphan.pid in seen and orphan.pid not in names:
                with contextlib.suppress(psutil.Error):
                    names[orphan.pid] = f"{orphan.name()} ({orphan.pid})"
                    orphan.kill()
        seen = {orphan.pid for orphan in orphans}
        time.sleep(_PAUSE_S)
    return list(names.values())


def _list_orphans() -> list[psutil.Process]:
    """The living orphans of runs; those that have ended are reaped."""
    own_session = os.getsid(0)
    found: list[psutil.Process] = []
    with _lock:
        kept = _started | _earlier
    for child in _list_children():
        with contextlib.suppress(psutil.Error, OSError):
            if child.pid in kept or os.getsid(child.pid) == own_session:
                continue
            if child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)
            # Of another run of a set, which ends it; or a helper.
            elif not {RUN_TOKEN, RUNNER_MARK} & child.environ().keys():
                found.append(child)
    return found


def _list_children() -> list[psutil.Process]:
    """The children of this process, zombies included."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return []  # the usual case, and psutil looks at every process of the machine
    return list(psutil.Process().children())


def _set_subreaper(value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, value, 0, 0, 0)
