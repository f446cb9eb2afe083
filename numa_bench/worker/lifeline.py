"""The tie between a worker and its starter: report the start, wait for a lock, end with it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path

from numa_bench.jsonio import write_json
from numa_bench.records import RUN_TOKEN

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


def end_with_parent(parent: int | None) -> None:
    """Get SIGTERM from the kernel when the parent dies (prctl(2)); at once if it has died already.

    `parent` is its process number; None if it is not known.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # A parent that died before the call sends no signal any more.
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def die_with_starter(*, under_profiler: bool) -> None:
    """Get SIGTERM when the process that started this run dies; at once if it has died already.

    The starter is named by the run's token. A child asks the kernel (prctl(2)); under a profiler
    the parent is the profiler's, and a thread that sleeps in the kernel watches the starter.
    """
    starter, dash, _ = os.environ.get(RUN_TOKEN, "").partition("-")
    known = int(starter) if dash and starter.isdigit() else None
    if sys.platform != "linux":
        return
    if under_profiler:
        if known is not None:
            _watch(known)
        return
    end_with_parent(known)


def write_started(path: Path) -> None:
    """Leave this process's number where the monitor, and who asks whether it ever ran, find it."""
    write_json(path, {"pid": os.getpid()})


def wait_for_lock(path: Path) -> float:
    """Wait until nobody holds the lock on `path`; return the seconds that took.

    An export of the run before and the trackers share it: neither may go on during a measurement.
    The kernel frees it when its holder dies, however that happens.
    """
    begin = time.monotonic()
    try:
        # Open for writing, which NFS requires for LOCK_EX (flock(2)). Closing the file releases the
        # lock again: this process waits for it and does not keep it.
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:  # nothing to wait for, or a file system without locks
        return 0.0
    return time.monotonic() - begin


def _watch(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGTERM)
        return
    except (OSError, AttributeError):  # an old kernel or Python, or a sandbox: it cannot be watched
        return

    def wait() -> None:
        # A pidfd is readable when its process has ended (pidfd_open(2)).
        select.select([pidfd], [], [])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
