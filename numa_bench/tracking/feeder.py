"""Feeds trackers while a study runs: in a thread, between measurements, within a time limit.

The thread holds a shared lock, for which a worker waits before its first batch. It starts nothing
new after half of `timeout_s`, and the lock is released after all of it: a tracker that still hangs
by then waits for its network, not for a CPU. The rest is logged after the next run, or at the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from numa_bench.errors import MachineError
from numa_bench.invocation import command_text
from numa_bench.redaction import redact_credentials
from numa_bench.tracking.base import Tracker
from numa_bench.tracking.sync import Syncer

logger = logging.getLogger("numa_bench")
#: After this many failures in a row a tracker is not tried again until the study ends.
MOST_FAILURES = 3
#: Interval of checking whether the user wants to stop waiting.
_LOOK_S = 0.2


class Feeder:
    """The trackers of a running study. Only `require_trackers` raises."""

    def __init__(
        self,
        syncer: Syncer,
        lock: Path,
        timeout_s: float,
        in_a_hurry: Callable[[], bool] = lambda: False,
        share_host: Callable[[], Callable[[], None]] = lambda: lambda: None,
    ) -> None:
        """`share_host` waits until no other study measures, and returns what ends the sharing; it
        raises OSError."""
        self._share_host = share_host
        self._in_a_hurry = in_a_hurry
        self._syncer = syncer
        self._lock = lock
        self._timeout_s = timeout_s
        self._failures: Counter[str] = Counter()
        self._warned: set[str] = set()
        self._thread: threading.Thread | None = None

    def require_trackers(self) -> None:
        """Connect to every tracker now. Raises MachineError for the first that does not work."""
        for tracker in self._syncer.trackers:
            try:
                self._syncer.connect_tracker(tracker)
            except Exception as error:
                raise MachineError(
                    f"tracking.required=true: {tracker.name} at {tracker.target} does not work: "
                    f"{_first_line(error)}; fix it, or use tracking=none"
                ) from error

    def feed_stored(self) -> None:
        """Log what is stored and not logged yet, in the background."""
        if not self._syncer.trackers or (self._thread is not None and self._thread.is_alive()):
            return  # still busy with the last call; the next one logs these runs too
        release = self._hold()
        if release is None:
            return  # without the lock workers would not wait; the end of the study logs these runs
        self._thread = threading.Thread(target=self._feed, args=(release,), daemon=True)
        self._thread.start()

    def finish_feeding(self) -> list[str]:
        """Log the rest while the user waits; returns a line for each tracker."""
        if not self._syncer.trackers:
            return []
        # No measurement is waiting any more: every tracker gets another chance.
        self._failures.clear()
        if self._thread is not None:
            self._join(self._timeout_s)
        if self._thread is None or not self._thread.is_alive():
            self._finish()
        lines = [self._line(tracker) for tracker in self._syncer.trackers]
        # A tracker that still hangs must not be closed while the thread uses it.
        if self._thread is None or not self._thread.is_alive():
            self._syncer.close_trackers()
        return lines

    def _finish(self) -> None:
        """Log the rest while other studies do not measure."""
        try:
            end_sharing = self._share_host()
        except OSError as error:
            logger.warning("trackers do not get the rest: %s", error)
            return
        try:
            self._thread = threading.Thread(target=self._work, args=(math.inf, True), daemon=True)
            self._thread.start()
            # There may be many runs to log at once, hence a second more for each.
            self._join(self._timeout_s + self._missing_runs())
        finally:
            end_sharing()

    def _join(self, longest_s: float) -> None:
        """Wait for the thread, at most `longest_s` and as long as the user is willing to."""
        until = time.monotonic() + longest_s
        while self._thread is not None and self._thread.is_alive():
            left = until - time.monotonic()
            if left <= 0 or self._in_a_hurry():
                return
            self._thread.join(min(left, _LOOK_S))

    def _missing_runs(self) -> int:
        with contextlib.suppress(Exception):
            return sum(self._syncer.count_missing(tracker) for tracker in self._syncer.trackers)
        return 0

    def _line(self, tracker: Tracker) -> str:
        missing = 0
        with contextlib.suppress(Exception):
            missing = self._syncer.count_missing(tracker)
        if missing:
            command = f"{command_text('sync')} {self._syncer.directory}"
            return f"{missing} runs are not in {tracker.name} yet; later: {command}"
        return f"tracking  {tracker.hint(self._syncer.directory)}".replace("\n", "\n          ")

    def _feed(self, release: Callable[[], None]) -> None:
        timer = threading.Timer(self._timeout_s, release)
        timer.daemon = True
        timer.start()
        self._work(time.monotonic() + self._timeout_s / 2, finished=False)
        timer.cancel()
        release()

    def _work(self, until: float, finished: bool) -> None:
        for tracker in self._syncer.trackers:
            before = self._failures[tracker.name]
            if before < MOST_FAILURES:
                self._sync(tracker, finished, until)
            if finished and self._failures[tracker.name] > before:
                self._sync(tracker, finished, until)  # the last chance: try twice

    def _sync(self, tracker: Tracker, finished: bool, until: float) -> None:
        try:
            if time.monotonic() < until:
                self._syncer.sync_tracker(tracker, finished=finished, until=until)
        except Exception as error:  # noqa: BLE001 - trackers raise anything; none may fail a study
            self._failures[tracker.name] += 1
            if tracker.name not in self._warned:
                self._warned.add(tracker.name)
                logger.warning(
                    "%s at %s: %s; the study goes on",
                    tracker.name,
                    tracker.target,
                    _first_line(error),
                )
        else:
            self._failures[tracker.name] = 0

    def _hold(self) -> Callable[[], None] | None:
        """Take the locks that workers wait for; what frees them, or None where there are none."""
        with contextlib.ExitStack() as stack:
            try:
                stack.callback(self._share_host())
                held = stack.enter_context(self._lock.open("a+b"))
                fcntl.flock(held, fcntl.LOCK_SH)
            except OSError:
                return None
            return stack.pop_all().close


def _first_line(error: BaseException) -> str:
    """The first line of an exception that says what happened, without credentials."""
    lines = redact_credentials(error).strip().splitlines() or [type(error).__name__]
    # SQLAlchemy begins with how it came to its statement.
    return next((line for line in lines if not line.startswith("(raised as")), lines[0])[:300]
