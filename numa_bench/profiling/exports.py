"""Exports nsys reports to SQLite while the next run is prepared, never while one is measured.

The export holds a lock (flock) by an inherited descriptor; a worker waits for it before its first
batch. The kernel frees the lock when the export ends, however it ends.
"""

from __future__ import annotations

import fcntl
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from numa_bench.profiling.nsys import NsysError, export_sqlite

logger = logging.getLogger("numa_bench")
_LOOK_S = 0.2


class Exporter:
    """One export at a time. `done` is called by `collect`, in the thread that calls that.

    `done(run_id, problem)`: problem is None when the SQLite file is there.
    """

    def __init__(
        self,
        executable: str,
        lock: Path,
        done: Callable[[str, str | None], None],
        in_a_hurry: Callable[[], bool] = lambda: False,
    ) -> None:
        self._in_a_hurry = in_a_hurry
        self._executable = executable
        self._lock = lock
        self._done = done
        self._thread: threading.Thread | None = None
        self._run_id = ""
        self._problem: str | None = None

    def start_export(self, run_id: str, report: Path, target: Path) -> None:
        """Begin to export the report of a run that has ended."""
        self.collect_export()
        self._run_id, self._problem = run_id, None
        try:
            # Locked before this returns, so that the next worker cannot be first.
            held = self._lock.open("a+b")  # NFS wants both ways for a lock
            fcntl.flock(held, fcntl.LOCK_SH)
        except OSError as error:
            self._done(run_id, f"no lock for the export: {error}")
            return

        def work() -> None:
            with held:
                try:
                    export_sqlite(self._executable, report, target, pass_fds=(held.fileno(),))
                except NsysError as error:
                    self._problem = str(error)

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def collect_export(self) -> None:
        """Wait for the export that is under way, if there is one, and tell how it ended."""
        if self._thread is None:
            return
        while self._thread.is_alive() and not self._in_a_hurry():
            self._thread.join(_LOOK_S)
        if self._thread.is_alive():
            self._problem = f"{self._run_id} was left while its report was being exported"
        self._thread = None
        if self._problem is not None:
            logger.warning("%s: %s", self._run_id, self._problem)
        self._done(self._run_id, self._problem)
