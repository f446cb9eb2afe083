"""The locks of one study on its host: exclusive for a measurement, shared for heavy work.

    gate    held for a moment by whoever takes the next one, so that waiters keep their order
    host    shared by heavy work (start-up, exports, trackers) and by measurements that share the
            host; exclusive for a measurement that does not
    gpu-*, node*    exclusive, in the order of their names, after the host

Whoever holds a lock waits only for later ones of this list, so no two can wait for each other.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from numa_bench.config.schemas.isolation import HOST, IsolationConfig
from numa_bench.errors import MachineError
from numa_bench.isolation.lock_files import (
    Patience,
    Signals,
    WaitEnded,
    describe_holder,
    prepare_directory,
    take_lock,
)
from numa_bench.isolation.resources import list_locks
from numa_bench.machine.model import Topology
from numa_bench.records import RunSpec
from numa_bench.terminal.lines import print_line

logger = logging.getLogger("numa_bench")
_GATE, _HOST = "gate", "host"


@dataclass(frozen=True)
class Turn:
    """A run's turn to measure. `descriptors` are the locks, which its processes must inherit.

    With a `problem` it has no turn, and the reason is there: a limit, an error, or the user, who
    `interrupted` the wait.
    """

    descriptors: tuple[int, ...]
    wait_s: float
    problem: str | None = None
    interrupted: bool = False


@dataclass
class _HeavyWork:
    """Heavy work of this process. `descriptor` is the lock of the host that covers it."""

    count: int = 0
    descriptor: int | None = None
    mutex: threading.Lock = field(default_factory=threading.Lock)

    def join(self) -> bool:
        """Begin under the lock of work that goes on; False if there is none."""
        with self.mutex:
            covered = self.descriptor is not None
            self.count += covered
            return covered

    def begin(self, descriptor: int) -> None:
        """Begin under a lock of its own."""
        with self.mutex:
            self.count, self.descriptor = self.count + 1, descriptor

    def cover(self, descriptor: int) -> None:
        """Let this lock cover the work that goes on; closed at once if there is none."""
        with self.mutex:
            if not self.count:
                os.close(descriptor)
                return
            before, self.descriptor = self.descriptor, descriptor
            if before is not None:
                os.close(before)

    def end(self) -> None:
        with self.mutex:
            self.count -= 1
            if not self.count and self.descriptor is not None:
                # Another process may have inherited it.
                fcntl.flock(self.descriptor, fcntl.LOCK_UN)
                os.close(self.descriptor)
                self.descriptor = None

    def change(self, operation: int) -> None:
        """Let the lock go, or take it again, while the work goes on."""
        with self.mutex:
            if self.descriptor is not None:
                fcntl.flock(self.descriptor, operation)


class HostLocks:
    """The locks of one study. Its methods are called from one thread, ends from any.

    `signals` are those of the user, `show` gets a text when a wait begins, and an empty one when it
    is over. Raises ConfigError when the directory of the locks cannot be used.
    """

    def __init__(
        self,
        settings: IsolationConfig,
        topology: Topology,
        signals: Signals | None = None,
        show: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._topology = topology
        self._signals = signals
        self._show = show
        self._directory = prepare_directory(settings.directory)
        self._heavy = _HeavyWork()
        self._waits_for: Path | None = None
        self._waits_since = 0.0

    @property
    def shares_host(self) -> bool:
        """Whether other measurements may run on the host beside one of this study."""
        return self._settings.exclusive != HOST

    @contextlib.contextmanager
    def hold(self, run: RunSpec) -> Iterator[Turn]:
        """Hold all locks that a run needs, those of all workers of a set at once.

        The locks live in the descriptors: a process that inherited them keeps them after the end.
        """
        begin = time.monotonic()
        patience = self._make_patience(tolerated=0)
        taken: list[int] = []
        problem, interrupted = None, False
        try:
            self._take_all(run, patience, taken)
        except WaitEnded as ended:
            problem, interrupted = self._describe_end(ended), ended.interrupted
        except OSError as error:
            problem = f"its locks in {self._directory} cannot be taken: {error}"
        finally:
            self._end_show()
        wait_s = time.monotonic() - begin
        try:
            yield Turn(() if problem else tuple(taken), wait_s, problem, interrupted)
        finally:
            for descriptor in taken[1:]:
                os.close(descriptor)
            # Heavy work that goes on, such as a tracker that hangs, must not lose its cover.
            for descriptor in taken[:1]:
                self._heavy.cover(descriptor)

    def begin_heavy_work(self) -> Callable[[], None]:
        """Wait until nobody measures, and keep it so until the function that it returns is called.

        Work that begins while other heavy work of this study goes on does not wait. Raises OSError
        when there is no lock: the limit, the user in a hurry, a directory that has gone.
        """
        if not self._heavy.join():
            self._heavy.begin(self.take_host(shared=True))
        return self._make_end()

    def take_host(self, *, shared: bool = False) -> int:
        """Wait for the host without its GPUs and nodes; return the descriptor of its lock.

        Raises OSError as `begin_heavy_work` does.
        """
        try:
            return self._take_host(self._make_patience(tolerated=1), shared=shared)
        except WaitEnded as ended:
            raise TimeoutError(self._describe_end(ended)) from ended
        finally:
            self._end_show()

    def _make_end(self) -> Callable[[], None]:
        once = threading.Lock()

        def end() -> None:
            if once.acquire(blocking=False):
                self._heavy.end()

        return end

    def _take_all(self, run: RunSpec, patience: Patience, taken: list[int]) -> None:
        """Append the locks of a run, in order, to `taken`. Raises WaitEnded and OSError."""
        taken.append(self._take_host(patience, shared=self.shares_host))
        for name in list_locks(run, self._settings.exclusive, self._topology):
            taken.append(take_lock(self._directory / name, patience, shared=False))

    def _take_host(self, patience: Patience, *, shared: bool) -> int:
        gate = take_lock(self._directory / _GATE, patience, shared=False)
        try:
            if shared:
                return take_lock(self._directory / _HOST, patience, shared=True)
            # Own heavy work goes on while the next worker starts, which waits for it by itself.
            # Nobody else gets the lock that is let go here, as nobody else gets past the gate.
            self._heavy.change(fcntl.LOCK_UN)
            try:
                return take_lock(self._directory / _HOST, patience, shared=False)
            except BaseException:
                self._heavy.change(fcntl.LOCK_SH)  # at once: only shared locks are left
                raise
        finally:
            os.close(gate)

    def _make_patience(self, tolerated: int) -> Patience:
        limit = self._settings.wait_limit_s
        until = math.inf if limit is None else time.monotonic() + limit
        return Patience(until, self._signals, tolerated, self._show_wait)

    def _show_wait(self, path: Path) -> None:
        if self._waits_for is None:
            self._waits_since = time.monotonic()
        self._waits_for = path
        self._show(f"waits for {self._describe(path)}")

    def _end_show(self) -> None:
        if self._waits_for is not None:
            self._waits_for = None
            self._show("")
            logger.info("waited %.1f s", time.monotonic() - self._waits_since)

    def _describe(self, path: Path) -> str:
        # Whoever holds the gate waits for the host itself.
        held = path.with_name(_HOST) if path.name == _GATE else path
        return f"the {held.name}, which {describe_holder(held)} holds"

    def _describe_end(self, ended: WaitEnded) -> str:
        where = self._describe(self._waits_for or self._directory / _HOST)
        if ended.interrupted:
            return f"while it waited for {where}"
        return (
            f"it waited isolation.wait_limit_s={self._settings.wait_limit_s:g} for {where}; end "
            "that process, or raise the limit"
        )


@contextlib.contextmanager
def hold_start_up(settings: IsolationConfig, show: Callable[[str], None]) -> Iterator[None]:
    """Prepare a study, or feed trackers, while nobody measures; `show` is that of HostLocks.

    Raises ConfigError when the directory of the locks cannot be used, MachineError when the wait
    is longer than its limit.
    """
    locks = HostLocks(settings, Topology((), ()), show=show)
    with _hold(locks.begin_heavy_work):
        yield


@contextlib.contextmanager
def hold_host(settings: IsolationConfig, show: Callable[[str], None]) -> Iterator[None]:
    """Measure something that is no run while no study measures or does heavy work.

    Raises as `hold_start_up` does.
    """
    locks = HostLocks(settings, Topology((), ()), show=show)
    with _hold(lambda: partial(os.close, locks.take_host())):
        yield


@contextlib.contextmanager
def _hold(take: Callable[[], Callable[[], None]]) -> Iterator[None]:
    """Inside, a lock is held that `take` takes; it returns what lets it go."""
    try:
        let_go = take()
    except OSError as error:
        raise MachineError(f"cannot start: {error}") from error
    try:
        yield
    finally:
        let_go()


def print_wait(text: str, what: str = "") -> None:
    """A `show` of HostLocks for commands: who waits for whom, on stderr."""
    if text:
        print_line(f"{what} {text}".strip(), error=True)
