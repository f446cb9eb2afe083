"""Export nsys reports to SQLite while the next run starts up, never while one is measured.

The export process inherits a descriptor with a lock (flock), and a worker waits for that lock
before its first batch. The kernel releases the lock when the export ends for whatever reason.
"""

from __future__ import annotations

import fcntl
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from numa_bench.profiling.nsys import NsysError, export_sqlite

logger = logging.getLogger("numa_bench")
#: How often a waiting runner checks for Ctrl-C, in seconds.
_POLL_S = 0.2


class Exporter:
    """Runs one export at a time. `collect_export` calls `done(run_id, problem)`.

    `problem` is None if the SQLite file was written. `in_a_hurry` returns True when the study is
    being interrupted; an export that still runs is then abandoned. `share_host` waits until no
    other study measures, and returns what ends the sharing; it raises OSError.
    """

    def __init__(
        self,
        executable: str,
        lock: Path,
        done: Callable[[str, str | None], None],
        in_a_hurry: Callable[[], bool] = lambda: False,
        share_host: Callable[[], Callable[[], None]] = lambda: lambda: None,
    ) -> None:
        self._share_host = share_host
        self._in_a_hurry = in_a_hurry
        self._executable = executable
        self._lock = lock
        self._done = done
        self._thread: threading.Thread | None = None
        self._run_id = ""
        self._problem: str | None = None

    def start_export(self, run_id: str, report: Path, target: Path) -> None:
        """Start to export the report of a finished run; wait for the previous export first."""
        self.collect_export()
        self._run_id, self._problem = run_id, None
        try:
            end_sharing = self._share_host()
        except OSError as error:
            self._done(run_id, f"its report was not exported: {error}")
            return
        try:
            # Locked before this returns, so that the next worker cannot get the lock first.
            # Shared: a tracker may hold it too. The worker asks for an exclusive one.
            held = self._lock.open("a+b")  # NFS requires read and write access for a lock
            fcntl.flock(held, fcntl.LOCK_SH)
        except OSError as error:
            end_sharing()
            self._done(run_id, f"the export's lock file cannot be opened: {error}")
            return

        def work() -> None:
            with held:
                try:
                    # nsys' copy of the descriptor keeps the lock if this process dies.
                    export_sqlite(self._executable, report, target, pass_fds=(held.fileno(),))
                except NsysError as error:
                    self._problem = str(error)
                finally:
                    end_sharing()

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def collect_export(self) -> None:
        """Wait for the running export, if any, and pass its outcome to `done`."""
        if self._thread is None:
            return
        while self._thread.is_alive() and not self._in_a_hurry():
            self._thread.join(_POLL_S)
        if self._thread.is_alive():
            self._problem = f"{self._run_id} was interrupted while its report was being exported"
        self._thread = None
        if self._problem is not None:
            logger.warning("%s: %s", self._run_id, self._problem)
        self._done(self._run_id, self._problem)
